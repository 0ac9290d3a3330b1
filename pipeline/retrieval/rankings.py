"""Stored rankings: a list of Ranking to one compressed npz file and back. New metrics read them and rank nothing.

The arrays of all rankings stand one after the other; `header` (JSON) holds the rest and the lengths that separate them.
Axes: Q queries of a ranking, R relevant passages, K top of a ranking.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.values import Ranking, UserError

RANKINGS = "rankings.npz"  # of a benchmark, under one inference variant
NESTED = "nested.npz"  # of nested smaller pools (pools.py)
DTYPES = {
    "queries": np.int32,
    "query": np.int32,
    "rank": np.int64,
    "grade": np.int8,
    "language": np.int16,
    "top_language_QK": np.int16,
}
PLAIN = ("setting", "query_language", "pool_languages", "pool_sizes")


def save_rankings(rankings: Sequence[Ranking], path: Path) -> None:
    """Write rankings to an npz file; the folder is made if it does not exist.

    >>> import tempfile
    >>> from pipeline.retrieval import example
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_rankings([example.RANKING], Path(folder, "rankings.npz"))
    ...     (ranking,) = load_rankings(Path(folder, "rankings.npz"))
    >>> ranking.setting, ranking.rank.tolist()
    ('multi', [2, 3, 2])
    """
    header = [
        {field: getattr(ranking, field) for field in PLAIN}
        | {"shapes": {field: getattr(ranking, field).shape for field in DTYPES}}
        for ranking in rankings
    ]
    arrays = {
        field: np.concatenate([np.empty(0, dtype), *(getattr(ranking, field).ravel() for ranking in rankings)])
        for field, dtype in DTYPES.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)


def load_rankings(path: Path) -> list[Ranking]:
    """Read what `save_rankings` wrote.

    Raises:
        UserError: for a file that is missing, truncated or not written by `save_rankings`.

    >>> load_rankings(Path("missing.npz"))
    Traceback (most recent call last):
    pipeline.values.UserError: missing.npz does not exist.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # np.load leaves a bad file open
            return _split(json.loads(str(arrays["header"])), {field: arrays[field] for field in DTYPES})
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}). Remove the folder {path.parent} and run again.") from error


def _split(header: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> list[Ranking]:
    """Return the rankings whose arrays stand one after the other."""
    offset = dict.fromkeys(arrays, 0)
    rankings = []
    for entry in header:
        parts = {}
        for field, shape in entry["shapes"].items():
            start, offset[field] = offset[field], offset[field] + math.prod(shape)
            parts[field] = arrays[field][start : offset[field]].reshape(shape)
        rankings.append(
            Ranking(
                setting=entry["setting"],
                query_language=entry["query_language"],
                pool_languages=tuple(entry["pool_languages"]),
                pool_sizes=tuple(entry["pool_sizes"]),
                queries=parts["queries"],
                query=parts["query"],
                rank=parts["rank"],
                grade=parts["grade"],
                language=parts["language"],
                top_language_QK=parts["top_language_QK"],
            )
        )
    return rankings
