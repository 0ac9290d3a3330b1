"""The plain values that cross module borders. Everything may import this module; it imports nothing of ours.

Axes in array names: N rows, Q queries, K the top of a ranking, L languages, D embedding width.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

Side = Literal["query", "passage"]
Setting = Literal["mono", "cross", "multi"]


class UserError(Exception):
    """Something the user can mend: one sentence that names the key or the file. Ends a run with exit code 2."""


@dataclass(frozen=True)
class ParallelText:
    """Training pairs: row n holds one question and the passage that answers it, in up to L languages.

    Columns may be lists or lazy, memory-mapped sequences; `available_NL` says which cells exist, so that samplers
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
    samples: Mapping[str, Sample] = field(default_factory=dict)  # by language; empty where the pools are no samples
    titles: frozenset[str] = frozenset()  # of the articles, for the leakage check
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """Where one query language's relevant passages stand in one pool: uncut, and small whatever the pool's size.

    The arrays of length R are parallel, sorted by (query, rank); `query` points into the benchmark's queries of
    `query_language`, `query_ids` lists those that count in this setting, `language` points into `pool_languages`.
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
class Profile:
    """What one encoder costs on one machine. Units are in the names; `sources` says of each field how it came to be:
    `measured: …`, `modelled: …` or `not measured: …`. `details` keeps raw values, intervals, counts, machine facts and
    the grade's checks; `by_language` there lists tokens, latency and energy of a query in each language.

    A query is encoded alone, passages in batches; both include tokenisation. None: too few timings for a percentile,
    no GPU, or a library is missing. Energy is above idle; gross energy holds what the idle machine draws as well.
    """

    query_latency_p50_ms: float
    query_latency_p90_ms: float | None
    query_latency_p95_ms: float | None
    query_latency_p99_ms: float | None
    query_latency_without_tokenisation_p50_ms: float
    end_to_end_latency_p50_ms: float | None  # encode and search; the index is named in details
    end_to_end_latency_p95_ms: float | None
    passages_per_s: float
    passage_tokens_per_s: float
    passage_token_budget: int  # of the batches, the best of those tried
    flop_per_s: float
    flop_share_of_matrix_product: float
    peak_rss_mib: float  # above the process that has imported its libraries
    gpu_peak_allocated_mib: float | None
    gpu_peak_reserved_mib: float | None
    weights_mib: float
    weights_on_disk_mib: float
    index_bytes_per_passage: float | None
    energy_j_per_1k_queries: float | None
    energy_j_per_1k_passages: float | None
    gross_energy_j_per_1k_queries: float | None
    gross_energy_j_per_1k_passages: float | None
    idle_power_w: float | None
    co2_g_per_1m_queries: float | None
    co2_g_per_1m_passages: float | None
    parameters: int
    grade_passed: bool
    sources: Mapping[str, str]
    details: Mapping[str, Any] = field(default_factory=dict)
    query_device_time_p50_ms: float | None = None  # of the GPU: from the first kernel of a query's encoding to the last
    search_latency_p50_ms: float | None = None  # of another index than the flat one, and what follows too
    search_latency_p95_ms: float | None = None
    index_build_s: float | None = None
    index_recall_10: float | None = None

    @property
    def failed_checks(self) -> list[str]:
        """Of the grade, by name."""
        return [check["name"] for check in self.details["grade"]["checks"] if not check["passed"]]


@dataclass(frozen=True)
class Serving:
    """How a trained encoder is put to use: what moves its cost without training it again. The defaults are as trained.

    `index` is a FAISS factory string (retrieval): it says how vectors are stored and searched; "exact" is an uncut
    float32 ranking. `width` keeps an embedding's first dimensions.
    """

    backend: str = "eager"
    precision: str = "float32"
    max_passage_tokens: int | None = None
    width: int | None = None
    index: str = "exact"

    @property
    def engine(self) -> tuple[str, str, int | None]:
        """What determines the embeddings; all widths and indexes read the same ones."""
        return self.backend, self.precision, self.max_passage_tokens

    @property
    def label(self) -> str:
        """What differs from `as trained`, in words that fit on a plot and in the name of a run."""
        length = f"t{self.max_passage_tokens}" if self.max_passage_tokens else None
        width = f"w{self.width}" if self.width else None
        parts = [self.backend, self.precision, length, width, self.index]
        return " ".join(part for part in parts if part not in (None, "eager", "float32", "exact")) or "as trained"

    def run(self, name: str) -> str:
        """The run's name, given that of the encoder as trained."""
        return name if self == Serving() else f"{name}+{re.sub('[^A-Za-z0-9_.=]+', '-', self.label)}"


@dataclass(frozen=True)
class Record:
    """All that one cell of a sweep leaves behind; as JSON it is `record.json`, flattened it is one row of a table."""

    name: str
    fingerprint: str
    status: Literal["done", "failed"]
    choices: Mapping[str, str]  # Hydra's: model, sampler, data, …
    config: Mapping[str, Any]
    seed: int
    provenance: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)  # '<benchmark>.<setting>.<metric>'
    profile: Profile | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    corpus: Mapping[str, Any] = field(default_factory=dict)  # what encoding the benchmarks' passages took
    stage_s: Mapping[str, float] = field(default_factory=dict)
    served: str = "as trained"  # the label of its Serving
    notes: tuple[str, ...] = ()
    reason: str | None = None  # of a failure
