"""The encoder: a transformers backbone and a head (pooling, dense layers, normalization), for queries and passages.

`sources.load` makes an Encoder, `training` fits it, `deploy` saves it for an engine, and `encoding` runs it.

Axes: N texts of a batch, T tokens, D embedding width, E exits (layers whose output is read).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from pipeline.encoder.head import Head
from pipeline.encoder.reading import Reading
from pipeline.store.files import write_atomically
from pipeline.values import Side, UserError

WEIGHTS = "model.safetensors"  # the file that `save` writes


class Encoder(Reading, nn.Module):
    """Map queries and passages to vectors; the two sides differ only in prefix and maximum length.

    Args:
        pad_id: the tokenizer's id of the padding token.
        max_tokens: maximum length per side, special tokens included.
    """

    tokenizer: Tokenizer

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: Head,
        tokenizer: Tokenizer,
        *,
        pad_id: int,
        prefixes: Mapping[Side, str],
        max_tokens: Mapping[Side, int],
    ):
        super().__init__()
        self.read_with(tokenizer, pad_id, prefixes, max_tokens)
        self.backbone, self.head = backbone, head
        self.overridden: list[str] = []  # a sentence per setting of the config that departs from the model's files
        self.all_layers = self.layers  # of the model that this one is, or is the rest of

    @property
    def layers(self) -> int:
        """Number of layers of the backbone."""
        return int(self.backbone.config.num_hidden_layers)

    @property
    def parameter_count(self) -> int:
        """Number of parameters, head included."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def width(self) -> int:
        """Number of dimensions of an embedding."""
        return self.head.width

    @property
    def unit(self) -> bool:
        """Whether embeddings are unit vectors."""
        return self.head.normalize

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    @property
    def device_type(self) -> str:
        """Return cpu or cuda."""
        return self.device.type

    @property
    def threads(self) -> dict[str, int]:
        """Return the number of threads by library."""
        return {"torch": torch.get_num_threads()}

    def pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Return `ids_NT`, as wide as the longest row, and `mask_NT`: True at tokens, False at padding."""
        ids_NT = pad_sequence(
            [torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True, padding_value=self.pad_id
        )
        lengths_N = torch.tensor([len(row) for row in rows])
        return ids_NT, torch.arange(ids_NT.shape[1]) < lengths_N[:, None]

    @torch.inference_mode()
    def embed(self, rows: list[list[int]]) -> Tensor:
        """Return `emb_ND` of a batch of token ids, on the encoder's device, which may still be at work on it."""
        ids_NT, mask_NT = self.pad(rows)
        return self(ids_NT.to(self.device), mask_NT.to(self.device))

    @torch.inference_mode()
    def to_host(self, batches: Sequence[Tensor]) -> np.ndarray:
        """Return the embeddings of all batches in host memory, once the device has finished."""
        return torch.cat(list(batches)).cpu().numpy()

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Return `emb_ND` in float32, whatever the dtype of the weights."""
        return self.head(self.backbone(input_ids=ids_NT, attention_mask=mask_NT).last_hidden_state, mask_NT)

    def at_layers(self, ids_NT: Tensor, mask_NT: Tensor, layers: Sequence[int]) -> Tensor:
        """Return `emb_NED`: the embeddings after each number of `layers`, then those of the whole encoder."""
        if not layers:
            return self(ids_NT, mask_NT)[:, None]
        output = self.backbone(input_ids=ids_NT, attention_mask=mask_NT, output_hidden_states=True)
        norm = getattr(self.backbone, "norm", getattr(self.backbone, "final_norm", nn.Identity()))
        hidden = [*(norm(output.hidden_states[layer]) for layer in layers), output.last_hidden_state]
        return torch.stack([self.head(hidden_NTD, mask_NT) for hidden_NTD in hidden], dim=1)

    def trained(self) -> dict[str, Tensor]:
        """Return the parameters that training may change; the frozen ones come from `sources.load`."""
        return {name: value.data for name, value in self.named_parameters() if value.requires_grad}

    def save(self, folder: Path) -> None:
        """Write the trained parameters to a folder."""
        write_atomically(folder / WEIGHTS, partial(save_file, self.trained()))

    def restore(self, folder: Path) -> None:
        """Load what `save` wrote.

        Raises:
            UserError: if the file is missing, damaged, or of another architecture.
        """
        path = folder / WEIGHTS
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read as weights: {error}.") from error
        shapes = {name: value.shape for name, value in self.trained().items()}
        if {name: value.shape for name, value in state.items()} != shapes:
            raise UserError(f"{path} holds the weights of another architecture, or of other frozen parameters.")
        self.load_state_dict(state, strict=False)
