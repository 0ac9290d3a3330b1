"""What the meters measure: a retriever in the process that serves it - an encoder, BM25, or both fused.

`load` makes it of a deployed folder. An encoder reads a query, embeds it and searches a flat index of vectors. BM25
reads a query, scores all passages of its index and selects the best: its latency and energy per query hold the scoring,
since that is all its work. BM25 and the fusion are imported by name: no encoder's profile follows from their code.
"""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.encoder import deployed
from pipeline.encoder.encoding import TextEncoder, encode
from pipeline.profiling import machine
from pipeline.profiling.meter import TOP_K, Job
from pipeline.profiling.samples import round_robin
from pipeline.values import Side

if TYPE_CHECKING:
    import faiss

BM25 = "bm25.json"  # of a deployed folder: the settings of BM25, which has no weights
LEXICAL, FUSED = "pipeline.retrieval.lexical_served", "pipeline.retrieval.fusion_served"
INDEXED_PASSAGES = 32  # real vectors of the index that is searched; their repetitions fill it


class Served(Protocol):
    """A retriever that serves."""

    @property
    def threads(self) -> dict[str, int]:
        """Number of threads by library; empty where none has any."""
        ...

    @property
    def scored(self) -> str | None:
        """The index whose passages `embed` scores; None if `embed` returns a vector."""
        ...

    @property
    def missing(self) -> str | None:
        """Why it cannot search; None if it can."""
        ...

    def tokenize(self, text: str, side: Side) -> Sequence[Any]:
        """Return the tokens of a text."""
        ...

    def embed(self, tokens: Any) -> Any:
        """Return what the search of a query begins with, in host memory."""
        ...

    def encode(self, texts: Sequence[str], side: Side, token_budget: int | None) -> Any:
        """Do the work on texts, for queries one after another: passages as they are put into an index."""
        ...

    def search(self) -> tuple[Callable[[Any], object], str]:
        """Return the search of an index of `index_rows` passages by what `embed` returns, and its description."""
        ...

    def index_bytes(self, encoded: Any) -> float:
        """Return the bytes per passage of the index, given what `encode` returned for passages."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return `parameters`, `weights_bytes`, `weights_on_disk` (bytes), and `attention`, its implementation.

        None: it has none.
        """
        ...

    def flop(self, lengths: Sequence[int]) -> int:
        """Return the FLOP of encoding texts of these numbers of tokens; 0 without matrix products."""
        ...

    def timer(self) -> Callable[[], float] | None:
        """Return what returns the ms of the device's last encoding; None where no device tells."""
        ...


class Dense:
    """An encoder and a flat index of its vectors."""

    scored = None

    def __init__(self, encoder: TextEncoder, job: Job):
        self.encoder, self.job, self.threads, self.missing = encoder, job, encoder.threads, machine.missing("faiss")
        self.description = deployed.describe(Path(job.folder))

    def tokenize(self, text: str, side: Side) -> list[int]:
        """Return the ids of a text."""
        return self.encoder.tokenize([text], side)[0]

    def embed(self, tokens: list[int]) -> np.ndarray:
        """Return emb_1D of ids."""
        return self.encoder.to_host([self.encoder.embed([list(tokens)])])

    def encode(self, texts: Sequence[str], side: Side, token_budget: int | None) -> np.ndarray:
        """Return emb_ND."""
        return encode(self.encoder, texts, side, token_budget=token_budget)

    def flat(self) -> tuple["faiss.Index", str]:
        """Return a flat index of `index_rows` vectors, and its description; on all GPUs if the encoder is on one."""
        import faiss

        from pipeline.retrieval import faiss_index

        job = self.job
        passages = [text for _, text in round_robin(job.texts_of("passage"))][:INDEXED_PASSAGES]
        emb_ND = self.encode(passages, "passage", job.token_budget)
        index = faiss_index.build_index(np.resize(emb_ND, (job.settings.index_rows, self.encoder.width)))
        gpus = faiss.get_num_gpus() if job.device == "cuda" else 0
        where = f", on {gpus} GPU" if gpus else ""
        return faiss_index.to_gpus(index) if gpus else index, f"Flat, {index.ntotal} x {index.d} float32{where}"

    def search(self) -> tuple[Callable[[np.ndarray], object], str]:
        """Search the flat index for the best TOP_K."""
        from pipeline.retrieval import faiss_index

        index, description = self.flat()
        return lambda emb_1D: faiss_index.search(index, emb_1D, TOP_K), f"{description}, top {TOP_K}"

    def index_bytes(self, encoded: np.ndarray) -> float:
        """Return by how many bytes the serialised flat index grows per vector."""
        from pipeline.profiling.meters.index import bytes_per_passage
        from pipeline.retrieval.faiss_index import build_index

        return bytes_per_passage(build_index(encoded))

    def facts(self) -> dict[str, Any]:
        """Return the encoder's."""
        return {
            "parameters": self.description.parameters,
            "weights_bytes": self.description.weights_bytes,
            "weights_on_disk": deployed.weights_on_disk(Path(self.job.folder)),
            "attention": self.description.attention,
        }

    def flop(self, lengths: Sequence[int]) -> int:
        """Return the FLOP of a transformer (meters.throughput)."""
        from pipeline.profiling.meters.throughput import transformer_flop

        return transformer_flop(lengths, self.description.linear_weights, self.description.attention_width)

    def timer(self) -> Callable[[], float] | None:
        """Record CUDA events before and after each forward pass; the result returns the ms between the last two.

        None for an engine that torch does not run. Call it once the device is done. Gaps in which the device waits for
        its next kernel count: a query waits for them.
        """
        import torch

        if not isinstance(self.encoder, torch.nn.Module):
            return None
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.encoder.register_forward_pre_hook(lambda *_: start.record())
        self.encoder.register_forward_hook(lambda *_: end.record())
        return lambda: start.elapsed_time(end)


def save_lexical(settings: dict[str, Any], folder: Path) -> None:
    """Write the folder of a BM25 with these settings (retrieval.lexical.Bm25)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BM25).write_text(json.dumps(settings), encoding="utf-8")


def preload(folder: Path, fusion: str | None) -> None:
    """Import the libraries that serving this folder needs, without loading it."""
    lexical = (folder / BM25).exists()
    if not lexical:
        deployed.preload(folder)
    if lexical or fusion:
        import_module(LEXICAL if lexical else FUSED).preload()


def load(job: Job) -> Served:
    """Return what a job's folder and variant serve."""
    folder, rows = Path(job.folder), job.settings.index_rows
    if (folder / BM25).exists():
        settings = json.loads((folder / BM25).read_text(encoding="utf-8"))
        return import_module(LEXICAL).Lexical(settings, job.texts, rows, TOP_K)
    dense = Dense(deployed.load(folder, threads=job.threads, device=job.device), job)
    return (
        import_module(FUSED).Fused(dense, job.variant.fusion, job.texts, rows, TOP_K) if job.variant.fusion else dense
    )
