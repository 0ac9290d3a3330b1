"""sentencepiece in place of `tokenizers`, for deployed encoders whose tokenizer is of XLM-R's kind.

`tokenizers` needs 282 MiB for e5-small's 250,000 pieces, more than all else of an encoder in int8; sentencepiece needs
55. Token ids are the same but for two segmentations of equal score, which the libraries sum in different precision (one
of 19,718 texts), and for texts that spell a special token, such as `</s>`: here they are text.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

FILE = "sentencepiece.model"
KIND = "Precompiled"  # the normalizer that `tokenizers` has for sentencepiece's own
SPLIT = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    ],
}


class Pieces:
    """A tokenizer by sentencepiece, from texts to token ids with one special token before and one after each text."""

    closing = 1

    def __init__(self, path: Path):
        from sentencepiece import SentencePieceProcessor  # here, since profile_model runs without it

        self.processor = SentencePieceProcessor(model_file=str(path))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        return self.processor.encode([*texts], add_bos=True, add_eos=True, num_threads=1)


def convert(tokenizer: Tokenizer) -> bytes | None:
    """Return sentencepiece's file of a tokenizer; None for one that is of another kind."""
    from sentencepiece import sentencepiece_model_pb2

    parts = json.loads(tokenizer.to_str())
    model, ends = parts["model"], special_ends(parts["post_processor"])
    if not ends or model["type"] != "Unigram" or model.get("byte_fallback") or model["unk_id"] is None:
        return None
    if (parts["normalizer"] or {}).get("type") != KIND or parts["pre_tokenizer"] != SPLIT:
        return None
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece.Type  # type: ignore[attr-defined]
    special = {token["content"] for token in parts["added_tokens"]}
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    for number, (piece, score) in enumerate(model["vocab"]):
        kind = kinds.CONTROL if piece in special else kinds.NORMAL
        proto.pieces.add(piece=piece, score=score, type=kinds.UNKNOWN if number == model["unk_id"] else kind)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.unk_id, trainer.unk_piece = model["unk_id"], model["vocab"][model["unk_id"]][0]
    trainer.bos_piece, trainer.eos_piece = ends
    normalizer.precompiled_charsmap = base64.b64decode(parts["normalizer"]["precompiled_charsmap"])
    return proto.SerializeToString()


def special_ends(post_processor: dict | None) -> tuple[str, str] | None:
    """Return the special tokens before and after a text; None if there are not just these two.

    >>> one, text, two = ({"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}})
    >>> special_ends({"type": "TemplateProcessing", "single": [one, text, two]})
    ('<s>', '</s>')
    >>> special_ends({"type": "TemplateProcessing", "single": [one, text]})
    """
    single = (post_processor or {}).get("single", [])
    if [next(iter(part)) for part in single] != ["SpecialToken", "Sequence", "SpecialToken"]:
        return None
    return single[0]["SpecialToken"]["id"], single[2]["SpecialToken"]["id"]
