"""Every yaml binds to what it configures; every impossible value is one sentence that names its key."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from pipeline import config
from pipeline.values import UserError

ROOT = Path(__file__).parent.parent
GROUPS = ("model", "sampler", "data", "eval", "metrics", "trainer", "profile", "variants", "tracking")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
SWEEPS = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))


def composed(*overrides, folder="conf", name="config"):
    with initialize_config_dir(str(ROOT / folder), version_base="1.3"):
        search = [f"hydra.searchpath=[file://{ROOT / 'conf'}]"] if folder != "conf" else []
        return compose(name, overrides=[*search, *overrides])


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_binds_to_its_target(group, option):
    config.check(composed(f"{group}={option}"))


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep_composes_and_says_what_it_is_for(sweep):
    cfg = composed(folder="sweeps", name=sweep)
    config.check(cfg)
    assert cfg.sweep == sweep
    header = (ROOT / "sweeps" / f"{sweep}.yaml").read_text()
    assert all(f"# {word}:" in header for word in ("Question", "Command", "Hours", "Expected"))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.batch_size=0", r"trainer\.batch_size=0: it must be positive"),
        ("trainer.temperature=-1", r"trainer\.temperature=-1.0: it must be positive"),
        ("trainer.warmup_fraction=2", r"trainer\.warmup_fraction=2.0: it must lie in \[0, 1\]"),
        ("model.layers=0", r"model\.layers=0: it must be positive"),
        ("sampler.alpha=1.5", r"sampler\.alpha must lie in \[0, 1\], got 1.5"),
        ("sampler.alpha=often", r"sampler\.alpha='often'"),
        ("sampler.schedule=square", r"sampler\.schedule='square': .*linear"),
        ("+sampler.beta=1", r"unknown key sampler\.beta: sampler takes alpha"),
        ("~data.languages", r"data\.languages is missing"),
        ("data.languages=en", r"data\.languages='en'"),
        ("profile.country=Germany", r"profile\.country=Germany: it must be an ISO 3166-1 alpha-3 code"),
    ],
)
def test_impossible_values_name_their_key(override, says):
    cfg = composed(override)
    with pytest.raises(UserError, match=says):
        config.check(cfg)


def test_an_explicit_benchmark_wins_over_the_one_that_goes_with_the_data():
    assert list(composed("data=xquad_r_articles").eval) == ["xquad_r_articles"]
    assert list(composed("data=xquad_r_articles", "eval=xquad_r").eval) == ["xquad_r"]
    assert list(composed("eval=[worldfacts,xquad_r]").eval) == ["worldfacts", "xquad_r"]


def test_paths_and_cosmetics_do_not_determine_a_result():
    one = config.inputs(config.plain(composed()))
    assert config.inputs(config.plain(composed("results_dir=elsewhere", "sweep=x", "tracking.wandb=false"))) == one


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("trainer.temperature=0.03", {"train", "evaluate", "profile"}),
        ("sampler.alpha=0.4", {"train", "evaluate", "profile"}),
        ("eval=xquad_r", {"evaluate", "profile"}),
        ("metrics.r_10.k=11", {"evaluate", "profile"}),
        ("profile.min_calls=200", {"profile"}),
    ],
)
def test_a_stage_runs_again_only_if_what_it_builds_on_changed(override, changes):
    one, other = config.inputs(config.plain(composed())), config.inputs(config.plain(composed(override)))
    assert {stage for stage in one if one[stage] != other[stage]} == changes


def test_the_code_of_a_stage_counts():
    train = config.inputs(config.plain(composed()))["train"]
    assert {"code of training", "code of sampling", "code of data/worldfacts"} <= set(train)
    assert not any("metrics" in key or "report" in key for key in train)
