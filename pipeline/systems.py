"""What a run evaluates and profiles: an encoder (dense), or BM25 (lexical). `experiment` asks the same of both.

A system checks the run's inference variants, ranks benchmarks, is saved to a folder that `profiling` serves, and says
what its cost follows from.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.embeddings import Embeddings, count
from pipeline.encoder import deploy
from pipeline.encoder.deployed import Fixed, on_torch
from pipeline.encoder.encoding import TextEncoder
from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import architecture_key
from pipeline.groups import ModelConfig
from pipeline.profiling.served import save_lexical
from pipeline.retrieval import lexical
from pipeline.retrieval.centring import check_centre
from pipeline.retrieval.faiss_index import check_index
from pipeline.values import Collection, Variant

if TYPE_CHECKING:
    from pipeline.parts import Parts


class Ranker(Protocol):
    """Ranks the benchmarks of a run."""

    def kept(self) -> AbstractContextManager[None]:
        """The context in which it ranks."""
        ...

    def rank(self, name: str, variant: Variant, folder: Path) -> dict[str, Any]:
        """Write the rankings of a benchmark to a folder; return what encoding its passages took."""
        ...


def kind(model: ModelConfig, system: "Dense | Lexical", variant: Variant) -> str:
    """Return how a system comes to its cost, one word; of several that hold, the first.

    Args:
        model: the config of the run.
    """
    if isinstance(system, Lexical):
        return "lexical"
    if variant.fusion:
        return "fused"
    if variant.query_encoder:
        return "asymmetric"
    if system.encoder.layers == 0:
        return "static"
    if model.distill:
        return "distilled"
    return "truncated" if system.encoder.layers < system.encoder.all_layers else "full"


class Dense:
    """An encoder, whose vectors are searched."""

    def __init__(self, encoder: Encoder | Fixed):
        self.encoder = encoder

    @property
    def size(self) -> dict[str, int]:
        """Layers and parameters."""
        return {"layers": self.encoder.layers, "parameters": self.encoder.parameter_count}

    @property
    def shares_profile(self) -> bool:
        """Whether all weights of its architecture cost the same; not where weights and engine are one file."""
        return not isinstance(self.encoder, Fixed)

    def notes(self, benchmarks: Iterable[Collection]) -> Iterator[str]:
        """Yield sentences that must stand wherever its figures do."""
        yield from self.encoder.overridden
        if isinstance(self.encoder, Fixed):
            for benchmark in benchmarks:
                if foreign := sorted({*benchmark.queries, *benchmark.passages} - self.encoder.languages):
                    yield f"{benchmark.name}: the model was not trained on {', '.join(foreign)}."

    @property
    def architecture(self) -> dict[str, object]:
        """All that determines its cost."""
        return architecture_key(self.encoder)

    def check(self, variants: Sequence[Variant], benchmarks: Iterable[Collection]) -> None:
        """Raise UserError for the first inference variant that the encoder or a benchmark's pools do not allow."""
        deploy.check(variants, self.encoder)
        for benchmark in benchmarks:
            for variant in variants:
                if variant.index != "exact":
                    check_index(variant.index, variant.width or self.encoder.width, benchmark)
                if variant.centre:
                    check_centre(variant.centre, benchmark)

    def check_engine(self, variant: Variant) -> None:
        """Raise UserError or Unavailable for a variant that cannot be deployed."""
        deploy.check_engine(self.encoder, variant)

    def ranker(self, parts: "Parts", engine: Variant, folder: Callable[[], Path]) -> Ranker:
        """What ranks the benchmarks for all variants of an engine, whose files lie in `folder`.

        An engine on torch ranks with the weights in memory, to the same vectors as those of its folder.
        """

        def load() -> TextEncoder:
            return deploy.deploy(self.encoder, engine, None if on_torch(engine) else folder())

        return Embeddings(parts, engine, load, folder)

    def save(self, variant: Variant, folder: Path) -> None:
        """Write the folder that serves a variant's engine."""
        deploy.save(self.encoder, variant, folder)


class Lexical:
    """BM25: nothing to train, no engine to choose, no weights."""

    size: Mapping[str, int] = {"layers": 0, "parameters": 0}
    shares_profile = True

    def __init__(self, bm25: lexical.Bm25):
        self.bm25 = bm25

    def notes(self, benchmarks: Iterable[Collection]) -> Iterator[str]:
        """There are none."""
        return iter(())

    @property
    def architecture(self) -> dict[str, Any]:
        """All that determines its cost."""
        return {"bm25": asdict(self.bm25)}

    def check(self, variants: Sequence[Variant], benchmarks: Iterable[Collection]) -> None:
        """BM25 has no variants: Config.inference_variants gives it none."""

    def check_engine(self, variant: Variant) -> None:
        """BM25 needs none."""

    def ranker(self, parts: "Parts", engine: Variant, folder: Callable[[], Path]) -> Ranker:
        """What ranks the benchmarks."""
        return Terms(parts, self.bm25)

    def save(self, variant: Variant, folder: Path) -> None:
        """Write the folder that serves it."""
        save_lexical(asdict(self.bm25), folder)


class Terms:
    """BM25's way to the rankings: each benchmark is read and ranked in memory."""

    def __init__(self, parts: "Parts", bm25: lexical.Bm25):
        self.parts, self.bm25 = parts, bm25

    def kept(self) -> AbstractContextManager[None]:
        """Nothing is kept for other variants."""
        return nullcontext()

    def rank(self, name: str, variant: Variant, folder: Path) -> dict[str, Any]:
        """As Ranker; the time and energy are those of reading the texts, indexing and ranking."""
        benchmark = self.parts.benchmarks[name]
        with self.parts.meter() as cost:
            lexical.rank_benchmark(benchmark, self.bm25, folder)
        return {**cost, "passages": count(benchmark.passages)}
