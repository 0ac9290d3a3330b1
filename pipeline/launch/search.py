"""NSGA-II searches for accurate and cheap runs where a sweep of all combinations would be too large.

A trial is a run as `launch.runs` makes it; Optuna keeps the trials in <results_dir>/<sweep>/.store/search.db. What a
trial tries follows from the search's seed, the trial's number and the trials before it, so a search that was killed
continues as if it had not been. `pipeline.search` is the command; conf/search.yaml is the root of its config.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_args

import hydra
import numpy as np
import pandas as pd
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import MISSING

from pipeline.analysis import money, pareto, tables
from pipeline.analysis.costs import COSTS
from pipeline.bounds import bounded, check_numbers
from pipeline.launch import runs, sweep
from pipeline.launch.commands import library
from pipeline.launch.request import Request
from pipeline.reporting.config import options
from pipeline.retrieval.metrics import metric
from pipeline.store.files import write_csv
from pipeline.store.progress import counted
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import LEXICAL, Setting, UserError, unknown

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
    trials: int = bounded(1, 10**6)
    population: int = bounded(2, 10**5)
    seed: int = bounded(0, 2**32 - 1)
    run: list[str] = MISSING


ConfigStore.instance().store(name="search_schema", node=Search)


def search(request: Search) -> pd.DataFrame:
    """Run the trials that are left, and return the table of all (`trial_table`), which is also search.csv.

    Raises:
        UserError: for the first impossible setting, before any trial; or if the sweep's trials are another search's.
    """
    shared, space = check(request)
    store = ResultStore(request.results_dir)
    store.check_writable()
    with store.lock(f"sweep-{request.sweep}"):  # another process may be at it
        study = open_study(request)
        run_trials(study, request, space, partial(run_trial, study, request, shared))
        trials = trial_table(study, request)
        path = store.sweep_dir(request.sweep) / "search.csv"
        write_csv(path, trials)
        front = trials[trials["on_front"]].sort_values(request.minimise).drop(columns=["state", "on_front"])
        print(
            f"The Pareto front of {counted(len(trials), 'trial')} ({path}):\n{front.to_string(index=False)}", flush=True
        )
        sweep.end(request.results_dir, request.sweep)
    return trials


def check(request: Search) -> tuple[list[str], Space]:
    """The overrides that all trials share, and the search space; UserError for the first impossible setting."""
    check_numbers(request)
    fields = [cost.field for cost in COSTS]
    for key in ("maximise", "minimise"):
        if not getattr(request, key):
            raise UserError(f"{key} is empty: a Pareto front needs an accuracy and a cost.")
    for name in request.minimise:
        if name not in fields:
            raise UserError(unknown("minimise", name, fields))
    shared, space = split(request.run)
    for corner in corners(space):
        compose(request, shared, corner)
    return shared, space


def split(arguments: list[str]) -> tuple[list[str], Space]:
    """The overrides with a single value, and the distribution of each other key."""
    shared, space = [], {}
    for override in OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(arguments):
        if re.search(r"\b(hydra|allow_targets)\b", override.key_or_group):
            raise UserError(f"run {override.input_line}: a search runs code of the project only, as Hydra is set here.")
        values, distributions = override.value(), optuna.distributions
        try:
            if isinstance(values, IntervalSweep):
                is_int = isinstance(values.start, int)
                kind = distributions.IntDistribution if is_int else distributions.FloatDistribution
                space[override.key_or_group] = kind(values.start, values.end, log="log" in values.tags)
            elif override.is_sweep_override():
                choices = list(override.sweep_string_iterator())
                space[override.key_or_group] = distributions.CategoricalDistribution(choices)
            else:
                shared.append(str(override.input_line))
        except ValueError as error:  # an empty interval
            raise UserError(f"run {override.input_line}: {error}") from error
    if not space:
        raise UserError("run: no override has several values or an interval, so there is nothing to search.")
    return shared, space


def corners(space: Space) -> list[dict[str, Any]]:
    """Points that contain, among them, every choice and both ends of every interval."""
    values = {key: getattr(spread, "choices", None) or (spread.low, spread.high) for key, spread in space.items()}
    most = max(len(options) for options in values.values())
    return [{key: options[number % len(options)] for key, options in values.items()} for number in range(most)]


def overrides(params: Mapping[str, Any]) -> list[str]:
    """The overrides of a trial; numbers are rounded to 3 digits, which can be read on a plot."""
    return [f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def compose(request: Search, shared: list[str], params: Mapping[str, Any]) -> Request:
    """The run of a trial; UserError if it is impossible, or gives no point of the front."""
    arguments = [*shared, *overrides(params)]
    whole = hydra.compose("config", arguments, return_hydra_config=True)
    if whole.allow_targets:
        raise UserError(f"allow_targets={whole.allow_targets}: a search runs code of the project only.")
    whole.sweep, whole.results_dir = request.sweep, request.results_dir
    trial = sweep.request_of(whole, arguments)
    config = trial.config
    for name in request.maximise:
        *_, setting, metric_name = ["", *name.split(".")]
        if setting not in get_args(Setting) or metric_name not in config.metrics:
            known = f"{', '.join(get_args(Setting))}, and METRIC of {', '.join(config.metrics)}"
            raise UserError(f"maximise {name}: it must be [BENCHMARK.]SETTING.METRIC, SETTING of {known}.")
        if not metric(metric_name).higher_is_better:
            raise UserError(f"maximise {name}: a higher value of it is not better.")
    if config.model.weights == LEXICAL:
        raise UserError("model=bm25: there is nothing to search in BM25; add its run to the sweep by pipeline.run.")
    if not config.profile.enabled:
        raise UserError("profile.enabled=false: then there is no cost to minimise.")
    if len(config.inference_variants()) > 2:
        raise UserError(f"variants, in run {' '.join(arguments)}: a trial takes one inference variant at most.")
    return trial


def open_study(request: Search) -> Any:
    """Optuna's study with the trials so far; UserError if they are another search's."""
    folder = ResultStore(request.results_dir).kept_dir(request.sweep)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "search.db"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["maximize"] * len(request.maximise) + ["minimize"] * len(request.minimise)
    try:
        # Without a pool no connection outlives its transaction: nobody would close it.
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"poolclass": sqlalchemy.pool.NullPool})
        study = optuna.create_study(storage=storage, study_name="search", directions=directions, load_if_exists=True)
    except sqlalchemy.exc.DatabaseError as error:
        raise UserError(f"{path} cannot be used: {error.orig}.") from error
    settings = {key: value for key, value in asdict(request).items() if key not in GROWS}
    if differ := [key for key, value in study.user_attrs.items() if key in settings and value != settings[key]]:
        remedy = "move it away (its runs stay cached) or name another sweep"
        raise UserError(f"{path} belongs to a search that differs in {', '.join(sorted(differ))}: {remedy}.")
    for key, value in settings.items():
        study.set_user_attr(key, value)
    return study


def run_trials(
    study: Any, request: Search, space: Space, evaluate: Callable[[int, Mapping[str, Any]], list[float] | None]
) -> None:
    """Have `evaluate` try what NSGA-II draws, up to `trials`: it returns a trial's values, or None if it failed."""
    for number in range(request.trials):
        if number == len(study.trials):
            seed = int(np.random.SeedSequence([request.seed, number]).generate_state(1)[0])
            study.sampler = optuna.samplers.NSGAIISampler(population_size=request.population, seed=seed)
            study.ask(space)
        trial = study.trials[number]
        if trial.state.is_finished():
            continue
        complete = trial.params.keys() == space.keys()  # else a kill came while it was drawn
        values = evaluate(number, trial.params) if complete else None
        study.tell(number, values, state=optuna.trial.TrialState.FAIL if values is None else None)


def run_trial(
    study: Any, request: Search, shared: list[str], number: int, params: Mapping[str, Any]
) -> list[float] | None:
    """Make the run of a trial, or find it in the store, and return its values of `maximise` and `minimise`."""
    store = ResultStore(request.results_dir)
    trial = compose(request, shared, params)
    name = trial.run_names[-1]  # of the inference variant, if there is one
    print(f"trial {number + 1} of {request.trials}: {' '.join(overrides(params))}", file=sys.stderr, flush=True)
    store.plan(request.sweep, store.planned(request.sweep) | {trial.name: trial.choices})
    study.set_user_attr(f"run {number}", name)
    runs.log_finished(runs.perform(trial, alone=False))
    record = store.finished(name)
    return objectives(record, request) if record else None


def objectives(record: Record, request: Search) -> list[float]:
    """The values of `maximise`, then of `minimise`; UserError where the record lacks one, as all others would."""
    report = options(request.results_dir, request.sweep)
    table = money.priced(tables.rows([record]), report.prices, report.scenario)
    columns = [f"metrics.{'.'.join(tables.scale(table, name, 'maximise'))}" for name in request.maximise]
    for name in request.minimise:
        columns.append(f"profile.{name}")
        if columns[-1] not in table or pd.isna(table[columns[-1]].item()):
            why = table.get(f"profile.sources.{name}", pd.Series("not measured")).item()
            raise UserError(f"minimise {name}: {record.name} has no such figure ({why}).")
    return [float(table[column].item()) for column in columns]


def trial_table(study: Any, request: Search) -> pd.DataFrame:
    """One row per trial: what it tried, its values, its run, and whether it is on the Pareto front of all trials."""
    objectives = [*request.maximise, *request.minimise]
    rows = []
    for trial in study.trials:
        tried = dict(override.split("=", 1) for override in overrides(trial.params))
        values = dict(zip(objectives, trial.values or [np.nan] * len(objectives), strict=True))
        row = {"trial": trial.number + 1, "state": trial.state.name.lower(), **tried, **values}
        rows.append(row | {"run": study.user_attrs.get(f"run {trial.number}")})
    trials = pd.DataFrame(rows)
    cost_N, *further_N = trials[request.minimise].to_numpy(float).T
    accuracy_N, *others_N = trials[request.maximise].to_numpy(float).T
    on_front = pareto.non_dominated(cost_N, accuracy_N, *further_N, *(-other_N for other_N in others_N))
    return trials.assign(on_front=on_front)
