"""One cell, from config to record: the method section. The only module that knows every part.

Runs in a child process, by `start`. Reads a request (a line of JSON) on stdin and answers its outcome (JSON) on stdout;
whatever else prints goes to stderr. It ends, and all processes that it started, when stdin is closed: then its parent
is dead.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.config import build, code_hash, servings
from pipeline.data import leakage
from pipeline.encoder import model as encoders
from pipeline.encoder.backends import serving
from pipeline.profiling import energy, nvidia
from pipeline.profiling import measure as profile
from pipeline.reporting import wandb as tracking
from pipeline.retrieval.evaluation import encode_all, evaluate
from pipeline.sampling.strategy import Corpus, batches
from pipeline.store.files import read_again, write_json
from pipeline.store.provenance import notes, provenance
from pipeline.store.results import ResultStore, fingerprint
from pipeline.training import fit as training
from pipeline.values import Collection, ParallelText, Profile, Record, Serving, Side, UserError

PROFILED_TEXTS = 64  # of each language and side


class Stages(dict):
    """Seconds by stage; says on stderr what begins. One that is `alone` has the machine for itself among all cells."""

    def __init__(self, store: ResultStore):
        super().__init__()
        self.store = store

    @contextmanager
    def __call__(self, name: str, *, alone: bool = False) -> Iterator[None]:
        with self.store.machine(alone=alone):
            print(f"  {name} …", file=sys.stderr, flush=True)
            start_s = time.perf_counter()
            yield
            self[name] = time.perf_counter() - start_s


def run(
    name: str,
    stage_keys: Mapping[str, str],
    inputs: Mapping[str, Any],
    halvings: int,
    config: Mapping[str, Any],
    choices: Mapping[str, str],
) -> Iterator[Record]:
    """One record of the encoder as it was trained, then one of each further way of serving it, as they are made.

    `halvings`: how often the tokens that go through the encoder at once were halved, for want of memory.
    """
    store = ResultStore(config["results_dir"])
    stage = Stages(store)
    device, seed, threads = pick_device(config["device"]), config["seed"], config["threads"]
    model, profiling = config["model"], config["profile"]
    trainer = dict(config["trainer"])
    if halvings:  # smaller parts help only where the activations of one are kept at a time
        trainer |= {"forward_tokens": trainer["forward_tokens"] >> halvings, "grad_cache": True}
    torch.set_num_threads(threads)

    with stage("load"):  # build everything, then run
        strategy = build("sampler", config["sampler"])
        scores = {key: build(f"metrics.{key}", node) for key, node in config["metrics"].items()}
        benchmarks: dict[str, Collection] = {key: build(f"eval.{key}", node) for key, node in config["eval"].items()}
        data: ParallelText = build("data", config["data"])
        corpus, held_out = (Corpus(data.languages, rows_NL) for rows_NL in training.hold_out(data, trainer, seed))
        strategy.check(corpus, size := trainer["batch_size"])
        encoder = encoders.load(**model, seed=seed).to(device)
        serving.check(ways := servings(config), encoder)
        country = profiling["country"] if profiling["enabled"] else None
        meter = energy.StageMeter(country, nvidia.energy_j if device == "cuda" else None)

    cost_only = model["weights"] == "random"  # there is no accuracy to speak of
    trained, checkpoint, leaks = {}, None, {}
    if strategy.trains and not cost_only:
        with stage("leakage"):
            leaks = {collection.name: leakage.check(data, collection) for collection in benchmarks.values()}
        key = stage_keys["train"]
        checkpoint = store.stage_dir("train", key) / "encoder"
        unfinished = store.stage_dir("unfinished", key)
        with store.lock(f"train-{key}"):
            trained = store.outcome("train", key) or {}
            if not trained:
                kept = unfinished / "spent" / "spent.json"
                with stage("train"), meter(read_again(kept), partial(write_json, kept)) as spent:
                    rows = (corpus, held_out)
                    draw, draw_held_out = (partial(batches, strategy, some, size, seed=seed) for some in rows)
                    curve, pairs = training.fit(
                        encoder, data, draw, draw_held_out, trainer, folder=unfinished, device=device, seed=seed
                    )
                    store.save_frame(checkpoint.parent, "training", pd.DataFrame(curve))
                    encoder.save(checkpoint)
                trained = {"language_pairs": pairs, "final_loss": curve[-1]["loss"], **spent}
                store.finish("train", key, trained)
        shutil.rmtree(unfinished, ignore_errors=True)
        encoder.restore(checkpoint)

    texts = sample_texts(next(iter(benchmarks.values())))
    about = provenance(encoder, data, benchmarks, device)
    about |= {"leakage": leaks, "stages": dict(stage_keys), "inputs": inputs}
    architecture = encoders.architecture_key(encoder)
    for engine, same in groupby(ways, key=attrgetter("engine")):
        keys = {way: evaluation_key(stage_keys["evaluate"], way) for way in same}
        backend, precision, tokens = engine
        read = model | {"max_passage_tokens": tokens or model["max_passage_tokens"]}
        try:
            if precision == "bfloat16" and training.precision("auto", device) != "bf16-mixed":
                raise serving.Unavailable(
                    "variants: bfloat16 is only slower: this processor has no instructions for it."
                )
            served = serving.serve(encoder, backend, precision, read["max_passage_tokens"])
        except serving.Unavailable as error:
            print(f"  skipped: {error}", file=sys.stderr)
            continue

        whole = evaluation_key(stage_keys["evaluate"], Serving(*engine))  # of the engine, whichever ways are asked for
        with store.lock(f"evaluate-{whole}"):
            outcomes = {way: store.outcome("evaluate", key) for way, key in keys.items()}
            fresh = {way: key for way, key in keys.items() if outcomes[way] is None}
            if fresh and not cost_only:
                with stage("evaluate"):
                    outcomes |= score(served, benchmarks, fresh, scores, store, meter, halvings)

        costs: dict[Serving, Profile] = {}
        if profiling["enabled"]:
            job = profile.Job(
                read, str(checkpoint) if checkpoint else None, texts, profiling,
                threads=threads, device=device, seed=seed, backend=backend, precision=precision,
            )  # fmt: skip
            key = profile.key(architecture | {"engine": engine}, texts, profiling, threads=threads, device=device)
            with store.lock(f"profile-{key}"):
                costs = profiles(job, key, list(keys), store if profiling["shared"] else None, stage)

        for way, key in keys.items():
            outcome = outcomes[way] or {"metrics": {}, "corpus": {}}  # neither, of a cell that is cost only
            for of_stage, stage_key in (("train", stage_keys["train"]), ("evaluate", key)):
                store.copy_frames(of_stage, stage_key, way.run(name))
            yield Record(
                name=way.run(name),
                fingerprint=fingerprint([stage_keys["profile"], way.label]),
                status="done",
                choices=choices,
                config=config,
                seed=seed,
                provenance=about,
                metrics=outcome["metrics"],
                profile=costs.get(way),
                training=trained,
                corpus=outcome["corpus"],
                stage_s=dict(stage),
                served=way.label,
                notes=notes(data, benchmarks, leaks, cost_only, halvings),
            )


def evaluation_key(key: str, serving: Serving) -> str:
    """The stage's own key for the encoder as trained; else one that knows how it is served."""
    return key if serving == Serving() else fingerprint([key, asdict(serving), code_hash("encoder/backends")])


def score(
    encoder: encoders.Encoder,
    benchmarks: Mapping[str, Collection],
    keys: Mapping[Serving, str],
    scores: Mapping[str, Any],
    store: ResultStore,
    meter: energy.StageMeter,
    halvings: int,
) -> dict[Serving, dict[str, Any]]:
    """Encode each benchmark once; leave in the store, and return, what every way of serving these embeddings scores."""
    outcomes: dict[Serving, dict[str, Any]] = {way: {"metrics": {}, "corpus": {}} for way in keys}
    for benchmark in benchmarks.values():
        queries = encode_all(encoder, benchmark, "query", halvings)
        with meter() as spent:
            passages = encode_all(encoder, benchmark, "passage", halvings)
        spent["passages"] = sum(len(emb_PD) for emb_PD in passages.values())
        for way, frames, figures in evaluate(queries, passages, benchmark, list(keys), scores):
            for stem, frame in frames.items():
                store.save_frame(store.stage_dir("evaluate", keys[way]), stem, frame)
            outcomes[way]["metrics"] |= figures
            outcomes[way]["corpus"][benchmark.name] = spent
    for way, outcome in outcomes.items():
        store.finish("evaluate", keys[way], outcome)
    return outcomes


def profiles(
    job: profile.Job, key: str, ways: list[Serving], shared: ResultStore | None, stage: Stages
) -> dict[Serving, Profile]:
    """Of the encoder that `job` describes, by way of serving it; only what `shared` does not hold is measured."""

    def known(key: str) -> Profile | None:
        return shared.profile(key) if shared else None  # a strategy does not change an architecture's cost

    def keep(key: str, cost: Profile) -> Profile:
        if shared:
            shared.save_profile(key, cost)
        return cost

    base = known(key)
    if base is None:
        with stage("profile", alone=True):
            base = keep(key, profile.measure(job))
    keys = {way: fingerprint([key, way.width, way.index]) for way in ways}
    costs = {way: base if (way.width, way.index) == (None, "exact") else known(keys[way]) for way in ways}
    found = {way: cost for way, cost in costs.items() if cost}
    if unknown := [way for way in ways if way not in found]:
        with stage("profile", alone=True):
            for way, cost in profile.measure_indexes(job, base, unknown).items():
                found[way] = keep(keys[way], cost)
    return found


def pick_device(setting: str) -> str:
    if setting == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA device here.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if setting == "auto" else setting


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


def end_with_parent() -> None:
    """Wait until the parent, which holds the other end of stdin, is gone."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def out_of_memory(error: Exception) -> bool:
    """torch says it of a GPU by a class, of the main memory in a sentence."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def main() -> None:
    outcome_fd = os.dup(1)
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        store = ResultStore(request["config"]["results_dir"])
        for record in run(**request):
            store.save(record)
            if record.served == Serving().label:  # the others are rows of the sweep's table
                tracking.log_run(store, record)
        outcome = {"status": "done"}
    except UserError as error:
        outcome = {"status": "refused", "reason": str(error)}
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"[:1000]  # it has to fit into the pipe
        outcome = {"status": "out of memory" if out_of_memory(error) else "failed", "reason": reason}
    with os.fdopen(outcome_fd, "w") as file:
        json.dump(outcome, file)
