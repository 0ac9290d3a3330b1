"""Matrix products on a CPU by oneDNN, which is twice as fast as torch's default for float32 on AMD processors.

torch leaves float32 products to MKL, which treats AMD's processors as unknown. `encoder.backends.onednn`, `retrieval`
and the throughput meter's ceiling use this module.

Axes: N and M rows, D columns of both factors; T tokens of N texts.
"""

import torch
from torch import Tensor, nn

ROWS = 2048  # tokens per batch for which a weight is laid out; other sizes work too


def available(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether this torch has oneDNN, and this processor the instructions that oneDNN needs for `dtype`."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def product(left_ND: Tensor, right_MD: Tensor) -> Tensor:
    """Return `left_ND @ right_MD.T`; without oneDNN, torch's own product."""
    if not available(left_ND.dtype):
        return left_ND @ right_MD.T
    with torch.inference_mode():
        return linear(left_ND, right_MD, None)


def linear(input_ND: Tensor, weight_MD: Tensor, bias_M: Tensor | None) -> Tensor:
    """Compute torch.nn.functional.linear by oneDNN, without a gradient; the weight may be in oneDNN's layout."""
    return torch.ops.mkldnn._linear_pointwise(input_ND, weight_MD, bias_M, "none", [], "")


class Linear(nn.Module):
    """A linear layer for inference: its weight is converted to oneDNN's layout once, and oneDNN adds the bias."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = layer.bias

    def forward(self, input_NTD: Tensor) -> Tensor:
        """Return the layer's output."""
        return linear(input_NTD, self.weight, self.bias)


def replace_linear(module: nn.Module) -> None:
    """Replace every linear layer of `module` by oneDNN's, in place."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, Linear(child))
