"""The encoder: a transformers backbone, pooling and normalisation, shared by queries and passages; and how to get one.

`cell` calls `load` once a run; `training` fits the Encoder, `encoding` and `profiling` use it. Every source of weights
(the packaged file, a folder, the Hugging Face hub, random numbers) ends in the same class.

Axes: N texts of a batch, T tokens, D embedding width, E exits (layers whose output is read).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx2
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, logging

from pipeline.encoder import packaged
from pipeline.store.files import write_atomically
from pipeline.values import Side, UserError

logging.set_verbosity_error()  # the report on loaded weights is judged here, not shown
logging.disable_progress_bar()

HUB_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model*.safetensors*"]
HUB_TIMEOUT = httpx2.Timeout(8, connect=2)  # seconds; connect is a try of each of the hub's up to eight addresses

Source = tuple[PreTrainedModel, Tokenizer, int]  # backbone, tokenizer and its id of padding


class Encoder(nn.Module):
    """Texts of either side to unit vectors; they differ in prefix and maximum length only."""

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: Tokenizer,
        *,
        pad_id: int,
        pooling: Literal["mean", "cls"],
        prefixes: Mapping[Side, str],
        max_tokens: Mapping[Side, int],
    ):
        super().__init__()
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.backbone, self.tokenizer, self.pad_id = backbone, tokenizer, pad_id
        self.pooling, self.prefixes, self.max_tokens = pooling, dict(prefixes), dict(max_tokens)

    @property
    def width(self) -> int:
        return self.backbone.config.hidden_size

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    def tokenize(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Ids with the side's prefix and special tokens; a longer text keeps its first tokens and the closing one."""
        prefix, most = self.prefixes[side], self.max_tokens[side]
        rows = (row.ids for row in self.tokenizer.encode_batch_fast([(prefix + text).strip() for text in texts]))
        return [ids if len(ids) <= most else ids[: most - 1] + ids[-1:] for ids in rows]

    def pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """`ids_NT`, as wide as the longest row, and `mask_NT`, True at its tokens and False at padding."""
        ids_NT = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=self.pad_id)
        lengths_N = torch.tensor([len(row) for row in rows])
        return ids_NT, torch.arange(ids_NT.shape[1]) < lengths_N[:, None]

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """`emb_ND`: float32, of unit length, whatever the dtype of the weights."""
        return self.pooled(self.backbone(input_ids=ids_NT, attention_mask=mask_NT).last_hidden_state, mask_NT)

    def at_layers(self, ids_NT: Tensor, mask_NT: Tensor, layers: Sequence[int]) -> Tensor:
        """`emb_NED`: what the encoder cut to its first `layers` would give, for each of them; the whole last."""
        if not layers:
            return self(ids_NT, mask_NT)[:, None]
        output = self.backbone(input_ids=ids_NT, attention_mask=mask_NT, output_hidden_states=True)
        hidden = [*(output.hidden_states[layer] for layer in layers), output.last_hidden_state]
        return torch.stack([self.pooled(hidden_NTD, mask_NT) for hidden_NTD in hidden], dim=1)

    def pooled(self, hidden_NTD: Tensor, mask_NT: Tensor) -> Tensor:
        if self.pooling == "cls":
            return normalize(hidden_NTD[:, 0].float(), dim=-1)
        # The sum has the direction of the mean, and only the direction is kept.
        return normalize((hidden_NTD.float() * mask_NT[..., None]).sum(1), dim=-1)

    def trained(self) -> dict[str, Tensor]:
        """What training may change: frozen parameters are not saved, since `load` brings them back."""
        return {name: value.data for name, value in self.backbone.named_parameters() if value.requires_grad}

    def save(self, folder: Path) -> None:
        write_atomically(folder / "model.safetensors", partial(save_file, self.trained()))

    def restore(self, folder: Path) -> None:
        """Take over what `save` wrote; UserError where the file is missing, broken or of another architecture."""
        path = folder / "model.safetensors"
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read as weights: {error}.") from error
        own = self.trained()
        if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in own.items()}:
            raise UserError(f"{path} holds the weights of another architecture, or of other frozen parameters.")
        self.backbone.load_state_dict(state, strict=False)


def brief(error: Exception) -> str:
    """The start of another library's message, as one line."""
    return " ".join(str(error).split())[:200].rstrip(".")


def depth(layers: int | None, available: int) -> int:
    """How many layers to build: the first `layers`, or all."""
    if layers and layers > available:
        raise UserError(f"model.layers={layers}: the model has {available} layers.")
    return layers or available


def positions(backbone: PreTrainedModel) -> int:
    """The longest row of ids that the backbone takes; RoBERTa's table starts with unused rows up to its padding's."""
    tables = [module for name, module in backbone.named_modules() if name.endswith(".position_embeddings")]
    unused = tables[0].padding_idx + 1 if tables and tables[0].padding_idx is not None else 0
    return backbone.config.max_position_embeddings - unused


def from_package(layers: int | None) -> Source:
    package = packaged.read()
    config = package.config
    backbone = package.backbone(depth(layers, config.num_hidden_layers))
    return backbone, package.tokenizer(config.vocab_size), packaged.PAD_ID


def from_random(
    architecture: Mapping[str, Any], layers: int | None, seed: int, tokenizer: Callable[[int], Tokenizer] | None
) -> Source:
    try:
        known = AutoConfig.for_model(architecture.get("model_type", "")).to_dict()
        if unknown := architecture.keys() - known.keys():
            raise ValueError(f"unknown key {sorted(unknown)[0]}")
        config = AutoConfig.for_model(**architecture)
        config.num_hidden_layers = depth(layers, config.num_hidden_layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = AutoModel.from_config(config, dtype=torch.float32)
    except (ValueError, StrictDataclassError) as error:
        raise UserError(f"model.architecture: {brief(error)}.") from error
    tokenizer = tokenizer or packaged.read().tokenizer
    return backbone, tokenizer(config.vocab_size), packaged.PAD_ID


def from_folder(folder: Path, layers: int | None) -> Source:
    """A model in the hub's own format, be it downloaded or given. Never runs code of the folder, nor unpickles."""
    shards = "model.safetensors.index.json"
    weights = shards if (folder / shards).is_file() else "model.safetensors"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", weights):
        if not (folder / name).is_file():
            raise UserError(f"model.weights: {folder / name} is missing.")
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        config.num_hidden_layers = depth(layers, config.num_hidden_layers)
        backbone, report = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model.weights: the model in {folder} cannot be loaded: {brief(error)}.") from error
    if missing := [name for name in report["missing_keys"] if not name.startswith("pooler.")]:
        raise UserError(f"model.weights: {folder} lacks the weights {sorted(missing)[0]} of its architecture.")
    if tokenizer.pad_token_id is None:
        raise UserError(f"model.weights: {folder / 'tokenizer_config.json'} names no pad_token.")
    return backbone, tokenizer.backend_tokenizer, tokenizer.pad_token_id


def download(weights: str, revision: str | None) -> Path:
    """The folder of a hub model in the local cache, brought up to date where the hub can be reached."""
    reason = None
    try:
        # The library itself would wait for ever on a hub that is there but silent: ask once, with a limit.
        HfApi().model_info(weights, revision=revision, timeout=HUB_TIMEOUT)  # type: ignore[arg-type]
    except (httpx2.HTTPError, OSError, HFValidationError) as error:
        reason = error
    try:
        folder = snapshot_download(
            weights, revision=revision, allow_patterns=HUB_FILES, local_files_only=reason is not None
        )
    except (httpx2.HTTPError, OSError, HFValidationError) as error:
        raise UserError(
            f"model.weights={weights} is no folder, and the Hugging Face hub did not give it: name a local folder that "
            f"holds the model, or take model.weights=random for a cost-only run ({brief(reason or error)})."
        ) from error
    return Path(folder)


def load(
    *,
    family: str,
    weights: str,
    revision: str | None,
    layers: int | None,
    pooling: Literal["mean", "cls"],
    query_prefix: str,
    passage_prefix: str,
    max_query_tokens: int,
    max_passage_tokens: int,
    freeze_word_embeddings: bool,
    architecture: Mapping[str, Any],
    seed: int,
    random_tokenizer: Callable[[int], Tokenizer] | None = None,
) -> Encoder:
    """The encoder that a model yaml describes, in float32 on the CPU. `seed` and `random_tokenizer` (from the size of
    the vocabulary) matter to `weights=random` only, which otherwise borrows XLM-R's tokenizer, cut to the model's
    vocabulary: token counts are not those of LaBSE's or mBERT's own."""
    if weights == "packaged":
        backbone, tokenizer, pad_id = from_package(layers)
    elif weights == "random":
        backbone, tokenizer, pad_id = from_random(architecture, layers, seed, random_tokenizer)
    else:
        folder = Path(weights) if Path(weights).is_dir() else download(weights, revision)
        backbone, tokenizer, pad_id = from_folder(folder, layers)
    if hasattr(backbone, "pooler"):  # BERT's head for another task: never used here, so neither counted nor computed
        backbone.pooler = None  # type: ignore[assignment]
    backbone.get_input_embeddings().requires_grad_(not freeze_word_embeddings)
    for key, tokens in {"max_query_tokens": max_query_tokens, "max_passage_tokens": max_passage_tokens}.items():
        if tokens > (most := positions(backbone)):
            raise UserError(f"model.{key}={tokens}: {family} has positions for {most} tokens.")
    encoder = Encoder(
        backbone,
        tokenizer,
        pad_id=pad_id,
        pooling=pooling,
        prefixes={"query": query_prefix, "passage": passage_prefix},
        max_tokens={"query": max_query_tokens, "passage": max_passage_tokens},
    )
    return encoder.eval()


def architecture_key(encoder: Encoder) -> dict[str, Any]:
    """All that determines the cost of an encoder, whatever its weights: two encoders of equal keys cost the same."""
    config = encoder.backbone.config
    numbers = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"]
    tokenizer = encoder.tokenizer
    return {
        "model_type": config.model_type,
        **{name: getattr(config, name) for name in numbers},
        "parameters": sum(value.numel() for value in encoder.parameters()),
        "dtype": str(encoder.backbone.dtype),
        "pooling": encoder.pooling,
        "prefixes": encoder.prefixes,
        "max_tokens": encoder.max_tokens,
        "tokenizer": f"{type(tokenizer.model).__name__} of {tokenizer.get_vocab_size()} pieces",
    }
