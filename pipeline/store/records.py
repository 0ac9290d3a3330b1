"""What a run leaves behind: a Record, and the Profile in it. `experiment` writes them, everything else reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.values import UserError, Variant, conforming

RECORD, PACKED = "record.json", "record.json.gz"  # in the folder of a run
SCHEMA = 3  # of record.json; another number when fields change
AS_TRAINED = Variant().label
STRICT = {"extra": "forbid"}  # pydantic's word for: a file with a field that we do not know is not read
# What all readers take for granted in the free parts of a record.
NEEDED = {
    **{f"choices.{group}": str for group in ("model", "sampler", "data")},
    **{"config.model.family": str, "config.sampler": dict, "provenance.layers": int, "provenance.time": str},
}
OF_A_PROFILE = {
    **{"profile.details.machine.device": str, "profile.details.machine.cpu": str, "profile.details.threads": int},
    **{"profile.details.quality.checks": list},
}


@dataclass(frozen=True)
class Profile:
    """What one deployed encoder costs on one machine. Units are in the names; `sources` says how each field came about:
    `measured: …`, `modelled: …`, `not measured: …` or `not resolved: …` (smaller than what the meter can tell from
    nothing). `details` keeps raw values, intervals, counts, machine facts and the quality checks; `by_language` in it
    lists tokens, latency and energy of a query per language.

    Every meter runs in a fresh process that loads the deployed encoder from its folder. Queries are encoded one at a
    time, passages in batches; both include tokenization. None: too few timings for a percentile, no GPU, a missing
    library, or not resolved. Energy is above idle; gross energy includes what the idle machine draws.

    Figures are medians over `rounds` of all meters. `relative_errors` holds their relative standard errors, which
    include the noise within rounds and the drift between them; `details["rounds"]` lists the value of every round.

    `serving_mib` is what a process that searches needs: `peak_rss_mib`, the peak resident set from its start, while
    loading or serving, with interpreter, libraries, tokenizer, weights and activations, and `index_mib`.
    `encoder_rss_mib` is the part of the encoder: what serving adds to the process after its imports.
    """

    __pydantic_config__ = STRICT

    query_latency_p50_ms: float
    query_latency_p90_ms: float | None
    query_latency_p95_ms: float | None
    query_latency_p99_ms: float | None
    query_latency_without_tokenisation_p50_ms: float
    end_to_end_latency_p50_ms: float | None  # encode and search; details name the index
    end_to_end_latency_p95_ms: float | None
    passages_per_s: float
    passage_tokens_per_s: float
    passage_token_budget: int  # per batch, the best of those tried
    flop_per_s: float
    flop_share_of_matrix_product: float
    peak_rss_mib: float  # of the whole process, without an index
    load_peak_rss_mib: float  # of the whole process, until the encoder is loaded
    encoder_rss_mib: float  # peak while serving, above the process that has imported its libraries
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
    parameters: int | None  # None: it has none, as BM25
    quality: Literal["passed", "failed"]
    rounds: int
    sources: Mapping[str, str]
    details: Mapping[str, Any] = field(default_factory=dict)
    relative_errors: Mapping[str, float] = field(default_factory=dict)  # by field: relative standard error
    encoder_key: str = ""  # equal for profiles that share the measurements of one encoder on one engine
    index_mib: float | None = None  # of all passages of the benchmark
    serving_mib: float | None = None  # peak_rss_mib and index_mib together
    query_device_time_p50_ms: float | None = None  # GPU time from the first to the last kernel of encoding a query
    search_latency_p50_ms: float | None = None  # this and the next: of another index than the flat one
    search_latency_p95_ms: float | None = None
    index_build_s: float | None = None
    index_recall_10: float | None = None

    @property
    def failed_checks(self) -> list[str]:
        """Names of the quality checks that failed."""
        return failed_checks(self.details["quality"])


def failed_checks(quality: Mapping[str, Any]) -> list[str]:
    """Return the names of the checks that failed, of a profile or a load result (profiling.quality).

    >>> failed_checks({"checks": [{"name": "quiet", "passed": True}, {"name": "clock", "passed": False}]})
    ['clock']
    """
    return [check["name"] for check in quality["checks"] if not check["passed"]]


@dataclass(frozen=True)
class Record:
    """All that one run leaves behind; as JSON it is `record.json`, flattened it is one row of a table."""

    __pydantic_config__ = STRICT

    name: str
    cache_key: str
    status: Literal["done", "failed"]
    choices: Mapping[str, str]  # Hydra's: model, sampler, data, …
    config: Mapping[str, Any]
    seed: int
    provenance: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)  # '<benchmark>.<setting>.<metric>'
    profile: Profile | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    corpus: Mapping[str, Any] = field(default_factory=dict)  # time and energy of encoding the benchmarks' passages
    stage_s: Mapping[str, float] = field(default_factory=dict)
    variant: str = AS_TRAINED  # the label of its inference variant
    notes: tuple[str, ...] = ()
    reason: str | None = None  # of a failure
    schema: int = SCHEMA


def record_path(run_dir: Path) -> Path:
    """Return the file of a run's record."""
    plain, packed = run_dir / RECORD, run_dir / PACKED
    return packed if packed.exists() and not plain.exists() else plain


def from_json(raw: Mapping[str, Any], path: Path) -> Record:
    """Return the record that `path` holds as JSON.

    Raises:
        UserError: for a record of another version, or one that is none; it names the file.
    """
    schema = conforming(int, raw.get("schema", 1), f"{path}: schema")
    if schema > SCHEMA:
        says = f"was written by a newer version: its schema is {schema}, and this version reads {SCHEMA}"
        raise UserError(f"{path} {says}. Update, or move it away and run the sweep again.")
    if schema < SCHEMA:
        raise UserError(made_by_older(path))
    for needed, kind in (NEEDED | OF_A_PROFILE if raw.get("profile") else NEEDED).items():
        value: Any = raw
        for key in needed.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise UserError(f"{path}: {needed} must be a {kind.__name__}, got {value!r:.80}.")
    return conforming(Record, raw, str(path))


def made_by_older(path: Path) -> str:
    return f"{path} was made by an older version: move it away and run the sweep again, or use that version."


def row(record: Record) -> dict[str, Any]:
    """Flatten a record to one row: what a table, a plot and W&B show of it."""
    model = record.config["model"]
    flat = {"name": record.name, **record.choices, "seed": record.seed, "family": model["family"]}
    flat |= {"layers": record.provenance["layers"], "kind": record.provenance.get("kind", "")}
    flat |= {"variant": record.variant, "notes": " ".join(record.notes)}
    flat |= {f"main_metric.{name}": metric for name, metric in record.provenance.get("main_metrics", {}).items()}
    flat |= {f"metrics.{key}": value for key, value in record.metrics.items()}
    if record.profile:
        flat |= {f"profile.{key}": value for key, value in figures(vars(record.profile)).items()}
    return flat


def figures(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a profile: its figures, then `relative_errors.…` and `sources.…` of each; details are left out."""
    nested = ("relative_errors", "sources")
    flat = {key: value for key, value in profile.items() if key not in (*nested, "details")}
    return flat | {f"{name}.{key}": value for name in nested for key, value in profile[name].items()}


def without_folders(value: Any) -> Any:
    """Return a config in which absolute paths, which no other machine has, are names of files and folders.

    >>> without_folders({"data": {"path": "/home/me/data/xquad-r"}, "languages": ["ar", "de"]})
    {'data': {'path': 'xquad-r'}, 'languages': ['ar', 'de']}
    """
    match value:
        case str() if value.startswith("/"):
            return Path(value).name
        case Mapping():
            return {key: without_folders(part) for key, part in value.items()}
        case list():
            return [without_folders(part) for part in value]
    return value
