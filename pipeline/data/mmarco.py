"""mMARCO (Bonifacio et al. 2021, arXiv:2108.13897): MS MARCO's training triples, machine-translated into 14 languages.

Reads the published files, from one folder or from the hub's unicamp-dl/mmarco:

    data/triples.train.ids.small.tsv                              ids of a query, a positive and a negative passage
    data/google/queries/train/{language}_queries.train.tsv        id, text
    data/google/collections/{language}_collection.tsv             id, text

A row is a query with one of its positives; it keeps the negatives of its triples. Texts stay in the published files and
are read from disk on access. Their positions are kept in memory-mapped files in the cache of `datasets`
(HF_DATASETS_CACHE), written once: 12 bytes per passage and per query of each language, 4 per triple.

Axes: N rows, T triples.
"""

import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.arrow import Lazy, cached_folder, folder_name
from pipeline.data.groups import connected_groups
from pipeline.data.hub import fetch
from pipeline.data.reading import LONGEST_LINE, decode, raw_lines
from pipeline.data.text import check_languages, is_blank
from pipeline.values import ParallelText, UserError

NAMES = {
    **{"ar": "arabic", "de": "german", "en": "english", "es": "spanish", "fr": "french", "hi": "hindi"},
    **{"id": "indonesian", "it": "italian", "ja": "japanese", "nl": "dutch", "pt": "portuguese", "ru": "russian"},
    **{"vi": "vietnamese", "zh": "chinese"},
}
CHUNK_BYTES = 1 << 22  # of the triples, read at a time: about 180,000 triples
CHUNK_IDS = 1 << 20
LARGEST_ID = 100_000_000  # memory and disk grow with it; MS MARCO has 8.8 million passages


class Triples(NamedTuple):
    """The triples by row: a query, a positive, and the negatives `negative_T[end_N[n] - count_N[n] : end_N[n]]`."""

    query_N: np.ndarray  # ascending
    positive_N: np.ndarray
    count_N: np.ndarray
    end_N: np.ndarray
    negative_T: np.ndarray  # memory-mapped

    def negatives(self, row: int) -> np.ndarray:
        """Return the distinct ids of a row's negatives, in the order of the triples, without positives of its query."""
        first, last = np.searchsorted(self.query_N, self.query_N[row] + np.array([0, 1]))
        ids = self.negative_T[self.end_N[row] - self.count_N[row] : self.end_N[row]]
        ids = ids[~np.isin(ids, self.positive_N[first:last])]
        return ids[np.sort(np.unique(ids, return_index=True)[1])]


class Lines(NamedTuple):
    """The texts of one file by id. They are read, not mapped: mapped pages would count as the process's memory."""

    descriptor: int  # open until the process ends
    start_of_id: np.ndarray  # memory-mapped; -1 for ids that no triple names
    bytes_of_id: np.ndarray  # memory-mapped

    def text(self, id: int) -> str:
        """Return the text of an id that a triple names."""
        return os.pread(self.descriptor, self.bytes_of_id[id], self.start_of_id[id]).decode()


def train(languages: list[str], path: str | None) -> ParallelText:
    """Load all rows, each in every language, by ascending query id; rows with one query or passage share a group.

    Args:
        languages: keys of NAMES.
        path: the folder that contains data/; None downloads the files from the hub.
    """
    check_languages(languages, list(NAMES))
    file = _fetch("triples.train.ids.small.tsv", path)
    triples = _triples(file)
    questions: dict[str, Lines] = {}
    passages: dict[str, Lines] = {}
    for language in languages:
        queries = _fetch(f"google/queries/train/{NAMES[language]}_queries.train.tsv", path)
        questions[language] = _lines(queries, file, triples.query_N)
        collection = _fetch(f"google/collections/{NAMES[language]}_collection.tsv", path)
        passages[language] = _lines(collection, file, triples.positive_N, triples.negative_T)
    rows = len(triples.query_N)

    def texts(lines: Lines, id_N: np.ndarray) -> Lazy[str]:
        return Lazy(lambda row: lines.text(id_N[row]), rows)

    def negatives(lines: Lines) -> Lazy[list[str]]:
        return Lazy(lambda row: [lines.text(id) for id in triples.negatives(row)], rows)

    return ParallelText(
        name="mmarco",
        languages=tuple(languages),
        ids=Lazy(lambda row: f"{triples.query_N[row]}-{triples.positive_N[row]}", rows),
        questions={language: texts(lines, triples.query_N) for language, lines in questions.items()},
        passages={language: texts(lines, triples.positive_N) for language, lines in passages.items()},
        available_NL=np.ones((rows, len(languages)), dtype=bool),
        passage_group=connected_groups([triples.query_N, triples.positive_N]),
        negatives={language: negatives(lines) for language, lines in passages.items()},
        provenance={"source": "mMARCO, translated by Google", "triples": len(triples.negative_T)},
    )


def _fetch(name: str, path: str | None) -> Path:
    return fetch("unicamp-dl/mmarco", f"data/{name}", folder=path, key="data.path")


def _triples(file: Path) -> Triples:
    folder = cached_folder(folder_name([file]), lambda folder: _sort_triples(file, folder))
    pair_N, count_N = np.load(folder / "pair_N.npy"), np.load(folder / "count_N.npy")
    query_N, positive_N = (pair_N >> 32).astype(np.int32), (pair_N & 0xFFFFFFFF).astype(np.int32)
    return Triples(query_N, positive_N, count_N, count_N.cumsum(), np.load(folder / "negative_T.npy", mmap_mode="r"))


def _sort_triples(file: Path, folder: Path) -> None:
    """Write the triples sorted by (query, positive). Two passes, count and place, keep memory use at one chunk."""
    pair_N, count_N = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    for pair, _ in _read_triples(file):
        previous = count_N
        pair_N, row = np.unique(np.concatenate([pair_N, pair]), return_inverse=True)
        count_N = np.bincount(row[len(previous) :], minlength=len(pair_N))
        count_N[row[: len(previous)]] += previous
    if not len(pair_N):
        raise UserError(f"{file} holds no triples.")
    np.save(folder / "pair_N.npy", pair_N)
    np.save(folder / "count_N.npy", count_N)
    next_N = count_N.cumsum() - count_N
    negative_T = np.lib.format.open_memmap(folder / "negative_T.npy", "w+", np.int32, (int(count_N.sum()),))
    for pair, negative in _read_triples(file):
        row = np.searchsorted(pair_N, pair)
        order = np.argsort(row, kind="stable")
        row = row[order]
        negative_T[next_N[row] + np.arange(len(row)) - np.searchsorted(row, row)] = negative[order]
        next_N += np.bincount(row, minlength=len(next_N))


def _read_triples(file: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield chunks of pairs (uint64: the query's id, then the positive's, 32 bits each) and of their negatives."""
    from pyarrow import ArrowInvalid, BufferReader, csv, uint32

    columns = ["query", "positive", "negative"]
    reading = csv.ReadOptions(column_names=columns, use_threads=False)
    parsing = csv.ParseOptions(delimiter="\t", quote_char=False)
    conversion = csv.ConvertOptions(column_types=dict.fromkeys(columns, uint32()), null_values=[])
    with file.open("rb") as lines:
        # Not `open_csv`: it reads ahead, and further for a larger file.
        while chunk := lines.read(CHUNK_BYTES) + lines.readline(LONGEST_LINE):
            try:
                table = csv.read_csv(BufferReader(chunk), reading, parsing, conversion)
            except ArrowInvalid as error:
                raise UserError(f"{file} must hold three ids per line, separated by tabs: {error}.") from error
            query, positive, negative = (column.to_numpy() for column in table.columns)
            if max(array.max(initial=0) for array in (query, positive, negative)) > LARGEST_ID:
                raise UserError(f"{file} holds an id above {LARGEST_ID:,}, which no passage of mMARCO has.")
            yield (query.astype(np.uint64) << 32) | positive, negative


def _lines(file: Path, triples: Path, *ids: np.ndarray) -> Lines:
    """Return the lines of a file whose ids the triples name."""
    folder = cached_folder(folder_name([file, triples]), lambda folder: _index_lines(file, ids, folder))
    start_of_id, bytes_of_id = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("start", "bytes"))
    return Lines(os.open(file, os.O_RDONLY), start_of_id, bytes_of_id)


def _index_lines(file: Path, ids: Sequence[np.ndarray], folder: Path) -> None:
    """Write where the text of each id starts in a file, and its length in bytes."""
    named = np.zeros(max(int(array.max()) for array in ids) + 1, dtype=bool)  # by id: whether a triple names it
    for array in ids:
        for first in range(0, len(array), CHUNK_IDS):
            named[array[first : first + CHUNK_IDS]] = True
    start_of_id = np.lib.format.open_memmap(folder / "start.npy", "w+", np.int64, named.shape)
    bytes_of_id = np.lib.format.open_memmap(folder / "bytes.npy", "w+", np.int32, named.shape)
    start_of_id[:] = -1
    start = 0
    with file.open("rb") as lines, file.open("rb") as earlier:
        for number, line in raw_lines(lines, file):
            end = start + len(line)
            if line.strip():
                id, text = _split(line, file, number)
                if id < len(named) and named[id]:
                    if start_of_id[id] < 0:
                        start_of_id[id], bytes_of_id[id] = end - len(text), len(text.rstrip(b"\r\n"))
                    elif os.pread(earlier.fileno(), bytes_of_id[id], start_of_id[id]) != text.rstrip(b"\r\n"):
                        first = earlier.read(start_of_id[id]).count(b"\n") + 1
                        raise UserError(
                            f"{file}, line {number} repeats the id {id} of line {first} with other content."
                        )
            start = end
    missing = np.flatnonzero(named & (start_of_id < 0))
    if len(missing):
        raise UserError(f"{file} lacks {len(missing)} ids that the triples name, such as {missing[0]}: is it complete?")


def _split(line: bytes, file: Path, number: int) -> tuple[int, bytes]:
    """Return the id and the text of a line."""
    id, tab, text = line.partition(b"\t")
    decode(text, file, number)
    id = id.removeprefix(BOM_UTF8) if number == 1 else id
    if not tab or not re.fullmatch(rb"\d{1,18}", id) or is_blank(text.decode()):
        raise UserError(f"{file}, line {number} must hold an id, a tab and a text, got {line!r:.80}.")
    return int(id), text
