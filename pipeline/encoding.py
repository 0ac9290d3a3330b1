"""Bulk encoding, the hot path: all texts of one side to embeddings, in as little time as the machine allows.

`cell` encodes each benchmark's texts with it, `profiling` measures its throughput. Each distinct text is encoded once;
sorting by length and cutting batches by a budget of tokens leaves hardly any padding and keeps memory flat.

Axes: N texts, D embedding width, U distinct texts, T tokens.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm import tqdm

from pipeline.encoder import Encoder
from pipeline.values import Side

# Tokens of a batch, padding included. CPU: the fastest of 256 to 4,096 for e5-small-l12 on 2 cores, by a narrow margin.
TOKEN_BUDGET = {"cpu": 1024, "cuda": 32_768}
BAR_DELAY_S = 1  # a bar for less work would only flicker
CHUNK = 8192  # texts tokenised and sorted together: bounds the memory of ids, yet is long enough to sort well


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
    positions: dict[str, int] = {}
    inverse_N = [positions.setdefault(text, len(positions)) for text in texts]
    distinct = list(positions)
    emb_UD = np.empty((len(distinct), encoder.width), np.float32)
    with tqdm(total=len(distinct), desc=progress, unit=" texts", disable=progress is None, delay=BAR_DELAY_S) as bar:
        for start in range(0, len(distinct), CHUNK):
            rows = encoder.tokenize(distinct[start : start + CHUNK], side)
            for batch in batches([len(row) for row in rows], token_budget):
                ids_NT, mask_NT = encoder.pad([rows[n] for n in batch])
                emb_ND = encoder(ids_NT.to(encoder.device), mask_NT.to(encoder.device))
                emb_UD[np.add(batch, start)] = emb_ND.cpu().numpy()
                bar.update(len(batch))
    return emb_UD[inverse_N]
