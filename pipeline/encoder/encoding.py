"""Bulk encoding, the hot path: all texts of one side to embeddings, as fast as the machine allows.

`retrieval` encodes each benchmark's texts with it, `profiling` measures its throughput. Texts are read in chunks, so
memory does not grow with their number. Within a chunk each distinct text is encoded once; sorting by length and
batching by a token budget leaves hardly any padding. The next chunk is tokenized meanwhile, and the CPU waits for a
GPU once per chunk. Finished shards of a large corpus can be kept, so that a killed run resumes. Imports no torch: any
engine encodes through this module.

Axes: N texts, D embedding width, U distinct texts of a chunk, C chunks.
"""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from pipeline.encoder.progress import BAR_DELAY_S, TokenBar, estimate_tokens
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
    """Where `encode` keeps the vectors of finished shards, such as store.shards.Shards."""

    def load(self, first: int) -> np.ndarray | None:
        """Return the vectors [n, D] of the shard whose first text has this position; None if they are not kept."""
        ...

    def save(self, first: int, emb_ND: np.ndarray) -> None:
        """Keep the vectors of a shard."""
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
    shards: Shards | None = None,
) -> np.ndarray:
    """Return float32 [N, D], in the order of `texts`.

    The encoder must be in evaluation mode; it runs where its weights are (CPU or CUDA).

    Args:
        token_budget: tokens per batch, padding included; TOKEN_BUDGET by default.
        progress: the name of a progress bar, which appears after a second.
        shards: keeps each SHARD vectors once they are done; those that are kept already are not encoded again.
    """
    token_budget = token_budget or TOKEN_BUDGET[encoder.device_type]
    emb_ND = empty_embeddings(len(texts), encoder.width)
    starts: Sequence[int] = range(0, len(texts), CHUNK) if shards is None else restore(emb_ND, shards, progress)

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
            stop = start + len(inverse)
            emb_ND[start:stop] = emb_UD[inverse]
            bar.encoded(tokens - sum(lengths))  # repeated texts
            if shards is not None and (stop % SHARD == 0 or stop == len(texts)):
                first = start // SHARD * SHARD
                shards.save(first, emb_ND[first:stop])
            chunk = next_chunk.result() if next_chunk else ([], [])
    return emb_ND


def restore(emb_ND: np.ndarray, shards: Shards, progress: str | None) -> list[int]:
    """Fill in the vectors that are kept, and return the starts of the chunks that are not."""
    starts: list[int] = []
    firsts = range(0, len(emb_ND), SHARD)
    title = f"{progress}, reading finished shards"
    for first in tqdm(firsts, title, unit=" shards", disable=None if progress else True, delay=BAR_DELAY_S):
        shard_ND = emb_ND[first : first + SHARD]
        kept_ND = shards.load(first)
        if kept_ND is None:
            starts += range(first, first + len(shard_ND), CHUNK)
        else:
            shard_ND[:] = kept_ND
    return starts


def empty_embeddings(texts: int, width: int) -> np.ndarray:
    """Return an empty float32 array: in memory or, past IN_MEMORY bytes, in an unnamed temporary file (TMPDIR)."""
    if 4 * texts * width <= IN_MEMORY:
        return np.empty((texts, width), np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the disk space until the array is freed
        return np.memmap(file, np.float32, "w+", shape=(texts, width))
