r"""The systems of a sweep as a LaTeX table, to be \input in a paper. It needs the package booktabs."""

import pandas as pd

from pipeline.analysis import verdict
from pipeline.analysis.tables import cluster_name, main_metric, scales
from pipeline.reporting.figure import SETTINGS, over
from pipeline.reporting.html.show import amount
from pipeline.reporting.looks import strategy_name
from pipeline.retrieval.metrics import metric

ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in "&%$#_{}"} | {"~": r"\textasciitilde{}"})


def table(systems: pd.DataFrame, points: pd.DataFrame, benchmark: str, sweep: str) -> str:
    """Return the accuracies of all systems on one benchmark, with intervals, and their headline costs.

    Args:
        systems: table of `tables.systems`.
        points: table of `fronts.mark`, which holds the intervals; may be empty.
        benchmark: one that the systems have.
        sweep: its name, for caption and label.
    """
    main = metric(main_metric(systems, benchmark))
    settings = [setting for setting in SETTINGS if (benchmark, setting) in scales(systems)]
    costs = verdict.headline_costs(systems)
    repeated = systems["model"].duplicated()  # rows are sorted by model
    columns = {
        "model": systems["model"].map(escaped).mask(repeated, ""),
        "strategy": systems["strategy"].map(strategy_name).map(escaped),
    }
    if systems["variant"].nunique() > 1:
        columns["variant"] = systems["variant"].map(escaped)
    for setting in settings:
        of_setting = points[(points["benchmark"] == benchmark) & (points["setting"] == setting)]
        columns[setting] = accuracies(systems, f"metrics.{benchmark}.{setting}.{main.name}", of_setting)
    columns |= {escaped(cost.label): systems[cost.column].map(amount) for cost in costs}
    labels = len(columns) - len(settings) - len(costs)
    caption = f"{main.label} on {benchmark}; the best of each model in bold"
    if not points.empty:
        covers = over(max(points["covers"], key=len), cluster_name(systems, benchmark))
        caption += f"; in brackets: 95 % intervals over {covers}"
    machines = ", ".join(systems["machine"].dropna().unique()) if costs else ""
    caption += f"; costs on {machines}." if machines else "."
    return pd.DataFrame(columns).to_latex(
        index=False,
        escape=False,
        column_format="l" * labels + "c" * len(settings) + "r" * len(costs),
        caption=escaped(caption),
        label=f"tab:{sweep}-{benchmark}",
    )


def accuracies(systems: pd.DataFrame, column: str, points: pd.DataFrame) -> pd.Series:
    """Return the accuracies in one setting as text: the best of each model in bold, with the interval that points have.

    >>> systems = pd.DataFrame({"system": ["x", "y"], "model": "m", "metrics.b.multi.map": [0.5, 0.25]})
    >>> points = pd.DataFrame({"system": ["y"], "accuracy_low": [0.2], "accuracy_high": [0.3]})
    >>> accuracies(systems, "metrics.b.multi.map", points).tolist()
    ['\\\\textbf{0.500}', '0.250 {\\\\scriptsize [0.200, 0.300]}']
    >>> accuracies(systems, "metrics.b.multi.map", points[:0]).tolist()
    ['\\\\textbf{0.500}', '0.250']
    """
    values = systems[column]
    text = values.map("{:.3f}".format, na_action="ignore")
    best = values == values.groupby(systems["model"]).transform("max")
    text = text.where(~best, "\\textbf{" + text + "}")
    intervals = {
        of.system: f" {{\\scriptsize [{of.accuracy_low:.3f}, {of.accuracy_high:.3f}]}}"
        for of in points.drop_duplicates("system").itertuples()
    }
    return (text + systems["system"].map(lambda system: intervals.get(system, ""))).fillna("--")


def escaped(text: str) -> str:
    r"""Return a text as LaTeX prints it.

    >>> escaped("xquad_r, 95 %")
    'xquad\\_r, 95 \\%'
    """
    return text.translate(ESCAPES)
