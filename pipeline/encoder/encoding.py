"""Bulk encoding, the hot path: all texts of one side to embeddings, as fast as the machine allows.

`retrieval` encodes each benchmark's texts with it, `profiling` measures its throughput. Texts are read in chunks, so
memory does not grow with their number. Within a chunk each distinct text is encoded once; sorting by length and
batching by a token budget leaves hardly any padding. The next chunk is tokenized meanwhile, and the CPU waits for a
GPU once per chunk. Imports no torch: any engine encodes through this module.

Axes: N texts, D embedding width, U distinct texts of a chunk, T tokens.
"""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from pipeline.values import Side

# Tokens per batch, padding included. CPU: the fastest of 256 to 4,096 for e5-small-l12 on 2 cores, by a narrow margin.
TOKEN_BUDGET = {"cpu": 1024, "cuda": 32_768}
BAR_DELAY_S = 1  # a progress bar for less work would only flicker
CHUNK = 4096  # texts read, tokenized and sorted together: bounds the memory, yet is long enough to sort well
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
    token_budget = token_budget or TOKEN_BUDGET[encoder.device_type]
    emb_ND = empty_embeddings(len(texts), encoder.width)

    def read(start: int) -> tuple[list[list[int]], list[int]]:
        """Tokenize a chunk: token ids of its distinct texts, and for each of its texts which of these it is."""
        positions: dict[str, int] = {}
        inverse = [positions.setdefault(text, len(positions)) for text in texts[start : start + CHUNK]]
        return encoder.tokenize(list(positions), side), inverse

    bar = tqdm(total=len(texts), desc=progress, unit=" texts", disable=progress is None, delay=BAR_DELAY_S)
    with bar, ThreadPoolExecutor(1) as ahead:
        chunk = read(0)
        for start in range(0, len(texts), CHUNK):
            next_chunk = ahead.submit(read, start + CHUNK) if start + CHUNK < len(texts) else None
            rows, inverse = chunk
            order = list(batches([len(row) for row in rows], token_budget))
            outputs = []
            for batch in order:
                outputs.append(encoder.embed([rows[n] for n in batch]))
                bar.update(len(batch))
            emb_UD = np.empty((len(rows), encoder.width), np.float32)
            emb_UD[np.concatenate(order)] = encoder.to_host(outputs)
            emb_ND[start : start + CHUNK] = emb_UD[inverse]
            bar.update(len(inverse) - len(rows))
            chunk = next_chunk.result() if next_chunk else ([], [])
    return emb_ND


def empty_embeddings(texts: int, width: int) -> np.ndarray:
    """Return an empty float32 array: in memory or, past IN_MEMORY bytes, in an unnamed temporary file (TMPDIR)."""
    if 4 * texts * width <= IN_MEMORY:
        return np.empty((texts, width), np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the disk space until the array is freed
        return np.memmap(file, np.float32, "w+", shape=(texts, width))
