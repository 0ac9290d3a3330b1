"""The embeddings of a run's benchmarks by one engine, which all widths and indexes share."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.encoder.deploy import deploy
from pipeline.encoder.encoding import SHARD, TextEncoder
from pipeline.launch.crew import Crew
from pipeline.launch.request import encode_key
from pipeline.profiling.tracker import StageTracker
from pipeline.retrieval import fusion, lexical
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


class Embeddings:
    """The embeddings of each benchmark by one engine, made when first asked for: widths and indexes share them.

    Vectors of a side with more than SHARD texts lie in shards, in the store until the benchmark's rankings are, or in
    `encode.folder` for good: a run that is killed loses the shards that it is at work on, one per worker.

    Args:
        engine: any variant of that engine.
        load: returns the encoder on that engine.
        folder: returns the folder from which a worker loads the same encoder.
    """

    def __init__(self, parts: "Parts", engine: Variant, load: Callable[[], TextEncoder], folder: Callable[[], Path]):
        self.parts, self.load, self.folder = parts, cache(load), folder
        self.by_benchmark: dict[str, tuple[Side, Side, dict[str, Any]]] = {}
        self.by_query_encoder: dict[tuple[str, str], Side] = {}
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
        """As systems.Ranker."""
        queries, (_, passages, spent) = self.queries(name, variant), self[name]
        benchmark = self.parts.benchmarks[name]
        if variant.fusion:
            fusion.rank_benchmark(queries, passages, benchmark, lexical.fused_with(variant.fusion), folder)
        else:
            rank_benchmark(queries, passages, benchmark, variant, folder)
        return spent

    def queries(self, name: str, variant: Variant) -> Side:
        """Queries by the encoder itself, or by that of the variant's `query_encoder`."""
        if variant.query_encoder is None:
            return self[name][0]
        key = name, variant.query_encoder
        if key not in self.by_query_encoder:
            encoder = deploy(self.parts.query_encoder(variant.query_encoder), variant)
            benchmark, halvings = self.parts.benchmarks[name], self.parts.request.halvings
            self.by_query_encoder[key] = encode_side(encoder, benchmark, "query", halvings=halvings)
        return self.by_query_encoder[key]

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
        encode_it = partial(encode_side, self.load(), benchmark, side, halvings=request.halvings)
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
