"""What `experiment` works with: the parts of a run, built before any work starts, and what its steps hand on."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import Device, TrainerConfig, build, plain
from pipeline.data import leakage
from pipeline.encoder import sources
from pipeline.encoder.deploy import check as check_variants
from pipeline.encoder.encoding import TextEncoder
from pipeline.encoder.engine import require_device
from pipeline.launch.request import Request
from pipeline.profiling import nvidia
from pipeline.profiling.tracker import StageTracker
from pipeline.retrieval.faiss_index import check_index
from pipeline.retrieval.ranking import encode_side
from pipeline.retrieval.relevant import check_answers
from pipeline.sampling.strategy import Corpus, Strategy
from pipeline.store.keys import cache_key
from pipeline.store.provenance import notes, provenance
from pipeline.store.records import Profile, Record
from pipeline.store.results import ResultStore
from pipeline.store.stage import Stages
from pipeline.training.fit import hold_out
from pipeline.values import Collection, ParallelText, UserError, Variant

Side = Mapping[str, np.ndarray]  # language -> embeddings [N, D]


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


class Parts:
    """All that a run is made of; UserError for whatever cannot be built."""

    def __init__(self, request: Request):
        config = request.config
        require_device(config.device.name)
        torch.set_num_threads(config.threads)
        self.request, self.store = request, ResultStore(config.results_dir)
        self.stage = Stages(self.store)
        self.cost_only = config.model.weights == "random"  # random weights have no accuracy
        with self.stage.timed("load"):
            self.strategy: Strategy = build("sampler", config.sampler)
            self.benchmarks: dict[str, Collection] = {
                name: build(f"eval.{name}", node) for name, node in config.eval.items()
            }
            self.data: ParallelText = build("data", config.data)
            rows_NL, held_out_NL = hold_out(self.data, config.trainer, config.seed)
            self.corpus, self.held_out = Corpus(self.data.languages, rows_NL), Corpus(self.data.languages, held_out_NL)
            self.strategy.check(self.corpus, config.trainer.batch_size)
            if self.trains and config.trainer.patience is not None:
                check_held_out(self.strategy, self.held_out, config.trainer)
            self.encoder = sources.load(config.model, seed=config.seed).to(config.device.name)
            check_variants(config.inference_variants(), self.encoder)
            for benchmark in self.benchmarks.values():
                check_answers(benchmark)
                for variant in config.inference_variants():
                    if variant.index != "exact":
                        check_index(variant.index, variant.width or self.encoder.width, benchmark)
            country = config.profile.country if config.profile.enabled else None
            self.meter = StageTracker(country, nvidia.energy_j if config.device is Device.cuda else None)

    @property
    def trains(self) -> bool:
        return self.strategy.trains and not self.cost_only

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What all records of the run say of where it was made; it asks git once."""
        data = self.data if self.trains else None
        return provenance(data, self.benchmarks.values(), device_name(self.request.config.device)) | {
            "layers": self.encoder.backbone.config.num_hidden_layers,
            "parameters": sum(parameter.numel() for parameter in self.encoder.parameters()),
            "stages": self.request.keys,
            "inputs": self.request.inputs,
        }

    def record(self, variant: Variant, trained: Trained, evaluation: Evaluation, profile: Profile | None) -> Record:
        """The record of one inference variant."""
        request = self.request
        leaks = [leakage.sentence(self.data.name, benchmark, leak) for benchmark, leak in trained.leaks.items()]
        of_data: list[Mapping[str, Any]] = [{"note": sentence} for sentence in self.encoder.overridden]
        of_data += [self.data.provenance] if self.trains else []
        provenances = [*of_data, *(benchmark.provenance for benchmark in self.benchmarks.values())]
        sentences = notes(provenances, filter(None, leaks), cost_only=self.cost_only, halvings=request.halvings)
        return Record(
            name=variant.run_name(request.name),
            cache_key=cache_key([request.inputs, variant.label]),
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


class Embeddings:
    """The embeddings of each benchmark by one engine, made when first asked for: widths and indexes share them.

    Args:
        deploy: returns the encoder on that engine.
    """

    def __init__(self, parts: Parts, deploy: Callable[[], TextEncoder]):
        self.parts, self.deploy = parts, cache(deploy)
        self.by_benchmark: dict[str, tuple[Side, Side, dict[str, Any]]] = {}

    def __getitem__(self, name: str) -> tuple[Side, Side, dict[str, Any]]:
        """Queries, passages, and the time and energy that encoding the passages took."""
        if name not in self.by_benchmark:
            benchmark, halvings = self.parts.benchmarks[name], self.parts.request.halvings
            queries = encode_side(self.deploy(), benchmark, "query", halvings=halvings)
            with self.parts.meter() as cost:
                passages = encode_side(self.deploy(), benchmark, "passage", halvings=halvings)
            spent = {**cost, "passages": sum(len(emb_PD) for emb_PD in passages.values())}
            self.by_benchmark[name] = queries, passages, spent
        return self.by_benchmark[name]


def device_name(device: Device) -> str:
    """What trained and encoded, as the machine calls it."""
    return torch.cuda.get_device_name() if device is Device.cuda else platform.processor() or platform.machine()
