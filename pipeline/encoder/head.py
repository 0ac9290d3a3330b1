"""What follows the backbone: pooling, dense layers and normalization, as sentence-transformers' modules compute them.

Axes: N texts of a batch, T tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

ACTIVATIONS = {  # by the last part of torch's names
    **{name.lower(): getattr(nn, name) for name in ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")},
}
POOLINGS = ("mean", "cls", "lasttoken", "max", "weightedmean", "mean_sqrt_len_tokens")


@dataclass(frozen=True)
class Dense:
    """A dense layer after pooling: its output width, activation (a key of ACTIVATIONS) and whether it has a bias."""

    width: int
    activation: str = "identity"
    bias: bool = True


class Head(nn.Module):
    """Map hidden states to embeddings, in float32 up to the first dense layer.

    Args:
        pooling: one of POOLINGS.
        width: of the hidden states.
        dense: the layers after pooling, in order.
        normalize: whether embeddings are unit vectors.
    """

    def __init__(self, pooling: str, width: int, dense: Sequence[Dense] = (), normalize: bool = True):
        super().__init__()
        self.pooling, self.dense, self.normalize = pooling, tuple(dense), normalize
        widths = [width, *(layer.width for layer in dense)]
        self.layers = nn.ModuleList(
            nn.Linear(before, layer.width, layer.bias) for before, layer in zip(widths, dense, strict=False)
        )
        self.activations = nn.ModuleList(ACTIVATIONS[layer.activation]() for layer in dense)
        self.width = widths[-1]

    def project(self, width: int) -> None:
        """Add a last dense layer without bias to `width` dimensions: an orthogonal map, until it is trained."""
        linear = nn.Linear(self.width, width, bias=False)
        nn.init.orthogonal_(linear.weight)
        self.layers.append(linear)
        self.activations.append(nn.Identity())
        self.dense, self.width = (*self.dense, Dense(width, bias=False)), width

    def forward(self, hidden_NTD: Tensor, mask_NT: Tensor) -> Tensor:
        """Return `emb_ND` in float32, whatever the dtype of the hidden states and weights."""
        emb_ND = pool(self.pooling, hidden_NTD.float(), mask_NT)
        for linear, activation in zip(self.layers, self.activations, strict=True):
            emb_ND = activation(linear(emb_ND)).float()  # float: autocast may have rounded it
        return normalize(emb_ND, dim=-1) if self.normalize else emb_ND


def pool(pooling: str, hidden_NTD: Tensor, mask_NT: Tensor) -> Tensor:
    """Return the vector of each text; zeros for a mean of no tokens. Texts begin in column 0: padding is on the right.

    Two tokens and one of padding:

    >>> hidden_NTD, mask_NT = torch.tensor([[[1.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]])
    >>> {name: round(pool(name, hidden_NTD, mask_NT).item(), 3) for name in POOLINGS}
    {'mean': 2.5, 'cls': 1.0, 'lasttoken': 4.0, 'max': 4.0, 'weightedmean': 3.0, 'mean_sqrt_len_tokens': 3.536}
    """
    if pooling == "cls":
        return hidden_NTD[:, 0]
    weight_NT1 = mask_NT[..., None].to(hidden_NTD.dtype)
    if pooling == "max":
        return hidden_NTD.masked_fill(~mask_NT[..., None], -torch.inf).amax(1)
    place_T1 = torch.arange(1, hidden_NTD.shape[1] + 1, device=hidden_NTD.device)[:, None]
    if pooling == "lasttoken":
        last_N11 = mask_NT.sum(1)[:, None, None]
        return (hidden_NTD * (place_T1 == last_N11)).sum(1)
    if pooling == "weightedmean":
        weight_NT1 = weight_NT1 * place_T1
    length_N1 = weight_NT1.sum(1).clamp(min=1)  # a tokenizer without special tokens finds none in an empty text
    return (hidden_NTD * weight_NT1).sum(1) / (length_N1.sqrt() if pooling == "mean_sqrt_len_tokens" else length_N1)
