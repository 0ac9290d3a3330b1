"""One run, from config to records: read this as the method section of a paper.

`launch.worker` calls `run` in a child process. Each step is a stage of the store (`store.stage`), made once for all
runs with the same cache key. `launch.request` derives the keys from config, code and library versions.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data import leakage
from pipeline.encoder.deploy import save
from pipeline.encoder.engine import Unavailable
from pipeline.encoder.sources import architecture_key
from pipeline.encoder.starts import restore_distilled, teacher
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
from pipeline.profiling.summary import with_corpus, with_query_encoder
from pipeline.retrieval.scoring import score_benchmark
from pipeline.store.files import read_again, write_atomically, write_json
from pipeline.store.keys import cache_key
from pipeline.store.records import Profile, Record
from pipeline.store.stage import Log, unheard
from pipeline.systems import Ranker
from pipeline.training.teacher import teach
from pipeline.values import Collection, ParallelText, Variant, World


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


def distill_or_restore(parts: Parts) -> dict[str, Any]:
    """Distil the encoder's start, unless an equal distillation has finished, and load its weights."""
    request, config = parts.request, parts.request.config.model.distill
    if config is None:
        return {}
    student = parts.encoder
    unfinished = parts.store.stage_dir("unfinished", request.keys["distill"])
    vectors = parts.store.stage_dir("teach", request.keys["teach"]) / "vectors.npy"

    def teach_student(folder: Path) -> dict[str, Any]:
        teaching = teacher(request.config.model, parts.store, request.config.seed).to(request.config.device.name)
        with parts.meter() as spent:
            emb_UD = teach(teaching, parts.distill_texts.teacher)
        write_atomically(vectors, lambda path: np.save(path, emb_UD))
        return {"texts": len(emb_UD), **spent}

    def distill_student(folder: Path) -> dict[str, Any]:
        width, spent_file = student.width, unfinished / "spent" / "spent.json"
        with parts.meter(read_again(spent_file), partial(write_json, spent_file)) as spent:
            curve = parts.distill(np.load(vectors, mmap_mode="r"), unfinished)
        parts.store.save_frame(folder, "distillation", pd.DataFrame(curve))
        student.save(folder / "encoder")
        projected_width = student.width if student.width != width else None
        return {"final_loss": curve[-1]["loss"], "projected_width": projected_width, **spent}

    if parts.store.outcome("distill", request.keys["distill"]) is None:
        parts.stage("teach", request.keys["teach"], teach_student)
    outcome = parts.stage("distill", request.keys["distill"], distill_student)
    shutil.rmtree(unfinished, ignore_errors=True)
    restore_distilled(student, parts.store, request.keys["distill"])
    return outcome


def train_or_restore(parts: Parts) -> Trained:
    """Train the encoder from its start, unless an equal training has finished, and load its weights."""
    request = parts.request
    distillation, leaks = distill_or_restore(parts), check_leakage(parts)
    if not parts.trains:
        return Trained(leaks=leaks, distillation=distillation)
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
    return Trained(outcome, leaks, distillation, checkpoint)


def check_leakage(parts: Parts) -> dict[str, dict[str, Any]]:
    """Return what each data set that the encoder learns from shares with each benchmark."""

    def shared(data: ParallelText, benchmark: Collection, folder: Path) -> dict[str, Any]:
        return leakage.check(data, benchmark)

    leaks: dict[str, dict[str, Any]] = {}
    for stage, data in parts.learns_from.items():
        for name, benchmark in parts.benchmarks.items():
            key = parts.request.keys[f"leakage.distill.{name}" if stage == "distill" else f"leakage.{name}"]
            leak = parts.stage("leakage", key, partial(shared, data, benchmark))
            leaks.setdefault(data.name, {})[benchmark.name] = leak
    return leaks


def join(request: Request, world: World) -> None:
    """Take part in the training of a run that another process leads."""
    parts = TrainingParts(request)
    parts.load()  # the process that leads has made what it starts from
    wait(world)
    if request.config.model.distill:
        restore_distilled(parts.encoder, parts.store, request.keys["distill"])
    parts.fit(parts.store.stage_dir("unfinished", request.keys["train"]), world)


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

    A batch strategy does not change an architecture, so all runs of an architecture share its profile. Where passages
    lie does not change what an index of them costs, so centred variants share that of the others.
    """
    engine = Variant(*variants[0].engine, fusion=variants[0].fusion)
    whole = profile_system(parts, parts.system.architecture, engine, folder)
    by_query_encoder: dict[str | None, Profile] = {None: whole}
    for name in dict.fromkeys(variant.query_encoder for variant in variants):
        if name:
            encoder = parts.query_encoder(name)
            with TemporaryDirectory() as temporary:
                save(encoder, engine, Path(temporary))
                by_query_encoder[name] = with_query_encoder(
                    whole, profile_system(parts, architecture_key(encoder), engine, partial(Path, temporary))
                )
    profiles: dict[Variant, Profile] = {}
    for name, base in by_query_encoder.items():
        profiles |= profile_indexes(parts, base, [each for each in variants if each.query_encoder == name], folder)
    passages = sum(map(len, next(iter(parts.benchmarks.values())).passages.values()))
    return {variant: with_corpus(profile, passages) for variant, profile in profiles.items()}


def profile_system(
    parts: Parts, architecture: Mapping[str, object], engine: Variant, folder: Callable[[], Path]
) -> Profile:
    """Profile what a folder holds, with the flat index."""
    job = profile_job(parts, architecture, engine)
    if parts.store.outcome("profile", job.key) is None:
        job = replace(job, folder=str(folder()))  # a stage of its own, which cannot run while this one is alone
    return Profile(**parts.stage("profile", job.key, lambda _: asdict(measure(job)), alone=True))


def profile_indexes(
    parts: Parts, base: Profile, variants: list[Variant], folder: Callable[[], Path]
) -> dict[Variant, Profile]:
    """Return the profile of each width and index, given that of the encoder with the flat index."""
    keys = {
        variant: cache_key([base.encoder_key, variant.width, variant.index, variant.query_encoder])
        for variant in variants
        if (variant.width, variant.index) != (None, "exact")
    }
    store = parts.store
    with store.lock(f"indexes-{base.encoder_key}"):
        missing = {key: variant for variant, key in keys.items() if store.outcome("profile", key) is None}
        if missing:
            job = profile_job(parts, parts.system.architecture, Variant(*variants[0].engine))
            job = replace(job, folder=str(folder()))
            with parts.stage.timed("profile", alone=True):
                for variant, profile in measure_indexes(job, base, [*missing.values()]).items():
                    store.finish("profile", keys[variant], asdict(profile))
        stored = {variant: store.outcome("profile", key) for variant, key in keys.items()}
    return {variant: Profile(**raw) if (raw := stored.get(variant)) else base for variant in variants}


def profile_job(parts: Parts, architecture: Mapping[str, object], engine: Variant) -> Job:
    """What the meters are told of a system on one engine; the folder is still to be made.

    Its key is made of architecture, texts, machine, settings and fusion, whatever the weights are.
    """
    request, config, texts = parts.request, parts.request.config, profiled_texts(parts)
    own = [
        None if config.profile.shared else request.name,
        None if parts.system.shares_profile else request.keys["train"],
    ]
    of_system = [architecture, engine_inputs(engine), texts, machine.facts(config.device.name)]
    return Job(
        folder="",
        texts=texts,
        settings=Settings.of(config.profile),
        variant=engine,
        threads=config.threads,
        device=config.device.name,
        seed=config.seed,
        key=cache_key([request.keys["profile"], *of_system, own, *fusion_inputs(engine, FUSED)]),
    )


def profiled_texts(parts: Parts) -> Texts:
    """Queries and passages of the first benchmark, on which encoders are profiled."""
    return sample_texts(next(iter(parts.benchmarks.values())))
