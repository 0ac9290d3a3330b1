"""What backends share: the errors of an engine, the stand-in for an exported backbone, and an example batch.

Files in `backends/` and `deploy` import this module; it imports neither.

Axes: N texts of a batch, T tokens, D embedding width.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from pipeline.values import UserError


class Unavailable(Exception):
    """This machine cannot run an inference variant: one sentence that says what is missing and how to get it."""


class Footprint(NamedTuple):
    """Size of an encoder's weights, without an engine's own copies and scratch memory: peak memory includes those."""

    parameters: int
    memory_bytes: int
    disk_bytes: int


class Exported(nn.Module):
    """Stand in for a backbone that another engine runs.

    Args:
        run: returns `hidden_NTD` for the keyword arguments input_ids and attention_mask.
        threads: number of threads by library.
        file_bytes: size of the engine's model file.
    """

    def __init__(self, backbone: PreTrainedModel, run: Callable[..., Tensor], threads: dict[str, int], file_bytes: int):
        super().__init__()
        self.config, self.dtype, self.device = backbone.config, backbone.dtype, backbone.device
        self.run, self.threads = run, threads
        self.footprint = Footprint(backbone.num_parameters(), file_bytes, file_bytes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Return the last hidden state, as the backbone does."""
        return BaseModelOutput(last_hidden_state=self.run(input_ids=input_ids, attention_mask=attention_mask))


def example_batch(backbone: PreTrainedModel, texts: int) -> dict[str, Tensor]:
    """Return inputs without padding, for a compiler or exporter: the ids do not matter.

    torch.export treats sizes 0 and 1 as special, so its example has two texts.
    """
    ids_NT = torch.full((texts, 7), 5, device=backbone.device)
    return {"input_ids": ids_NT, "attention_mask": torch.ones_like(ids_NT, dtype=torch.bool)}


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a processor or GPU has bfloat16 instructions; without, torch emulates them slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def refuse(unsupported: bool, sentence: str) -> None:
    """Raise UserError for a combination that an engine supports on no machine."""
    if unsupported:
        raise UserError(f"variants: {sentence}.")


def require(extra: str, *modules: str) -> None:
    """Raise Unavailable if one of these modules, which an extra of the package brings, is not installed."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise Unavailable(
            f"variants: {', '.join(missing)} is not installed: pip install -c constraints.txt -e '.[{extra}]'."
        )
