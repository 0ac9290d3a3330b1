"""The passages of a corpus: streamed from published files once, of repeated ones the first, into a file of the cache.

`miracl`, `beir` and `trec` read through it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.data.arrow import cached_dataset, record_batches
from pipeline.data.text import hash64, normal
from pipeline.values import Relevance, UserError

if TYPE_CHECKING:
    from datasets import Dataset


class Passage(NamedTuple):
    """A passage of a corpus: a row of the cached file."""

    docid: str
    title: str
    text: str  # title and text, joined as in mteb


Read = Callable[[Path], Iterator[tuple[int, Passage]]]  # the numbered passages of one file


def passage(row: Any, id: str, place: str) -> Passage:
    """Return the passage of a row with the keys `id`, `text` and, where it has one, `title`.

    Raises:
        UserError: names the place.
    """
    try:
        title = row.get("title") or ""
        return Passage(normal(row[id]), title, " ".join([title, row["text"]]).strip())
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: a passage needs {id} and text, got {row!r:.80}.") from error


def grade(value: Any, place: str) -> int:
    """Return the grade of a judgement, a number or its text; UserError, with the place, unless whole and one byte."""
    match = re.fullmatch(r"(-?\d{1,3})(\.0)?", str(value).strip())
    if not match or not -128 <= int(match[1]) <= 127:
        raise UserError(f"{place}: a grade is a whole number from -128 to 127, got {value!r:.80}.")
    return int(match[1])


def distinct(files: Iterable[Path], read: Read) -> Iterator[Passage]:
    """Yield the passages of all files, of those repeated word for word the first.

    Memory is a set of hashes, about 60 bytes per passage.

    Raises:
        UserError: while iterating, for a docid that is repeated with other content; it names both places.
    """
    files, seen = list(files), set[int]()
    for file in files:
        for number, here in read(file):
            key = hash64(here.docid)
            if key in seen:
                earlier, place = _find(files, read, here.docid)
                if here != earlier:
                    again = f"{file}, row {number} repeats the id {here.docid} of {place}"
                    raise UserError(f"{again} with other content.")
                continue
            seen.add(key)
            yield here


def _find(files: Iterable[Path], read: Read, docid: str) -> tuple[Passage, str]:
    """Return the first passage with this docid, and its place."""
    return next((here, f"{file}, row {number}") for file in files for number, here in read(file) if here.docid == docid)


def stored(passages: Iterable[Passage], folder: str, *, progress: str) -> "Dataset":
    """Return passages as a memory-mapped file of the cache, which is written once; `folder` is from `folder_name`."""
    import pyarrow

    schema = pyarrow.schema([(name, pyarrow.string()) for name in Passage._fields])
    rows = (passage._asdict() for passage in passages)
    return cached_dataset(folder, schema, record_batches(rows, schema), progress=progress)


def positions(corpus: "Dataset", judged: set[str], where: str) -> dict[str, int]:
    """Return the positions of the judged passages by docid.

    Raises:
        UserError: if the corpus lacks one; it begins with `where`.
    """
    position = found(corpus, judged)
    if missing := judged - position.keys():
        lacks = f"{where} lacks {len(missing)} of its {len(judged)} judged passages, such as {min(missing)}"
        raise UserError(f"{lacks}: is it complete?")
    return position


def relevance(grades: Mapping[tuple[str, str], int], queries: Iterable[str], position: Mapping[str, int]) -> Relevance:
    """Return judgements as positions.

    Args:
        grades: by the ids of query and passage.
        queries: their ids, in the order of the benchmark.
        position: of the passages, by id.
    """
    number = {id: n for n, id in enumerate(queries)}
    return Relevance(
        np.array([number[query] for query, _ in grades], dtype=np.int32),
        np.array([position[docid] for _, docid in grades], dtype=np.int64),
        np.array(list(grades.values()), dtype=np.int8),
    )


def found(corpus: "Dataset", docids: set[str]) -> dict[str, int]:
    """Return the positions of those of the passages that the corpus has, without reading its texts."""
    import pyarrow
    import pyarrow.compute

    is_wanted = pyarrow.compute.is_in(
        corpus.data.column("docid"), value_set=pyarrow.array(sorted(docids), pyarrow.string())
    )
    places = np.flatnonzero(is_wanted.to_numpy()).tolist()
    return dict(zip(corpus["docid"][places], places, strict=True))
