"""Bulk encoding, the hot path: all texts of one side to embeddings, in as little time as the machine allows.

`cell` encodes each benchmark's texts with it, `profiling` measures its throughput. Texts are read in chunks,
so memory does not grow with their number; in a chunk each distinct text is encoded once, and sorting by length and
cutting batches by a budget of tokens leaves hardly any padding. The next chunk is tokenised meanwhile, and a GPU is
waited for once a chunk.

Axes: N texts, D embedding width, U distinct texts of a chunk, T tokens.
"""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from tqdm import tqdm

from pipeline.encoder.model import Encoder
from pipeline.values import Side

# Tokens of a batch, padding included. CPU: the fastest of 256 to 4,096 for e5-small-l12 on 2 cores, by a narrow margin.
TOKEN_BUDGET = {"cpu": 1024, "cuda": 32_768}
BAR_DELAY_S = 1  # a bar for less work would only flicker
CHUNK = 4096  # texts read, tokenised and sorted together: bounds the memory, yet is long enough to sort well
IN_MEMORY = 1 << 30  # bytes of embeddings


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Positions, longest first (memory peaks at the start), in batches of at most `token_budget` tokens with padding;
    a single text may exceed it."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and (len(batch) + 1) * lengths[batch[0]] > token_budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


@torch.inference_mode()
def encode(
    encoder: Encoder, texts: Sequence[str], side: Side, *, token_budget: int | None = None, progress: str | None = None
) -> np.ndarray:
    """float32 [N, D] of unit length, in the order of `texts`. `progress` names the bar, shown after a second's work.

    The encoder must be in evaluation mode; the work is done where its weights are (CPU or CUDA).
    """
    token_budget = token_budget or TOKEN_BUDGET[encoder.device.type]
    emb_ND = room((len(texts), encoder.width))

    def read(start: int) -> tuple[list[list[int]], list[int]]:
        """The distinct texts of a chunk, tokenised, and which of them each of its texts is."""
        positions: dict[str, int] = {}
        inverse = [positions.setdefault(text, len(positions)) for text in texts[start : start + CHUNK]]
        return encoder.tokenize(list(positions), side), inverse

    bar = tqdm(total=len(texts), desc=progress, unit=" texts", disable=progress is None, delay=BAR_DELAY_S)
    with bar, ThreadPoolExecutor(1) as ahead:
        chunk = read(0)
        for start in range(0, len(texts), CHUNK):
            coming = ahead.submit(read, start + CHUNK) if start + CHUNK < len(texts) else None
            rows, inverse = chunk
            cut = list(batches([len(row) for row in rows], token_budget))
            found = []
            for batch in cut:
                ids_NT, mask_NT = encoder.pad([rows[n] for n in batch])
                found.append(encoder(ids_NT.to(encoder.device), mask_NT.to(encoder.device)))
                bar.update(len(batch))
            emb_UD = np.empty((len(rows), encoder.width), np.float32)
            emb_UD[np.concatenate(cut)] = torch.cat(found).cpu().numpy()
            emb_ND[start : start + CHUNK] = emb_UD[inverse]
            bar.update(len(inverse) - len(rows))
            chunk = coming.result() if coming else ([], [])
    return emb_ND


def room(shape: tuple[int, int]) -> np.ndarray:
    """float32 in memory or, past IN_MEMORY bytes, in an unnamed file of the temporary folder (TMPDIR)."""
    if 4 * shape[0] * shape[1] <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the space; it is given back with the array
        return np.memmap(file, np.float32, "w+", shape=shape)
