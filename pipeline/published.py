"""`python -m pipeline.published SWEEP table=miracl_dev.csv`: published accuracy against the cost measured here.

An encoder's cost does not depend on its weights' values: a sweep of `model.weights=random` measures what architectures
cost, and the table says what public encoders of these architectures were published to score. Reads tables only; writes
published.csv and published.png, .svg and .pdf to the sweep's folder.

The table: a row a model and language, with the columns model, language, ndcg_at_10, recall_at_100, layers, hidden,
heads, intermediate, vocab.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from pipeline.analysis import pareto, tables
from pipeline.launch.commands import arguments, refusing
from pipeline.reporting import figure as report
from pipeline.store.files import write_atomically
from pipeline.store.results import ResultStore
from pipeline.values import Record, UserError

USAGE = "usage: python -m pipeline.published SWEEP table=FILE.csv [results_dir=results]; SWEEP has random weights."
SCORES = ["ndcg_at_10", "recall_at_100"]
# A column of the table, and the key of a transformers config that says the same.
ARCHITECTURE = {
    "layers": "num_hidden_layers", "hidden": "hidden_size", "heads": "num_attention_heads",
    "intermediate": "intermediate_size", "vocab": "vocab_size",
}  # fmt: skip
MARK = "published accuracy, measured cost"


def read(path: Path) -> pd.DataFrame:
    """One row a model: scores are means over languages, of which all models must have the same."""
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"table={path} cannot be read: {error}.") from error
    if missing := {"model", "language", *SCORES, *ARCHITECTURE} - set(rows):
        raise UserError(f"table={path} lacks the column {sorted(missing)[0]}.")
    languages = rows.groupby("model")["language"].agg(lambda some: " ".join(sorted(some)))
    if languages.nunique() > 1:
        raise UserError(f"table={path}: its models were scored on different languages: do not compare them.")
    found = rows.groupby(["model", *ARCHITECTURE], as_index=False)[SCORES].mean()
    return found.assign(languages=len(languages.iloc[0].split()))


def architecture(record: Record) -> tuple[int, ...]:
    """The table's columns, of a run; the layers that were built count, not those of the whole model."""
    built = record.config["model"]["architecture"] | {"num_hidden_layers": record.provenance["layers"]}
    return tuple(int(built.get(key, 0)) for key in ARCHITECTURE.values())


def points(scores: pd.DataFrame, records: list[Record]) -> pd.DataFrame:
    """One row a (cost, published model); UserError where no run has the architecture of any."""
    runs = tables.rows(records)
    runs[list(ARCHITECTURE)] = [architecture(record) for record in records]
    joined = scores.merge(runs, on=list(ARCHITECTURE), suffixes=("", "_measured"))
    joined = joined.drop_duplicates("model")
    if joined.empty:
        raise UserError("none of the sweep's runs has the architecture of a model in the table.")
    frames = []
    for cost in tables.COSTS:
        if cost.drawn and not cost.of_serving and cost.column in joined and joined[cost.column].notna().any():
            frame = joined[["model", "model_measured", *ARCHITECTURE, "languages", *SCORES, "machine"]].assign(
                cost=cost.field, value=joined[cost.column], source=joined[cost.source],
                grade_passed=joined[tables.GRADE], mark=MARK,
            )  # fmt: skip
            frame["on_front"] = pareto.non_dominated(frame["value"].to_numpy(), frame[SCORES[0]].to_numpy())
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def draw(found: pd.DataFrame, sweep: str) -> plt.Figure:
    """A panel a cost; the front as a step line, and a letter a model, since names would cover each other."""
    costs = [cost for cost in tables.COSTS if cost.field in set(found["cost"])]
    models = found.drop_duplicates("model").sort_values(SCORES[0], ascending=False)["model"]
    looks = report.looks_of(models)
    figure, axes = plt.subplots(
        1, len(costs), figsize=(1.2 + 2.9 * len(costs), 4.6), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, cost in zip(axes[0], costs, strict=True):
        some = found[found["cost"] == cost.field]
        front = some[some["on_front"]].sort_values("value")
        report.draw_front(panel, front["value"], front[SCORES[0]])
        for point in some.to_dict("records"):
            colour, marker = looks[point["model"]]
            fill = colour if point["grade_passed"] else "white"
            panel.plot(point["value"], point[SCORES[0]], marker, ms=7, color=colour, mfc=fill, zorder=3)
        report.draw_cost_axis(panel, some, cost)
    axes[0][0].set_ylabel(f"published nDCG@10, mean of {found['languages'].iloc[0]} languages")
    machines = ", ".join(found["machine"].unique())
    doubt = "" if found["grade_passed"].all() else "; hollow: profile in doubt"
    title = f"{sweep}: {MARK} on {machines}; random weights of the same architectures{doubt}"
    figure.suptitle(title, fontsize=10)
    handles = [plt.Line2D([], [], linestyle="", color=c, marker=m, label=name) for name, (c, m) in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def main() -> None:
    with refusing():
        sweep, options = arguments(USAGE, "table", "results_dir")
        if "table" not in options:
            raise UserError(USAGE)
        store = ResultStore(options.get("results_dir", "results"))
        records = [cell.record for cell in store.cells(sweep) if cell.record and cell.record.profile]
        if not records:
            raise UserError(f"sweep {sweep} in {store.root} has no finished run with a profile.")
        found = points(read(Path(options["table"])), records)
    folder = store.sweep_dir(sweep)
    write_atomically(folder / "published.csv", lambda path: found.to_csv(path, index=False))
    figure = report.save(draw(found, sweep), folder / "published")
    shown = found.pivot(index=["model", SCORES[0]], columns="cost", values="value").reset_index()
    print(f"{MARK}\n{shown.sort_values(SCORES[0]).to_string(index=False, float_format='{:.4g}'.format)}")
    print(folder / "published.csv", figure, sep="\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
