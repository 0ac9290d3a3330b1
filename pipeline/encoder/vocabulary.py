"""Trim a tokenizer and its word embeddings to the pieces that texts in some languages use (Ushio et al. 2023).

`sources.load` does it whenever an encoder is loaded, so training, engines and export know nothing of it.

The texts are segmented as before: a Unigram tokenizer chooses the pieces of the highest joint probability, and these
are kept with their probabilities. Other texts get the best segmentation into what is left. All single characters are
kept, so only what the whole tokenizer did not know is `<unk>`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from pipeline.data.reading import lines
from pipeline.groups import VocabularyConfig
from pipeline.values import UserError

BYTE = re.compile("<0x[0-9A-F]{2}>")  # a piece that stands for a byte of an unknown character
LINES = 4096  # that are tokenized at once
ID_NAMES = ("pad_token_id", "bos_token_id", "eos_token_id")  # of a transformers config


class Trimmed(NamedTuple):
    """A trimmed tokenizer, and the ids of its pieces in the whole one, in ascending order."""

    tokenizer: Tokenizer
    kept: list[int]


def trim(backbone: PreTrainedModel, tokenizer: Tokenizer, texts: Iterable[str]) -> Trimmed:
    """Trim a backbone's word embeddings in place, and return its tokenizer, trimmed alike.

    Errors as of `trim_tokenizer`.
    """
    whole, config = backbone.get_input_embeddings(), backbone.config
    assert isinstance(whole, nn.Embedding)
    ids = {getattr(config, name, None) for name in ID_NAMES} | {whole.padding_idx}
    trimmed = trim_tokenizer(tokenizer, texts, {number for number in ids if isinstance(number, int)})
    weight = whole.weight
    backbone.set_input_embeddings(
        nn.Embedding.from_pretrained(
            weight.data[trimmed.kept], freeze=not weight.requires_grad, padding_idx=whole.padding_idx
        )
    )
    config.vocab_size = len(trimmed.kept)
    return trimmed


def trim_tokenizer(tokenizer: Tokenizer, texts: Iterable[str], ids: Iterable[int] = ()) -> Trimmed:
    """Return a Unigram tokenizer with its special tokens, its single characters, and the pieces of the texts.

    Args:
        ids: of further tokens, which a model's config names: they must keep their numbers.

    Raises:
        UserError: for another kind of tokenizer, or one whose special tokens are not its first.
    """
    state = json.loads(tokenizer.to_str())
    model, template, added = state["model"], state["post_processor"] or {}, state["added_tokens"]
    for part, kind in ((model, "Unigram"), (template, "TemplateProcessing")):
        if part.get("type", kind) != kind:
            raise UserError(f"model.vocabulary: a tokenizer with {part['type']} cannot be trimmed, only XLM-R's kind.")
    pieces: list[tuple[str, float]] = model["vocab"]
    keep = {*ids, *(token["id"] for token in added), *({model["unk_id"]} - {None})}
    # The score of an unknown character follows from the lowest score, which must stay the same.
    keep.add(min(range(len(pieces)), key=lambda number: pieces[number][1]))
    keep |= {number for number, (piece, _) in enumerate(pieces) if len(piece) == 1 or BYTE.fullmatch(piece)}
    remaining = iter(texts)
    while some := list(islice(remaining, LINES)):
        keep.update(*(row.ids for row in tokenizer.encode_batch_fast(some)))
    kept = sorted(keep)
    new_ids = {old: new for new, old in enumerate(kept)}
    if any(new_ids[number] != number for number in ids):
        raise UserError("model.vocabulary: it cannot be trimmed, since its special tokens are not its first.")
    model["vocab"] = [pieces[number] for number in kept if number < len(pieces)]
    model["unk_id"] = new_ids.get(model["unk_id"])
    for token in added:
        token["id"] = new_ids[token["id"]]
    for special in template.get("special_tokens", {}).values():
        special["ids"] = [new_ids[number] for number in special["ids"]]
    return Trimmed(Tokenizer.from_str(json.dumps(state)), kept)


def read(config: VocabularyConfig) -> Iterator[str]:
    """Yield the lines of `<language>.txt`, perhaps with `.gz`, in the folder of the config.

    Raises:
        UserError: while iterating, for a language without a file, or a file that cannot be read.
    """
    if not config.path:
        raise UserError("model.vocabulary.path=null: it must name the folder of the texts, a file per language.")
    for language in config.languages:
        if not re.fullmatch(r"\w[\w-]*", language):
            raise UserError(f"model.vocabulary.languages: {language!r} is not the name of a language.")
        files = [Path(config.path, f"{language}.txt{ending}") for ending in ("", ".gz")]
        if not any(file.is_file() for file in files):
            raise UserError(f"model.vocabulary.path={config.path}: it has no {files[0].name} or {files[1].name}.")
        yield from (line for _, line in lines(next(file for file in files if file.is_file())))
