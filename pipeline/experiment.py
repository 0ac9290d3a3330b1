"""One run, from config to records: read this as the method section of a paper.

`launch.worker` calls `run` in a child process. Each step is a stage of the store (`store.stage`), made once for all
runs with the same cache key. `launch.request` derives the keys from config, code and library versions.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data import leakage
from pipeline.encoder.engine import Unavailable
from pipeline.launch.peers import peers, wait
from pipeline.launch.request import (
    FUSED,
    Request,
    deploy_key,
    engine_inputs,
    fusion_inputs,
    unavailable_key,
    variant_key,
)
from pipeline.parts import Evaluation, Parts, Trained, TrainingParts
from pipeline.profiling import machine
from pipeline.profiling.measure import measure, measure_indexes, sample_texts
from pipeline.profiling.meter import Job, Settings, Texts
from pipeline.profiling.summary import with_corpus
from pipeline.retrieval.scoring import score_benchmark
from pipeline.store.files import read_again, write_json
from pipeline.store.keys import cache_key
from pipeline.store.records import Profile, Record
from pipeline.store.results import ResultStore
from pipeline.store.stage import Log, unheard
from pipeline.systems import Ranker
from pipeline.values import Collection, Variant, World


def run(request: Request, log: Log = unheard) -> Iterator[Record]:
    """Yield the record of the encoder as trained, then one per further inference variant, as soon as each is made.

    `log` hears of each stage that begins, and of each point of the training curve.
    """
    parts = Parts(request, log)
    trained = train_or_restore(parts)
    for _, engine in groupby(request.config.inference_variants(), key=attrgetter("engine")):
        variants = list(engine)
        try:
            parts.system.check_engine(variants[0])
            with deployed(parts, variants[0]) as folder:
                evaluations, profiles = evaluate_and_profile(parts, variants, folder)
        except Unavailable as error:
            print(f"  skipped: {error}", file=sys.stderr)
            parts.store.finish("unavailable", unavailable_key(request.config, variants[0]), {"reason": str(error)})
            continue
        for variant in variants:
            yield parts.record(variant, trained, evaluations[variant], profiles.get(variant))


@contextmanager
def deployed(parts: Parts, variant: Variant) -> Iterator[Callable[[], Path]]:
    """Yield what returns the folder of the system on a variant's engine, made when first asked for.

    Evaluation and all meters read the same files. They are large, so they go once the results are in the store.
    """
    key = deploy_key(parts.request, variant)
    folder = parts.store.stage_dir("deploy", key)

    def make(folder: Path) -> dict[str, Any]:
        parts.system.save(variant, folder)
        return {}

    def ask() -> Path:
        parts.stage("deploy", key, make)
        return folder

    with parts.store.lock(f"deployed-{key}"):
        yield ask
        shutil.rmtree(folder, ignore_errors=True)


def evaluate_and_profile(
    parts: Parts, variants: list[Variant], folder: Callable[[], Path]
) -> tuple[dict[Variant, Evaluation], dict[Variant, Profile]]:
    """Evaluate and profile all widths, indexes and fusions of one engine."""
    ranker = parts.system.ranker(parts, variants[0], folder)
    with ranker.kept():  # no other run encodes the same texts
        evaluations = {variant: evaluate_variant(parts, ranker, variant) for variant in variants}
    profiles: dict[Variant, Profile] = {}
    if parts.request.config.profile.enabled:
        for fusion in dict.fromkeys(variant.fusion for variant in variants):
            profiles |= profile_variants(parts, [variant for variant in variants if variant.fusion == fusion], folder)
    return evaluations, profiles


def train_or_restore(parts: Parts) -> Trained:
    """Train the encoder, unless an equal training has finished, and load its weights; check its data for leakage."""
    request, data = parts.request, parts.data
    if not parts.trains:
        return Trained()

    def check_leakage(benchmark: Collection, folder: Path) -> dict[str, Any]:
        return leakage.check(data, benchmark)

    leaks = {
        benchmark.name: parts.stage("leakage", request.keys[f"leakage.{name}"], partial(check_leakage, benchmark))
        for name, benchmark in parts.benchmarks.items()
    }
    unfinished = parts.store.stage_dir("unfinished", request.keys["train"])  # checkpoints: a killed training resumes
    spent_file = unfinished / "spent" / "spent.json"

    def train(folder: Path) -> dict[str, Any]:
        with parts.meter(read_again(spent_file), partial(write_json, spent_file)) as spent, peers(request) as world:
            curve, language_pairs = parts.fit(unfinished, world, parts.stage.log)
            parts.store.save_frame(folder, "training", pd.DataFrame(curve))
            parts.encoder.save(folder / "encoder")
        return {"language_pairs": language_pairs, "final_loss": curve[-1]["loss"], **spent}

    outcome = parts.stage("train", request.keys["train"], train)
    shutil.rmtree(unfinished, ignore_errors=True)
    checkpoint = parts.store.stage_dir("train", request.keys["train"]) / "encoder"
    parts.encoder.restore(checkpoint)
    return Trained(outcome, leaks, checkpoint)


def join(request: Request, world: World) -> None:
    """Take part in the training of a run that another process leads."""
    parts = TrainingParts(request)
    wait(world)
    parts.fit(ResultStore(request.config.results_dir).stage_dir("unfinished", request.keys["train"]), world)


def evaluate_variant(parts: Parts, ranker: Ranker, variant: Variant) -> Evaluation:
    """Rank each benchmark by an inference variant, then score the stored rankings: a new metric encodes nothing."""
    request, store = parts.request, parts.store
    evaluation = Evaluation()
    for name, benchmark in parts.benchmarks.items() if not parts.cost_only else ():
        rank_key = variant_key(request.keys[f"rank.{name}"], variant)
        score_key = cache_key([rank_key, request.keys["score"]])
        rankings = store.stage_dir("rank", rank_key)

        def rank(folder: Path, name=name) -> dict[str, Any]:
            return ranker.rank(name, variant, folder)

        def score(folder: Path, benchmark=benchmark, rankings=rankings) -> dict[str, Any]:
            scores = score_benchmark(rankings, benchmark, request.config.metrics)
            for stem, frame in scores.frames.items():
                store.save_frame(folder, stem, frame)
            return scores.figures

        evaluation.corpus[benchmark.name] = parts.stage("rank", rank_key, rank)
        evaluation.metrics.update(parts.stage("score", score_key, score))
        store.copy_frames("score", score_key, variant.run_name(request.name))
    store.copy_frames("train", request.keys["train"], variant.run_name(request.name))
    return evaluation


def profile_variants(parts: Parts, variants: list[Variant], folder: Callable[[], Path]) -> dict[Variant, Profile]:
    """Profile what one engine and fusion deploy, then its widths and indexes, each meter in a child process.

    A batch strategy does not change an architecture, so all runs of an architecture share its profile.
    """
    config, engine = parts.request.config, Variant(*variants[0].engine, fusion=variants[0].fusion)
    key = profile_key(parts, engine)
    keys = {variant: cache_key([key, variant.width, variant.index]) for variant in variants}
    indexed = [variant for variant in variants if (variant.width, variant.index) != (None, "exact")]
    store = parts.store
    with store.lock(f"indexes-{key}"):
        missing = [variant for variant in indexed if store.outcome("profile", keys[variant]) is None]
        if missing or store.outcome("profile", key) is None:
            job = Job(
                folder=str(folder()),
                texts=profiled_texts(parts),
                settings=Settings.of(config.profile),
                variant=engine,
                threads=config.threads,
                device=config.device.name,
                seed=config.seed,
                key=key,
            )
            base = Profile(**parts.stage("profile", key, lambda _: asdict(measure(job)), alone=True))
            if missing:
                with parts.stage.timed("profile", alone=True):
                    for variant, profile in measure_indexes(job, base, missing).items():
                        store.finish("profile", keys[variant], asdict(profile))
        stored = {
            variant: store.outcome("profile", keys[variant] if variant in indexed else key) for variant in variants
        }
    passages = sum(map(len, next(iter(parts.benchmarks.values())).passages.values()))
    return {variant: with_corpus(Profile(**raw), passages) for variant, raw in stored.items() if raw}


def profile_key(parts: Parts, engine: Variant) -> str:
    """Cache key of an engine's profile: architecture, texts, machine, settings and fusion, whatever the weights are."""
    request = parts.request
    unshared = None if request.config.profile.shared else request.name
    facts = machine.facts(request.config.device.name)
    of_system = [parts.system.architecture, engine_inputs(engine), profiled_texts(parts)]
    return cache_key([request.keys["profile"], *of_system, facts, unshared, *fusion_inputs(engine, FUSED)])


def profiled_texts(parts: Parts) -> Texts:
    """Queries and passages of the first benchmark, on which encoders are profiled."""
    return sample_texts(next(iter(parts.benchmarks.values())))
