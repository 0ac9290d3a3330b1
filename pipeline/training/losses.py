"""Contrastive losses: embeddings in, one scalar out. `module.Contrastive` calls `layerwise` once per step.

Legend: N pairs per batch, P passages per batch (the N positives first, then hard negatives), E exits (layers whose
output is trained), D embedding width, W the first dimensions of D.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

NO_GROUP = -1  # group of a passage that is nobody's positive: a negative of every query
PADDING = -2  # group of a passage that fills a gap: a negative of no query


def info_nce(query_ND: Tensor, passage_PD: Tensor, group_P: Tensor, temperature: float) -> Tensor:
    """Return the mean InfoNCE loss with in-batch negatives.

    Passage n is the positive of query n. All other passages are its negatives, the hard negatives of other queries
    included, except those in the positive's own group (other questions' copies of the passage, and its translations)
    and padding. InfoNCE: van den Oord et al. 2018, eq. 4 (https://arxiv.org/abs/1807.03748); in-batch negatives for
    retrieval: DPR, Karpukhin et al. 2020 (https://arxiv.org/abs/2004.04906).

    Scores are computed in float32, whatever the precision of the encoder.

    Args:
        query_ND: unit-length query embeddings.
        passage_PD: unit-length passage embeddings, P >= N.
        group_P: int [P], the group of each passage, or NO_GROUP, or PADDING.

    Returns:
        Scalar: the mean over queries of -log softmax(scores / temperature) at the positive.

    Example: the scores are [[1, 0], [0.6, 0.8]], so at temperature 1 the two losses are log(1 + e^(0 - 1)) = 0.3133 and
    log(1 + e^(0.6 - 0.8)) = 0.5981, on average 0.4557. In one group the two passages are no negatives of each other.

    >>> query_ND, passage_PD = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    >>> round(info_nce(query_ND, passage_PD, torch.tensor([0, 1]), temperature=1.0).item(), 4)
    0.4557
    >>> info_nce(query_ND, passage_PD, torch.tensor([7, 7]), temperature=1.0).item()
    0.0
    """
    # In float32 even under autocast: bfloat16 rounds scores of 1 / temperature by up to .2, and ties half of them.
    with torch.autocast(query_ND.device.type, enabled=False):
        score_NP = query_ND.float() @ passage_PD.float().T / temperature
    masked_NP = (group_P[: len(query_ND), None] == group_P) | (group_P == PADDING)
    masked_NP.fill_diagonal_(False)
    target_N = torch.arange(len(query_ND), device=score_NP.device)
    return functional.cross_entropy(score_NP.masked_fill(masked_NP, -math.inf), target_N)


def matryoshka(
    query_ND: Tensor, passage_PD: Tensor, group_P: Tensor, temperature: float, widths: Sequence[int]
) -> Tensor:
    """Return the sum of `info_nce` over truncated embeddings, so that one training yields an encoder for every width.

    Each width keeps the first dimensions and normalises them again; all widths have weight 1 (Kusupati et al. 2022,
    https://arxiv.org/abs/2205.13147). No widths: the loss of all D dimensions. Shapes as in `info_nce`.

    Example: truncated to width 1 and normalised, the queries are [1], [1] and the passages [1], [-1]. The scores are
    [[1, -1], [1, -1]], so the losses are log(1 + e^-2) = 0.1269 and log(1 + e^2) = 2.1269, on average 1.1269.

    >>> query_ND, passage_PD = torch.tensor([[0.8, 0.6], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [-0.6, 0.8]])
    >>> round(matryoshka(query_ND, passage_PD, torch.tensor([0, 1]), temperature=1.0, widths=[1]).item(), 4)
    1.1269
    """
    if not widths:
        return info_nce(query_ND, passage_PD, group_P, temperature)
    truncated = [
        [functional.normalize(emb_ND[:, :width], dim=1) for emb_ND in (query_ND, passage_PD)] for width in widths
    ]
    return torch.stack(
        [info_nce(query_NW, passage_PW, group_P, temperature) for query_NW, passage_PW in truncated]
    ).sum()


def layerwise(
    query_NED: Tensor, passage_PED: Tensor, group_P: Tensor, temperature: float, widths: Sequence[int]
) -> Tensor:
    """Return the sum of `matryoshka` over exits, so that one training yields an encoder for every depth.

    All exits have weight 1. Like AdaptiveLayerLoss of sentence-transformers, but with all exits in every step and
    without its Kullback-Leibler term.

    Args:
        query_NED: unit-length query embeddings, one per exit.
        passage_PED: unit-length passage embeddings, one per exit.
    """
    exits = zip(query_NED.unbind(1), passage_PED.unbind(1), strict=True)
    losses = [matryoshka(query_ND, passage_PD, group_P, temperature, widths) for query_ND, passage_PD in exits]
    return torch.stack(losses).sum()
