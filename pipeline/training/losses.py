"""The contrastive losses, pure: embeddings in, one number out. `contrastive` calls `layerwise` once a step.

Legend: N pairs of a batch, P its passages (the N positives, then hard negatives), E exits, D embedding width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

NOBODYS = -1  # group of a passage that is no pair's positive: a negative of every query
ABSENT = -2  # group of what only fills a gap: a negative of none


def info_nce(query_ND: Tensor, passage_PD: Tensor, group_P: Tensor, temperature: float) -> Tensor:
    """Mean InfoNCE of unit-length pairs with in-batch negatives (van den Oord 2018; DPR, Karpukhin 2020).

    Passage n is the positive of query n; passages of its own group - translations and other questions of the same
    sentence - are not its negatives. All others are, the hard negatives of other queries included.
    """
    score_NP = query_ND @ passage_PD.T / temperature
    left_out_NP = (group_P[: len(query_ND), None] == group_P) | (group_P == ABSENT)
    left_out_NP.fill_diagonal_(False)
    target_N = torch.arange(len(query_ND), device=score_NP.device)
    return functional.cross_entropy(score_NP.masked_fill(left_out_NP, -math.inf), target_N)


def matryoshka(
    query_ND: Tensor, passage_PD: Tensor, group_P: Tensor, temperature: float, widths: Sequence[int]
) -> Tensor:
    """Sum of the losses of the first `widths` dimensions, at unit length again (Kusupati 2022, equal weights).

    So one training serves every width. No widths: the loss of all D dimensions.
    """
    if not widths:
        return info_nce(query_ND, passage_PD, group_P, temperature)
    cut = [[functional.normalize(emb_ND[:, :width], dim=1) for emb_ND in (query_ND, passage_PD)] for width in widths]
    return torch.stack([info_nce(query_NW, passage_PW, group_P, temperature) for query_NW, passage_PW in cut]).sum()


def layerwise(
    query_NED: Tensor, passage_PED: Tensor, group_P: Tensor, temperature: float, widths: Sequence[int]
) -> Tensor:
    """Sum of the losses of all exits with equal weights, so one training serves every one of these depths.

    As sentence-transformers' AdaptiveLayerLoss, but all exits in every step and without its Kullback-Leibler term.
    """
    exits = zip(query_NED.unbind(1), passage_PED.unbind(1), strict=True)
    return torch.stack([matryoshka(query, passage, group_P, temperature, widths) for query, passage in exits]).sum()
