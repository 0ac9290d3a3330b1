"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685) through the optional dependency peft.

`fit` trains inside `lora_adapters`. Afterwards the adapters are merged, so the encoder looks like any other.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.encoder.model import Encoder
from pipeline.values import UserError

# By architecture, where peft does not know the projections.
TARGET_MODULES = {"mpnet": ["q", "v"], "distilbert": ["q_lin", "v_lin"], "modernbert": ["Wqkv"]}


@contextmanager
def lora_adapters(encoder: Encoder, rank: int | None, seed: int) -> Iterator[None]:
    """Make adapters of `rank` the only trainable weights inside the block, and merge them into `encoder` at its end.

    The product of an adapter's two matrices starts at zero and is added with weight 1 (lora_alpha = rank). `seed`
    initialises the matrices. With rank None nothing changes: all trainable weights stay trainable.

    Raises:
        UserError: if peft is not installed, or knows no layers of the architecture.
    """
    if rank is None:
        yield
        return
    try:
        from peft import LoraConfig, LoraModel
    except ImportError:
        raise UserError(
            f"trainer.lora_rank={rank}: peft is not installed: pip install -c constraints.txt -e '.[lora]'."
        ) from None
    trainable = {name: value.requires_grad for name, value in encoder.backbone.named_parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model_type = encoder.backbone.config.model_type
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGET_MODULES.get(model_type))
        try:
            adapters = LoraModel(encoder.backbone, config, "default")  # adds the adapters to the backbone in place
        except ValueError as error:
            raise UserError(f"trainer.lora_rank={rank}: peft names no layers of {model_type} to adapt.") from error
    yield
    adapters.merge_and_unload()
    for name, value in encoder.backbone.named_parameters():
        value.requires_grad_(trainable[name])
