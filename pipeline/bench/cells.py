"""What a cell costs beyond its work, and a whole evaluation beside sentence-transformers' evaluator."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hydra

from pipeline.bench import texts
from pipeline.bench.pairs import Row, in_turns
from pipeline.data import lareqa
from pipeline.encoder.model import Encoder
from pipeline.retrieval.evaluation import encode_all, evaluate
from pipeline.values import Collection, Serving

AT_MOST_S = 10
WORK = ("leakage", "train", "evaluate", "profile")  # stages that are work; loading is not
REPEATS = 3
LANGUAGES = ["en", "ru", "zh"]
CELL = ["model=e5-small-l3", "sampler=hybrid", "data=worldfacts", "trainer.steps=2", "profile=off"]


def fixed_cost() -> list[str]:
    """Seconds of a command less those of its stages: processes, imports, data, the encoder, the record, W&B."""
    lines = ["| a cell's fixed cost | seconds, each run | at most | met |", "|---|---|---|---|"]
    for name, options in {"with W&B, offline": [], "without": ["tracking.wandb=false"]}.items():
        found = []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "pipeline.run", *CELL, *options, f"results_dir={folder}"]
                start_s = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                taken_s = time.perf_counter() - start_s
                (record,) = Path(folder).glob("runs/*/record.json")
                stages = json.loads(record.read_text())["stage_s"]
                found.append(taken_s - sum(stages.get(stage, 0) for stage in WORK))
        met = "yes" if max(found) < AT_MOST_S else "**no**"
        lines.append(f"| {name} | {', '.join(f'{seconds:.1f}' for seconds in found)} | {AT_MOST_S} | {met} |")
    return lines


def of_ours(encoder: Encoder, collection: Collection) -> dict[str, float]:
    """As a cell does it: every text once."""
    scores = {key: hydra.utils.instantiate(node) for key, node in texts.settings("metrics").items()}
    sides = encode_all(encoder, collection, "query", 0), encode_all(encoder, collection, "passage", 0)
    (result,) = evaluate(*sides, collection, [Serving()], scores)
    return result.figures


def evaluation() -> list[Row]:
    """XQuAD-R's 16 test articles in 3 languages: 12 settings, an evaluator each, at its defaults but for mAP uncut."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    collection = lareqa.test_articles(LANGUAGES, str(texts.folder()))
    found: dict[str, list[float]] = {}

    def of_theirs() -> None:
        found["theirs"] = []
        for language in LANGUAGES:
            queries = collection.queries[language]
            for pools in [*((pool,) for pool in LANGUAGES), tuple(LANGUAGES)]:
                corpus: dict[str, Any] = {
                    f"{pool} {n}": text for pool in pools for n, text in enumerate(collection.passages[pool].texts)
                }
                relevant: dict[str, set[str]] = {}
                for pool in pools:
                    gold = collection.relevance[language, pool]
                    for query, passage in zip(gold.query.tolist(), gold.passage.tolist(), strict=True):
                        relevant.setdefault(str(query), set()).add(f"{pool} {passage}")
                asked: dict[str, Any] = {str(n): text for n, text in enumerate(queries.texts)}
                evaluator = InformationRetrievalEvaluator(
                    asked, corpus, relevant, map_at_k=[len(corpus)], name=f"{language}-{'+'.join(pools)}",
                    show_progress_bar=False, write_csv=False,
                )  # fmt: skip
                scored = evaluator(theirs)
                (value,) = [scored[key] for key in scored if "cosine_map@" in key]
                found["theirs"].append(value)

    def run_ours() -> None:
        figures = of_ours(ours, collection)
        found["ours"] = [figures[f"{collection.name}.{setting}.map"] for setting in ("mono", "cross", "multi")]

    taken = in_turns({"ours": run_ours, "theirs": of_theirs}, 1)
    per_setting = found["theirs"]
    count = len(LANGUAGES) + 1
    groups: dict[str, list[float]] = {"mono": [], "cross": [], "multi": []}
    for number, value in enumerate(per_setting):
        query, pool = divmod(number, count)
        groups["multi" if pool == count - 1 else "mono" if query == pool else "cross"].append(value)
    apart = max(
        abs(mine - sum(values) / len(values)) for mine, values in zip(found["ours"], groups.values(), strict=True)
    )
    note = f"{len(per_setting)} of XQuAD-R's 132 settings; mAP at most {apart:.4f} apart"
    work = f"evaluation, text to metrics, {len(LANGUAGES)} languages"
    return [Row(work, "InformationRetrievalEvaluator a setting", 3, taken["ours"], taken["theirs"], note)]
