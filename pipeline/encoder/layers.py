"""Encoders with fewer layers: which layers of a backbone are kept, from where a student of distillation may start."""

from torch import nn
from transformers import PreTrainedModel

from pipeline.groups import KeptLayers
from pipeline.values import UserError


def keep(backbone: PreTrainedModel, count: int | None, which: KeptLayers) -> None:
    """Keep `count` of a backbone's layers, in place; None keeps all.

    Raises:
        UserError: if the layers cannot be told from its other modules.
    """
    config = backbone.config
    numbers = kept(count or config.num_hidden_layers, config.num_hidden_layers, which)
    stacks = [
        (module, name, child)
        for module in backbone.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers
    ]
    if len(stacks) != 1:
        raise UserError(f"model.kept_layers={which.name}: the layers of {config.model_type} were not found.")
    [(parent, name, layers)] = stacks
    setattr(parent, name, nn.ModuleList(layers[number] for number in numbers))
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[number] for number in numbers]
    config.num_hidden_layers = len(numbers)


def kept(count: int, available: int, which: KeptLayers) -> list[int]:
    """Return the positions of the layers to keep, from 0; evenly spaced ones end with the last.

    >>> kept(6, 12, KeptLayers.even), kept(3, 12, KeptLayers.last), kept(8, 12, KeptLayers.even)
    ([1, 3, 5, 7, 9, 11], [9, 10, 11], [1, 2, 4, 5, 7, 8, 10, 11])
    """
    if which is KeptLayers.even:
        return [-(-available * n // count) - 1 for n in range(1, count + 1)]
    return [*range(available)][:count] if which is KeptLayers.first else [*range(available)][available - count :]
