"""The plain values that cross rooms. Every module may import this one; it imports nothing of ours.

Axes in array names: N rows, Q queries, K the top of a ranking, L languages, D embedding width.
"""

import difflib
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Kind = TypeVar("Kind")
Side = Literal["query", "passage"]
Setting = Literal["mono", "cross", "multi"]

PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "conf").is_dir()  # from a wheel, which holds conf and sweeps; in a checkout they lie beside it
CONF = (PACKAGE if INSTALLED else PACKAGE.parent) / "conf"

LEXICAL = "lexical"  # as model.weights: BM25, which has none
USE = "packaged-use"  # as model.weights: the Universal Sentence Encoder as published, a file of another engine
REFUSED = 2  # the exit code of bad input
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # by which Slurm says that a job will end soon
RUN_OF_A_SEED = r"-s\d+-[0-9a-f]{8}$"  # ends the name of a run: its seed and a hash
BEGINNING, END = 700, 250  # characters of a long sentence that are kept


class UserError(Exception):
    """Something the user can mend: one sentence that names the key or the file. Ends a run with exit code 2."""

    def __init__(self, sentence: str):
        super().__init__(readable(sentence))


def readable(text: str) -> str:
    """Return a sentence on one line without its middle if it is long: it may quote a file of any content.

    >>> readable("line 1 holds \\x00\\ud83d,\\nwhich is no text")
    'line 1 holds \\\\x00\\\\ud83d, which is no text'
    """
    line = " ".join(text.splitlines())
    if len(line) > BEGINNING + END:
        line = f"{line[:BEGINNING]} … {line[-END:]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


def unreadable(file: object, error: OSError) -> str:
    """Return the sentence on a file that the system does not let us read.

    >>> unreadable("en.json", PermissionError(13, "Permission denied"))
    'en.json cannot be read: permission denied.'
    """
    return f"{file} cannot be read: {(error.strerror or str(error)).lower()}."


def conforming(kind: type[Kind], value: Any, where: str) -> Kind:
    """Return a value that a file holds as `kind`, a dataclass or another type with annotations.

    Raises:
        UserError: it begins with `where` and names the first field that is missing or of another type.

    >>> conforming(list[int], [1, None], "numbers.json")
    Traceback (most recent call last):
    pipeline.values.UserError: numbers.json: 1: input should be a valid integer, got None.
    """
    from pydantic import ValidationError  # pipeline.profile_model does without

    try:
        return _adapter(kind).validate_python(value)  # type: ignore[arg-type]  # types are hashable
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(f"{part!s:.80}" for part in first["loc"])
        if first["type"] == "missing":
            raise UserError(f"{where} lacks {place}.") from error
        message = first["msg"][0].lower() + first["msg"][1:]
        message = "must be an object" if first["type"] == "dataclass_type" else message
        raise UserError(f"{where}: {f'{place}: ' if place else ''}{message}, got {first['input']!r:.80}.") from error


@cache
def _adapter(kind: type[Kind]) -> "TypeAdapter[Kind]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def unknown(key: str, value: str, known: Iterable[str]) -> str:
    """Return a sentence that names what exists, the likeliest first.

    >>> unknown("sampler", "hybird", ["english", "hybrid"])
    'sampler=hybird: did you mean hybrid? There are: english, hybrid.'
    """
    return f"{key}={value}: {alternatives(value, known)}"


def alternatives(name: str, known: Iterable[str]) -> str:
    """Return what exists instead of an unknown name, the likeliest first.

    >>> alternatives("zzz", ["english", "hybrid"])
    'There are: english, hybrid.'
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"{guess}There are: {', '.join(known) or 'none yet'}."


@dataclass(frozen=True)
class ParallelText:
    """Training pairs: row n holds one question and the passage that answers it, in up to L languages.

    Columns may be lists or lazy, memory-mapped sequences; `available_NL` says which texts exist, so that samplers
    never touch text. Rows with the same number in `passage_group` share a passage: neither is a negative of the other.
    """

    name: str
    languages: tuple[str, ...]
    ids: Sequence[str]
    questions: Mapping[str, Sequence[str | None]]
    passages: Mapping[str, Sequence[str | None]]
    available_NL: np.ndarray
    passage_group: np.ndarray
    titles: Sequence[str] | None = None
    negatives: Mapping[str, Sequence[Sequence[str]]] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, row: int, language: str, side: Side) -> str:
        """The question (`query`) or the passage of a row in one language; KeyError where the row lacks it."""
        column = self.questions if side == "query" else self.passages
        value = column[language][row]
        if value is None:
            raise KeyError(f"{self.name}: row {row} has no {language} {side}")
        return value


class Draw(NamedTuple):
    """One training pair: a row of a ParallelText, and the language of each side. All that a sampler outputs."""

    row: int
    query_language: str
    passage_language: str


class World(NamedTuple):
    """One process's place among those that train an encoder together, by torch.distributed's names.

    Attributes:
        address, port: where the process of rank 0 listens once it is ready for the others.
        threads: of each process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Texts:
    """The queries, or the pool of passages, of one language: position i has ids[i] and texts[i]."""

    ids: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Relevance:
    """Judgements between the queries of one language and the passages of one, as parallel arrays of positions.

    `grade` is the qrels' grade; 0 means judged and not relevant.
    """

    query: np.ndarray  # int32
    passage: np.ndarray  # int64
    grade: np.ndarray  # int8


def relevance_of(pairs: Iterable[tuple[int, int]]) -> Relevance:
    """Judgements of grade 1 for pairs of query and passage positions."""
    query, passage = np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T
    return Relevance(query.astype(np.int32), passage, np.ones(len(query), dtype=np.int8))


@dataclass(frozen=True)
class Sample:
    """What a language's pool is of a larger one: first all `judged` passages, then a uniform random sample of the
    others in random order. So every beginning of the pool that holds the judged is such a pool itself.
    """

    judged: int
    full: int  # passages of the larger pool


@dataclass(frozen=True)
class Collection:
    """A retrieval benchmark: queries and passages by language, and relevance by (query language, passage language).

    mono ranks a language's own pool, cross another language's, multi the union of all pools. A query without a
    relevant passage in a setting's pool is left out of it, unless `every_query_counts` (trec_eval -c: it scores 0).
    """

    name: str
    queries: Mapping[str, Texts]
    passages: Mapping[str, Texts]
    relevance: Mapping[tuple[str, str], Relevance]
    settings: tuple[Setting, ...] = ("mono", "cross", "multi")
    every_query_counts: bool = False
    main_metric: str = "map"  # of retrieval.metrics: what fronts, tests and verdicts compare on this benchmark
    samples: Mapping[str, Sample] = field(default_factory=dict)  # by language; empty where the pools are no samples
    titles: frozenset[str] = frozenset()  # of the articles, for the leakage check
    clusters: Mapping[str, str] = field(default_factory=dict)  # by query id; queries of a cluster are not independent
    cluster_name: str = "query"  # what a cluster is: "article", "page", "territory"; without clusters each query
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """Where one query language's relevant passages stand in one pool: the full ranking, small whatever the pool's size.

    The arrays of length R are parallel, sorted by (query, rank); `query` points into the benchmark's queries of
    `query_language`, `queries` lists those that count in this setting, `language` points into `pool_languages`.
    `top_language_QK` holds the language of each counted query's K best passages (-1 past the pool's end).
    """

    setting: Setting
    query_language: str
    pool_languages: tuple[str, ...]
    pool_sizes: tuple[int, ...]
    queries: np.ndarray  # int32 [Q]: positions of the queries that count here
    query: np.ndarray  # int32 [R]
    rank: np.ndarray  # int64 [R], 1-based
    grade: np.ndarray  # int8 [R], at least 1
    language: np.ndarray  # int16 [R]
    top_language_QK: np.ndarray  # int16 [Q, K]


@dataclass(frozen=True)
class Variant:
    """An inference variant: what changes the cost of a trained encoder without training. The defaults are as trained.

    `index` is a FAISS factory string (retrieval.faiss_index) that says how vectors are stored and searched; "exact" is
    the full float32 ranking. `width` keeps the first dimensions of an embedding. `centre` says
    of which vectors the mean of their language is taken (retrieval.centring): those of `passages`, or of `both` sides.
    `query_encoder` is a run whose encoder was distilled from this one and encodes the queries in its place. `fusion`
    names how its ranking is fused with BM25's (retrieval.fusion).
    """

    backend: str = "eager"
    precision: str = "float32"
    max_passage_tokens: int | None = None
    width: int | None = None
    index: str = "exact"
    centre: str | None = None
    query_encoder: str | None = None
    fusion: str | None = None

    @property
    def engine(self) -> tuple[str, str, int | None]:
        """What determines the embeddings: all widths and indexes of one engine share them."""
        return self.backend, self.precision, self.max_passage_tokens

    @property
    def label(self) -> str:
        """What differs from as trained, short enough for a plot and for the name of a run."""
        length = f"t{self.max_passage_tokens}" if self.max_passage_tokens else None
        width = f"w{self.width}" if self.width else None
        centre = f"centre={self.centre}" if self.centre else None
        queries = f"queries by {re.sub(RUN_OF_A_SEED, '', self.query_encoder)}" if self.query_encoder else None
        parts = [self.backend, self.precision, length, width, self.index, centre, queries, self.fusion]
        return " ".join(part for part in parts if part not in (None, "eager", "float32", "exact")) or "as trained"

    def run_name(self, name: str) -> str:
        """The name of this variant's run, given that of the encoder as trained."""
        if self == Variant():
            return name
        of_a_seed = re.findall(RUN_OF_A_SEED, self.query_encoder or "")
        return "".join([f"{name}+{re.sub('[^A-Za-z0-9_.=]+', '-', self.label)}", *of_a_seed])
