"""What backends share: the errors of an engine, and what a processor can do. Imports no torch.

Files in `backends/` and `deploy` import this module; it imports neither.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pipeline.values import UserError

if TYPE_CHECKING:
    import torch


class Unavailable(Exception):
    """This machine cannot run an inference variant: one sentence that says what is missing and how to get it."""


def require_device(device: str) -> None:
    """Raise UserError for a device that torch does not see."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA device here.")


def has_bfloat16(device: "torch.device") -> bool:
    """Return whether a processor or GPU has bfloat16 instructions; without, torch emulates them slowly."""
    import torch

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
