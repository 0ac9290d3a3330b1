"""A training small enough for tests: an encoder of one narrow layer, 24 rows in two languages, all on one thread."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.encoder.model import load
from pipeline.sampling.hybrid import Hybrid
from pipeline.sampling.strategy import Corpus, batches
from pipeline.training.fit import fit, hold_out
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
    "patience": None,
    "validate_every": 2,
    "holdout_fraction": 0.5,
}
# Everything that has a state: dropout, AdamW's moments, the schedule, early stopping. Validations, points of the curve
# and checkpoints fall on different steps; the held-out loss is lowest early.
LONG = {"steps": 120, "learning_rate": 5e-3, "warmup_fraction": 0.05, "dropout": 0.1, "log_every": 3}
LONG |= {"checkpoint_every": 20, "patience": 99, "validate_every": 7}


MODEL = {  # of a tiny encoder with random weights; tests change what they are about
    "family": "tiny",
    "weights": "random",
    "revision": None,
    "layers": None,
    "pooling": "mean",
    "query_prefix": "query: ",
    "passage_prefix": "passage: ",
    "max_query_tokens": 16,
    "max_passage_tokens": 32,
    "freeze_word_embeddings": True,
    "architecture": ARCHITECTURE,
}
PACKAGED = MODEL | {"family": "e5-small", "weights": "packaged", "layers": 2, "architecture": {}}
PACKAGED |= {"max_query_tokens": 64, "max_passage_tokens": 256}


def encoder(**changes):
    return load(**MODEL | changes, seed=0)


def corpus():
    """Two rows a group; texts of very different lengths."""
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


def train(folder, seed=0, model=None, **changes):
    """The trained encoder, its curve and the language pairs it saw."""
    torch.set_num_threads(1)
    torch.manual_seed(99)  # fit must not depend on what ran before
    settings, data, model = SETTINGS | changes, corpus(), model or encoder()
    draws = [
        partial(batches, Hybrid(), Corpus(data.languages, rows_NL), settings["batch_size"], seed=seed)
        for rows_NL in hold_out(data, settings, seed)
    ]
    return model, *fit(model, data, *draws, settings, folder=Path(folder), device="cpu", seed=seed)
