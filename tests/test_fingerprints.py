"""What names a run: all that its result follows from, files by what they hold, and nothing else."""

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from pipeline import config, run
from pipeline.store.results import ResultStore
from pipeline.values import Record, UserError

ROOT = Path(__file__).parent.parent
CHOICES = {"model": "m", "sampler": "s", "data": "d"}


def request(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return run.request(compose("config", overrides=list(overrides)), CHOICES)


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    (data / "en.json").write_text("english")
    (data / "more" / "de.json").write_text("deutsch")
    return data


def test_a_path_does_not_count_but_what_lies_there_does(folder, tmp_path):
    def name(path):
        return request("data=xquad_r_articles", f"data.path={path}", f"eval.xquad_r_articles.path={path}")["name"]

    here = name(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert name(tmp_path / "copy") == here
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.lock").write_text("of another tool")
    assert name(folder) == here
    (folder / "more" / "de.json").write_text("Deutsch")
    changed = name(folder)
    assert changed != here
    (folder / "more" / "de.json").rename(folder / "de.json")
    assert name(folder) not in (here, changed)
    assert name(tmp_path / "missing") not in (here, changed)


def test_the_weights_of_a_local_model_count(folder):
    before = request(f"model.weights={folder}")["stage_keys"]
    (folder / "model.safetensors").write_bytes(b"weights")
    after = request(f"model.weights={folder}")["stage_keys"]
    assert all(before[stage] != after[stage] for stage in before)


@pytest.mark.parametrize(
    "override",
    ["trainer.log_every=7", "trainer.checkpoint_every=7", "trainer.forward_tokens=512", "time_limit_min=9", "sweep=x"],
)
def test_what_changes_no_result_changes_no_name(override):
    assert request(override)["stage_keys"] == request()["stage_keys"]


def test_a_metric_does_not_train_again_and_a_seed_does():
    stock, other = request()["stage_keys"], request("metrics.r_10.k=11")["stage_keys"]
    assert [stage for stage in stock if stock[stage] != other[stage]] == ["evaluate", "profile"]
    other = request("seed=1")["stage_keys"]
    assert not set(stock.values()) & set(other.values())


def test_two_runs_of_one_name_are_refused_with_the_keys_that_differ(tmp_path):
    asked, other = request(), request("seed=1", "trainer.steps=7", "metrics.r_10.k=11")
    store = ResultStore(tmp_path)
    mine = {"name": asked["name"], "fingerprint": "f", "status": "done", "choices": CHOICES, "seed": 0}
    store.save(Record(**mine, config=asked["config"], provenance={"inputs": asked["inputs"]}))
    run.refuse_clash(store, asked)
    store.save(Record(**mine, config=other["config"], provenance={"inputs": other["inputs"]}))
    with pytest.raises(
        UserError, match=r" is another run, which differs in metrics\.r_10\.k, seed, trainer\.steps: move"
    ):
        run.refuse_clash(store, asked)


def test_a_file_is_read_again_when_it_changes_and_only_then(folder):
    config.file_hash.cache_clear()
    first = config.tree_hash(folder)
    assert config.tree_hash(folder) == first
    assert config.file_hash.cache_info().misses == 2
    (folder / "en.json").write_text("English!")
    assert config.tree_hash(folder) != first
    assert config.file_hash.cache_info().misses == 3
