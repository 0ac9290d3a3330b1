"""The texts of a distillation, and the teacher's vectors of them, which all students share. Imports no Lightning.

Legend: U distinct texts that the teacher encodes, S texts of the student, D embedding width.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from pipeline.encoder.encoding import encode
from pipeline.encoder.model import Encoder
from pipeline.groups import DistillConfig
from pipeline.values import ParallelText, Side, UserError


class DistillTexts(NamedTuple):
    """The texts of a distillation.

    Attributes:
        student: [S] texts of the student with their sides.
        teacher: [U] distinct texts of the teacher with their sides.
        target_S: for each text of the student, the position of the teacher's text whose vector it learns.
    """

    student: list[tuple[Side, str]]
    teacher: list[tuple[Side, str]]
    target_S: np.ndarray


def distill_texts(data: ParallelText, config: DistillConfig) -> DistillTexts:
    """Return the texts of `config.sides` in all languages of `data`, each once.

    With `config.source_language` a text's target is the vector of its translation into that language (a text in that
    language is its own); rows that lack it are left out.

    Raises:
        UserError: for a language that the data lack, or fewer texts than a batch.
    """
    source = config.source_language
    if source is not None and source not in data.languages:
        raise UserError(f"model.distill.source_language={source}: {data.name} is in {', '.join(data.languages)}.")
    sides = [cast(Side, side.name) for side in config.sides]
    places: dict[tuple[Side, str], int] = {}
    pairs: dict[tuple[tuple[Side, str], int], None] = {}
    for column, language in enumerate(data.languages):
        rows = data.available_NL[:, column]
        if source is not None:
            rows = rows & data.available_NL[:, data.languages.index(source)]
        for row in np.flatnonzero(rows).tolist():
            for side in sides:
                target = side, data.text(row, source or language, side)
                own = side, data.text(row, language, side)
                pairs[own, places.setdefault(target, len(places))] = None
    if len(pairs) < config.batch_size:
        raise UserError(f"model.distill.batch_size={config.batch_size}: {data.name} has {len(pairs)} texts.")
    return DistillTexts([own for own, _ in pairs], list(places), np.array([place for _, place in pairs]))


def teach(teacher: Encoder, texts: Sequence[tuple[Side, str]]) -> np.ndarray:
    """Return the teacher's unit vectors, float32 [U, D]."""
    emb_UD = np.empty((len(texts), teacher.width), np.float32)
    for side in dict.fromkeys(side for side, _ in texts):
        places = [place for place, (other, _) in enumerate(texts) if other == side]
        progress = f"teacher · {side} texts"
        emb_UD[places] = encode(teacher, [texts[place][1] for place in places], side, progress=progress)
    return emb_UD / np.linalg.norm(emb_UD, axis=1, keepdims=True)
