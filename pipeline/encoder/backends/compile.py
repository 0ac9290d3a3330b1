"""backend=compile: torch.compile, in the precisions of `eager`. Needs a C++ compiler."""

import warnings
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.encoder import torch_folder
from pipeline.encoder.backends import eager
from pipeline.encoder.engine import Unavailable

check = eager.check
save = torch_folder.save


def preload(folder: Path) -> None:
    """Import the compiler as well."""
    import torch._inductor.exc  # noqa: F401

    torch_folder.preload(folder)


def prepare(backbone: PreTrainedModel) -> PreTrainedModel:
    """Return the backbone, compiled here for batches and for single texts, so that no timing includes compilation."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated", DeprecationWarning)  # torch's own
        warnings.filterwarnings("ignore", "Int8Tensor does not implement _stable_hash_for_caching", UserWarning)
        from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

        # fullgraph: compile all of it or fail. By default torch silently runs eagerly after a few shapes or models.
        compiled = torch.compile(backbone, dynamic=True, fullgraph=True, isolate_recompiles=True)  # type: ignore[call-overload]
        try:
            compiled(**example_batch(backbone, texts=2))
            compiled(**example_batch(backbone, texts=1))
        except InductorError as error:
            if not isinstance(error.inner_exception, InvalidCxxCompiler | CppCompileError):
                raise
            raise Unavailable(
                "variants: backend=compile needs a C++ compiler, and none works here: install g++ (apt install g++)."
            ) from error
    return cast(PreTrainedModel, compiled)


load = partial(torch_folder.load, prepare=prepare)


def example_batch(backbone: PreTrainedModel, texts: int) -> dict[str, Tensor]:
    """Return inputs without padding; the ids do not matter."""
    ids_NT = torch.full((texts, 7), 5, device=backbone.device)
    return {"input_ids": ids_NT, "attention_mask": torch.ones_like(ids_NT, dtype=torch.bool)}
