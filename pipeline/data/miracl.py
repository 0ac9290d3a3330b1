"""MIRACL (Zhang et al. 2023, TACL 11), dev split: Wikipedia passages in 18 languages, ranked in pools of any size.

Reads the published files, from one folder or from the hub's three repositories:

    miracl-v1.0-{lang}/topics/*-dev.tsv, …/qrels/*-dev.tsv           (or anserini-tools' flat topics/ and qrels/)
    miracl-corpus-v1.0-{lang}/docs-{i}.jsonl.gz                       docid, title, text
    {lang}-corpus/, {lang}-queries/, {lang}-qrels/ with *.parquet     mteb's hard negatives

A corpus is streamed once per language and pool. The passages of the pool are written to a memory-mapped Arrow file in
the cache of `datasets` (HF_DATASETS_CACHE), which later runs reuse. The sample bounds memory use, whatever the corpus.
"""

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.arrow import folder_name
from pipeline.data.corpus import Passage, Read, distinct, grade, passage, positions, stored
from pipeline.data.corpus import relevance as corpus_relevance
from pipeline.data.hub import fetch, listing
from pipeline.data.mteb import read_grades, read_passages, read_topics
from pipeline.data.reading import lines, parse_json
from pipeline.data.text import Keyed, check_languages, is_blank, normal, repeats
from pipeline.values import Collection, Relevance, Sample, Texts, UserError

if TYPE_CHECKING:
    from datasets import Dataset

KEY = "eval.miracl.path"
HARD = "mteb/MIRACLRetrievalHardNegatives", "d7d94fa4b946cec4a27c84653aa0cf6b33f74a3c"  # the revision that mteb pins
PASSAGES = {  # in the full corpora, as published by MIRACL
    **{"ar": 2_061_414, "bn": 297_265, "de": 15_866_222, "en": 32_893_221, "es": 10_373_953, "fa": 2_207_172},
    **{"fi": 1_883_509, "fr": 14_636_953, "hi": 506_264, "id": 1_446_315, "ja": 6_953_614, "ko": 1_486_752},
    **{"ru": 9_543_918, "sw": 131_924, "te": 518_079, "th": 542_166, "yo": 49_043, "zh": 4_934_368},
}


@dataclass(frozen=True)
class Published:
    """The published files of one language; the corpus is not read yet."""

    topics: Keyed[str, str]  # text by id
    grades: Keyed[tuple[str, str], int]  # by topic and docid
    corpus: list[Path]
    read: Read
    source: Path  # of the topics: a file, or a folder of files

    @property
    def note(self) -> str | None:
        """What of the files was repeated word for word."""
        return repeats({"topics": self.topics.repeated, "judgements": self.grades.repeated})


def dev(languages: list[str], path: str | None, pool: str, seed: int, *, key: str = KEY) -> Collection:
    """Load the dev topics of each language with a pool of passages in that language.

    Every topic counts, even without a relevant passage (trec_eval -c), and no passage is dropped for having the id of a
    topic.

    Args:
        languages: keys of PASSAGES.
        path: folder of the published files; None downloads them from the hub.
        pool: which passages to rank.
            `judged`: the passages judged for any topic, relevant or not.
            `sample:N`: the judged, then the N others with the smallest hashes of (seed, docid), in the order of their
            hashes; so for M < N, sample:M is the beginning of sample:N.
            `full`: the corpus.
            `hard`: mteb's MIRACLRetrievalHardNegatives, the 250 best passages per topic of BM25, multilingual-e5-large
            and e5-mistral-instruct. It has 1,000 topics in ar, fi and ru (fewer than dev), and in bn, sw and yo the
            full corpora.
        seed: of `sample:N`.
        key: the config key of `path`, for messages.
    """
    check_languages(languages, list(PASSAGES))
    sample_size = _sample_size(pool)
    queries: dict[str, Texts] = {}
    passages: dict[str, Texts] = {}
    relevance: dict[tuple[str, str], Relevance] = {}
    samples: dict[str, Sample] = {}
    titles: set[str] = set()
    clusters: dict[str, str] = {}
    noted: list[str] = []
    for language in languages:
        published = _hard(path, language) if pool == "hard" else _full(path, language, key)
        if orphans := {topic for topic, _ in published.grades} - published.topics.keys():
            lacks = f"the {language} qrels judge topic {min(orphans)}, which the topics file lacks"
            raise UserError(f"{key}: {lacks}: {published.source}.")
        judged = {docid for _, docid in published.grades}
        corpus = _cached_pool(published, judged, sample_size, seed, progress=f"MIRACL, {language}")
        place = published.corpus[0].parent
        position = positions(corpus, judged, f"{key}: {place}: the {language} corpus")
        queries[language] = Texts(list(published.topics), list(published.topics.values()))
        passages[language] = Texts(corpus["docid"], corpus["text"])
        relevance[language, language] = corpus_relevance(published.grades, published.topics, position)
        titles.update(corpus["title"][list(position.values())])
        clusters = _clusters(published.grades, language) | clusters
        noted += [f"MIRACL, {language}: {published.note}"] if published.note else []
        if sample_size:
            samples[language] = Sample(judged=len(judged), full=PASSAGES[language])
    return Collection(
        f"miracl[{pool}]",
        queries,
        passages,
        relevance,
        settings=("mono",),
        every_query_counts=True,
        main_metric="ndcg_10",
        samples=samples,
        titles=frozenset(titles),  # of the judged passages
        clusters=clusters,
        cluster_name="page",
        provenance={"source": "MIRACL v1.0 dev", "pool": pool, "note": " ".join(noted) or None},
    )


def _clusters(grades: Mapping[tuple[str, str], int], language: str) -> dict[str, str]:
    """Return, by topic, the Wikipedia page of its first relevant passage; a topic without one is left out."""
    relevant = {topic: docid for (topic, docid), grade in reversed(list(grades.items())) if grade > 0}
    return {topic: f"{language}/{docid.split('#')[0]}" for topic, docid in relevant.items()}


def _sample_size(pool: str) -> int | None:
    """Return how many passages a pool adds to the judged ones; None if it is not such a sample."""
    if pool in ("hard", "full"):
        return None
    match = re.fullmatch(r"judged|sample:([1-9]\d*)", pool)
    if not match:
        raise ValueError(f"pool must be judged, hard, sample:N (N a positive number) or full, got {pool}")
    return int(match[1] or 0)


def _full(path: str | None, language: str, key: str) -> Published:
    """Return MIRACL's own dev topics, qrels and corpus files."""
    topics: Keyed[str, str] = Keyed("topic")
    topics_file = _dev_file(path, language, "topics", key)
    for place, (id, text) in _tsv(topics_file, columns=2):
        _put_topic(topics, id, text, place)
    grades: Keyed[tuple[str, str], int] = Keyed("judgement")
    qrels_file = _dev_file(path, language, "qrels", key)
    for place, (topic, _, docid, text) in _tsv(qrels_file, columns=4):
        grades.put((normal(topic), normal(docid)), grade(text, place), place)
    if not grades:
        raise UserError(f"{qrels_file} holds no judgement.")
    folder = f"miracl-corpus-v1.0-{language}"
    names = listing("miracl/miracl-corpus", folder, folder=path, key=key)
    numbers = sorted(int(match[1]) for name in names if (match := re.fullmatch(r"docs-(\d+)\.jsonl\.gz", name)))
    if not numbers or numbers != list(range(len(numbers))):
        raise UserError(f"{key}: {folder} must hold docs-0.jsonl.gz, docs-1.jsonl.gz, … without gaps; got {numbers}.")
    files = [f"{folder}/docs-{number}.jsonl.gz" for number in numbers]
    corpus = [fetch("miracl/miracl-corpus", file, folder=path, key=key) for file in files]
    return Published(topics, grades, corpus, _jsonl_passages, topics_file)


def _put_topic(topics: Keyed[str, str], id: str, text: str, place: str) -> None:
    if is_blank(text):
        raise UserError(f"{place}: topic {id} has no text.")
    topics.put(normal(id), text, place)


def _dev_file(path: str | None, language: str, kind: str, key: str) -> Path:
    flat = path is not None and Path(path, kind).is_dir()
    folder = kind if flat else f"miracl-v1.0-{language}/{kind}"
    return fetch("miracl/miracl", f"{folder}/{kind}.miracl-v1.0-{language}-dev.tsv", folder=path, key=key)


def _tsv(file: Path, columns: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the columns of each line."""
    for number, line in lines(file):
        place, row = f"{file}, line {number}", line.split("\t")
        if len(row) != columns:
            raise UserError(f"{place}: expected {columns} columns of MIRACL's format, got {line!r:.80}.")
        yield place, row


def _jsonl_passages(file: Path) -> Iterator[tuple[int, Passage]]:
    for number, line in lines(file):
        yield number, passage(parse_json(line, file, number), "docid", f"{file}, line {number}")


def _hard(path: str | None, language: str) -> Published:
    """Return mteb's topics, qrels and corpus files of hard negatives."""

    def files(kind: str) -> list[Path]:
        repo, revision = HARD
        folder = f"{language}-{kind}"
        names = listing(repo, folder, folder=path, key=KEY, revision=revision)
        return [fetch(repo, f"{folder}/{name}", folder=path, key=KEY, revision=revision) for name in names]

    queries = files("queries")
    topics, grades = read_topics(queries), read_grades(files("qrels"))
    return Published(topics, grades, files("corpus"), read_passages, Path(f"{language}-queries"))


def _pool(corpus: Iterable[Passage], judged: set[str], sample_size: int | None, seed: int) -> Iterator[Passage]:
    """Yield the judged passages in corpus order, then the sample by increasing hash; None yields the whole corpus."""
    if sample_size is None:
        yield from corpus
        return
    sample: list[tuple[int, Passage]] = []  # a heap with the largest hash on top
    for one in corpus:
        if one.docid in judged:
            yield one
        elif sample_size:
            digest = blake2b(f"{seed}:{one.docid}".encode(), digest_size=8).digest()
            entry = (-int.from_bytes(digest), one)
            (heapq.heappush if len(sample) < sample_size else heapq.heappushpop)(sample, entry)
    yield from (one for _, one in sorted(sample, reverse=True))


def _cached_pool(
    published: Published, judged: set[str], sample_size: int | None, seed: int, *, progress: str
) -> "Dataset":
    """Return the pool as a memory-mapped Arrow file, written once for the same files and pool."""
    passages = _pool(distinct(published.corpus, published.read), judged, sample_size, seed)
    return stored(passages, folder_name(published.corpus, sorted(judged), sample_size, seed), progress=progress)
