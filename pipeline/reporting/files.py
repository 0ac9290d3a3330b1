"""What a sweep's folder holds: the tables as they become csv files, and README.md, which explains every file."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.analysis.costs import COSTS
from pipeline.analysis.tables import BIAS, QUALITY, main_metric, scales

LABELS = ["name", "model", "strategy", "seed", "variant", "data", "layers"]
EXPLAINED = {  # by the stem of the file
    "report": "Start here: the verdict, interactive Pareto fronts, language matrices, quality checks. Works offline.",
    "cards": "The three systems worth knowing: most accurate, best value, cheapest worth having.",
    "front": "One Pareto front for papers and slides; `panel=` of pipeline.report chooses the setting and the cost.",
    "kinds": "The same fronts with a colour per kind of system: full, truncated, distilled, static, lexical, fused, …",
    "pareto": "Pareto fronts: each cost against accuracy, one row or mark per system, with 95 % intervals.",
    "accuracies": "Accuracy of each system in each setting, with 95 % intervals.",
    "runs": "One row per run: main metric of each setting, language bias, costs.",
    "metrics": "All metrics of all runs, one row per run, benchmark, setting and metric.",
    "sources": "All profiled figures of all runs: value, whether measured or modelled, and relative standard error.",
    "systems": "Means over the seeds of each system, all metrics and figures; as tex a table for papers (booktabs).",
    "noise": "How far figures that must be equal differ between profiles: the noise of the measurement.",
    "tests": "Paired tests between the systems of each model, with Holm's correction.",
    "winners": "The most accurate system of each setting, with an interval that allows for its having been chosen.",
    "hypervolume": "The area under each strategy's front.",
    "exchange": "How many times the cost another strategy needs to reach the same accuracy.",
    "savings": "How much smaller the encoder can be with another strategy at equal accuracy.",
    "slopes": "How accuracy changes when the cost doubles, by strategy.",
    "fits": "Lines through accuracy over the logarithm of the cost.",
    "trades": "What each inference variant gains and loses against the encoder as trained.",
    "load": "Latency under load against queries per second, and the capacity within the limit on p99 (pipeline.load).",
    "pool_curve": "Accuracy over the size of the pool, for benchmarks whose pools are samples.",
    "search": "The trials of the search.",
    "published": "Published accuracy against the cost measured here.",
    ".store": "Kept for the program: the plan of the sweep, how each run ended, the config of the last command.",
}


def written(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables as they become csv files: `runs` in three of few columns each, none without rows.

    Args:
        tables: what `analysis.analyse` returns.

    Returns:
        `runs` with LABELS, the main metric and the language bias of each benchmark, the costs, quality and machine;
        `metrics` and `sources` with one row per figure of a run; the other tables as they are.

    >>> runs = pd.DataFrame({"name": ["a"], "model": ["m"], "metrics.b.multi.map": [0.5], "metrics.b.multi.mrr": [0.6],
    ...                      "profile.serving_mib": [99.0], "profile.sources.serving_mib": ["measured: VmHWM"]})
    >>> tables = written({"runs": runs, "tests": pd.DataFrame()})
    >>> {name: table.columns.tolist() for name, table in tables.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'runs': ['name', 'model', 'metrics.b.multi.map', 'profile.serving_mib'],
     'metrics': ['run', 'benchmark', 'setting', 'metric', 'value'],
     'sources': ['run', 'figure', 'value', 'source', 'relative_error']}
    """
    runs = tables["runs"]
    accuracies = [f"metrics.{name}.{setting}.{main_metric(runs, name)}" for name, setting in scales(runs)]
    biases = [f"metrics.{name}.multi.{BIAS}" for name in dict.fromkeys(name for name, _ in scales(runs))]
    costs = [cost.column for cost in COSTS]
    columns = [*LABELS, *accuracies, *biases, *costs, QUALITY, "machine", "time", "notes"]
    first = {
        "runs": runs[[column for column in columns if column in runs]],
        "metrics": metrics(runs),
        "sources": sources(runs),
    }
    return {name: table for name, table in {**first, **tables, **first}.items() if not table.empty}


def metrics(runs: pd.DataFrame) -> pd.DataFrame:
    """Return all metrics of all runs, one row each.

    >>> metrics(pd.DataFrame({"name": ["a"], "metrics.b.multi.map": [0.5]})).to_dict("records")
    [{'run': 'a', 'benchmark': 'b', 'setting': 'multi', 'metric': 'map', 'value': 0.5}]
    """
    long = figures(runs, "metrics.", "value")
    parts = long["figure"].str.rsplit(".", n=2, expand=True).reindex(columns=range(3))
    named = {name: parts[place] for place, name in enumerate(("benchmark", "setting", "metric"))}
    return long.assign(**named)[["run", *named, "value"]].dropna(subset="value")


def sources(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the figures of the profiles of all runs, and how each came about.

    >>> runs = pd.DataFrame({"name": ["a"], "profile.serving_mib": [99.0],
    ...                      "profile.sources.serving_mib": ["measured: VmHWM"]})
    >>> sources(runs)[["run", "figure", "value", "source"]].to_dict("records")
    [{'run': 'a', 'figure': 'serving_mib', 'value': 99.0, 'source': 'measured: VmHWM'}]
    """
    numbers = runs.select_dtypes("number").columns.union(["name"])
    value = figures(runs[numbers], "profile.", "value")
    value = value[~value["figure"].str.contains(".", regex=False)]
    source = figures(runs, "profile.sources.", "source")
    error = figures(runs, "profile.relative_errors.", "relative_error")
    return value.merge(source, how="outer").merge(error, how="outer").dropna(subset=["value", "source"], how="all")


def figures(runs: pd.DataFrame, prefix: str, name: str) -> pd.DataFrame:
    """Return the columns that begin with `prefix` as rows: run, figure (the rest of the column's name), `name`.

    >>> figures(pd.DataFrame({"name": ["a"], "metrics.x": [1]}), "metrics.", "value").to_dict("records")
    [{'run': 'a', 'figure': 'x', 'value': 1}]
    """
    columns = [column for column in runs if column.startswith(prefix)]
    if not columns:
        return pd.DataFrame(columns=["run", "figure", name])
    long = runs.melt("name", columns, "figure", name).rename(columns={"name": "run"})
    return long.assign(figure=long["figure"].astype(str).str.removeprefix(prefix))


def readme(folder: Path) -> str:
    """Return the text of README.md: a line for each file of a sweep's folder that EXPLAINED knows."""
    lines = [f"# Results of the sweep {folder.name}", ""]
    names = [path.name for path in folder.iterdir()]
    for stem, explanation in EXPLAINED.items():
        present = sorted(name for name in names if name == stem or name.startswith((f"{stem}.", f"{stem}-")))
        if present:
            lines.append(f"- {', '.join(f'`{name}`' for name in present)}: {explanation}")
    lines += ["", "Each run has its own folder in `../runs`: its config, metrics, profile and scores per query.", ""]
    return "\n".join(lines)
