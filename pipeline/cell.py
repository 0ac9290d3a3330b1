"""One cell, from config to record: the method section. The only module that knows every part; runs in a child process.

Reads a request (JSON) on stdin and answers its outcome (JSON) on stdout; whatever else prints goes to stderr.
"""

import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline import encoder as encoders
from pipeline import metrics, pools, profile, retrieval, tracking, training
from pipeline.config import build
from pipeline.data import leakage
from pipeline.encoding import encode
from pipeline.results import ResultStore
from pipeline.sampling.strategy import Corpus, batches
from pipeline.values import Collection, ParallelText, Record, Side, UserError

LIBRARIES = ("torch", "transformers", "pytorch-lightning", "numpy", "faiss-cpu", "faiss-gpu", "codecarbon", "babel")
PROFILED_TEXTS = 64  # of each language and side
ATTRACTION_K = 10  # best passages of a query in which languages are counted


class Stages(dict):
    """Seconds by stage; says on stderr what begins."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        print(f"  {name} …", file=sys.stderr, flush=True)
        start_s = time.perf_counter()
        yield
        self[name] = time.perf_counter() - start_s


def run(name: str, stage_keys: Mapping[str, str], config: Mapping[str, Any], choices: Mapping[str, str]) -> Record:
    store, stage = ResultStore(config["results_dir"]), Stages()
    device, seed, threads = pick_device(config["device"]), config["seed"], config["threads"]
    model, trainer, profiling = config["model"], config["trainer"], config["profile"]
    torch.set_num_threads(threads)

    with stage("load"):  # build everything, then run
        strategy = build("sampler", config["sampler"])
        scores = {key: build(f"metrics.{key}", node) for key, node in config["metrics"].items()}
        benchmarks: dict[str, Collection] = {key: build(f"eval.{key}", node) for key, node in config["eval"].items()}
        data: ParallelText = build("data", config["data"])
        corpus = Corpus(data.languages, data.available_NL)
        strategy.check(corpus, trainer["batch_size"])
        encoder = encoders.load(**model, seed=seed).to(device)

    cost_only = model["weights"] == "random"  # there is no accuracy to speak of
    trained, checkpoint, leaks = {}, None, {}
    if strategy.trains and not cost_only:
        with stage("leakage"):
            leaks = {collection.name: leakage.check(data, collection) for collection in benchmarks.values()}
        key = stage_keys["train"]
        checkpoint = store.stage_dir("train", key) / "encoder"
        if store.outcome("train", key) is None:
            with stage("train"):
                draws = batches(strategy, corpus, trainer["batch_size"], steps=trainer["steps"], seed=seed)
                curve, pairs = training.fit(encoder, data, draws, trainer, device=device, seed=seed)
                store.save_frame(checkpoint.parent, "training", pd.DataFrame(curve))
                encoder.save(checkpoint)
                store.finish("train", key, {"language_pairs": pairs, "final_loss": curve[-1]["loss"]})
        encoder.restore(checkpoint)
        trained = store.outcome("train", key)
        store.copy_frames("train", key, name)

    figures = {}
    if not cost_only:
        key = stage_keys["evaluate"]
        if store.outcome("evaluate", key) is None:
            with stage("evaluate"):
                folder = store.stage_dir("evaluate", key)
                for collection in benchmarks.values():
                    queries = encode_all(encoder, collection, "query")
                    passages = encode_all(encoder, collection, "passage")
                    rankings = retrieval.rank(queries, passages, collection)
                    table = metrics.per_query_table(rankings, collection, scores)
                    store.save_frame(folder, f"per_query-{collection.name}", table)
                    figures |= {f"{collection.name}.{score}": value for score, value in metrics.macro(table).items()}
                    attraction = metrics.language_attraction(rankings, ATTRACTION_K)
                    if len(attraction):  # there is a multilingual pool
                        store.save_frame(folder, f"attraction-{collection.name}", attraction.reset_index())
                    if collection.samples:
                        grown = pools.ranks(queries, passages, collection)
                        store.save_frame(folder, f"pool_ranks-{collection.name}", grown)
                store.finish("evaluate", key, figures)
        figures = store.outcome("evaluate", key)
        store.copy_frames("evaluate", key, name)

    cost = None
    if profiling["enabled"]:
        texts = sample_texts(next(iter(benchmarks.values())))
        key = profile.key(encoders.architecture_key(encoder), texts, profiling, threads=threads, device=device)
        cost = store.profile(key) if profiling["shared"] else None  # a strategy does not change an architecture's cost
        if cost is None:
            with stage("profile"):
                where = None if checkpoint is None else str(checkpoint)
                cost = profile.measure(model, where, texts, profiling, threads=threads, device=device, seed=seed)
                if profiling["shared"]:
                    store.save_profile(key, cost)

    return Record(
        name=name,
        fingerprint=stage_keys["profile"],
        status="done",
        choices=choices,
        config=config,
        seed=seed,
        provenance=provenance(encoder, data, benchmarks, device) | {"leakage": leaks},
        metrics=figures,
        profile=cost,
        training=trained,
        stage_s=dict(stage),
        notes=notes(data, benchmarks, leaks, cost_only),
    )


def pick_device(setting: str) -> str:
    if setting == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA device here.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if setting == "auto" else setting


def encode_all(encoder: encoders.Encoder, collection: Collection, side: Side) -> dict[str, np.ndarray]:
    """Language by language: a pool may be too large to be held."""
    by_language = collection.queries if side == "query" else collection.passages
    return {
        language: encode(encoder, texts.texts, side, progress=f"{collection.name}, {language}, {side}")
        for language, texts in by_language.items()
    }


def sample_texts(collection: Collection) -> dict[str, dict[Side, list[str]]]:
    """Real queries and passages for the profile, evenly spaced over each language."""

    def spaced(texts) -> list[str]:
        picks = np.linspace(0, len(texts) - 1, min(PROFILED_TEXTS, len(texts))).round().astype(int)
        return [texts.texts[index] for index in picks]

    sides: dict[Side, Mapping] = {"query": collection.queries, "passage": collection.passages}
    return {
        language: {side: spaced(by_language[language]) for side, by_language in sides.items()}
        for language in collection.queries
    }


def provenance(
    encoder: encoders.Encoder, data: ParallelText, benchmarks: Mapping[str, Collection], device: str
) -> dict[str, Any]:
    """What a reader needs to trust or repeat the run."""

    def installed(library: str) -> str | None:
        try:
            return version(library)
        except PackageNotFoundError:
            return None

    command = ["git", "describe", "--always", "--dirty"]
    git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return {
        "layers": encoder.backbone.config.num_hidden_layers,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "data": dict(data.provenance) | {"name": data.name, "rows": len(data), "languages": list(data.languages)},
        "eval": {collection.name: dict(collection.provenance) for collection in benchmarks.values()},
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "libraries": {library: installed(library) for library in LIBRARIES if installed(library)},
        "commit": git.stdout.strip() or None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def notes(
    data: ParallelText, benchmarks: Mapping[str, Collection], leaks: Mapping[str, dict[str, Any]], cost_only: bool
) -> tuple[str, ...]:
    """Sentences that must stand wherever the run's figures do."""
    sources = [data.provenance, *(collection.provenance for collection in benchmarks.values())]
    said = [str(source["note"]) for source in sources if source.get("note")]
    said += [text for benchmark, found in leaks.items() if (text := leakage.sentence(data.name, benchmark, found))]
    if cost_only:
        said.append("Random weights: cost only, no accuracy.")
    return tuple(dict.fromkeys(said))


def main() -> None:
    outcome_fd = os.dup(1)
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    try:
        record = run(**request)
        store = ResultStore(request["config"]["results_dir"])
        store.save(record)
        tracking.log_run(store, record)
        outcome = {"status": "done"}
    except UserError as error:
        outcome = {"status": "refused", "reason": str(error)}
    except Exception as error:
        traceback.print_exc()
        outcome = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    with os.fdopen(outcome_fd, "w") as file:
        json.dump(outcome, file)


if __name__ == "__main__":
    main()
