"""A training small enough for tests: an encoder with one narrow layer, 24 rows in two languages, one thread."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.encoder.sources import load
from pipeline.groups import ModelConfig, Parallel, Pooling, Precision, TrainerConfig
from pipeline.sampling.hybrid import Hybrid
from pipeline.sampling.strategy import Corpus, batches
from pipeline.training.fit import ALONE, fit, hold_out
from pipeline.values import ParallelText

ARCHITECTURE = {
    "model_type": "bert",
    "vocab_size": 1000,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SETTINGS = {
    "steps": 6,
    "batch_size": 4,
    "learning_rate": 2e-2,
    "weight_decay": 0.01,
    "warmup_fraction": 0.5,
    "temperature": 0.05,
    "matryoshka_widths": [],
    "exit_layers": [],
    "hard_negatives": 0,
    "lora_rank": None,
    "dropout": 0.0,
    "precision": "float32",
    "log_every": 1,
    "checkpoint_every": 4,
    "forward_tokens": 1024,
    "grad_cache": False,
    "devices": 1,
    "num_nodes": 1,
    "strategy": "ddp",
    "patience": None,
    "validate_every": 2,
    "holdout_fraction": 0.5,
}
# A training that uses all state: dropout, AdamW's moments, the schedule, early stopping. Validations, points of the
# curve and checkpoints fall on different steps; the held-out loss is lowest early.
LONG = {"steps": 120, "learning_rate": 5e-3, "warmup_fraction": 0.05, "dropout": 0.1, "log_every": 3}
LONG |= {"checkpoint_every": 20, "patience": 99, "validate_every": 7}


MODEL = {  # a tiny encoder with random weights; each test changes the keys that it tests
    "family": "tiny",
    "weights": "random",
    "revision": None,
    "layers": None,
    "pooling": "mean",
    "normalize": True,
    "query_prefix": "query: ",
    "passage_prefix": "passage: ",
    "max_query_tokens": 16,
    "max_passage_tokens": 32,
    "freeze_word_embeddings": True,
    "architecture": ARCHITECTURE,
}
PACKAGED = MODEL | {"family": "e5-small", "weights": "packaged", "layers": 2, "architecture": {}}
PACKAGED |= {"max_query_tokens": 64, "max_passage_tokens": 256}


def model_config(**changes):
    """The ModelConfig of MODEL with changes."""
    values = MODEL | changes
    return ModelConfig(**values | {"pooling": Pooling[values["pooling"]]})


def trainer_config(**changes):
    """The TrainerConfig of SETTINGS with changes."""
    values = SETTINGS | changes
    named = {"precision": Precision[values["precision"]], "strategy": Parallel[values["strategy"]]}
    return TrainerConfig(**values | named)


def encoder(**changes):
    """The encoder of MODEL with changes, always with the same random weights."""
    return load(model_config(**changes), seed=0)


def two_layers(**changes):
    """The same with two layers."""
    return encoder(architecture=ARCHITECTURE | {"num_hidden_layers": 2}, **changes)


def corpus():
    """24 rows, two per passage group, with texts of very different lengths."""
    texts = {
        language: [f"{language} text number {row} " + "and more " * (row % 5) for row in range(24)]
        for language in ("de", "en")
    }
    return ParallelText(
        name="tiny",
        languages=("de", "en"),
        ids=[str(row) for row in range(24)],
        questions=texts,
        passages=texts,
        available_NL=np.ones((24, 2), dtype=bool),
        passage_group=np.arange(24) // 2,
    )


def train(folder, seed=0, model=None, world=ALONE, **changes):
    """Return the trained encoder, its curve and the language pairs it saw."""
    torch.set_num_threads(1)
    torch.manual_seed(99)  # fit must not depend on what ran before
    trainer, data, model = trainer_config(**changes), corpus(), model or encoder()
    draws = [
        partial(batches, Hybrid(), Corpus(data.languages, rows_NL), trainer.batch_size, seed=seed)
        for rows_NL in hold_out(data, trainer, seed)
    ]
    return model, *fit(model, data, *draws, trainer, folder=Path(folder), device="cpu", seed=seed, world=world)
