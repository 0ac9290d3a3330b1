"""The groups of the configuration: a dataclass per group of conf/, which gives each key its type and its bounds.

`config` holds the root and all further checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, OmegaConf

from pipeline.bounds import COUNT, LARGEST, bounded
from pipeline.values import UserError

Pooling = Enum("Pooling", ["mean", "cls", "lasttoken", "max", "weightedmean", "mean_sqrt_len_tokens"])
Precision = Enum("Precision", ["auto", "float32", "bfloat16"])  # of training
VariantPrecision = Enum("VariantPrecision", ["float32", "bfloat16", "int8"])
Centre = Enum("Centre", ["passages", "both"])
Device = Enum("Device", ["auto", "cpu", "cuda"])
Parallel = Enum("Parallel", ["ddp", "fsdp"])
KeptLayers = Enum("KeptLayers", ["first", "last", "even"])
TextSide = Enum("TextSide", ["query", "passage"])
DistillLoss = Enum("DistillLoss", ["regression", "scores", "similarity"])
StoredPrecision = Enum("StoredPrecision", ["float32", "float16"])  # of vectors on disk


@dataclass
class DenseConfig:
    """A dense layer after pooling."""

    width: int = bounded(1, COUNT)
    activation: str = "identity"
    bias: bool = True


@dataclass
class StaticConfig:
    """A static table distilled out of the model's weights; conf/model/static-e5-small.yaml explains it."""

    width: int = bounded(1, 10**5)
    sif: float | None = bounded(0, 1, above=True, below=True)


@dataclass
class VocabularyConfig:
    """The pieces of a tokenizer that a model keeps: those of texts in some languages. Without a language, all."""

    languages: list[str] = field(default_factory=list)
    path: str | None = None


@dataclass
class StepsConfig:
    """What every training of an encoder has: conf/trainer, conf/distill."""

    steps: int = bounded(1, COUNT)
    batch_size: int = bounded(1, 10**6)
    learning_rate: float = bounded(0, 10, above=True)
    weight_decay: float = bounded(0, 10)
    warmup_fraction: float = bounded(0, 1)
    temperature: float = bounded(0, 100, above=True)
    dropout: float | None = bounded(0, 1, below=True)
    precision: Precision = Precision.auto
    log_every: int = bounded(1, COUNT)
    checkpoint_every: int = bounded(1, COUNT)
    forward_tokens: int = bounded(1, COUNT)
    grad_cache: bool = MISSING

    @property
    def processes(self) -> int:
        """How many processes train together, on all machines."""
        return 1


@dataclass
class DistillConfig(StepsConfig):
    """conf/distill, which explains every key."""

    teacher: str | None = None
    loss: DistillLoss = DistillLoss.regression
    source_language: str | None = None
    sides: list[TextSide] = field(default_factory=lambda: list(TextSide))
    lines: str | None = None
    seed: int = bounded(0, 2**32 - 1)

    def check(self) -> None:
        """Raise UserError for keys without which there is nothing to learn from."""
        if not self.sides:
            raise UserError("model.distill.sides=[]: it must be [query, passage], [query] or [passage].")
        if self.lines is not None and not Path(self.lines).is_file():
            raise UserError(f"model.distill.lines={self.lines}: there is no such file.")


@dataclass
class ModelConfig:
    """conf/model: where an encoder's weights come from, and how it reads texts; null where its own files decide."""

    family: str = MISSING
    weights: str = MISSING
    revision: str | None = None
    license: str | None = None
    precision: Precision = Precision.float32
    layers: int | None = bounded(1, 10_000, default=None)
    kept_layers: KeptLayers = KeptLayers.first
    pooling: Pooling | None = None
    dense: list[DenseConfig] | None = None
    normalize: bool | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_query_tokens: int | None = bounded(1, 10**6, default=None)
    max_passage_tokens: int | None = bounded(1, 10**6, default=None)
    freeze_word_embeddings: bool = False
    architecture: dict[str, Any] = bounded(0, LARGEST, default=dict)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    static: StaticConfig | None = None
    distill: DistillConfig | None = None

    @property
    def cost_only(self) -> bool:
        """Whether the weights are random, which have no accuracy."""
        return self.weights == "random" and self.distill is None


def model_of(plain: Mapping[str, Any]) -> ModelConfig:
    """Return the typed model of a record's config."""
    return cast(ModelConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), dict(plain))))


@dataclass
class TrainerConfig(StepsConfig):
    """conf/trainer, which explains every key."""

    devices: int = bounded(1, 1024)
    num_nodes: int = bounded(1, 10_000)
    strategy: Parallel = Parallel.ddp
    patience: int | None = bounded(1, COUNT)
    validate_every: int = bounded(1, COUNT)
    holdout_fraction: float = bounded(0, 1, above=True, below=True)
    matryoshka_widths: list[int] = bounded(1, 10**6)
    exit_layers: list[int] = bounded(1, 10_000)
    hard_negatives: int = bounded(0, 1000)
    lora_rank: int | None = bounded(1, 10_000)

    @property
    def processes(self) -> int:
        """How many processes train together, on all machines."""
        return self.devices * self.num_nodes


@dataclass
class ProfileConfig:
    """conf/profile: how long the meters measure."""

    enabled: bool = True
    min_calls: int = bounded(1, 10**7)
    min_seconds: float = bounded(0, 86_400)
    token_budgets: list[int] = bounded(1, COUNT)
    index_rows: int = bounded(1, COUNT)
    energy_seconds: float = bounded(0, 86_400, above=True)
    country: str = MISSING
    intensity_g_per_kwh: float = bounded(0, 10_000)
    rounds: int = bounded(1, 1000)
    shared: bool = True


@dataclass
class VariantGrid:
    """Every combination of these lists is an inference variant (values.Variant) of the trained encoder."""

    backend: list[str] = field(default_factory=lambda: ["eager"])
    precision: list[VariantPrecision] = field(default_factory=lambda: [VariantPrecision.float32])
    max_passage_tokens: list[int | None] = bounded(1, 10**6, default=lambda: [None])
    width: list[int | None] = bounded(1, 10**6, default=lambda: [None])
    index: list[str] = field(default_factory=lambda: ["exact"])
    centre: list[Centre | None] = field(default_factory=lambda: [None])
    query_encoder: list[str | None] = field(default_factory=lambda: [None])
    fusion: list[str | None] = field(default_factory=lambda: [None])


@dataclass
class VariantsConfig:
    grids: list[VariantGrid] = field(default_factory=list)


@dataclass
class TrackingConfig:
    wandb: bool = True
    project: str = MISSING
    entity: str | None = None
    dir: str = MISSING


@dataclass
class EncodeConfig:
    """The section `encode`: which processes encode a corpus of several shards, and where its vectors are kept.

    A corpus of one shard (`encoder.encoding.SHARD` passages) or less is encoded in the run's own process and memory.
    conf/config.yaml explains every key.
    """

    workers: int = bounded(1, 10_000)
    ray: str | None = None
    folder: str | None = None
    precision: StoredPrecision = MISSING

    @property
    def elsewhere(self) -> bool:
        """Whether other processes than the run's own encode."""
        return self.workers > 1 or bool(self.ray)

    def check(self) -> None:
        """Raise UserError for keys that contradict each other, or need a package that is not installed."""
        if self.elsewhere and self.folder and self.folder.startswith("memory:"):
            raise UserError(f"encode.folder={self.folder}: other processes do not see this one's memory.")
        if self.ray and find_spec("ray") is None:
            raise UserError(f"encode.ray={self.ray}: ray is missing: pip install -c constraints.txt -e '.[ray]'.")
