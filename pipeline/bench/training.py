"""Training steps against sentence-transformers' trainer: the same batches, loss and schedule, no dropout in either."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import BatchSampler, SequentialSampler

from pipeline.bench import texts
from pipeline.bench.pairs import Row
from pipeline.data import lareqa
from pipeline.groups import Precision, TrainerConfig
from pipeline.launch.hardware import resolve
from pipeline.training.fit import fit
from pipeline.training.lightning import set_dropout
from pipeline.training.resumable import schedule
from pipeline.values import Draw, ParallelText, Side

STEPS = 10  # of a training, as many as the data have; the first is a warm-up and does not count


class Steps(NamedTuple):
    """Seconds and loss of each step."""

    seconds: list[float]
    losses: list[float]


def batches(data: ParallelText, size: int) -> list[list[Draw]]:
    """Draw STEPS batches of any two languages, without two queries of one passage.

    Such pairs are not negatives of each other here, but they are in sentence-transformers.
    """
    rng = np.random.default_rng(0)
    _, rows = np.unique(data.passage_group, return_index=True)
    rows_by_step = rng.permutation(rows)[: STEPS * size].reshape(STEPS, size)
    return [[Draw(int(row), *rng.choice(data.languages, 2, replace=False)) for row in batch] for batch in rows_by_step]


def of_ours(data: ParallelText, batches: list[list[Draw]], trainer: TrainerConfig) -> Steps:
    """Train as a run does, with conf/trainer/default.yaml."""

    def draw(*, steps: int, start: int = 0) -> Iterator[list[Draw]]:
        return iter(batches[start:steps])

    with tempfile.TemporaryDirectory() as folder:
        curve, _ = fit(texts.encoder(), data, draw, draw, trainer, folder=Path(folder), device="cpu", seed=0)
    return Steps([trainer.batch_size / point["pairs_per_s"] for point in curve], [point["loss"] for point in curve])


def of_theirs(data: ParallelText, batches: list[list[Draw]], trainer: TrainerConfig, **options: Any) -> Steps:
    """Train with their trainer at its defaults, except for `options`, our hyperparameters and the order of the rows."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    ours = texts.encoder()
    model: Any = texts.sentence_transformer(ours)
    set_dropout(model, 0.0)
    if texts.config().model.freeze_word_embeddings:
        model[0].auto_model.get_input_embeddings().requires_grad_(False)
    draws = [draw for batch in batches for draw in batch]

    def column(side: Side) -> list[str]:
        languages = [draw.query_language if side == "query" else draw.passage_language for draw in draws]
        prefix = ours.prefixes[side]
        return [prefix + data.text(draw.row, language, side) for draw, language in zip(draws, languages, strict=True)]

    ends_s: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **state: Any) -> None:
            ends_s.append(time.perf_counter())

        def on_step_end(self, *args: Any, **state: Any) -> None:
            ends_s.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=trainer.batch_size,
            max_steps=trainer.steps,
            learning_rate=trainer.learning_rate,
            weight_decay=trainer.weight_decay,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            batch_sampler=in_order,  # type: ignore[arg-type]
            **options,
        )
        their_trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            callbacks=[Clock()],
            train_dataset=Dataset.from_dict({side: column(side) for side in ("query", "passage")}),
            loss=MultipleNegativesRankingLoss(model, scale=1 / trainer.temperature),
        )
        optimizer = their_trainer.create_optimizer()
        their_trainer.lr_scheduler = schedule(optimizer, trainer)  # theirs begins with a step of learning rate 0
        their_trainer.train()
    losses = [entry["loss"] for entry in their_trainer.state.log_history if "loss" in entry]
    return Steps(np.diff(ends_s).tolist(), losses)


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
    """Return a batch sampler for sentence-transformers that keeps the order of the rows."""
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def steps() -> list[Row]:
    """Compare with their trainer at its defaults and in bfloat16: per row two trainings, one after the other."""
    data = lareqa.train_articles(list(texts.LANGUAGES), str(texts.folder()))
    trainer = replace(resolve(texts.config("device=cpu")).trainer, steps=STEPS, log_every=1)
    drawn = batches(data, trainer.batch_size)
    in_float32 = of_ours(data, drawn, replace(trainer, precision=Precision.float32))
    work = f"a training step, {trainer.batch_size} pairs, {len(texts.LANGUAGES)} languages"
    rows = []
    for against, goal, options in (("at its defaults", 3, {}), ("bf16=True", 2, {"bf16": True})):
        ours, theirs = of_ours(data, drawn, trainer), of_theirs(data, drawn, trainer, **options)
        note = f"ours {trainer.precision.name}; losses differ by at most {difference(ours, theirs):.3f}, "
        note += f"from {ours.losses[0]:.2f} to {ours.losses[-1]:.2f}"
        note += "" if options else f"; ours in float32 by at most {difference(in_float32, theirs):.3f}"
        against = f"SentenceTransformerTrainer, {against}"
        rows.append(Row(work, against, goal, ours.seconds[1:], theirs.seconds[1:], note))
    return rows


def difference(ours: Steps, theirs: Steps) -> float:
    """Return the largest difference between the losses of the same step."""
    return float(np.abs(np.subtract(ours.losses, theirs.losses)).max())
