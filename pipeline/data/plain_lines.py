"""A plain file of lines, for distillation, which needs texts and no pairs."""

from pathlib import Path

import numpy as np

from pipeline.data.reading import lines
from pipeline.values import ParallelText, UserError

NAME = "lines"  # stands where a language would


def read(path: str) -> ParallelText:
    """Return the lines of a UTF-8 file, perhaps gzipped, each as a question and as a passage; blank ones are skipped.

    Raises:
        UserError: for a file that cannot be read, or has no lines.
    """
    texts = [line.strip() for _, line in lines(Path(path))]
    if not texts:
        raise UserError(f"{path} has no lines.")
    return ParallelText(
        name=Path(path).name,
        languages=(NAME,),
        ids=[str(number) for number in range(len(texts))],
        questions={NAME: texts},
        passages={NAME: texts},
        available_NL=np.ones((len(texts), 1), dtype=bool),
        passage_group=np.arange(len(texts)),
        provenance={"source": f"the lines of {Path(path).name}"},
    )
