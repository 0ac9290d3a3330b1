"""MIRACL (Zhang et al. 2023, TACL 11), dev split: Wikipedia passages in 18 languages, in a budget that the pool sets.

Reads the published files, from one folder or from the hub's three repositories:

    miracl-v1.0-{lang}/topics/*-dev.tsv, …/qrels/*-dev.tsv           (or anserini-tools' flat topics/ and qrels/)
    miracl-corpus-v1.0-{lang}/docs-{i}.jsonl.gz                       docid, title, text
    {lang}-corpus/, {lang}-queries/, {lang}-qrels/ with *.parquet     mteb's hard negatives

A corpus is streamed once a language and pool. What the pool keeps becomes a memory-mapped Arrow file in the cache of
`datasets` (HF_DATASETS_CACHE), which later runs reuse; memory is bounded by the sample, whatever the corpus.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.data.arrow import in_batches, key, stored
from pipeline.data.hub import fetch, gzip_lines, listing, parse_json
from pipeline.values import Collection, Relevance, Sample, Texts, UserError

if TYPE_CHECKING:
    from datasets import Dataset

KEY = "eval.miracl.path"
HARD = "mteb/MIRACLRetrievalHardNegatives", "d7d94fa4b946cec4a27c84653aa0cf6b33f74a3c"  # the revision that mteb pins
PASSAGES = {  # of the full corpora, as published by MIRACL
    **{"ar": 2_061_414, "bn": 297_265, "de": 15_866_222, "en": 32_893_221, "es": 10_373_953, "fa": 2_207_172},
    **{"fi": 1_883_509, "fr": 14_636_953, "hi": 506_264, "id": 1_446_315, "ja": 6_953_614, "ko": 1_486_752},
    **{"ru": 9_543_918, "sw": 131_924, "te": 518_079, "th": 542_166, "yo": 49_043, "zh": 4_934_368},
}


class Passage(NamedTuple):
    docid: str
    title: str
    text: str  # title and text, as mteb joins them


class Judgement(NamedTuple):
    topic: str
    docid: str
    grade: int


@dataclass(frozen=True)
class Part:
    """One language as published: nothing of the corpus is read yet."""

    topics: dict[str, str]
    judgements: list[Judgement]
    corpus: list[Path]
    read: Callable[[Path], Iterator[Passage]]


def dev(languages: list[str], path: str | None, pool: str, seed: int) -> Collection:
    """Each language against its own pool; every topic counts, and no passage is dropped for sharing a topic's id.

    `judged`: the passages judged for any topic, relevant or not. `sample:N`: those, then the N others with the smallest
    hashes of (seed, docid), smallest first; so for M < N, sample:M is the beginning of sample:N. `full`: the corpus.
    `hard`: mteb's MIRACLRetrievalHardNegatives, the 250 best passages a topic of BM25, multilingual-e5-large and
    e5-mistral-instruct; it has 1,000 topics in ar, fi and ru (fewer than dev), and in bn, sw and yo the full corpora.
    """
    unknown = [language for language in languages if language not in PASSAGES]
    if unknown or not languages:
        raise ValueError(f"languages must be some of {', '.join(PASSAGES)}, got {', '.join(unknown) or 'none'}")
    others = _others(pool)
    queries: dict[str, Texts] = {}
    passages: dict[str, Texts] = {}
    relevance: dict[tuple[str, str], Relevance] = {}
    samples: dict[str, Sample] = {}
    titles: set[str] = set()
    for language in languages:
        part = _hard(path, language) if pool == "hard" else _published(path, language)
        if orphans := {judgement.topic for judgement in part.judgements} - part.topics.keys():
            raise UserError(f"{KEY}: the {language} qrels judge topic {min(orphans)}, which the topics lack.")
        judged = {judgement.docid for judgement in part.judgements}
        corpus = _stored(part, judged, others, seed, f"MIRACL, {language}")
        position = _positions(corpus, judged, language)
        queries[language] = Texts(list(part.topics), list(part.topics.values()))
        passages[language] = Texts(corpus["docid"], corpus["text"])
        relevance[language, language] = _relevance(part, position)
        titles.update(corpus["title"][list(position.values())])
        if others:
            samples[language] = Sample(judged=len(judged), full=PASSAGES[language])
    return Collection(
        f"miracl[{pool}]",
        queries,
        passages,
        relevance,
        settings=("mono",),
        every_query_counts=True,
        samples=samples,
        titles=frozenset(titles),  # of the judged passages
        provenance={"source": "MIRACL v1.0 dev", "pool": pool},
    )


def _others(pool: str) -> int | None:
    """How many passages a pool adds to the judged ones; None for all that there are."""
    if pool in ("hard", "full"):
        return None
    match = re.fullmatch(r"judged|sample:([1-9]\d*)", pool)
    if not match:
        raise ValueError(f"pool must be judged, hard, sample:N (N a positive number) or full, got {pool}")
    return int(match[1] or 0)


def _published(path: str | None, language: str) -> Part:
    topics = {row[0]: row[1] for row in _tsv(_dev_file(path, language, "topics"), columns=2)}
    qrels = _tsv(_dev_file(path, language, "qrels"), columns=4)
    judgements = [Judgement(topic, docid, int(grade)) for topic, _, docid, grade in qrels]
    folder = f"miracl-corpus-v1.0-{language}"
    names = listing("miracl/miracl-corpus", folder, folder=path, key=KEY)
    numbers = sorted(int(match[1]) for name in names if (match := re.fullmatch(r"docs-(\d+)\.jsonl\.gz", name)))
    if not numbers or numbers != list(range(len(numbers))):
        raise UserError(f"{KEY}: {folder} must hold docs-0.jsonl.gz, docs-1.jsonl.gz, … without a gap; got {numbers}.")
    files = [f"{folder}/docs-{number}.jsonl.gz" for number in numbers]
    corpus = [fetch("miracl/miracl-corpus", file, folder=path, key=KEY) for file in files]
    return Part(topics, judgements, corpus, _jsonl_passages)


def _dev_file(path: str | None, language: str, kind: str) -> Path:
    flat = path is not None and Path(path, kind).is_dir()
    folder = kind if flat else f"miracl-v1.0-{language}/{kind}"
    return fetch("miracl/miracl", f"{folder}/{kind}.miracl-v1.0-{language}-dev.tsv", folder=path, key=KEY)


def _tsv(file: Path, columns: int) -> Iterator[list[str]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        row = line.split("\t")
        if len(row) != columns or (columns == 4 and not row[3].isdecimal()):
            raise UserError(f"{file}, line {number}: expected {columns} columns of MIRACL's format, got {line!r}.")
        yield row


def _passage(row: Any, id: str, where: str) -> Passage:
    try:
        return Passage(row[id], row["title"], " ".join([row["title"], row["text"]]).strip())
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: a passage needs {id}, title and text, got {row!r:.80}.") from error


def _jsonl_passages(file: Path) -> Iterator[Passage]:
    for number, line in enumerate(gzip_lines(file), 1):
        yield _passage(parse_json(line, file, number), "docid", f"{file}, line {number}")


def _hard(path: str | None, language: str) -> Part:
    def files(kind: str) -> list[Path]:
        repo, revision = HARD
        folder = f"{language}-{kind}"
        names = listing(repo, folder, folder=path, key=KEY, revision=revision)
        return [fetch(repo, f"{folder}/{name}", folder=path, key=KEY, revision=revision) for name in names]

    topics = {row["id"]: row["text"] for file in files("queries") for row in _parquet_rows(file)}
    qrels = [row for file in files("qrels") for row in _parquet_rows(file)]
    judgements = [Judgement(row["query-id"], row["corpus-id"], int(row["score"])) for row in qrels]
    return Part(topics, judgements, files("corpus"), _parquet_passages)


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Rows with their identifier in `id`, which some revisions of the repository call `_id`."""
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                yield {name.removeprefix("_"): value for name, value in row.items()}
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{file} is not a parquet file: {error}.") from error


def _parquet_passages(file: Path) -> Iterator[Passage]:
    for row in _parquet_rows(file):
        yield _passage(row, "id", str(file))


def _kept(corpus: Iterable[Passage], judged: set[str], others: int | None, seed: int) -> Iterator[Passage]:
    """The judged passages as they come, then the sample by growing hash; or everything."""
    if others is None:
        yield from corpus
        return
    sample: list[tuple[int, Passage]] = []  # a heap with the largest hash on top
    for passage in corpus:
        if passage.docid in judged:
            yield passage
        elif others:
            digest = blake2b(f"{seed}:{passage.docid}".encode(), digest_size=8).digest()
            entry = (-int.from_bytes(digest), passage)
            (heapq.heappush if len(sample) < others else heapq.heappushpop)(sample, entry)
    yield from (passage for _, passage in sorted(sample, reverse=True))


def _stored(part: Part, judged: set[str], others: int | None, seed: int, progress: str) -> "Dataset":
    """The pool as a memory-mapped Arrow file, made once for the same files and pool."""
    import pyarrow

    corpus = (passage for file in part.corpus for passage in part.read(file))
    rows = (passage._asdict() for passage in _kept(corpus, judged, others, seed))
    schema = pyarrow.schema([(name, pyarrow.string()) for name in Passage._fields])
    return stored(key(part.corpus, sorted(judged), others, seed), schema, in_batches(rows, schema), progress)


def _positions(corpus: "Dataset", judged: set[str], language: str) -> dict[str, int]:
    """Where the judged passages stand in the pool, found without reading its text."""
    import pyarrow
    import pyarrow.compute

    found = pyarrow.compute.is_in(corpus.data.column("docid"), value_set=pyarrow.array(sorted(judged)))
    positions = np.flatnonzero(found.to_numpy()).tolist()
    position = dict(zip(corpus["docid"][positions], positions, strict=True))
    if missing := judged - position.keys():
        raise UserError(
            f"{KEY}: the {language} corpus lacks {len(missing)} of its {len(judged)} judged passages, such as "
            f"{min(missing)}: is it complete?"
        )
    return position


def _relevance(part: Part, position: dict[str, int]) -> Relevance:
    topic = {id: number for number, id in enumerate(part.topics)}
    return Relevance(
        np.array([topic[judgement.topic] for judgement in part.judgements], dtype=np.int32),
        np.array([position[judgement.docid] for judgement in part.judgements], dtype=np.int64),
        np.array([judgement.grade for judgement in part.judgements], dtype=np.int8),
    )
