"""The search: what Optuna draws, keeps and goes on with, against a study that ran in one go; then one for real."""

import re
import time
from dataclasses import asdict

import optuna
import pandas as pd
import pytest
from command import SMALL, child_of, manifest, run, start
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from records import profile as some_profile
from test_config import ROOT

from pipeline import experiment
from pipeline.launch import search
from pipeline.parts import Parts
from pipeline.store.results import ResultStore
from pipeline.values import UserError, Variant

pytestmark = pytest.mark.slow

SPACE = ["model=e5-small-l3,e5-small-l12", "sampler.alpha=interval(0,1)"]
SPACE += ["trainer.temperature=tag(log,interval(0.01,0.1))"]


@pytest.fixture(scope="module", autouse=True)
def conf():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def settings(folder, **changes):
    changes = {"results_dir": str(folder), "trials": 24, "population": 6, "run": SPACE} | changes
    return search.Search(**OmegaConf.to_object(compose("search")).__dict__ | changes)


def made_up(number, params):
    """Accuracy, cost and memory of a trial; every seventh fails."""
    deep, alpha = params["model"].endswith("12"), params["sampler.alpha"]
    accuracy = 0.5 + 0.2 * deep - (alpha - 0.5) ** 2 - params["trainer.temperature"]
    return None if number % 7 == 6 else [accuracy, 30 * (1 + 3 * deep) + 10 * alpha, 700 + 300 * deep - 100 * alpha]


def searched(folder, evaluate=made_up):
    request = settings(folder, minimise=["query_latency_p95_ms", "serving_mib"])
    study = search.open_study(request)
    search.run_trials(study, request, search.split(request.run)[1], evaluate)
    return study, search.trial_table(study, request)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("undisturbed"))


def test_a_search_that_was_killed_resumes_as_if_it_had_not_been(tmp_path, undisturbed):
    tried = []

    def evaluate(number, params):
        if number not in tried:
            tried.append(number)
            if number in (0, 4, 13):
                raise KeyboardInterrupt
        return made_up(number, params)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path, evaluate)
    resumed, _ = searched(tmp_path, evaluate)
    assert tried == list(range(24))
    trials = [[(t.number, t.state, t.params, t.values) for t in study.trials] for study in (resumed, undisturbed[0])]
    assert trials[0] == trials[1]
    assert len({str(params) for _, _, params, _ in trials[0][:6]}) == 6  # later crossover may copy some


def test_the_front_is_optunas(undisturbed):
    study, trials = undisturbed
    best = [trial.number + 1 for trial in study.best_trials]
    assert trials.loc[trials["on_front"], "trial"].tolist() == best
    assert 3 < len(best) < 20
    assert trials["trial"].tolist() == list(range(1, 25))
    assert trials.loc[trials["state"] == "fail", "trial"].tolist() == [7, 14, 21]


def test_an_override_becomes_choices_or_an_interval(undisturbed):
    shared, space = search.split([*SPACE, "seed=3", "model.layers=int(interval(1,3))", "trainer.steps=range(1,4)"])
    assert shared == ["seed=3"]
    assert space == {
        "model": optuna.distributions.CategoricalDistribution(["e5-small-l3", "e5-small-l12"]),
        "sampler.alpha": optuna.distributions.FloatDistribution(0, 1),
        "trainer.temperature": optuna.distributions.FloatDistribution(0.01, 0.1, log=True),
        "model.layers": optuna.distributions.IntDistribution(1, 3),
        "trainer.steps": optuna.distributions.CategoricalDistribution(["1", "2", "3"]),
    }
    assert [search.overrides(corner) for corner in search.corners(space)] == [
        ["model=e5-small-l3", "sampler.alpha=0", "trainer.temperature=0.01", "model.layers=1", "trainer.steps=1"],
        ["model=e5-small-l12", "sampler.alpha=1", "trainer.temperature=0.1", "model.layers=3", "trainer.steps=2"],
        ["model=e5-small-l3", "sampler.alpha=0", "trainer.temperature=0.01", "model.layers=1", "trainer.steps=3"],
    ]
    assert search.overrides({"sampler.alpha": 0.123456}) == ["sampler.alpha=0.123"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"minimise": ["latency"]}, "minimise=latency: There are: query_latency_p50_ms, query_latency_p95_ms, "),
        ({"minimise": []}, "minimise is empty"),
        (
            {"maximise": ["map"]},
            r"maximise map: it must be \[BENCHMARK.\]SETTING.METRIC, SETTING of mono, cross, multi",
        ),
        ({"maximise": ["multi.rank_distance"]}, "maximise multi.rank_distance: a higher value of it is not better"),
        ({"maximise": ["multi.mapp"]}, "maximise multi.mapp: .* METRIC of map, "),
        ({"population": 1}, "population=1: it must lie in"),
        ({"run": ["seed=0"]}, "nothing to search"),
        ({"run": ["sampler.alpha=interval(1,0)"]}, r"run sampler.alpha=interval\(1,0\): `low <= high`"),
        ({"run": ["sampler.alpha=interval(0,1.5)"]}, r"sampler.alpha must lie in \[0, 1\], got 1.5"),
        ({"run": ["seed=0,1", "profile=off"]}, "profile.enabled=false"),
        ({"run": ["variants.grids=[],[{width:[96,192]}]"]}, "a trial takes one inference variant at most"),
        ({"run": ["model=e5-small-l3,bm25", "sampler=hybrid,none"]}, "model=bm25: there is nothing to search in BM25"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_work(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        search.check(settings(tmp_path, **changes))


def test_another_search_or_another_file_is_refused(tmp_path):
    search.open_study(settings(tmp_path))
    search.open_study(settings(tmp_path, trials=99))
    with pytest.raises(
        UserError, match=r"search\.db belongs to a search that differs in population, seed: move it away"
    ):
        search.open_study(settings(tmp_path, population=7, seed=1))
    (path,) = tmp_path.glob("*/.store/search.db")
    path.write_text("not a database " * 1000)
    with pytest.raises(UserError, match=r"search\.db cannot be used"):
        search.open_study(settings(tmp_path))


def test_a_real_search_is_killed_and_finished(tmp_path):
    """Two trials that train; what their one architecture costs is in the store already."""
    arguments = [item for item in SMALL if item != "profile=off"]
    arguments += ["sampler=english", "threads=1", "data.languages=[en]", "eval.worldfacts.languages=[en]"]
    store = ResultStore(tmp_path / "results")
    request = search.compose(settings(tmp_path / "results"), arguments, {})
    parts = Parts(request)
    key = experiment.profile_job(parts, parts.system.architecture, Variant()).key
    store.finish("profile", key, asdict(some_profile(layers=1)))

    quoted = ",".join(f'"{item}"' for item in [*arguments, SPACE[2]])
    command = ["sweep=tiny", "trials=2", "maximise=[mono.map]", "minimise=[serving_mib]", f"run=[{quoted}]"]
    dead = start(*command, cwd=tmp_path, module="pipeline.search")
    while not manifest(tmp_path, "tiny"):
        assert dead.poll() is None, dead.communicate()
        time.sleep(0.1)
    child_of(dead)
    dead.kill()
    assert "trial 2 of 2" in dead.communicate()[1]
    code, out, err = run("tiny", cwd=tmp_path, module="pipeline.status")
    assert code == 0, err
    assert re.match(r"tiny: 1 of 2 runs, about \d+ s to go; dead: ", out.splitlines()[-1])

    code, out, err = run(*command, cwd=tmp_path, module="pipeline.search")
    assert code == 0, err
    assert "trial 1 of 2" not in err
    assert "trial 2 of 2" in err
    trials = pd.read_csv(tmp_path / "results/tiny/search.csv")
    assert trials["state"].tolist() == ["complete"] * 2
    for trial in trials.to_dict("records"):
        record = store.load(trial["run"])
        assert record.config["trainer"]["temperature"] == trial["trainer.temperature"]
        assert record.metrics["worldfacts.mono.map"] == trial["mono.map"]
        assert record.profile.serving_mib == trial["serving_mib"]
    points = pd.read_csv(tmp_path / "results/tiny/pareto.csv").query("setting == 'mono' and cost == 'serving_mib'")
    assert points.set_index("accuracy")["on_front"].to_dict() == trials.set_index("mono.map")["on_front"].to_dict()
