"""Published scores, from mteb's results repository or from tables of it: one row per model and subset.

The repository (github.com/embeddings-benchmark/results) holds results/<model>/<revision>/<task>.json and
model_meta.json. Of a result only scores and versions are read: mteb's times and CO2 say nothing of the hardware.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.values import UserError, conforming

SCORE = "ndcg_at_10"  # the main metric of all these tasks
ROW = ["model", "dataset_revision", "subset", SCORE]  # columns of a table of scores
MODEL = ["model", "n_parameters", "n_embedding_parameters", "trained_on_miracl"]
FACTS = ["n_parameters", "n_embedding_parameters", "license", "open_weights", "release_date"]  # of model_meta.json
REFUSED = ["benchmark", "what", "reason"]
BROKEN = 0.1  # a direction below this share of its reverse, in every model of a dataset revision, is broken
CHANCE = 0.02  # a model that scores less on the reverse, such as a random encoder, says nothing of either direction
REVISION = 7  # characters of a dataset revision that are kept


class Benchmark(NamedTuple):
    """A task of mteb, and the split whose scores are published."""

    name: str
    task: str
    split: str
    label: str


BENCHMARKS = (
    Benchmark("miracl_hard_negatives", "MIRACLRetrievalHardNegatives", "dev", "MIRACL, hard negatives"),
    Benchmark("miracl", "MIRACLRetrieval", "dev", "MIRACL, full pools"),
    Benchmark("mlqa", "MLQARetrieval", "test", "MLQA"),
    Benchmark("belebele", "BelebeleRetrieval", "test", "Belebele"),
    Benchmark("xquad", "XQuADRetrieval", "validation", "XQuAD"),
)


@dataclass
class _Entry:
    """A score of one subset."""

    hf_subset: str
    ndcg_at_10: float


@dataclass
class _Result:
    """<task>.json, as far as it is read."""

    dataset_revision: str
    mteb_version: str
    scores: dict[str, list[Any]]


@dataclass
class _Meta:
    """model_meta.json, as far as it is read."""

    n_parameters: int | None = None
    n_embedding_parameters: int | None = None
    license: str | None = None
    open_weights: bool | None = None
    release_date: str | None = None
    training_datasets: list[Any] | dict[str, Any] | None = None


@dataclass(frozen=True)
class Published:
    """What was published, ready to compare.

    `scores`: one row per benchmark, model and subset, with the columns ROW and revision; all models of a benchmark have
    the same subsets. `models`: one row per model, with FACTS and `trained_on_miracl` (True, False, or None: it does not
    say). `refused`: what was left out, with the columns REFUSED.
    """

    scores: pd.DataFrame
    models: pd.DataFrame
    refused: pd.DataFrame


def read(folder: Path) -> Published:
    """Read a clone of mteb's results repository, or a folder of tables: <benchmark>.csv or .parquet, and models.csv.

    Raises:
        UserError: the folder holds neither, or a file of it cannot be read.
    """
    if (folder / "results").is_dir():
        rows, models = _repository(folder), repository_models(folder)
    else:
        rows, models = _tables(folder), _models(folder / "models.csv")
    if rows.empty:
        raise UserError(f"scores={folder}: the files there hold no score.")
    rows = one_revision(rows)
    pairs = broken(rows)
    directions = set(zip(pairs["benchmark"], pairs["subset"], strict=True))
    sound = [direction not in directions for direction in zip(rows["benchmark"], rows["subset"], strict=True)]
    rows, incomplete = complete(rows[sound])
    refused = pd.DataFrame([*pairs.to_dict("records"), *incomplete.to_dict("records")], columns=REFUSED)
    return Published(rows, models, refused)


def _repository(folder: Path) -> pd.DataFrame:
    results = [row for benchmark in BENCHMARKS for row in _results(folder, benchmark)]
    if not results:
        tasks = ", ".join(benchmark.task for benchmark in BENCHMARKS)
        raise UserError(f"scores={folder}: no result of {tasks} is in results/<model>/<revision>/<task>.json.")
    return pd.DataFrame(results)


def _results(folder: Path, benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    """Yield one row per subset of every result of a task, whatever the model and revision."""
    for path in sorted(folder.glob(f"results/*/*/{benchmark.task}.json")):
        result = conforming(_Result, _json(path), str(path))
        for entry in conforming(list[_Entry], result.scores.get(benchmark.split, []), str(path)):
            check_score(entry.ndcg_at_10, f"{path}: {entry.hf_subset:.80}")
            yield {
                "benchmark": benchmark.name,
                "model": path.parts[-3].replace("__", "/", 1),
                "revision": path.parts[-2],
                "subset": entry.hf_subset,
                SCORE: entry.ndcg_at_10,
                "dataset_revision": result.dataset_revision[:REVISION],
                "mteb_version": result.mteb_version,
            }


def check_score(score: float, place: str) -> None:
    """Raise UserError unless a score lies between 0 and 1."""
    if not 0 <= score <= 1:
        raise UserError(f"{place}: {SCORE}={score}: it must lie in [0, 1].")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error


def repository_models(folder: Path) -> pd.DataFrame:
    """Return FACTS and `trained_on_miracl` of each model of a results repository: of its fullest model_meta.json."""
    best: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("results/*/*/model_meta.json")):
        meta, name = conforming(_Meta, _json(path), str(path)), path.parts[-3].replace("__", "/", 1)
        data = meta.training_datasets
        says = None if data is None else any("MIRACL" in str(dataset) for dataset in data)
        facts = {"model": name} | {key: getattr(meta, key) for key in FACTS} | {"trained_on_miracl": says}
        known = sum(value is not None for value in facts.values())
        if name not in best or known > sum(value is not None for value in best[name].values()):
            best[name] = facts
    return pd.DataFrame(best.values(), columns=["model", *FACTS, "trained_on_miracl"])


def _tables(folder: Path) -> pd.DataFrame:
    frames = []
    for benchmark in BENCHMARKS:
        paths = [path for suffix in (".csv", ".parquet") if (path := folder / f"{benchmark.name}{suffix}").is_file()]
        if paths:
            table = _table(paths[0], ROW)[ROW]  # of one revision of each model
            for row, score in zip(count(1), table[SCORE], strict=False):
                check_score(score, f"{paths[0]}, row {row}")
            frames.append(table.assign(benchmark=benchmark.name, revision="", mteb_version=""))
    if not frames:
        raise UserError(
            f"scores={folder} is neither a clone of github.com/embeddings-benchmark/results, with a folder results/, "
            f"nor a folder of tables such as {BENCHMARKS[0].name}.csv."
        )
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(dataset_revision=rows["dataset_revision"].astype(str).str[:REVISION])


def _models(path: Path) -> pd.DataFrame:
    """Return the table of models, each of which it holds once."""
    table = _table(path, MODEL)
    if (again := table["model"][table["model"].duplicated()]).size:
        raise UserError(f"{path}, row {again.index[0] + 1} repeats the model {again.iloc[0]:.80}.")
    return table


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a table whose `columns` hold numbers (SCORE, n_…), true or false (trained_on_miracl), or a text."""
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    for column in columns:
        if column not in table:
            raise UserError(f"{path} lacks the column {column}.")
        if column == "trained_on_miracl":
            continue
        numbers = column == SCORE or column.startswith("n_")
        values = pd.to_numeric(table[column], errors="coerce") if numbers else table[column].map(_text)
        wrong = values.isna() & (table[column].notna() | (not column.startswith("n_")))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            says = "a number" if numbers else "a text"
            raise UserError(f"{path}, row {row + 1}: {column} must be {says}, got {table[column].iloc[row]!r:.80}.")
        table[column] = values
    return table


def _text(value: object) -> str | None:
    """Return a text, or a number that pandas has made of one; None for anything else."""
    return str(value) if isinstance(value, str | int) else None


def one_revision(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep one revision of each model and benchmark: the most complete, then the newest mteb, then the last name.

    >>> rows = pd.DataFrame({"benchmark": "b", "model": "m", "revision": ["old", "new", "new", "next", "next"],
    ...                      "mteb_version": ["2.1.0", "1.9.0", "1.9.0", "1.10.0", "1.10.0"], "subset": list("aabab")})
    >>> one_revision(rows)[["revision", "subset"]].to_numpy().tolist()
    [['next', 'a'], ['next', 'b']]
    """
    of_model = ["benchmark", "model"]
    revisions = rows.groupby([*of_model, "revision"]).agg(subsets=("subset", "nunique"), mteb=("mteb_version", "first"))
    revisions["mteb"] = [re.sub(r"\d+", lambda part: part[0].zfill(6), version) for version in revisions["mteb"]]
    best = revisions.reset_index().sort_values(["subsets", "mteb", "revision"]).drop_duplicates(of_model, keep="last")
    return rows.merge(best[[*of_model, "revision"]]).drop_duplicates([*of_model, "subset"])


def broken(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the directions of language pairs whose data must be broken.

    A direction is broken if it scores under BROKEN of its reverse in every model of a dataset revision whose reverse
    scores above CHANCE; ara-deu in revision 5bef8b6 of MLQA does.

    Returns:
        One row per broken direction: benchmark, dataset_revision, subset, what, reason.

    >>> rows = pd.DataFrame({"benchmark": "mlqa", "dataset_revision": "5bef8b6", "model": list("aabb"),
    ...                      "subset": ["ara-deu", "deu-ara"] * 2, "ndcg_at_10": [0.004, 0.6, 0.002, 0.3]})
    >>> broken(rows)[["dataset_revision", "subset"]].to_numpy().tolist()
    [['5bef8b6', 'ara-deu']]
    """
    pairs = rows[rows["subset"].str.contains("-")]
    if pairs.empty:
        return pd.DataFrame(columns=["dataset_revision", "subset", *REFUSED])
    reverse = pairs.assign(subset=[reversed_pair(subset) for subset in pairs["subset"]])
    on = ["benchmark", "dataset_revision", "model", "subset"]
    both = pairs.merge(reverse[[*on, SCORE]], on=on, suffixes=("", "_reverse"))
    both = both[both[f"{SCORE}_reverse"] > CHANCE]
    directions = []
    for (benchmark, revision, subset), group in both.groupby(["benchmark", "dataset_revision", "subset"]):
        if (group[SCORE] < BROKEN * group[f"{SCORE}_reverse"]).all():
            reason = f"broken: below a tenth of {reversed_pair(subset)} in each of {len(group)} models"
            row = {"benchmark": benchmark, "dataset_revision": revision, "subset": subset}
            row["what"] = f"{subset} of dataset revision {revision}"
            directions.append(row | {"reason": f"{reason}; left out of all models"})
    return pd.DataFrame(directions, columns=["dataset_revision", "subset", *REFUSED])


def reversed_pair(subset: str) -> str:
    """Return the other direction of a language pair.

    >>> reversed_pair("eng_Latn-deu_Latn")
    'deu_Latn-eng_Latn'
    """
    return "-".join(reversed(subset.split("-")))


def complete(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the models that have every subset that most models of the benchmark have, and those subsets.

    Returns:
        The rows of complete models, and one row per refused model: benchmark, what, reason.

    >>> rows = pd.DataFrame({"benchmark": "b", "model": list("aabbcdd"), "subset": list("xyxyxxy")})
    >>> kept, refused = complete(rows)
    >>> sorted(set(kept["model"])), refused[["what", "reason"]].to_numpy().tolist()
    (['a', 'b', 'd'], [['c', 'incomplete: it lacks 1 of 2 subsets, y for one']])
    """
    kept, refused = [], []
    for benchmark, group in rows.groupby("benchmark", sort=False):
        having = group.groupby("subset")["model"].nunique()
        required = set(having[having > group["model"].nunique() / 2].index)
        whole = group[group["subset"].isin(required)]
        missing = {model: sorted(required - set(subsets)) for model, subsets in group.groupby("model")["subset"]}
        for model, lacking in missing.items():
            if lacking:
                reason = f"incomplete: it lacks {len(lacking)} of {len(required)} subsets, {lacking[0]} for one"
                refused.append({"benchmark": benchmark, "what": model, "reason": reason})
        kept.append(whole[[not missing[model] for model in whole["model"]]])
    return pd.concat(kept, ignore_index=True), pd.DataFrame(refused, columns=REFUSED)
