"""What a run evaluates and profiles: an encoder (dense), or BM25 (lexical). `experiment` asks the same of both.

A system checks the run's inference variants, ranks benchmarks, is saved to a folder that `profiling` serves, and says
what its cost follows from.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from pipeline.encoder import deploy
from pipeline.encoder.encoding import SHARD, TextEncoder
from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import architecture_key
from pipeline.launch.crew import Crew
from pipeline.launch.request import encode_key
from pipeline.profiling.served import save_lexical
from pipeline.profiling.tracker import StageTracker
from pipeline.retrieval import fusion, lexical
from pipeline.retrieval.faiss_index import check_index
from pipeline.retrieval.ranking import encode_side, rank_benchmark
from pipeline.retrieval.vectors import Vectors
from pipeline.store.files import read_again, write_json
from pipeline.store.shards import Shards
from pipeline.values import Collection, Texts, Variant
from pipeline.values import Side as TextSide

if TYPE_CHECKING:
    from pipeline.parts import Parts

Side = Mapping[str, Vectors]  # language -> embeddings [N, D]
SPENT = "spent.json"  # what earlier attempts at encoding took


class Ranker(Protocol):
    """Ranks the benchmarks of a run."""

    def kept(self) -> AbstractContextManager[None]:
        """The context in which it ranks."""
        ...

    def rank(self, name: str, variant: Variant, folder: Path) -> dict[str, Any]:
        """Write the rankings of a benchmark to a folder; return what encoding its passages took."""
        ...


class Dense:
    """An encoder, whose vectors are searched."""

    def __init__(self, encoder: Encoder):
        self.encoder = encoder

    @property
    def size(self) -> dict[str, int]:
        """Layers and parameters."""
        return {
            "layers": self.encoder.backbone.config.num_hidden_layers,
            "parameters": sum(parameter.numel() for parameter in self.encoder.parameters()),
        }

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that must stand wherever its figures do."""
        return self.encoder.overridden

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

    def check_engine(self, variant: Variant) -> None:
        """Raise UserError or Unavailable for a variant that cannot be deployed."""
        deploy.check_engine(self.encoder, variant)

    def ranker(self, parts: "Parts", engine: Variant, folder: Callable[[], Path]) -> Ranker:
        """What ranks the benchmarks for all variants of an engine, whose files lie in `folder`.

        An engine on torch ranks with the weights in memory, to the same vectors as those of its folder.
        """

        def load() -> TextEncoder:
            return deploy.deploy(self.encoder, engine, None if deploy.on_torch(engine) else folder())

        return Embeddings(parts, engine, load, folder)

    def save(self, variant: Variant, folder: Path) -> None:
        """Write the folder that serves a variant's engine."""
        deploy.save(self.encoder, variant, folder)


class Lexical:
    """BM25: nothing to train, no engine to choose, no weights."""

    size: Mapping[str, int] = {"layers": 0, "parameters": 0}
    notes: Sequence[str] = ()

    def __init__(self, bm25: lexical.Bm25):
        self.bm25 = bm25

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


class Embeddings:
    """The embeddings of each benchmark by one engine, made when first asked for: widths and indexes share them.

    Vectors of a side with more than SHARD texts lie in shards, in the store until the benchmark's rankings are, or in
    `encode.folder` for good: a run that is killed loses the shards that it is at work on, one per worker.

    Args:
        engine: any variant of that engine.
        deploy: returns the encoder on that engine.
        folder: returns the folder from which a worker loads the same encoder.
    """

    def __init__(self, parts: "Parts", engine: Variant, deploy: Callable[[], TextEncoder], folder: Callable[[], Path]):
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

    def rank(self, name: str, variant: Variant, folder: Path) -> dict[str, Any]:
        """As Ranker."""
        queries, passages, spent = self[name]
        benchmark = self.parts.benchmarks[name]
        if variant.fusion:
            bm25 = lexical.fused_with(variant.fusion)
            fusion.rank_benchmark(queries, passages, benchmark, bm25, folder)
        else:
            rank_benchmark(queries, passages, benchmark, variant, folder)
        return spent

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


def count(texts_by_language: Mapping[str, Texts]) -> int:
    """Return the number of texts of all languages."""
    return sum(map(len, texts_by_language.values()))
