"""Whatever a file or a config key holds: a value, or a refusal of one sentence, and never another exception.

The examples are the same in every run (`derandomize`).
"""

import copy
import json
from pathlib import Path

import pytest
from bad_files import inputs, write
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config import Config, check
from pipeline.launch.commands import sentence
from pipeline.launch.composing import SECTIONS
from pipeline.store.files import write_json
from pipeline.values import UserError

ROOT = Path(__file__).parents[1]
FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def fuzz(examples):
    return settings(
        derandomize=True, database=None, deadline=None, max_examples=examples, suppress_health_check=FIXTURES
    )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
SCALARS |= st.sampled_from([10**400, -1, 0, "", "\ud83d", "\0", "../..", "kernels-community/x", 1e308])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


@st.composite
def changed(draw, value):
    """A JSON value in which one part is another value, or missing."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    value = copy.copy(value)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    if draw(st.integers(0, 5)) == 0:
        del value[key]
    else:
        value[key] = draw(changed(value[key]))
    return value


@st.composite
def contents(draw, whole, name):
    """What may stand in a file's place: bytes, text, JSON, or what was there with some of it changed."""
    kinds = ["bytes", "text", "JSON", "cut", "insert"]
    kind = draw(st.sampled_from([*kinds, *["change"] * 5] if Path(name).suffix in (".json", ".jsonl") else kinds))
    if kind == "change":
        rows = whole.decode().splitlines() if name.endswith(".jsonl") else [whole.decode()]
        return "\n".join(json.dumps(draw(changed(json.loads(row)))) for row in rows).encode()
    place = draw(st.integers(0, len(whole)))
    return {
        "bytes": lambda: draw(st.binary(max_size=50)),
        "text": lambda: draw(st.text(max_size=50)).encode("utf-8", "surrogatepass"),
        "JSON": lambda: json.dumps(draw(JSON)).encode(),
        "cut": lambda: whole[:place],
        "insert": lambda: whole[:place] + draw(st.binary(min_size=1, max_size=4)) + whole[place + 1 :],
    }[kind]()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return inputs(tmp_path_factory.mktemp("inputs"))


SOURCES = ["beir", "miracl", "mteb", "xquad_r", "parallel", "parallel parquet", "mmarco", "model", "store"]
SOURCES += ["results of mteb", "tables of mteb", "parquet of mteb"]


@pytest.mark.parametrize("source", SOURCES)
def test_any_file_is_read_or_refused(source, sound, tmp_path, monkeypatch):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files, read, count = sound[source].files, sound[source].read, iter(range(10**6))

    @fuzz(25)
    @given(st.data())
    def run(data):
        name = data.draw(st.sampled_from(sorted(files)))
        folder = tmp_path / str(next(count))
        write(files | {name: data.draw(contents(files[name], name))}, folder)
        refused(read, folder)

    run()


def refused(read, *arguments):
    """Call a reader that may refuse, in one sentence."""
    said = "one line"
    try:
        read(*arguments)
    except UserError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    assert len(said) < 1200


def test_any_record_is_read_or_refused(sound, tmp_path):
    """With a checksum that is right: what an older or a newer version, or somebody's own program, may write."""
    files, read, count = sound["store"].files, sound["store"].read, iter(range(10**6))
    names = [name for name in sorted(files) if name.endswith(".json")]

    @fuzz(40)
    @given(st.data())
    def run(data):
        name = data.draw(st.sampled_from(names))
        content = json.loads(files[name])
        vouched = content.pop("files")
        del content["sha256"]
        folder = tmp_path / str(next(count))
        write(files, folder)
        value = data.draw(changed(content))
        try:
            write_json(folder / name, value, [(folder / name).with_name(file) for file in vouched])
        except (ValueError, TypeError):  # not JSON, or no object: our writer does not write it
            return
        refused(read, folder)

    run()


def leaves(node, prefix=""):
    for key, value in node.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]


def test_any_value_of_any_key_is_checked_or_refused():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=["eval=[worldfacts,beir]", "data=parallel"])
    keys = sorted(key for key in leaves(OmegaConf.to_container(cfg)) if not key.endswith("_target_"))

    @fuzz(100)
    @given(st.sampled_from(keys), JSON)
    def run(key, value):
        one, said = copy.deepcopy(cfg), "one line"
        if key in SECTIONS and isinstance(value, dict):  # refused before OmegaConf sees it
            return
        try:
            OmegaConf.update(one, key, value)
            assert isinstance(check(one), Config)
        except (UserError, HydraException, OmegaConfBaseException) as error:  # as `refusing` takes them
            said = sentence(error)
        assert len(said.splitlines()) == 1

    run()
