"""The processes that train one encoder together, each a process of its own that calls `fit` with its World.

They may be on one machine or on several (`trainer.num_nodes`); `launch.peers` starts them. Rank 0 leads: it mines hard
negatives, writes the checkpoints and has the result. None is a fork: a fork lacks the
threads of its parent's libraries, and cannot use a GPU that its parent has used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from pipeline.encoder.model import Encoder
from pipeline.groups import Parallel, TrainerConfig
from pipeline.values import World

SILENCE = timedelta(minutes=10)  # a process that waits longer for another ends with an error


@contextmanager
def environment(world: World, trainer: TrainerConfig) -> Iterator[ClusterEnvironment]:
    """Yield what Lightning has to know of this process; environment variables and threads are as before after it.

    Lightning and torch read torchrun's variables, which a process that Slurm or torchrun started may have with other
    values.
    """
    if world.size == 1:
        yield LightningEnvironment()
        return
    before, threads = dict(os.environ), torch.get_num_threads()
    torch.set_num_threads(world.threads)
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)  # the process of rank 0 is the store
    os.environ |= {
        "RANK": str(world.rank),
        "WORLD_SIZE": str(world.size),
        "LOCAL_RANK": str(world.local_rank),
        "LOCAL_WORLD_SIZE": str(trainer.devices),
        "GROUP_RANK": str(world.rank // trainer.devices),
        "MASTER_ADDR": world.address,
        "MASTER_PORT": str(world.port),
    }
    try:
        yield TorchElasticEnvironment()
    finally:
        if torch.distributed.is_initialized():  # else the next training of this process could not meet
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ |= before


def strategy_of(world: World, trainer: TrainerConfig, device: str) -> str | Strategy:
    """Return the Lightning strategy by which the processes share a training."""
    if world.size == 1:
        return "auto"
    backend = "nccl" if device == "cuda" else "gloo"
    if trainer.strategy is Parallel.fsdp:
        return ModelParallelStrategy(
            data_parallel_size=world.size, tensor_parallel_size=1, process_group_backend=backend, timeout=SILENCE
        )
    return DDPStrategy(process_group_backend=backend, timeout=SILENCE)


def shard(encoder: Encoder, mesh: Any) -> None:
    """Spread weights, gradients and optimizer states over the processes of a mesh (FSDP2): layer by layer in memory."""
    config = encoder.backbone.config
    lists = [module for module in encoder.backbone.modules() if isinstance(module, nn.ModuleList)]
    for layers in lists:
        if len(layers) == config.num_hidden_layers:
            for layer in layers:
                fully_shard(layer, mesh=mesh)
    fully_shard(encoder, mesh=mesh)
    register_fsdp_forward_method(encoder, "at_layers")


def as_many(parts: list[Any], device: torch.device) -> list[Any]:
    """Repeat the last part until every process has as many: under FSDP2 all take part in each forward pass."""
    most = torch.tensor(len(parts), device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return parts + parts[-1:] * (int(most) - len(parts))


def whole(tree: Any) -> Any:
    """Gather the tensors of a tree that FSDP has spread; all processes must call it at once."""
    return tree_map_only(DTensor, lambda tensor: tensor.full_tensor().cpu(), tree)


def spread_like(parameter: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    """Spread the tensors of an optimizer's state for one parameter as that parameter is."""
    if not isinstance(parameter, DTensor):
        return state
    mesh, placements = parameter.device_mesh, parameter.placements

    def spread(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        return distribute_tensor(value.to(mesh.device_type), mesh, placements)

    return {key: spread(value) for key, value in state.items()}
