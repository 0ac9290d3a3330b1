"""What a meter is, what it is given and what it returns: the contract between `measure`, `worker` and `meters/`.

A meter is a module of `meters/`. `run` measures in a child process; `figures` reads its result in the parent.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from pipeline.config import ModelConfig, Pooling, ProfileConfig
from pipeline.encoder.model import Encoder
from pipeline.values import Side, Variant

ORDER = ("throughput", "latency", "memory", "energy")  # throughput first: it finds the token budget of the others
PER_VARIANT = {"index"}  # not part of every profile: measured by measure.measure_indexes
TOP_K = 10  # results per search

Texts = Mapping[str, Mapping[Side, Sequence[str]]]  # language -> side -> texts


@dataclass(frozen=True)
class Job:
    """One encoder on one device, and the texts to measure it with. It crosses to the child process as JSON."""

    model: ModelConfig
    checkpoint: str | None  # the folder that Encoder.save wrote; None: the weights that `model` names
    texts: Texts
    settings: ProfileConfig
    _: KW_ONLY
    threads: int
    device: str  # cpu or cuda
    seed: int
    variant: Variant = field(default_factory=Variant)  # its backend, precision and max_passage_tokens
    made_up_words: bool = False  # `texts` are those of `words`, and its tokenizer reads them
    token_budget: int | None = None  # per batch of passages: the best that the throughput meter found
    indexes: tuple[Variant, ...] = ()  # the widths and indexes that the index meter measures

    def texts_of(self, side: Side) -> dict[str, Sequence[str]]:
        """Return the texts of one side by language."""
        return {language: sides[side] for language, sides in self.texts.items()}

    def to_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(asdict(self), default=lambda option: option.name)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job that `to_json` wrote."""
        fields = json.loads(text)
        model = ModelConfig(**fields["model"] | {"pooling": Pooling[fields["model"]["pooling"]]})
        fields |= {"model": model, "settings": ProfileConfig(**fields["settings"])}
        fields |= {"variant": Variant(**fields["variant"])}
        return cls(**fields | {"indexes": tuple(Variant(**variant) for variant in fields["indexes"])})


class Figure(NamedTuple):
    """The value of one field of the Profile (None: not measured), and how it came about."""

    value: float | None
    source: str  # 'measured: …', 'modelled: …' or 'not measured: …'


class Meter(Protocol):
    """A module of `meters/`."""

    def run(self, job: Job, load: Callable[[], Encoder]) -> Mapping[str, object]:
        """Measure the encoder that `load` returns, in a fresh process.

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
