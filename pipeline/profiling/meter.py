"""What a meter is, what it is given and what it returns: the contract between `measure`, `worker` and `meters/`.

A meter is a module of `meters/`. `run` measures in a child process; `figures` reads its result in the parent. Nothing
here imports torch: the process that serves an encoder without torch is measured without it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from pipeline.values import Side, Variant

if TYPE_CHECKING:
    from pipeline.groups import ProfileConfig
    from pipeline.profiling.served import Served

# The ceiling is the others' scale; throughput finds their token budget.
ORDER = ("ceiling", "throughput", "latency", "memory", "energy")
WITHOUT_ENCODER = {"ceiling"}  # their process loads none
PER_VARIANT = {"index"}  # not part of every profile: measured by measure.measure_indexes
TOP_K = 10  # results per search

Texts = Mapping[str, Mapping[Side, Sequence[str]]]  # language -> side -> texts


@dataclass(frozen=True)
class Settings:
    """How long to measure: the part of conf/profile, which explains every key, that meters read."""

    min_calls: int
    min_seconds: float
    token_budgets: Sequence[int]
    index_rows: int
    energy_seconds: float
    country: str
    intensity_g_per_kwh: float
    rounds: int

    @classmethod
    def of(cls, config: "ProfileConfig") -> "Settings":
        """Return the settings of a config."""
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Job:
    """One deployed encoder on one device, and the texts to measure it with. It crosses to the child process as JSON."""

    folder: str  # that deploy.save wrote
    texts: Texts
    settings: Settings
    _: KW_ONLY
    threads: int
    device: str  # cpu or cuda
    seed: int
    variant: Variant = field(default_factory=Variant)  # whose engine the folder holds, and what it is fused with
    key: str = ""  # Profile.encoder_key
    made_up_words: bool = False  # `texts` are those of `words`, and its tokenizer reads them
    token_budget: int | None = None  # per batch of passages: the best that the throughput meter found
    ceiling_flop_per_s: float | None = None  # that the ceiling meter found
    end_to_end: bool = True  # whether latency is measured with a search, too
    indexes: tuple[Variant, ...] = ()  # the widths and indexes that the index meter measures

    def texts_of(self, side: Side) -> dict[str, Sequence[str]]:
        """Return the texts of one side by language."""
        return {language: sides[side] for language, sides in self.texts.items()}

    def to_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job that `to_json` wrote."""
        fields = json.loads(text)
        fields |= {"settings": Settings(**fields["settings"]), "variant": Variant(**fields["variant"])}
        return cls(**fields | {"indexes": tuple(Variant(**variant) for variant in fields["indexes"])})


class Figure(NamedTuple):
    """The value of one field of the Profile (None: not measured), how it came about, and its relative standard error
    within the round, where the meter knows it."""

    value: float | None
    source: str  # 'measured: …', 'modelled: …' or 'not measured: …'
    relative_error: float | None = None


class Meter(Protocol):
    """A module of `meters/`."""

    def run(self, job: Job, load: Callable[[], "Served"]) -> Mapping[str, object]:
        """Measure the retriever that `load` returns, in a fresh process.

        The result is JSON. A meter that lacks a library returns `{"missing": reason}`.
        """
        ...

    def figures(self, result: Any, job: Job) -> dict[str, Figure]:
        """Return the fields of the Profile that follow from the result of `run`."""
        ...


def names() -> list[str]:
    """Return the names of the meters of every profile, in the order in which they run."""
    files = {path.stem for path in (Path(__file__).parent / "meters").glob("[!_]*.py")}
    return [*ORDER, *sorted(files - {*ORDER, *PER_VARIANT})]


def find(name: str) -> Meter:
    """Return the meter of this name."""
    return cast(Meter, import_module(f"pipeline.profiling.meters.{name}"))
