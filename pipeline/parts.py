"""What `experiment` works with: the parts of a run, built before any work starts, and what its steps hand on."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.config import build, plain
from pipeline.data import leakage
from pipeline.encoder import sources
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
from pipeline.systems import Dense, Lexical
from pipeline.training.holdout import hold_out
from pipeline.values import LEXICAL, Collection, ParallelText, UserError, Variant, World

if TYPE_CHECKING:
    from pipeline.training.fit import Training


@dataclass(frozen=True)
class Trained:
    """The outcome of a training, what its data share with each benchmark, and its weights; empty without training."""

    outcome: Mapping[str, Any] = field(default_factory=dict)
    leaks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of one inference variant by '<benchmark>.<setting>.<metric>', and what encoding the passages took."""

    metrics: dict[str, float] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)


class TrainingParts:
    """What a training is made of; UserError for whatever cannot be built."""

    def __init__(self, request: Request):
        config = request.config
        require_device(config.device.name)
        torch.set_num_threads(config.threads)
        self.request = request
        self.cost_only = config.model.weights == "random"  # random weights have no accuracy
        self.strategy: Strategy = build("sampler", config.sampler)
        self.data: ParallelText = build("data", config.data)
        rows_NL, held_out_NL = hold_out(self.data, config.trainer, config.seed)
        self.corpus, self.held_out = Corpus(self.data.languages, rows_NL), Corpus(self.data.languages, held_out_NL)
        self.strategy.check(self.corpus, config.trainer.batch_size)
        if self.trains and config.trainer.patience is not None:
            check_held_out(self.strategy, self.held_out, config.trainer)
        self.system = self._system()

    def _system(self) -> Dense | Lexical:
        config = self.request.config
        if config.model.weights == LEXICAL:
            return Lexical(lexical.settings(config.model.architecture, "model.architecture"))
        return Dense(sources.load(config.model, seed=config.seed).to(config.device.name))

    @property
    def encoder(self) -> Encoder:
        """The encoder that is trained."""
        assert isinstance(self.system, Dense)  # launch.request lets nothing else train
        return self.system.encoder

    @property
    def trains(self) -> bool:
        return self.strategy.trains and not self.cost_only

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
        self.store = ResultStore(config.results_dir)
        self.stage = Stages(self.store, log)
        with self.stage.timed("load"):
            self.benchmarks: dict[str, Collection] = {
                name: build(f"eval.{name}", node) for name, node in config.eval.items()
            }
            super().__init__(request)
            for benchmark in self.benchmarks.values():
                check_answers(benchmark)
            self.system.check(config.inference_variants(), self.benchmarks.values())
            country = config.profile.country if config.profile.enabled else None
            self.meter = StageTracker(country, nvidia.energy_j if config.device is Device.cuda else None)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What all records of the run say of where it was made; it asks git once."""
        data = self.data if self.trains else None
        made = provenance(data, self.benchmarks.values(), device_name(self.request.config.device))
        return made | {
            **self.system.size,
            "stages": self.request.keys,
            "inputs": self.request.inputs,
        }

    def record(self, variant: Variant, trained: Trained, evaluation: Evaluation, profile: Profile | None) -> Record:
        """The record of one inference variant."""
        request = self.request
        leaks = [leakage.sentence(self.data.name, benchmark, leak) for benchmark, leak in trained.leaks.items()]
        of_data: list[Mapping[str, Any]] = [{"note": sentence} for sentence in self.system.notes]
        of_data += [self.data.provenance] if self.trains else []
        provenances = [*of_data, *(benchmark.provenance for benchmark in self.benchmarks.values())]
        sentences = notes(provenances, filter(None, leaks), cost_only=self.cost_only, halvings=request.halvings)
        return Record(
            name=variant.run_name(request.name),
            cache_key=request.record_key(variant.label),
            status="done",
            choices=request.choices,
            config=plain(request.config),
            seed=request.config.seed,
            provenance=self.provenance | {"leakage": trained.leaks},
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
