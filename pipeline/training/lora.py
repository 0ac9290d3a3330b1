"""LoRA (Hu et al. 2021) through the extra `peft`: small matrices train beside frozen ones and end up inside them.

`training` trains an encoder that is `adapted`; whatever comes after it sees an encoder like any other.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.encoder.model import Encoder
from pipeline.values import UserError

TARGETS = ["query", "value"]  # projections of BERT's and XLM-R's attention


@contextmanager
def adapted(encoder: Encoder, rank: int | None, seed: int) -> Iterator[None]:
    """Let only adapters of `rank` train inside the block, and merge them at its end; None: all that trained before.

    An adapter's product starts at zero and is added with weight 1 (lora_alpha = rank).
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
    trains = {name: value.requires_grad for name, value in encoder.backbone.named_parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)
        adapters = LoraModel(encoder.backbone, config, "default")  # changes the backbone itself
    yield
    adapters.merge_and_unload()
    for name, value in encoder.backbone.named_parameters():
        value.requires_grad_(trains[name])
