"""Published accuracy of public encoders beside the cost of their architectures, measured here.

An encoder's cost does not depend on its weights' values: a sweep of `model.weights=random` measures what architectures
cost, and a table says what public encoders of these architectures were published to score.
"""

from pathlib import Path

import pandas as pd

from pipeline.analysis import pareto, tables
from pipeline.analysis.costs import AXES
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import UserError

SCORES = ["ndcg_at_10", "recall_at_100"]
# A column of the table, and the key of a transformers config that says the same.
ARCHITECTURE = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
}
MARK = "published accuracy, measured cost"


def read(path: Path) -> pd.DataFrame:
    """Read a table of published scores.

    Args:
        path: csv file, one row per model and language, with the columns model, language, SCORES and ARCHITECTURE.

    Returns:
        One row per model: its architecture, SCORES as means over languages, and `languages`, their number.

    Raises:
        UserError: the file cannot be read or lacks a column, or its models were scored on different languages.

    >>> import tempfile
    >>> text = "model,language,ndcg_at_10,recall_at_100,layers,hidden,heads,intermediate,vocab\\n"
    >>> text += "a,ar,.5,.8,12,384,12,1536,250037\\na,en,.3,.6,12,384,12,1536,250037\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "miracl_dev.csv")
    ...     _ = path.write_text(text)
    ...     read(path)[["model", "layers", "ndcg_at_10", "languages"]].to_dict("records")
    [{'model': 'a', 'layers': 12, 'ndcg_at_10': 0.4, 'languages': 2}]
    """
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"table={path} cannot be read: {error}.") from error
    if missing := {"model", "language", *SCORES, *ARCHITECTURE} - set(rows):
        raise UserError(f"table={path} lacks the column {sorted(missing)[0]}.")
    languages = rows.groupby("model")["language"].agg(lambda names: " ".join(sorted(names)))
    if languages.nunique() > 1:
        raise UserError(f"table={path}: its models were scored on different languages, so they cannot be compared.")
    scores = rows.groupby(["model", *ARCHITECTURE], as_index=False)[SCORES].mean()
    return scores.assign(languages=len(languages.iloc[0].split()))


def profiled_runs(store: ResultStore, sweep: str) -> pd.DataFrame:
    """Return the table of a sweep's runs that have a profile (tables.rows), with the columns ARCHITECTURE.

    Raises:
        UserError: the sweep does not exist, or no run of it has a profile.

    >>> from types import SimpleNamespace
    >>> profiled_runs(SimpleNamespace(root="results", runs=lambda sweep: []), "sizes")
    Traceback (most recent call last):
    pipeline.values.UserError: sweep sizes in results has no finished run with a profile.
    """
    records = [run.record for run in store.runs(sweep) if run.record and run.record.profile]
    if not records:
        raise UserError(f"sweep {sweep} in {store.root} has no finished run with a profile.")
    runs = tables.rows(records)
    runs[list(ARCHITECTURE)] = [_architecture(record) for record in records]
    return runs


def _architecture(record: Record) -> tuple[int, ...]:
    """Return the values of ARCHITECTURE; the layers that were built count, not those of the whole model."""
    config = record.config["model"].get("architecture") or {}
    built = dict(config) | {"num_hidden_layers": record.provenance["layers"]}
    return tuple(int(built.get(key, 0)) for key in ARCHITECTURE.values())


def points(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Join published scores with the measured costs of the same architecture.

    Args:
        scores: table of `read`.
        runs: table of `profiled_runs`.

    Returns:
        One row per cost that pareto.png shows and published model: scores, `model_measured`, `cost`, `value` in the
        cost's unit, `source`, `quality`, `machine`, and whether it is `on_front` with nDCG@10 as accuracy.

    Raises:
        UserError: no run has the architecture of a published model.

    >>> size = {"layers": 12, "hidden": 384, "heads": 12, "intermediate": 1536, "vocab": 250037}
    >>> scores = pd.DataFrame([{"model": "a", "languages": 2, "ndcg_at_10": 0.4, "recall_at_100": 0.7} | size])
    >>> cost = {"profile.serving_mib": 500.0, "profile.sources.serving_mib": "measured: VmHWM"}
    >>> runs = pd.DataFrame([{"model": "small", "machine": "a laptop", tables.QUALITY: "passed"} | size | cost])
    >>> points(scores, runs)[["model", "model_measured", "cost", "value", "ndcg_at_10"]].to_dict("records")
    [{'model': 'a', 'model_measured': 'small', 'cost': 'serving_mib', 'value': 500.0, 'ndcg_at_10': 0.4}]
    """
    joined = scores.merge(runs, on=list(ARCHITECTURE), suffixes=("", "_measured")).drop_duplicates("model")
    if joined.empty:
        raise UserError("none of the sweep's runs has the architecture of a model in the table.")
    frames = []
    for cost in AXES:
        if cost.drawn and not cost.of_variant and cost.column in joined and joined[cost.column].notna().any():
            frame = joined[["model", "model_measured", *ARCHITECTURE, "languages", *SCORES, "machine"]].assign(
                cost=cost.field,
                value=joined[cost.column],
                source=joined[cost.source],
                quality=joined[tables.QUALITY].fillna(tables.NOT_MEASURED),
                mark=MARK,
            )
            frame["on_front"] = pareto.non_dominated(frame["value"].to_numpy(), frame[SCORES[0]].to_numpy())
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)
