"""From a sweep's records to tables: one row per run, then one row per system (a run without its seed).

Columns of both: name, model, sampler, data, strategy, system, variant, family, layers, kind, machine, time, notes,
`metrics.<benchmark>.<setting>.<metric>`, `main_metric.<benchmark>`, `clusters.<benchmark>`, `profile.<field>`,
`profile.relative_errors.<field>` and `profile.sources.<field>`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.analysis.costs import AXES, COSTS, MS_PER_S, REPEATS_LATENCY, Cost
from pipeline.analysis.load import with_capacity
from pipeline.analysis.machines import machines
from pipeline.retrieval import metrics
from pipeline.store.keys import cache_key
from pipeline.store.records import AS_TRAINED, Record, row, without_folders
from pipeline.store.results import ResultStore
from pipeline.values import UserError, unknown

MAIN_METRIC = "map"  # of a benchmark whose records name none
BIAS = "rank_distance"  # language bias, a metric of the multilingual pool: the third objective, better when lower
BIAS_LABEL = f"language bias ({metrics.metric(BIAS).label})"
ENCODER_KEY = "profile.encoder_key"
QUALITY = "profile.quality"
PASSED, FAILED, NOT_MEASURED = "passed", "failed", "not measured"  # its values
MOST_STRATEGIES = 7  # values of a sampler's setting that count as strategies: a plot has as many colours
# Config keys in which runs of one system differ.
NOT_OF_A_SYSTEM = {"seed", "sweep", "costs_from", "results_dir", "tracking", "variants"}

POINT_COLUMNS = ["benchmark", "setting", "cost", "system", "model", "strategy", "variant", "family", "layers"]
POINT_COLUMNS += ["kind", "seeds", "machine", "quality", "value", "source", "accuracy", BIAS]
POINT_COLUMNS += ["relative_error", "rounds", "error_key", "repeats_latency"]


class Scale(NamedTuple):
    """What an accuracy or a bias is read on.

    >>> Scale("xquad_r", "multi", "map").column
    'metrics.xquad_r.multi.map'
    """

    benchmark: str
    setting: str
    metric: str

    @property
    def column(self) -> str:
        """The column of the tables of runs and systems."""
        return f"metrics.{'.'.join(self)}"


def runs(store: ResultStore, sweep: str) -> pd.DataFrame:
    """Return the table of a sweep's finished runs. If two runs differ only in code version, the newer one is used.

    Raises:
        UserError: the sweep does not exist or has no finished run.

    >>> from types import SimpleNamespace
    >>> runs(SimpleNamespace(root="results", runs=lambda sweep: []), "articles")
    Traceback (most recent call last):
    pipeline.values.UserError: sweep articles in results has no finished run.
    """
    records = [run.record for run in store.runs(sweep) if run.record]
    if not records:
        raise UserError(f"sweep {sweep} in {store.root} has no finished run.")
    table = with_capacity(rows(records), store).sort_values("time", kind="stable")
    newest = table.drop_duplicates(["system", "seed"], keep="last")
    return newest.sort_values(["family", "layers", "strategy", "variant", "system", "seed"], ignore_index=True)


def rows(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per record, with the columns that group runs and the costs that are derived from others.

    `system` names the run without its seed and ends with the label of its inference variant, if it has one. `strategy`
    is the sampler with those of its settings in which the records differ; a setting with more than MOST_STRATEGIES
    values (a search drew them) does not make strategies. `machine` is the processor that was profiled.

    >>> choices, config = {"model": "small", "sampler": "hybrid", "data": "xquad"}, {"model": {"family": "e5"}}
    >>> record = Record("small-s0", "0a1b", "done", choices, config | {"sampler": {"alpha": 0.5}}, seed=0,
    ...                 provenance={"layers": 3, "time": "2026-01-01T00:00:00Z"}, metrics={"xquad_r.multi.map": 0.5})
    >>> other = Record("small-s1", "2c3d", "done", choices, config | {"sampler": {"alpha": 0.7}}, seed=1,
    ...                provenance=record.provenance, metrics=record.metrics)
    >>> table = rows([record, other])
    >>> table[["name", "seed", "layers", "strategy", "metrics.xquad_r.multi.map"]].to_dict("records")[0]
    {'name': 'small-s0', 'seed': 0, 'layers': 3, 'strategy': 'hybrid alpha=0.5', 'metrics.xquad_r.multi.map': 0.5}
    """
    table = pd.DataFrame([row(record) for record in records])
    table["strategy"] = _strategies(records)
    table["system"] = [_system(record) for record in records]
    table = table.join(machines(records))
    table["time"] = [record.provenance["time"] for record in records]
    for benchmark in {name for record in records for name in record.provenance.get("clusters", {})}:
        names = [record.provenance.get("clusters", {}).get(benchmark) for record in records]
        table[f"clusters.{benchmark}"] = names
    for entry in COSTS:
        if entry.inverse_of and f"profile.{entry.inverse_of}" in table:
            table[entry.column] = MS_PER_S / table[f"profile.{entry.inverse_of}"]
    return table


def _system(record: Record) -> str:
    settings = without_folders({key: value for key, value in record.config.items() if key not in NOT_OF_A_SYSTEM})
    name = "-".join([*(record.choices[group] for group in ("model", "sampler", "data")), cache_key(settings)[:6]])
    return name if record.variant == AS_TRAINED else f"{name} {record.variant}"


def _strategies(records: Sequence[Record]) -> list[str]:
    values = defaultdict[tuple[str, str], set[str]](set)
    for record in records:
        for key, value in record.config["sampler"].items():
            values[record.choices["sampler"], key].add(str(value))
    names = []
    for record in records:
        sampler, settings = record.choices["sampler"], record.config["sampler"]
        differing = [key for key in settings if 1 < len(values[sampler, key]) <= MOST_STRATEGIES]
        names.append(" ".join([sampler, *(f"{key}={settings[key]}" for key in differing)]))
    return names


def systems(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per system: figures are means over its `seeds`.

    The quality of its profiles is `passed` if every one passed, `failed` if one failed, else `not measured`. Runs that
    were profiled one by one (`profile.encoder_key` differs) have a mean cost with a smaller error.

    >>> runs = pd.DataFrame({"system": ["small", "small", "large"], "seed": [0, 1, 0], "name": ["s0", "s1", "l0"],
    ...                      "metrics.b.multi.map": [0.4, 0.6, 0.7], QUALITY: ["passed", "failed", None]})
    >>> systems(runs)[["system", "metrics.b.multi.map", "seeds", QUALITY]].to_numpy().tolist()
    [['small', 0.5, 2, 'failed'], ['large', 0.7, 1, 'not measured']]
    """
    groups = runs.groupby("system", sort=False)
    figures = [c for c in runs.select_dtypes("number") if c.startswith(("metrics.", "profile."))]
    labels = [c for c in runs if c not in {*figures, "name", "seed", "system"}]
    table = groups[labels].first().join(groups[figures].mean()).assign(seeds=groups.size())
    if QUALITY in runs:
        table[QUALITY] = groups[QUALITY].agg(_quality)
    if ENCODER_KEY in runs:
        keys = groups[ENCODER_KEY].agg(lambda names: sorted(names.dropna().unique()))
        errors = [column for column in figures if column.startswith("profile.relative_errors.")]
        table[errors] = table[errors].div(np.sqrt(np.maximum(keys.str.len(), 1)), axis=0)
        table[ENCODER_KEY] = keys.str.join(" ")
    return table.reset_index()


def _quality(values: pd.Series) -> str:
    if (values == FAILED).any():
        return FAILED
    return PASSED if (values == PASSED).all() else NOT_MEASURED


def main_metric(table: pd.DataFrame, benchmark: str) -> str:
    """Return the metric that fronts and tests compare on a benchmark, as its records name it.

    Args:
        table: runs or systems.
        benchmark: name as in the columns.

    Raises:
        UserError: the runs name different metrics, or one that is not better when higher.

    >>> main_metric(pd.DataFrame({"main_metric.miracl": ["ndcg_10", None]}), "miracl")
    'ndcg_10'
    >>> main_metric(pd.DataFrame({"metrics.xquad_r.multi.map": [0.5]}), "xquad_r")
    'map'
    """
    column = f"main_metric.{benchmark}"
    names = table[column].dropna().unique().tolist() if column in table else []
    if len(names) > 1:
        raise UserError(f"the runs name different main metrics of {benchmark} ({', '.join(names)}): do not mix them.")
    name = names[0] if names else MAIN_METRIC
    if not metrics.metric(name).higher_is_better:
        raise UserError(f"main_metric={name} of {benchmark}: it must be a metric that is better when higher.")
    return name


def cluster_name(table: pd.DataFrame, benchmark: str) -> str:
    """Return what the clusters of a benchmark's queries are, as its records name it; "query" where they name nothing.

    >>> cluster_name(pd.DataFrame({"clusters.xquad_r": ["article"]}), "xquad_r")
    'article'
    """
    column = f"clusters.{benchmark}"
    names = table[column].dropna().tolist() if column in table else []
    return str(names[0]) if names else "query"


def scales(table: pd.DataFrame, metric: str | None = None) -> list[tuple[str, str]]:
    """Return the (benchmark, setting) pairs that have a metric (default: the main one), in the order of the records.

    >>> table = pd.DataFrame({"metrics.b.mono.map": [0.5], "metrics.b.multi.map": [0.4], "metrics.b.multi.mrr": [0.6]})
    >>> scales(table), scales(table, "mrr")
    ([('b', 'mono'), ('b', 'multi')], [('b', 'multi')])
    """
    known = _scales(table)
    names = {benchmark: metric or main_metric(table, benchmark) for benchmark, _, _ in known}
    return [(benchmark, setting) for benchmark, setting, name in known if name == names[benchmark]]


def scale(runs: pd.DataFrame, accuracy: str, option: str) -> Scale:
    """Return the first scale that `accuracy`, [BENCHMARK.]SETTING.METRIC, can mean.

    Args:
        runs: table of runs or systems.
        accuracy: as the user typed it.
        option: key of the command, to be named in an error.

    Raises:
        UserError: no run has such a figure.

    >>> scale(pd.DataFrame({"metrics.b.multi.map": [0.4]}), "multi.map", "accuracy")
    Scale(benchmark='b', setting='multi', metric='map')
    """
    known = [".".join(scale) for scale in _scales(runs)]
    matches = [name for name in known if name == accuracy or name.endswith(f".{accuracy}")]
    if not matches:
        raise UserError(unknown(option, accuracy, known))
    return Scale(*matches[0].rsplit(".", 2))


def _scales(table: pd.DataFrame) -> list[Scale]:
    columns = [column.removeprefix("metrics.") for column in table if column.startswith("metrics.")]
    return [Scale(*column.rsplit(".", 2)) for column in columns]


def points(systems: pd.DataFrame) -> pd.DataFrame:
    """Return the points of all fronts: one row per (benchmark, setting, cost, system) that has accuracy and cost.

    Language bias is a cost too where there is a multilingual pool; profiles have no part in it. A cost of 0 or less
    (energy lost in the noise of the idle baseline) is left out: it has no place on a logarithmic axis.

    Args:
        systems: table of `systems`.

    Returns:
        POINT_COLUMNS: `value` in the cost's unit (costs.COSTS), `accuracy` in the benchmark's main metric; how the cost
        is drawn (draws.ERROR); `repeats_latency`: energy that is modelled as a constant times the time, so that its
        panel says what that of the latency says. `relative_error` is 0 for what is counted and NaN where a profile
        holds none: such a cost is the same in all draws. No row for systems without accuracy.

    >>> systems = pd.DataFrame({"system": ["small"], "metrics.b.multi.map": [0.4], "profile.serving_mib": [99.0],
    ...                         "profile.sources.serving_mib": "measured: VmHWM", QUALITY: ["passed"]})
    >>> others = [c for c in POINT_COLUMNS if c not in ("accuracy", "value", "source", "cost", "benchmark", "setting")]
    >>> systems = systems.assign(**{column: "…" for column in others if column not in systems})
    >>> points(systems)[["benchmark", "setting", "cost", "system", "value", "accuracy"]].to_dict("records")
    [{'benchmark': 'b', 'setting': 'multi', 'cost': 'serving_mib', 'system': 'small', 'value': 99.0, 'accuracy': 0.4}]
    """
    one_variant = systems["variant"].nunique() == 1
    costs = [axis for axis in AXES if axis.column in systems and not (axis.of_variant and one_variant)]
    frames = []
    for benchmark, setting in scales(systems):
        accuracy = systems[f"metrics.{benchmark}.{setting}.{main_metric(systems, benchmark)}"]
        bias = systems.get(f"metrics.{benchmark}.multi.{BIAS}", pd.Series(float("nan"), systems.index))
        axes = {axis.field: _cost_columns(systems, axis) for axis in costs}
        axes[BIAS] = {"value": bias, "source": "measured: mean over queries", "quality": PASSED, "relative_error": 0.0}
        axes[BIAS] |= {"rounds": np.nan, "error_key": "", "repeats_latency": False}
        for field, columns in axes.items():
            columns |= {"benchmark": benchmark, "setting": setting, "cost": field, "accuracy": accuracy, BIAS: bias}
            frame = systems.assign(**columns)[POINT_COLUMNS]
            frames.append(frame[frame["accuracy"].notna() & (frame["value"] > 0)])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=POINT_COLUMNS)


def _cost_columns(systems: pd.DataFrame, cost: Cost) -> dict[str, Any]:
    unknown = pd.Series(np.nan, systems.index)
    none = pd.Series(None, systems.index, dtype="str")
    source = systems[cost.source]
    key = systems.get(ENCODER_KEY, none).replace("", None).fillna(systems["system"])
    if cost.of_variant:  # measured for each inference variant, not for each encoder
        key = key + " " + systems["variant"]
    return {
        "value": pd.to_numeric(systems[cost.column]),
        "source": source,
        "quality": systems.get(QUALITY, none).fillna(NOT_MEASURED),
        "relative_error": 0.0 if cost.exact else pd.to_numeric(systems.get(cost.error, unknown)),
        "rounds": systems.get("profile.rounds", unknown),
        "error_key": key + " " + cost.field,
        "repeats_latency": source.astype(str).str.startswith(REPEATS_LATENCY),
    }


def with_cost_errors(systems: pd.DataFrame, cost: Cost) -> pd.DataFrame:
    """Return the `value` of a cost and how it is drawn (draws.ERROR), by system.

    >>> systems = pd.DataFrame({"system": ["small"], "variant": "as trained", "profile.serving_mib": 99.0,
    ...                         "profile.sources.serving_mib": "measured: VmHWM", "profile.rounds": 3,
    ...                         "profile.relative_errors.serving_mib": 0.01, ENCODER_KEY: "0a1b"})
    >>> from pipeline.analysis.costs import cost
    >>> table = with_cost_errors(systems, cost("serving_mib"))
    >>> table[["value", "relative_error", "rounds", "error_key"]].to_dict("records")
    [{'value': 99.0, 'relative_error': 0.01, 'rounds': 3, 'error_key': '0a1b serving_mib'}]
    """
    return systems.assign(**_cost_columns(systems, cost))
