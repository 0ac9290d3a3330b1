"""The fixed cost of a run, beside its work, and a whole evaluation beside sentence-transformers' evaluator."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bench import texts
from pipeline.bench.pairs import Row, in_turns
from pipeline.data import lareqa
from pipeline.encoder.model import Encoder
from pipeline.retrieval.ranking import encode_side, rank_benchmark
from pipeline.retrieval.scoring import score_benchmark
from pipeline.store.results import ResultStore
from pipeline.values import Collection, Variant

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

GOAL_S, FURTHER_GOAL_S = 10, 4
WORK = ("leakage", "train", "rank", "score", "profile")  # stages that are work; loading is part of the fixed cost
REPEATS = 3
LANGUAGES = ["en", "ru", "zh"]
RUN = ["model=e5-small-l3", "sampler=hybrid", "data=worldfacts", "trainer.steps=2", "profile=off"]
OFF = ["tracking.wandb=false"]


def fixed_cost() -> list[str]:
    """Return a Markdown table: seconds of a run outside WORK: processes, imports, data, encoder, record, W&B."""
    lines = ["| fixed cost of a run | seconds, each run | at most | met |", "|---|---|---|---|"]
    for name, options in {"with W&B, offline": [], "without": OFF}.items():
        fixed_s = [single_run_s(options) for _ in range(REPEATS)]
        lines.append(fixed_row(name, fixed_s, GOAL_S))
    first_s, *further_s = multirun_s()
    lines.append(fixed_row("first of a multirun, without W&B, with one training step", [first_s], GOAL_S))
    lines.append(fixed_row("its further runs", further_s, FURTHER_GOAL_S))
    return lines


def fixed_row(name: str, fixed_s: list[float], goal_s: float) -> str:
    """Return one line of `fixed_cost`."""
    met = "yes" if max(fixed_s) < goal_s else "**no**"
    return f"| {name} | {', '.join(f'{value_s:.1f}' for value_s in fixed_s)} | {goal_s} | {met} |"


def single_run_s(options: Sequence[str]) -> float:
    """Return the seconds of a command with one run, less those of WORK."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pipeline.run", *RUN, *options, f"results_dir={folder}"]
        start_s = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        total_s = time.perf_counter() - start_s
        (record,) = Path(folder).glob("runs/*/record.json")
        stage_s = json.loads(record.read_text(encoding="utf-8"))["stage_s"]
        return total_s - sum(stage_s.get(stage, 0) for stage in WORK)


def multirun_s() -> list[float]:
    """Return the seconds of each run of a multirun, less those of WORK except for a training of one small step."""
    with tempfile.TemporaryDirectory() as folder:
        one_step = ["trainer.steps=1", "trainer.batch_size=4", "seed=0,1,2,3"]
        command = [sys.executable, "-m", "pipeline.run", "-m", *RUN, *OFF, *one_step, f"results_dir={folder}"]
        subprocess.run(command, check=True, capture_output=True)
        others = [stage for stage in WORK if stage != "train"]
        return [
            run.seconds - sum(run.record.stage_s.get(stage, 0) for stage in others)
            for run in ResultStore(folder).runs("adhoc")
            if run.record
        ]


def evaluation() -> list[Row]:
    """Compare the evaluation of XQuAD-R's 16 test articles in 3 languages: 12 settings, one evaluator of theirs each.

    The evaluators are at their defaults, except for mAP over full rankings.
    """
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    collection = lareqa.test_articles(LANGUAGES, str(texts.folder()))
    metrics = texts.config().metrics
    map_of: dict[str, dict[str, float]] = {}  # by side and setting

    def run_ours() -> None:
        figures = evaluate_ours(ours, collection, metrics)
        map_of["ours"] = {setting: figures[f"{collection.name}.{setting}.map"] for setting in collection.settings}

    def run_theirs() -> None:
        map_of["theirs"] = evaluate_theirs(theirs, collection)

    times_s = in_turns({"ours": run_ours, "theirs": run_theirs}, 1)
    difference = max(abs(map_of["ours"][setting] - map_of["theirs"][setting]) for setting in collection.settings)
    settings = len(LANGUAGES) * (len(LANGUAGES) + 1)
    note = f"{settings} of XQuAD-R's 132 settings; mAP differs by at most {difference:.4f}"
    work = f"evaluation, text to metrics, {len(LANGUAGES)} languages"
    return [Row(work, "InformationRetrievalEvaluator per setting", 3, times_s["ours"], times_s["theirs"], note)]


def evaluate_ours(encoder: Encoder, collection: Collection, metrics: Sequence[str]) -> dict[str, float]:
    """Return all figures as a run computes them: every text is encoded once."""
    queries, passages = (encode_side(encoder, collection, side) for side in ("query", "passage"))
    with tempfile.TemporaryDirectory() as folder:
        rank_benchmark(queries, passages, collection, Variant(), Path(folder))
        return score_benchmark(Path(folder), collection, metrics).figures


def evaluate_theirs(model: "SentenceTransformer", collection: Collection) -> dict[str, float]:
    """Return mAP by setting, averaged over the language pairs of a setting."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    values: dict[str, list[float]] = {"mono": [], "cross": [], "multi": []}
    for language, queries in collection.queries.items():
        for pools in [*((pool,) for pool in collection.passages), tuple(collection.passages)]:
            corpus: dict[str, Any] = {
                f"{pool} {n}": text for pool in pools for n, text in enumerate(collection.passages[pool].texts)
            }
            relevant: dict[str, set[str]] = {}
            for pool in pools:
                relevance = collection.relevance[language, pool]
                for query, passage in zip(relevance.query.tolist(), relevance.passage.tolist(), strict=True):
                    relevant.setdefault(str(query), set()).add(f"{pool} {passage}")
            evaluator = InformationRetrievalEvaluator(
                {str(n): text for n, text in enumerate(queries.texts)},
                corpus,
                relevant,
                map_at_k=[len(corpus)],
                name=f"{language}-{'+'.join(pools)}",
                show_progress_bar=False,
                write_csv=False,
            )
            scores = evaluator(model)
            (value,) = [scores[key] for key in scores if "cosine_map@" in key]
            values["multi" if len(pools) > 1 else "mono" if pools == (language,) else "cross"].append(value)
    return {setting: sum(of_setting) / len(of_setting) for setting, of_setting in values.items()}
