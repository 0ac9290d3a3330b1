"""Every yaml binds to what it configures; every impossible value is one sentence that names its key."""

import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from pipeline import config, recommend, values
from pipeline.analysis.money import Prices, Scenario
from pipeline.bounds import check_numbers
from pipeline.capacity.config import LoadConfig
from pipeline.launch.request import make_request
from pipeline.launch.search import Search
from pipeline.profiling.architectures import ArchitectureConfig
from pipeline.reporting.config import ReportConfig, SweepConfig
from pipeline.serving.config import ServeConfig
from pipeline.values import UserError

ROOT = Path(__file__).parent.parent
GROUPS = ("model", "sampler", "data", "eval", "trainer", "profile", "variants", "tracking")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
SWEEPS = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml") if path.stem != "wandb")  # which is W&B's own


def composed(*overrides, folder="conf", name="config"):
    with initialize_config_dir(str(ROOT / folder), version_base="1.3"):
        search = [f"hydra.searchpath=[file://{ROOT / 'conf'}]"] if folder != "conf" else []
        return compose(name, overrides=[*search, *overrides])


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_binds_to_its_target(group, option):
    needs = {
        **{"hub": ["model.weights=owner/name"], "ir_datasets": ["eval.ir_datasets.id=a/b"]},
        **{"parallel": ["eval=worldfacts"] if group == "data" else ["data=parallel"]},
    }.get(option, [])
    if (group, option) == ("eval", "none"):
        with pytest.raises(UserError, match=r"^eval: there is no benchmark; choose one: eval=parallel \(rows held out"):
            config.check(composed("data=parallel"))
    else:
        config.check(composed(f"{group}={option}", *needs))


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
        ("trainer.batch_size=0", r"trainer\.batch_size=0: it must lie in \[1, 1,000,000\]"),
        ("trainer.temperature=-1", r"trainer\.temperature=-1.0: it must lie in \(0, 100\]"),
        ("trainer.warmup_fraction=2", r"trainer\.warmup_fraction=2.0: it must lie in \[0, 1\]"),
        ("model.layers=0", r"model\.layers=0: it must lie in \[1, 10,000\]"),
        ("sampler.alpha=1.5", r"sampler\.alpha must lie in \[0, 1\], got 1.5"),
        ("sampler.alpha=often", r"sampler\.alpha='often'"),
        ("sampler.schedule=square", r"sampler\.schedule='square': .*linear"),
        ("+sampler.beta=1", r"unknown key sampler\.beta: sampler takes alpha"),
        ("~data.languages", r"data\.languages is missing"),
        ("data.languages=en", r"data\.languages='en'"),
        ("variants.grids=[{backend:[onxx]}]", r"variants\.grids\[0\]\.backend=onxx: did you mean onnx\?"),
        ("variants.grids=[{width:[0]}]", r"variants\.grids\[0\]\.width\[0\]=0: it must lie in"),
        ("model=hub", r"^model\.weights is missing: set it to a folder"),
        ("model.precision=auto", r"^model\.precision=auto: it must be float32 or bfloat16"),
        ("profile.country=Germany", r"profile\.country=Germany: it must be an ISO 3166-1 alpha-3 code"),
    ],
)
def test_impossible_values_name_their_key(override, says):
    cfg = composed(override)
    with pytest.raises(UserError, match=says):
        config.check(cfg)


def numeric(kind):
    """The fields of a config's dataclass that hold numbers, those of its own dataclasses included."""
    for part in dataclasses.fields(kind):
        names = re.findall(r"\w+", str(part.type))
        if {"int", "float"} & {*names} or part.type in (int, float):
            yield kind, part
        for inner in (each for each in vars(config).values() if dataclasses.is_dataclass(each)):
            if inner is not kind and inner.__name__ in names:
                yield from numeric(inner)


SCHEMAS = [OmegaConf.get_type(each.node) for name, each in ConfigStore.instance().repo.items() if "schema" in name]
ROOTS = [*SCHEMAS, ArchitectureConfig, Prices, Scenario]
FIELDS = [pair for root in ROOTS for pair in numeric(root)]


def test_every_command_with_a_config_has_registered_it():
    assert {*SCHEMAS} >= {
        config.Config,
        Search,
        recommend.RecommendConfig,
        SweepConfig,
        ReportConfig,
        ServeConfig,
        LoadConfig,
    }
    roots = {path.stem for path in (ROOT / "conf").glob("*.yaml")}
    known = {"config", "search", "recommend", "reading", "report", "profile_model", "serve", "load"}
    assert roots == known  # a new one: to ROOTS


@pytest.mark.parametrize(("kind", "part"), FIELDS, ids=lambda each: getattr(each, "__name__", "") or each.name)
def test_every_number_of_every_config_has_bounds(kind, part):
    bounds = part.metadata["range"]
    assert -math.inf < bounds.low < bounds.high < math.inf
    lowest, highest = (math.nextafter(end, way) for end, way in ((bounds.low, -math.inf), (bounds.high, math.inf)))
    for number in (math.nan, math.inf, -math.inf, lowest, highest, 1e300):
        for value in (number, [number], {"a": {"b": [number]}}):
            with pytest.raises(UserError, match=rf"^key[\w.\[\]]*={re.escape(str(number))}: it must lie in"):
                check_numbers(value, "key", bounds)
    assert bounds.low in bounds or bounds.above


def numbers(node, key=""):
    """The keys of all numbers in a composed config."""
    if OmegaConf.is_config(node):
        for name in node if OmegaConf.is_dict(node) else range(len(node)):
            inner = f"{key}[{name}]" if isinstance(name, int) else f"{key}.{name}".lstrip(".")
            yield from numbers(OmegaConf.select(node, f"[{name}]" if isinstance(name, int) else str(name)), inner)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield key


@pytest.mark.parametrize(
    "overrides", [[], ["variants=grid", "trainer.matryoshka_widths=[96]"], ["data=parallel", "eval=[parallel,miracl]"]]
)
def test_no_number_of_a_composed_config_escapes(overrides):
    cfg = composed(*overrides)
    config.check(cfg)
    keys = [*numbers(cfg)]
    assert len(keys) > 30
    for key in keys:
        before = OmegaConf.select(cfg, key)
        for value in (math.nan, math.inf, -1e300) if isinstance(before, float) else (-(10**30), 10**30):
            OmegaConf.update(cfg, key, value, force_add=True)
            with pytest.raises(UserError, match=re.escape(key.removeprefix("eval.parallel.training."))):
                config.check(cfg)
        OmegaConf.update(cfg, key, before, force_add=True)


def test_an_allowed_package_is_run_and_part_of_the_cache_key(tmp_path, monkeypatch):
    source = "from pipeline.sampling.mixed import Mixed as Ours\nclass Mine(Ours):\n    pass\n"
    (tmp_path / "theirs.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    cfg = composed("sampler=mixed", "sampler._target_=theirs.Mine", "allow_targets=[theirs]")
    choices = {"model": "m", "sampler": "theirs", "data": "d"}
    first = make_request(config.check(cfg), choices).keys["train"]
    (tmp_path / "theirs.py").write_text(f"{source}# changed\n", encoding="utf-8")
    assert make_request(config.check(cfg), choices).keys["train"] != first
    cfg.allow_targets = []
    with pytest.raises(UserError, match=r"theirs.Mine is not code of pipeline.sampling: if you trust theirs, add"):
        config.check(cfg)


def test_other_weights_have_a_licence_of_their_own():
    """A yaml inherits from another model's; its licence must not."""
    for path in (ROOT / "conf/model").glob("*.yaml"):
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert "license" in node or node.get("weights", "packaged") == "packaged", path.name


def test_an_explicit_benchmark_wins_over_the_one_that_goes_with_the_data():
    assert list(composed("data=xquad_r_articles").eval) == ["xquad_r_articles"]
    assert list(composed("data=xquad_r_articles", "eval=xquad_r").eval) == ["xquad_r"]
    assert list(composed("eval=[worldfacts,xquad_r]").eval) == ["worldfacts", "xquad_r"]


def test_a_config_survives_the_way_to_a_child_process():
    for overrides in ([], ["variants=grid", "trainer.dropout=null", "model.layers=2"], ["eval=[worldfacts,miracl]"]):
        typed = config.check(composed(*overrides))
        assert config.from_plain(json.loads(json.dumps(config.plain(typed)))) == typed


def test_a_grid_is_every_combination_and_engines_stand_together():
    grids = "variants.grids=[{backend:[onnx]},{width:[null,96],index:[exact,SQ8]}]"
    variants = config.check(composed(grids)).inference_variants()
    assert [variant.label for variant in variants] == ["as trained", "SQ8", "w96", "w96 SQ8", "onnx"]
    assert variants[3].run_name("name") == "name+w96-SQ8"
    assert variants[0].run_name("name") == "name"


def test_a_misspelt_name_gets_a_suggestion():
    assert values.unknown("backend", "opnevino", ["onnx", "openvino"]) == (
        "backend=opnevino: did you mean openvino? There are: onnx, openvino."
    )
    assert values.unknown("backend", "zzz", ["onnx"]) == "backend=zzz: There are: onnx."
