"""Every yaml binds to what it configures; every impossible value is one sentence that names its key."""

import json
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from pipeline import config, values
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
        ("variants.grids=[{backend:[onxx]}]", r"variants\.grids\[0\]\.backend=onxx: did you mean onnx\?"),
        ("variants.grids=[{width:[0]}]", r"variants\.grids\[0\]\.width=\[0\]: it must list positive numbers"),
        ("model=hub", r"^model\.weights is missing: set it to a folder"),
        ("model.precision=auto", r"^model\.precision=auto: it must be float32 or bfloat16"),
        ("profile.country=Germany", r"profile\.country=Germany: it must be an ISO 3166-1 alpha-3 code"),
    ],
)
def test_impossible_values_name_their_key(override, says):
    cfg = composed(override)
    with pytest.raises(UserError, match=says):
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
