"""The contrastive losses, pure: embeddings in, one number out. `training` calls `matryoshka` once a step.

Legend: N pairs of a batch, D embedding width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(query_ND: Tensor, passage_ND: Tensor, group_N: Tensor, temperature: float) -> Tensor:
    """Mean InfoNCE of unit-length pairs with in-batch negatives (van den Oord 2018; DPR, Karpukhin 2020).

    Pair n's passage is the positive of query n; passages of its own group - translations and other questions of the
    same sentence - are not its negatives.
    """
    score_NN = query_ND @ passage_ND.T / temperature
    same_NN = group_N[:, None] == group_N[None, :]
    same_NN.fill_diagonal_(False)
    target_N = torch.arange(len(query_ND), device=score_NN.device)
    return functional.cross_entropy(score_NN.masked_fill(same_NN, -math.inf), target_N)


def matryoshka(
    query_ND: Tensor, passage_ND: Tensor, group_N: Tensor, temperature: float, widths: Sequence[int]
) -> Tensor:
    """Sum of the losses of the first `widths` dimensions, at unit length again (Kusupati 2022, equal weights).

    So one training serves every width. No widths: the loss of all D dimensions.
    """
    if not widths:
        return info_nce(query_ND, passage_ND, group_N, temperature)
    cut = [[functional.normalize(emb_ND[:, :width], dim=1) for emb_ND in (query_ND, passage_ND)] for width in widths]
    return torch.stack([info_nce(query_NW, passage_NW, group_N, temperature) for query_NW, passage_NW in cut]).sum()
