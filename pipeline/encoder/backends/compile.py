"""backend=compile: torch.compile, in the precisions of `eager`. Needs a C++ compiler."""

import warnings

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.encoder.backends import eager
from pipeline.encoder.engine import Unavailable, example_batch


def build(backbone: PreTrainedModel, precision: str) -> nn.Module:
    """Return the backbone, compiled here for batches and for single texts, so that no timing includes compilation."""
    module = eager.build(backbone, precision)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated", DeprecationWarning)  # torch's own
        warnings.filterwarnings("ignore", "Int8Tensor does not implement _stable_hash_for_caching", UserWarning)
        from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

        # fullgraph: compile all of it or fail. By default torch silently runs eagerly after a few shapes or models.
        compiled = torch.compile(module, dynamic=True, fullgraph=True, isolate_recompiles=True)  # type: ignore[call-overload]
        try:
            compiled(**example_batch(backbone, texts=2))
            compiled(**example_batch(backbone, texts=1))
        except InductorError as error:
            if not isinstance(error.inner_exception, InvalidCxxCompiler | CppCompileError):
                raise
            raise Unavailable(
                "variants: backend=compile needs a C++ compiler, and none works here: install g++ (apt install g++)."
            ) from error
    return compiled
