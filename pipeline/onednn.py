"""Matrix products by oneDNN on a CPU. torch itself leaves float32 to another library (MKL), which treats AMD's
processors as unknown ones: there oneDNN is twice as fast.

`serving`, `retrieval` and the throughput meter's ceiling use it.

Axes: N and M rows, D columns of both factors; T tokens of N texts.
"""

import torch
from torch import Tensor, nn

ROWS = 2048  # tokens of the batches for which a weight is laid out; others are as right


def available(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this torch has oneDNN, and this processor the instructions that it needs for `dtype`."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def product(left_ND: Tensor, right_MD: Tensor) -> Tensor:
    """`left_ND @ right_MD.T`; by torch's own product where oneDNN is not to be had."""
    if not available(left_ND.dtype):
        return left_ND @ right_MD.T
    with torch.inference_mode():
        return linear(left_ND, right_MD, None)


def linear(input_ND: Tensor, weight_MD: Tensor, bias_M: Tensor | None) -> Tensor:
    """torch.nn.functional.linear by oneDNN, without a gradient; the weight may be laid out for it."""
    return torch.ops.mkldnn._linear_pointwise(input_ND, weight_MD, bias_M, "none", [], "")


class Linear(nn.Module):
    """A linear layer for inference: its weight is laid out for oneDNN once, and the bias is added on the way."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = layer.bias

    def forward(self, input_NTD: Tensor) -> Tensor:
        return linear(input_NTD, self.weight, self.bias)


def replace_linear(module: nn.Module) -> None:
    """Every linear layer of `module` becomes oneDNN's."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, Linear(child))
