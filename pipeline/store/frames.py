"""Tables of a run as parquet files of few bytes. `results` writes and reads its tables by these functions.

Of a table per query (one that has the columns PER_QUERY) the scores are coded. Most queries of a parallel benchmark
have one relevant passage, at rank r, and an average precision of 1 / r. A score that is one over an integer is stored
as that integer, in the column `1/<metric>`, and a metric of integers as integers: both come back exactly. All other
scores are stored as float32. Coded so, a byte of a score compresses best beside the same byte of all others
(byte-stream split).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.store.files import write_atomically
from pipeline.values import UserError

PER_QUERY = ["setting", "query_language", "passage_language", "query_id"]  # columns beside the metrics; also `cluster`
KEYS = [*PER_QUERY, "cluster"]
INVERSE = "1/"
LARGEST = 2**31  # integers are stored in 32 bits


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table without its index."""
    columns: dict[str, pa.Array] = {}
    scores = set(frame.select_dtypes("float")) if {*PER_QUERY} <= {*frame} else set[str]()
    for name in frame:
        columns |= coded(name, frame[name].to_numpy()) if name in scores else {name: pa.array(frame[name])}
    split = [name for name in columns if name.removeprefix(INVERSE) in scores]
    table = pa.table(columns)

    def write(temporary: Path) -> None:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=9,
            use_dictionary=[name for name in columns if name not in split],
            column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
            write_statistics=False,
            store_schema=False,
        )

    write_atomically(path, write)


def read_frame(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table; UserError if it is missing, damaged, or lacks one of `columns`."""
    return read_table(path, needed=columns).to_pandas()


def read_table(path: Path, metrics: Sequence[str] | None = None, *, needed: Sequence[str] = ()) -> pa.Table:
    """Read a table.

    Args:
        metrics: of a table per query, those to read, beside the columns that are no metrics, which then are
            dictionaries; None: the whole table.
        needed: columns that it must have.

    Raises:
        UserError: it is missing, damaged, or lacks a column.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=KEYS if metrics else None) as file:
            known = dict.fromkeys(name.removeprefix(INVERSE) for name in file.schema_arrow.names)
            names = list(known) if metrics is None else [*(key for key in KEYS if key in known), *metrics]
            if missing := [name for name in [*needed, *names] if name not in known]:
                raise UserError(f"{path} lacks the column {missing[0]}.")
            stored = file.read([column for name in names for column in (name, INVERSE + name)])
            is_coded = {*PER_QUERY} <= known.keys()
            columns = {name: score(stored, name) if is_coded and name not in KEYS else stored[name] for name in names}
            return pa.table(columns)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error


def coded(name: str, values: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns that hold the scores of a metric; null: NaN, or in the other column.

    >>> {name: column.to_pylist() for name, column in coded("map", np.array([1, 0.5, 0.4, 0, np.nan])).items()}
    {'1/map': [1, 2, None, None, None], 'map': [None, None, 0.4000000059604645, 0.0, None]}
    >>> coded("rank_distance", np.array([1204, np.nan]))["rank_distance"].to_pylist()
    [1204, None]
    """
    unknown, integers = np.isnan(values), np.rint(values)
    if (unknown | ((integers == values) & (np.abs(values) < LARGEST))).all():
        return {name: pa.array(np.where(unknown, 0, integers).astype(np.int32), mask=unknown)}
    inverse = np.rint(np.divide(1, values, out=np.zeros_like(values), where=values * LARGEST > 1))
    exact = np.divide(1, inverse, out=np.zeros_like(values), where=inverse > 0) == values
    exact &= inverse > 0
    return {
        INVERSE + name: pa.array(inverse.astype(np.int32), mask=~exact),
        name: pa.array(values.astype(np.float32), mask=exact | unknown),
    }


def score(stored: pa.Table, name: str) -> pa.ChunkedArray:
    """Return the scores that `coded` put into columns of a table, NaN where there is none.

    >>> table = pa.table(coded("map", np.array([1, 0.5, 0.4, 0, np.nan])))
    >>> score(table, "map").to_numpy().round(6).tolist()
    [1.0, 0.5, 0.4, 0.0, nan]
    """
    parts = [pc.cast(stored[name], pa.float64())] if name in stored.column_names else []
    if INVERSE + name in stored.column_names:
        parts.append(pc.divide(1.0, pc.cast(stored[INVERSE + name], pa.float64())))
    return pc.coalesce(*parts, np.nan)
