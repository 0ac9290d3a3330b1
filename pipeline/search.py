"""`python -m pipeline.search …`: NSGA-II looks for accurate and cheap cells where a sweep would be too large.

A trial is a cell as `run` makes it; Optuna keeps the trials in <results_dir>/<sweep>/search.db. What a trial tries
follows from the search's seed, the trial's number and the trials before it, so a search that was killed goes on as if
it had not been. conf/search.yaml is its root.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast, get_args

import hydra
import numpy as np
import pandas as pd
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig, OmegaConf

from pipeline import report as aggregate
from pipeline import run
from pipeline.analysis import money, pareto, tables
from pipeline.launch import sweep
from pipeline.launch.commands import library, refusing, resumable
from pipeline.store.files import write_atomically
from pipeline.store.results import ResultStore
from pipeline.values import Record, Setting, UserError

optuna = library("optuna", extra="search")
sqlalchemy = library("sqlalchemy", extra="search")  # which Optuna brings

Space = Mapping[str, Any]  # a key of the config -> Optuna's distribution of its values
GROWS = ("sweep", "results_dir", "trials")  # settings that may change while a search goes on


@dataclass
class Search:
    """The typed root of conf/search.yaml."""

    sweep: str
    results_dir: str
    maximise: list[str]
    minimise: list[str]
    trials: int
    population: int
    seed: int
    cell: list[str]


ConfigStore.instance().store(name="search_schema", node=Search)


def checked(wanted: Search) -> tuple[list[str], Space]:
    """The overrides that all trials share, and what is searched; UserError for the first impossible setting."""
    costs = [cost.field for cost in tables.COSTS]
    for key in ("maximise", "minimise"):
        if not getattr(wanted, key):
            raise UserError(f"{key} is empty: a front is between an accuracy and a cost.")
    for name in wanted.minimise:
        if name not in costs:
            raise UserError(f"minimise {name}: it must be among {', '.join(costs)}.")
    for key, least in (("trials", 1), ("population", 2), ("seed", 0)):
        if (value := getattr(wanted, key)) < least:
            raise UserError(f"{key}={value}: it must be at least {least}.")
    shared, space = split(wanted.cell)
    for corner in corners(space):
        compose(wanted, shared, corner)
    return shared, space


def split(cell: list[str]) -> tuple[list[str], Space]:
    """The overrides with one value, and of each other what it may be."""
    shared, space = [], {}
    for override in OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(cell):
        values, of = override.value(), optuna.distributions
        try:
            if isinstance(values, IntervalSweep):
                kind = of.IntDistribution if isinstance(values.start, int) else of.FloatDistribution
                space[override.key_or_group] = kind(values.start, values.end, log="log" in values.tags)
            elif override.is_sweep_override():
                space[override.key_or_group] = of.CategoricalDistribution(list(override.sweep_string_iterator()))
            else:
                shared.append(str(override.input_line))
        except ValueError as error:  # an empty interval
            raise UserError(f"cell {override.input_line}: {error}") from error
    if not space:
        raise UserError("cell: no override has several values or an interval: there is nothing to search.")
    return shared, space


def corners(space: Space) -> list[dict[str, Any]]:
    """Points that hold among them every choice, and both ends of every interval."""
    values = {key: getattr(of, "choices", None) or (of.low, of.high) for key, of in space.items()}
    most = max(len(its) for its in values.values())
    return [{key: its[number % len(its)] for key, its in values.items()} for number in range(most)]


def overrides(params: Mapping[str, Any]) -> list[str]:
    """A trial's on the cell; 3 digits of a number are enough, and can be read on a plot."""
    return [f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def compose(wanted: Search, shared: list[str], params: Mapping[str, Any]) -> tuple[DictConfig, dict[str, Any]]:
    """A trial's config and what it asks for. UserError if it cannot be, or cannot give one point of the front."""
    given = [*shared, *overrides(params)]
    whole = hydra.compose("config", given, return_hydra_config=True)
    whole.sweep, whole.results_dir = wanted.sweep, wanted.results_dir
    cfg, asked = sweep.checked(whole, given)
    for name in wanted.maximise:
        *_, setting, metric = ["", *name.split(".")]
        if setting not in get_args(Setting) or metric not in cfg.metrics:
            known = f"{', '.join(get_args(Setting))}, and METRIC of {', '.join(cfg.metrics)}"
            raise UserError(f"maximise {name}: it must be [BENCHMARK.]SETTING.METRIC, SETTING of {known}.")
    if not cfg.profile.enabled:
        raise UserError("profile.enabled=false: then there is no cost to minimise.")
    if len(run.names(asked)) > 2:
        raise UserError(
            f"variants, in cell {' '.join(given)}: beside as trained, a trial is served in one way at most."
        )
    return cfg, asked


def opened(wanted: Search) -> Any:
    """Optuna's study of the trials so far; UserError if they are another search's."""
    folder = ResultStore(wanted.results_dir).sweep_dir(wanted.sweep)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "search.db"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["maximize"] * len(wanted.maximise) + ["minimize"] * len(wanted.minimise)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}", study_name="search", directions=directions, load_if_exists=True
        )
    except sqlalchemy.exc.DatabaseError as error:
        raise UserError(f"{path} cannot be used: {error.orig}.") from error
    settings = {key: value for key, value in asdict(wanted).items() if key not in GROWS}
    if differ := [key for key, value in study.user_attrs.items() if key in settings and value != settings[key]]:
        way_out = "move it away (its cells stay known) or name another sweep"
        raise UserError(f"{path} is of a search that differs in {', '.join(sorted(differ))}: {way_out}.")
    for key, value in settings.items():
        study.set_user_attr(key, value)
    return study


def search(
    study: Any, wanted: Search, space: Space, evaluate: Callable[[int, Mapping[str, Any]], list[float] | None]
) -> None:
    """Have `evaluate` try what NSGA-II draws, up to `trials`: the values of a trial's point, or None if it failed."""
    for number in range(wanted.trials):
        if number == len(study.trials):
            seed = int(np.random.SeedSequence([wanted.seed, number]).generate_state(1)[0])
            study.sampler = optuna.samplers.NSGAIISampler(population_size=wanted.population, seed=seed)
            study.ask(space)
        trial = study.trials[number]
        if trial.state.is_finished():
            continue
        drawn = trial.params.keys() == space.keys()  # else a kill came in between
        values = evaluate(number, trial.params) if drawn else None
        study.tell(number, values, state=optuna.trial.TrialState.FAIL if values is None else None)


def run_trial(
    study: Any, wanted: Search, shared: list[str], number: int, params: Mapping[str, Any]
) -> list[float] | None:
    """Run a trial's cell, or find it in the store, and read off its record what is sought."""
    store = ResultStore(wanted.results_dir)
    cfg, asked = compose(wanted, shared, params)
    name = run.names(asked)[-1]  # as served
    print(f"trial {number + 1} of {wanted.trials}: {' '.join(overrides(params))}", file=sys.stderr, flush=True)
    store.plan(wanted.sweep, store.planned(wanted.sweep) | {asked["name"]: asked["choices"]})
    study.set_user_attr(f"run {number}", name)
    run.tell(run.perform(cfg, asked, alone=False))
    record = store.finished(name)
    return objectives(record, wanted) if record else None


def objectives(record: Record, wanted: Search) -> list[float]:
    """UserError where the record lacks one: the others would lack it too."""
    report = aggregate.wishes(wanted.results_dir, wanted.sweep)
    table = money.priced(tables.rows([record]), report.prices, report.scenario)
    columns = [f"metrics.{'.'.join(tables.scale(table, name, 'maximise'))}" for name in wanted.maximise]
    for name in wanted.minimise:
        columns.append(f"profile.{name}")
        if columns[-1] not in table or pd.isna(table[columns[-1]].item()):
            why = table.get(f"profile.sources.{name}", pd.Series("not measured")).item()
            raise UserError(f"minimise {name}: {record.name} has no such figure ({why}).")
    return [float(table[column].item()) for column in columns]


def table(study: Any, wanted: Search) -> pd.DataFrame:
    """One row a trial: what it tried, what came of it, and whether no other is better in everything sought."""
    sought = [*wanted.maximise, *wanted.minimise]
    rows = []
    for trial in study.trials:
        tried = dict(override.split("=", 1) for override in overrides(trial.params))
        about = {"trial": trial.number + 1, "state": trial.state.name.lower(), **tried}
        values = dict(zip(sought, trial.values or [np.nan] * len(sought), strict=True))
        rows.append(about | values | {"run": study.user_attrs.get(f"run {trial.number}")})
    found = pd.DataFrame(rows)
    cost_N, *further_N = found[wanted.minimise].to_numpy(float).T
    accuracy_N, *others_N = found[wanted.maximise].to_numpy(float).T
    on_front = pareto.non_dominated(cost_N, accuracy_N, *further_N, *(-other_N for other_N in others_N))
    return found.assign(on_front=on_front)


@hydra.main(version_base="1.3", config_path="../conf", config_name="search")
def job(cfg: DictConfig) -> None:
    wanted = cast(Search, OmegaConf.to_object(cfg))
    shared, space = checked(wanted)
    store = ResultStore(wanted.results_dir)
    store.check_writable()
    with store.lock(f"sweep-{wanted.sweep}"):  # another process may be at it
        study = opened(wanted)
        search(study, wanted, space, partial(run_trial, study, wanted, shared))
        found = table(study, wanted)
        path = store.sweep_dir(wanted.sweep) / "search.csv"
        write_atomically(path, lambda temporary: found.to_csv(temporary, index=False))
        front = found[found["on_front"]].sort_values(wanted.minimise).drop(columns=["state", "on_front"])
        print(f"The front of {len(found)} trials ({path}):\n{front.to_string(index=False)}", flush=True)
        sweep.end(wanted.results_dir, wanted.sweep)


def main() -> None:
    with resumable(), refusing():
        job()


if __name__ == "__main__":
    main()
