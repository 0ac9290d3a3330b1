"""Training steps against sentence-transformers' trainer: the same batches, loss and schedule, no dropout in either."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, SequentialSampler

from pipeline.bench import texts
from pipeline.bench.pairs import Row
from pipeline.data import lareqa
from pipeline.training import fit as training
from pipeline.training.module import schedule
from pipeline.values import Draw, ParallelText

STEPS = 7  # of a training; the first warms up and is not counted
Course = tuple[list[float], list[float]]  # seconds and loss of each step


def batches(data: ParallelText, size: int) -> list[list[Draw]]:
    """Any language to any other, and no two questions of one passage: such pairs are no negatives here, but theirs."""
    rng = np.random.default_rng(0)
    _, rows = np.unique(data.passage_group, return_index=True)
    chosen = rng.permutation(rows)[: STEPS * size].reshape(STEPS, size)
    return [[Draw(int(row), *rng.choice(data.languages, 2, replace=False)) for row in batch] for batch in chosen]


def of_ours(data: ParallelText, drawn: list[list[Draw]], settings: dict[str, Any]) -> Course:
    """As a cell trains, with conf/trainer/default.yaml."""

    def draw(steps: int, start: int = 0) -> Any:
        return iter(drawn[start:steps])

    with tempfile.TemporaryDirectory() as folder:
        curve, _ = training.fit(
            texts.encoder(), data, draw, draw, settings, folder=Path(folder), device="cpu", seed=0
        )  # fmt: skip
    return [settings["batch_size"] / point["pairs_per_s"] for point in curve], [point["loss"] for point in curve]


def of_theirs(data: ParallelText, drawn: list[list[Draw]], settings: dict[str, Any], **options: Any) -> Course:
    """The trainer at its defaults but for `options`, the study's hyperparameters, and the order of the rows."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    ours = texts.encoder()
    model = texts.sentence_transformer(ours)
    training.with_dropout(model, 0.0)
    if settings["freeze_word_embeddings"]:
        model[0].auto_model.get_input_embeddings().requires_grad_(False)
    sides = [
        [ours.prefixes[side] + data.text(draw.row, language, side) for batch in drawn for draw in batch
         for language in [draw.query_language if side == "query" else draw.passage_language]]
        for side in ("query", "passage")
    ]  # fmt: skip
    ends_s: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **state: Any) -> None:
            ends_s.append(time.perf_counter())

        def on_step_end(self, *args: Any, **state: Any) -> None:
            ends_s.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder, per_device_train_batch_size=settings["batch_size"], max_steps=settings["steps"],
            learning_rate=settings["learning_rate"], weight_decay=settings["weight_decay"],
            logging_steps=1, save_strategy="no", report_to="none",
            disable_tqdm=True, use_cpu=True, batch_sampler=in_order, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, callbacks=[Clock()],
            train_dataset=Dataset.from_dict({"question": sides[0], "passage": sides[1]}),
            loss=MultipleNegativesRankingLoss(model, scale=1 / settings["temperature"]),
        )  # fmt: skip
        optimizer = trainer.create_optimizer()
        trainer.lr_scheduler = schedule(optimizer, settings)  # its own begins with a step of learning rate 0
        trainer.train()
    return np.diff(ends_s).tolist(), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def steps() -> list[Row]:
    """Against the trainer at its defaults, and in bfloat16: two trainings a row, one after the other."""
    data = lareqa.train_articles(list(texts.LANGUAGES), str(texts.folder()))
    frozen = texts.model()["freeze_word_embeddings"]
    settings = texts.settings("trainer") | {"steps": STEPS, "log_every": 1, "freeze_word_embeddings": frozen}
    drawn = batches(data, settings["batch_size"])
    _, exactly = of_ours(data, drawn, settings | {"precision": "32-true"})
    rows = []
    for against, at_least, options in (("at its defaults", 1.7, {}), ("bf16=True", 1.1, {"bf16": True})):
        (ours_s, ours), (theirs_s, theirs) = of_ours(data, drawn, settings), of_theirs(data, drawn, settings, **options)
        how = training.precision(settings["precision"], "cpu")
        note = f"ours {how}; losses at most {apart(ours, theirs):.3f} apart, from {ours[0]:.2f} to {ours[-1]:.2f}"
        note += "" if options else f"; ours in float32 at most {apart(exactly, theirs):.3f} apart"
        work = f"a training step, {settings['batch_size']} pairs, {len(texts.LANGUAGES)} languages"
        rows.append(Row(work, f"SentenceTransformerTrainer, {against}", at_least, ours_s[1:], theirs_s[1:], note))
    return rows


def apart(losses: list[float], others: list[float]) -> float:
    return float(np.abs(np.subtract(losses, others)).max())
