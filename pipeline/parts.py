"""What `experiment` works with: the parts of a run, built before any work starts, and what its steps hand on."""

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import torch

from pipeline.config import Device, TrainerConfig, plain
from pipeline.data import leakage
from pipeline.encoder import starts
from pipeline.encoder.deploy import check as check_variants
from pipeline.encoder.deployed import Fixed
from pipeline.encoder.encoding import SHARD, TextEncoder
from pipeline.encoder.engine import require_device
from pipeline.encoder.model import Encoder
from pipeline.launch.crew import Crew
from pipeline.launch.request import Request, encode_key
from pipeline.profiling import nvidia
from pipeline.profiling.tracker import StageTracker
from pipeline.retrieval.faiss_index import check_index
from pipeline.retrieval.ranking import encode_side
from pipeline.retrieval.relevant import check_answers
from pipeline.retrieval.vectors import Vectors
from pipeline.sampling.strategy import Corpus, Strategy, batches
from pipeline.store.files import read_again, write_json
from pipeline.store.provenance import notes, provenance
from pipeline.store.records import Profile, Record
from pipeline.store.results import ResultStore
from pipeline.store.shards import Shards
from pipeline.store.stage import Log, Stages, unheard
from pipeline.targets import build
from pipeline.training.holdout import hold_out
from pipeline.values import Collection, ParallelText, Texts, UserError, Variant, World
from pipeline.values import Side as TextSide

if TYPE_CHECKING:
    from pipeline.training.fit import Training

Side = Mapping[str, Vectors]  # language -> embeddings [N, D]
SPENT = "spent.json"  # what earlier attempts at encoding took


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
    """What a training is made of; UserError for whatever cannot be built. `load` comes last, once the start is made."""

    encoder: Encoder | Fixed

    def __init__(self, request: Request):
        config = request.config
        require_device(config.device.name)
        torch.set_num_threads(config.threads)
        self.request, self.store = request, ResultStore(config.results_dir)
        self.cost_only = config.model.weights == "random"  # random weights have no accuracy
        self.strategy: Strategy = build("sampler", config.sampler)
        self.data: ParallelText = build("data", config.data)
        rows_NL, held_out_NL = hold_out(self.data, config.trainer, config.seed)
        self.corpus, self.held_out = Corpus(self.data.languages, rows_NL), Corpus(self.data.languages, held_out_NL)
        self.strategy.check(self.corpus, config.trainer.batch_size)
        if self.trains and config.trainer.patience is not None:
            check_held_out(self.strategy, self.held_out, config.trainer)

    def load(self) -> None:
        """Load the encoder as it starts."""
        config = self.request.config
        model = starts.started(config.model, self.store, self.request.keys)
        self.encoder = starts.load(model, seed=config.seed, device=config.device.name, threads=config.threads)
        if self.trains and isinstance(self.encoder, Fixed):
            raise UserError(f"sampler: model.weights={config.model.weights} runs as it is: set sampler=none.")

    @property
    def trains(self) -> bool:
        return self.strategy.trains and not self.cost_only

    def fit(self, folder: Path, world: World, log: Log = unheard) -> "Training":
        """Train the encoder in the process that has this place in `world`, with checkpoints in `folder`."""
        from pipeline.training.fit import fit  # with Lightning: a run that trains nothing does not wait for it

        trainer, config = self.request.trainer, self.request.config
        assert isinstance(self.encoder, Encoder)  # others are refused by `load`
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
        if "static" in request.keys:
            self.stage("static", request.keys["static"], self.distil)
        with self.stage.timed("load"):
            self.load()
            check_variants(config.inference_variants(), self.encoder)
            for benchmark in self.benchmarks.values():
                check_answers(benchmark)
                for variant in config.inference_variants():
                    if variant.index != "exact":
                        check_index(variant.index, variant.width or self.encoder.width, benchmark)

    def distil(self, folder: Path) -> dict[str, Any]:
        """Distil the table that a static encoder starts from."""
        from pipeline.encoder.static_start import distil

        config = self.request.config
        assert config.model.static  # a run without it has no such stage
        with self.meter() as spent:
            distil(starts.teacher(config.model).to(config.device.name), config.model.static, folder)
        return dict(spent)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What all records of the run say of where it was made; it asks git once."""
        data = self.data if self.trains else None
        return provenance(data, self.benchmarks.values(), device_name(self.request.config.device)) | {
            "layers": self.encoder.layers,
            "parameters": self.encoder.parameter_count,
            "stages": self.request.keys,
            "inputs": self.request.inputs,
        }

    def foreign_languages(self) -> Iterator[str]:
        """Yield a sentence per benchmark with languages that the encoder was not trained on, where it says so."""
        if isinstance(self.encoder, Fixed):
            for benchmark in self.benchmarks.values():
                if foreign := sorted({*benchmark.queries, *benchmark.passages} - self.encoder.languages):
                    yield f"{benchmark.name}: the model was not trained on {', '.join(foreign)}."

    def record(self, variant: Variant, trained: Trained, evaluation: Evaluation, profile: Profile | None) -> Record:
        """The record of one inference variant."""
        request = self.request
        leaks = [leakage.sentence(self.data.name, benchmark, leak) for benchmark, leak in trained.leaks.items()]
        of_data: list[Mapping[str, Any]] = [{"note": sentence} for sentence in self.encoder.overridden]
        of_data += [{"note": sentence} for sentence in self.foreign_languages()]
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


class Embeddings:
    """The embeddings of each benchmark by one engine, made when first asked for: widths and indexes share them.

    Vectors of a side with more than SHARD texts lie in shards, in the store until the benchmark's rankings are, or in
    `encode.folder` for good: a run that is killed loses the shards that it is at work on, one per worker.

    Args:
        engine: any variant of that engine.
        deploy: returns the encoder on that engine.
        folder: returns the folder from which a worker loads the same encoder.
    """

    def __init__(self, parts: Parts, engine: Variant, deploy: Callable[[], TextEncoder], folder: Callable[[], Path]):
        self.parts, self.deploy, self.folder = parts, cache(deploy), folder
        self.by_benchmark: dict[str, tuple[Side, Side, dict[str, Any]]] = {}
        self.stages = {
            name: parts.store.stage_dir("encode", encode_key(parts.request.keys[f"encode.{name}"], engine))
            for name in parts.benchmarks
        }

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep others from encoding the same texts. At the end all is ranked, so shards in the store are removed."""
        folders = sorted(set(self.stages.values()))  # in one order everywhere, so that no two runs wait for each other
        with ExitStack() as locks:
            for folder in folders:
                locks.enter_context(self.parts.store.lock(folder.name))
            yield
            if not self.parts.request.config.encode.folder:
                for folder in folders:
                    shutil.rmtree(folder, ignore_errors=True)

    def __getitem__(self, name: str) -> tuple[Side, Side, dict[str, Any]]:
        """Queries, passages, and the time and energy that encoding the passages took."""
        if name not in self.by_benchmark:
            self.by_benchmark[name] = self._encode(self.parts.benchmarks[name], self.stages[name])
        return self.by_benchmark[name]

    def _encode(self, benchmark: Collection, stage: Path) -> tuple[Side, Side, dict[str, Any]]:
        config, facts = self.parts.request.config.encode, {"passages": count(benchmark.passages)}
        meter, earlier = self.parts.meter, tuple[Any, ...]()
        if facts["passages"] > SHARD:
            earlier = read_again(stage / SPENT), partial(write_json, stage / SPENT)
            if config.elsewhere:
                meter, facts["workers"] = StageTracker(None, None), config.workers  # their energy is not known here
        emb_queries = self._encode_side(benchmark, "query", stage)
        with meter(*earlier) as cost:
            emb_passages = self._encode_side(benchmark, "passage", stage)
        return emb_queries, emb_passages, {**cost, **facts}

    def _encode_side(self, benchmark: Collection, side: TextSide, stage: Path) -> Side:
        """Encode one side: in memory, or in shards by this process or the workers of the config."""
        request, config = self.parts.request, self.parts.request.config.encode
        encode_it = partial(encode_side, self.deploy(), benchmark, side, halvings=request.halvings)
        if count(benchmark.queries if side == "query" else benchmark.passages) <= SHARD:
            return encode_it()
        root = f"{config.folder.rstrip('/')}/{stage.name}" if config.folder else str(stage)

        def shards(name: str) -> Shards:
            return Shards(f"{root}/{quote(name, safe='')}", SHARD, config.precision.name)  # any name of a language

        if not config.elsewhere:
            return encode_it(shards=shards)
        with Crew(request.config, self.folder) as crew:
            return encode_it(shards=shards, encode_missing=crew.encode)


def count(texts_by_language: Mapping[str, Texts]) -> int:
    """Return the number of texts of all languages."""
    return sum(map(len, texts_by_language.values()))


def device_name(device: Device) -> str:
    """What trained and encoded, as the machine calls it."""
    return torch.cuda.get_device_name() if device is Device.cuda else platform.processor() or platform.machine()
