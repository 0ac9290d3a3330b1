"""Bulk encoding, the hot path: all texts of one side to embeddings, as fast as the machine allows.

`retrieval` encodes each benchmark's texts with it, `profiling` measures its throughput. Texts are read in chunks, so
memory does not grow with their number. Within a chunk each distinct text is encoded once; sorting by length and
batching by a token budget leaves hardly any padding. The next chunk is tokenized meanwhile, and the CPU waits for a
GPU once per chunk. A large corpus is encoded in shards that are kept as each is done (launch.crew: by several
processes), so that a killed run resumes. Imports no torch: any engine encodes through this module.

Axes: N texts, D embedding width, S texts of a shard, U distinct texts of a chunk, C chunks, or texts of a chunk.
"""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from pipeline.bars import BAR_DELAY_S, Bar
from pipeline.encoder.progress import TokenBar, estimate_tokens
from pipeline.values import Side

# Tokens per batch, padding included. CPU: the fastest of 256 to 4,096 for e5-small-l12 on 2 cores, by a narrow margin.
TOKEN_BUDGET = {"cpu": 1024, "cuda": 32_768}
CHUNK = 4096  # texts read, tokenized and sorted together: bounds the memory, yet is long enough to sort well
SHARD = 12 * CHUNK  # 49,152 texts are kept together; whole chunks, so that no vector depends on where shards begin
IN_MEMORY = 1 << 30  # bytes of embeddings


class TextEncoder(Protocol):
    """What `encode` needs of an encoder: model.Encoder (torch), or deployed.Session (an engine without torch)."""

    @property
    def width(self) -> int:
        """Number of dimensions of an embedding."""
        ...

    @property
    def unit(self) -> bool:
        """Whether embeddings are unit vectors."""
        ...

    @property
    def device_type(self) -> str:
        """cpu or cuda."""
        ...

    @property
    def threads(self) -> dict[str, int]:
        """Number of threads by library."""
        ...

    def tokenize(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Return token ids with the side's prefix and special tokens, truncated to the side's maximum length."""
        ...

    def embed(self, rows: list[list[int]]) -> Any:
        """Return the vectors [N, D] of a batch of token ids, on the device."""
        ...

    def to_host(self, batches: Sequence[Any]) -> np.ndarray:
        """Return the float32 vectors of all batches, one after another, in host memory."""
        ...


class Shards(Protocol):
    """Where the vectors of a large corpus are kept, such as store.shards.Shards."""

    def kept(self, first: int, shape: tuple[int, int]) -> bool:
        """Return whether the shard whose first text has this position is complete."""
        ...

    def save(self, first: int, emb_SD: np.ndarray) -> None:
        """Keep the vectors of a shard."""
        ...

    def rows(self, count: int, width: int) -> Any:
        """Return all vectors [N, D], float32 and to be read when they are used: a slice, np.asarray of it."""
        ...


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yield positions in batches of at most `token_budget` tokens with padding; a single longer text is its own batch.

    The longest come first, so memory peaks at the start.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and (len(batch) + 1) * lengths[batch[0]] > token_budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def encode(
    encoder: TextEncoder,
    texts: Sequence[str],
    side: Side,
    *,
    token_budget: int | None = None,
    progress: str | None = None,
) -> np.ndarray:
    """Return float32 [N, D], in the order of `texts`.

    The encoder must be in evaluation mode; it runs where its weights are (CPU or CUDA).

    Args:
        token_budget: tokens per batch, padding included; TOKEN_BUDGET by default.
        progress: the name of a progress bar, which appears after a second.
    """
    emb_ND = empty_embeddings(len(texts), encoder.width)
    starts = range(0, len(texts), CHUNK)
    for start, emb_CD in _chunks(encoder, texts, side, starts, token_budget=token_budget, progress=progress):
        emb_ND[start : start + len(emb_CD)] = emb_CD
    return emb_ND


def encode_shards(
    encoder: TextEncoder,
    texts: Sequence[str],
    side: Side,
    shards: Shards,
    firsts: Sequence[int],
    *,
    token_budget: int | None = None,
    progress: str | None = None,
) -> None:
    """Encode the shards that begin at `firsts`, and keep the unit vectors of each as soon as it is done.

    The vectors are those of `encode`. Other arguments as there.
    """
    starts = [start for first in firsts for start in range(first, min(first + SHARD, len(texts)), CHUNK)]
    chunks: list[np.ndarray] = []
    for start, emb_CD in _chunks(encoder, texts, side, starts, token_budget=token_budget, progress=progress):
        chunks.append(emb_CD)
        stop = start + len(emb_CD)
        if stop % SHARD == 0 or stop == len(texts):
            shards.save(start // SHARD * SHARD, as_unit(encoder, np.concatenate(chunks)))
            chunks = []


def missing_shards(shards: Shards, count: int, width: int, progress: str | None) -> list[int]:
    """Return where the shards of `count` vectors begin that are not kept."""
    firsts = range(0, count, SHARD)
    title = f"{progress}, reading finished shards"
    bar = Bar(firsts, title, unit=" shards", disable=progress is None, delay=BAR_DELAY_S)
    return [first for first in bar if not shards.kept(first, (min(SHARD, count - first), width))]


def as_unit(encoder: TextEncoder, emb_ND: np.ndarray) -> np.ndarray:
    """Return the vectors, scaled to unit length in place if the encoder leaves that to the cosine."""
    if not encoder.unit:
        for start in range(0, len(emb_ND), CHUNK):  # in parts: a norm needs the squares of all it is taken of
            chunk_ND = emb_ND[start : start + CHUNK]
            norm_N1 = np.linalg.norm(chunk_ND, axis=1, keepdims=True)
            chunk_ND /= np.maximum(norm_N1, np.finfo(np.float32).tiny)  # the vector of a text without tokens is zero
    return emb_ND


def _chunks(
    encoder: TextEncoder,
    texts: Sequence[str],
    side: Side,
    starts: Sequence[int],
    *,
    token_budget: int | None,
    progress: str | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the start of each chunk and its vectors; the next one is tokenized meanwhile."""
    token_budget = token_budget or TOKEN_BUDGET[encoder.device_type]

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        return encoder.tokenize(texts, side)

    def read(start: int) -> tuple[list[list[int]], list[int]]:
        """Tokenize a chunk: token ids of its distinct texts, and for each of its texts which of these it is."""
        positions: dict[str, int] = {}
        inverse = [positions.setdefault(text, len(positions)) for text in texts[start : start + CHUNK]]
        return tokenize(list(positions)), inverse

    several = progress and len(starts) > 1
    tokens_C = estimate_tokens(tokenize, texts, starts, CHUNK) if several else np.zeros(len(starts))
    with TokenBar(progress, tokens_C) as bar, ThreadPoolExecutor(1) as ahead:
        chunk = read(starts[0]) if starts else ([], [])
        for number, start in enumerate(starts):
            next_chunk = ahead.submit(read, starts[number + 1]) if number + 1 < len(starts) else None
            rows, inverse = chunk
            lengths = [len(row) for row in rows]
            tokens = sum(lengths[n] for n in inverse)
            bar.tokenized(number, tokens)
            order = list(batches(lengths, token_budget))
            outputs = []
            for batch in order:
                outputs.append(encoder.embed([rows[n] for n in batch]))
                bar.encoded(sum(lengths[n] for n in batch))
            emb_UD = np.empty((len(rows), encoder.width), np.float32)
            emb_UD[np.concatenate(order)] = encoder.to_host(outputs)
            bar.encoded(tokens - sum(lengths))  # repeated texts
            yield start, emb_UD[inverse]
            chunk = next_chunk.result() if next_chunk else ([], [])


def empty_embeddings(texts: int, width: int) -> np.ndarray:
    """Return an empty float32 array: in memory or, past IN_MEMORY bytes, in an unnamed temporary file (TMPDIR)."""
    if 4 * texts * width <= IN_MEMORY:
        return np.empty((texts, width), np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the disk space until the array is freed
        return np.memmap(file, np.float32, "w+", shape=(texts, width))
