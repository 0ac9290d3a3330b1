"""What `experiment` works with: the parts of a run, built before any work starts, and what its steps hand on."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.config import from_plain, plain
from pipeline.data import leakage, plain_lines
from pipeline.encoder import starts
from pipeline.encoder.deployed import Fixed
from pipeline.encoder.engine import require_device
from pipeline.encoder.model import Encoder
from pipeline.groups import Device, TrainerConfig
from pipeline.launch.request import Request
from pipeline.profiling import nvidia
from pipeline.profiling.tracker import StageTracker
from pipeline.retrieval import lexical
from pipeline.retrieval.relevant import check_answers
from pipeline.sampling.strategy import Corpus, Strategy, batches
from pipeline.store.provenance import notes, provenance
from pipeline.store.records import Profile, Record
from pipeline.store.results import ResultStore
from pipeline.store.stage import Log, Stages, unheard
from pipeline.systems import Dense, Lexical, kind
from pipeline.targets import build
from pipeline.training.holdout import hold_out
from pipeline.training.teacher import DistillTexts, distill_texts
from pipeline.values import LEXICAL, Collection, ParallelText, UserError, Variant, World

if TYPE_CHECKING:
    from pipeline.training.fit import Training


@dataclass(frozen=True)
class Trained:
    """What an encoder learned: the outcomes of its training and distillation, what their data share with benchmarks.

    Empty without either.
    """

    outcome: Mapping[str, Any] = field(default_factory=dict)
    leaks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by data set and benchmark
    distillation: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of one inference variant by '<benchmark>.<setting>.<metric>', and what encoding the passages took."""

    metrics: dict[str, float] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)


class TrainingParts:
    """What a training is made of; UserError for whatever cannot be built. `load` comes last, once the start is made."""

    def __init__(self, request: Request):
        config = request.config
        require_device(config.device.name)
        torch.set_num_threads(config.threads)
        self.request, self.store = request, ResultStore(config.results_dir)
        self.cost_only = config.model.cost_only
        self.strategy: Strategy = build("sampler", config.sampler)
        self.data: ParallelText = build("data", config.data)
        rows_NL, held_out_NL = hold_out(self.data, config.trainer, config.seed)
        self.corpus, self.held_out = Corpus(self.data.languages, rows_NL), Corpus(self.data.languages, held_out_NL)
        self.strategy.check(self.corpus, config.trainer.batch_size)
        if self.trains and config.trainer.patience is not None:
            check_held_out(self.strategy, self.held_out, config.trainer)
        if distill := config.model.distill:
            self.distill_data = self.data if distill.lines is None else plain_lines.read(distill.lines)
            if self.store.outcome("distill", request.keys["distill"]) is None:
                self.distill_texts  # noqa: B018  # a UserError comes before any long work

    def load(self) -> None:
        """Load the system as it starts, but for a distillation."""
        config = self.request.config
        self.system: Dense | Lexical
        if config.model.weights == LEXICAL:
            self.system = Lexical(lexical.settings(config.model.architecture, "model.architecture"))
            return
        model = starts.started(config.model, self.store, self.request.keys)
        encoder = starts.load(model, seed=config.seed, device=config.device.name, threads=config.threads)
        if self.trains and isinstance(encoder, Fixed):
            raise UserError(f"sampler: model.weights={config.model.weights} runs as it is: set sampler=none.")
        self.system = Dense(encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder that is trained or distilled."""
        assert isinstance(self.system, Dense)  # launch.request lets nothing else train
        assert isinstance(self.system.encoder, Encoder)  # `load` and config.check refuse others
        return self.system.encoder

    @property
    def trains(self) -> bool:
        return self.strategy.trains and not self.cost_only

    @cached_property
    def distill_texts(self) -> DistillTexts:
        """What a distillation learns; a stage in the store has no need of it. UserError as of `distill_texts`."""
        assert self.request.config.model.distill  # others have none
        return distill_texts(self.distill_data, self.request.config.model.distill)

    @property
    def learns_from(self) -> dict[str, ParallelText]:
        """What the encoder learns from, by stage: the texts of its distillation, the training set."""
        distilled = {"distill": self.distill_data} if self.request.config.model.distill else {}
        return distilled | ({"train": self.data} if self.trains else {})

    def distill(self, emb_UD: np.ndarray, folder: Path) -> list[dict[str, float]]:
        """Distil the encoder toward the teacher's vectors, with checkpoints in `folder`; return the curve."""
        from pipeline.training.distillation import distill  # with Lightning

        config, device = self.request.distill, self.request.config.device.name
        assert config
        return distill(self.encoder, self.distill_texts, emb_UD, config, folder=folder, device=device)

    def fit(self, folder: Path, world: World, log: Log = unheard) -> "Training":
        """Train the encoder in the process that has this place in `world`, with checkpoints in `folder`."""
        from pipeline.training.fit import fit  # with Lightning: a run that trains nothing does not wait for it

        trainer, config = self.request.trainer, self.request.config
        draw, draw_held_out = (
            partial(batches, self.strategy, corpus, trainer.batch_size, seed=config.seed)
            for corpus in (self.corpus, self.held_out)
        )
        return fit(
            self.encoder,
            self.data,
            draw,
            draw_held_out,
            trainer,
            folder=folder,
            device=config.device.name,
            seed=config.seed,
            on_point=log,
            world=world,
        )


class Parts(TrainingParts):
    """All that a run is made of; UserError for whatever cannot be built."""

    def __init__(self, request: Request, log: Log = unheard):
        config = request.config
        self.stage = Stages(ResultStore(config.results_dir), log)
        country = config.profile.country if config.profile.enabled else None
        self.meter = StageTracker(country, nvidia.energy_j if config.device is Device.cuda else None)
        with self.stage.timed("load"):
            self.benchmarks: dict[str, Collection] = {
                name: build(f"eval.{name}", node) for name, node in config.eval.items()
            }
            super().__init__(request)
            if "static" not in request.keys:
                self.load_checked()
        if "static" in request.keys:
            self.stage("static", request.keys["static"], self.distil)
            with self.stage.timed("load"):
                self.load_checked()

    def load_checked(self) -> None:
        """Load the system and the encoders of queries; UserError for a variant or a benchmark that does not fit."""
        self.load()
        variants = self.request.config.inference_variants()
        self.query_encoders: dict[str, Encoder] = {}
        for name in filter(None, (variant.query_encoder for variant in variants)):
            self.query_encoder(name)
        for benchmark in self.benchmarks.values():
            check_answers(benchmark)
        self.system.check(variants, self.benchmarks.values())

    def distil(self, folder: Path) -> dict[str, Any]:
        """Distil the table that a static encoder starts from."""
        from pipeline.encoder.static_start import distil

        config = self.request.config
        assert config.model.static  # a run without it has no such stage
        with self.meter() as spent:
            distil(starts.static_teacher(config.model).to(config.device.name), config.model.static, folder)
        return dict(spent)

    def query_encoder(self, name: str) -> Encoder:
        """The encoder of another run that encodes queries in this one's place, on the device.

        Raises:
            UserError: if that run learned the vectors of another encoder than this run's, or of another width.
        """
        if name not in self.query_encoders:
            record = self.store.load(name)
            model = from_plain(record.config).model
            teacher = model.distill.teacher if model.distill else None
            learned = self.store.finished(teacher) if teacher and "/" not in teacher else None
            if learned is None or learned.provenance["stages"]["train"] != self.request.keys["train"]:
                whose = f"the vectors of {teacher}" if teacher else "no other encoder's vectors"
                needed = f"model.distill.teacher={self.request.name}"
                raise UserError(f"query_encoder={name} learned {whose}: it needs {needed}.")
            encoder = starts.of_run(self.store, record).to(self.request.config.device.name)
            if encoder.width != self.encoder.width:
                raise UserError(f"query_encoder={name} has width {encoder.width}, the passages {self.encoder.width}.")
            self.query_encoders[name] = encoder
        return self.query_encoders[name]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What all records of the run say of where it was made; it asks git once."""
        learned = [*self.learns_from.values(), None][0]
        made = provenance(learned, self.benchmarks.values(), device_name(self.request.config.device))
        return made | {
            **self.system.size,
            "stages": self.request.keys,
            "inputs": self.request.inputs,
        }

    def record(self, variant: Variant, trained: Trained, evaluation: Evaluation, profile: Profile | None) -> Record:
        """The record of one inference variant."""
        request = self.request
        leaks = [
            leakage.sentence(data, benchmark, leak)
            for data, leaks in trained.leaks.items()
            for benchmark, leak in leaks.items()
        ]
        system = self.system.notes(self.benchmarks.values())
        of_data: list[Mapping[str, Any]] = [{"note": sentence} for sentence in system]
        of_data += {data.name: data.provenance for data in self.learns_from.values()}.values()
        provenances = [*of_data, *(benchmark.provenance for benchmark in self.benchmarks.values())]
        sentences = notes(provenances, filter(None, leaks), cost_only=self.cost_only, halvings=request.halvings)
        return Record(
            name=variant.run_name(request.name),
            cache_key=request.record_key(variant.label, variant.query_encoder),
            status="done",
            choices=request.choices,
            config=plain(request.config),
            seed=request.config.seed,
            provenance=self.provenance
            | {"kind": kind(request.config.model, self.system, variant)}
            | {"leakage": trained.leaks, "distillation": trained.distillation},
            metrics=evaluation.metrics,
            profile=profile,
            training=trained.outcome,
            corpus=evaluation.corpus,
            stage_s=dict(self.stage.seconds),
            variant=variant.label,
            notes=tuple(sentences),
        )


def check_held_out(strategy: Strategy, held_out: Corpus, trainer: TrainerConfig) -> None:
    """Raise UserError if the held-out rows do not fill a batch of a validation."""
    try:
        strategy.check(held_out, trainer.batch_size)
    except UserError as error:
        fraction = trainer.holdout_fraction
        raise UserError(f"trainer.holdout_fraction={fraction} holds out too few rows: {error}") from error


def device_name(device: Device) -> str:
    """What trained and encoded, as the machine calls it."""
    return torch.cuda.get_device_name() if device is Device.cuda else platform.processor() or platform.machine()
