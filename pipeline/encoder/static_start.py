"""Distil a table of vectors out of a trained encoder, as Model2Vec does: the start of a static encoder.

    vectors     each token alone, between the special tokens, through the teacher's transformer: the mean of its states
    PCA         to `model.static.width` dimensions
    weights     tokens stand in order of frequency, so Zipf's law estimates p(w), and each vector is multiplied by
                a / (a + p(w)) (SIF: Arora, Liang and Ma 2017, https://openreview.net/forum?id=SyK00v5xx)

Model2Vec: https://github.com/MinishLab/model2vec (Tulkens and van Dongen 2024). It leaves out the teacher's prompts and
what follows its transformer, and so does this. `parts` makes a stage of `distil`; `static_folder` reads what it writes.

Axes: V tokens of the vocabulary, B tokens of a batch, T tokens with the special ones, D width of the teacher, W of the
table.
"""

import json
import re
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from pipeline.bars import Bar
from pipeline.encoder.head import pool
from pipeline.encoder.model import Encoder
from pipeline.encoder.static import StaticBackbone
from pipeline.encoder.static_folder import unknown_id, write_static
from pipeline.groups import StaticConfig
from pipeline.values import UserError

BATCH = 256  # tokens of the vocabulary per forward pass
UNUSED = re.compile(r"\[unused\d+\]")  # of BERT's vocabularies


def distil(teacher: Encoder, static: StaticConfig, folder: Path) -> None:
    """Write the table and its tokenizer to a folder, in the format of sentence-transformers.

    The table keeps the teacher's token ids. Special tokens have zero vectors, and no text gets one.

    Raises:
        UserError: the teacher is a table itself, or has too few dimensions or tokens for the table's width.
    """
    hidden = teacher.backbone.config.hidden_size
    kept_V = ordinary_ids(teacher)
    if isinstance(teacher.backbone, StaticBackbone):
        raise UserError("model.static: the teacher is a static table itself: set model.static=null, or other weights.")
    if static.width > hidden or static.width >= len(kept_V):
        has = f"its hidden states have {hidden} dimensions, and its vocabulary {len(kept_V)} tokens"
        raise UserError(f"model.static.width={static.width} is too large for the teacher: {has}.")
    emb_VW = principal_components(token_vectors(teacher, kept_V), static.width)
    if static.sif is not None:
        emb_VW *= sif_weights(len(kept_V), static.sif)[:, None]
    tokenizer = static_tokenizer(teacher.tokenizer)
    table = torch.zeros(max(tokenizer.get_vocab().values()) + 1, static.width)
    table[kept_V] = torch.from_numpy(emb_VW)
    if (unknown := unknown_id(tokenizer)) is not None:
        table[unknown] = 0  # Model2Vec leaves unknown tokens out of the mean: the same up to its length
    folder.mkdir(parents=True, exist_ok=True)
    write_static(folder, table, tokenizer)


def static_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer without special tokens; where it works on bytes, a text begins as a word within it does."""
    raw = json.loads(tokenizer.to_str()) | {"post_processor": None, "padding": None, "truncation": None}
    first = raw["pre_tokenizer"] or {}
    for part in (first, *first.get("pretokenizers", [])):
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = True
    return Tokenizer.from_str(json.dumps(raw))


def ordinary_ids(teacher: Encoder) -> list[int]:
    """Return the ids that get a vector, most frequent first: all but special and unused tokens.

    The unknown and the padding token are among them, as in Model2Vec: they have a place in the order.
    """
    tokenizer = teacher.tokenizer
    special = set(tokenizer.get_added_tokens_decoder()) - {teacher.pad_id, unknown_id(tokenizer)}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return sorted(number for token, number in vocabulary.items() if number not in special and not UNUSED.match(token))


@torch.inference_mode()
def token_vectors(teacher: Encoder, ids_V: list[int]) -> np.ndarray:
    """Return float32 [V, D]: the mean of the teacher's hidden states of `<s> token </s>`, with its special tokens."""
    example = teacher.tokenizer.encode("a")
    places = [place for place, special in enumerate(example.special_tokens_mask) if not special]
    before, after = example.ids[: places[0]], example.ids[places[-1] + 1 :]
    emb_VD = np.empty((len(ids_V), teacher.backbone.config.hidden_size), np.float32)
    for start in Bar(range(0, len(ids_V), BATCH), "distil: vocabulary", unit=" batches"):
        ids_BT = torch.tensor([[*before, number, *after] for number in ids_V[start : start + BATCH]])
        ids_BT = ids_BT.to(teacher.device)
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        hidden_BTD = teacher.backbone(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        emb_VD[start : start + BATCH] = pool("mean", hidden_BTD.float(), mask_BT).cpu().numpy()
    return np.nan_to_num(emb_VD, copy=False)


def principal_components(emb_VD: np.ndarray, width: int) -> np.ndarray:
    """Return float32 [V, W]: the coordinates along the `width` directions of most variance, widest first.

    The sign of each direction makes its largest coordinate positive, so that it follows from the vectors alone.

    >>> principal_components(np.array([[0, 0], [0, 1], [0, 9], [0, 2]], np.float32), 1).round(3).tolist()
    [[-3.0], [-2.0], [6.0], [-1.0]]
    """
    centred_VD = emb_VD - emb_VD.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance_DD = (centred_VD.T @ centred_VD).astype(np.float64) / (len(emb_VD) - 1)
    _, vectors_DD = np.linalg.eigh(covariance_DD)  # ascending
    emb_VW = centred_VD @ vectors_DD[:, ::-1][:, :width].astype(np.float32)
    largest_W = np.abs(emb_VW).argmax(axis=0)
    return emb_VW * np.sign(emb_VW[largest_W, np.arange(width)])


def sif_weights(count: int, sif: float) -> np.ndarray:
    """Return float32 [V]: a / (a + p), where p is 1 / (rank + 1) over its sum, and the first rank is 1.

    >>> [f"{weight:.3f}" for weight in sif_weights(2, 0.6)]  # p: 3/5, 2/5
    ['0.500', '0.600']
    """
    inverse_V = 1 / np.arange(2, count + 2)
    return (sif / (sif + inverse_V / inverse_V.sum())).astype(np.float32)
