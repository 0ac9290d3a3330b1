"""An exported encoder gives the same embeddings in sentence-transformers, and its card shows the run's figures."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import transformers
import yaml
from hydra import compose, initialize_config_dir
from records import profile
from tiny import encoder as tiny_encoder

from pipeline.config import plain, typed
from pipeline.encoder import model_folder
from pipeline.encoder.encoding import encode
from pipeline.encoder.sources import load, origin
from pipeline.export import export, main
from pipeline.reporting.card import card
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import UserError, Variant

CONF = Path(__file__).parents[1] / "conf"
BASE = "intfloat/multilingual-e5-small"
TEXTS = ["Wer war das?", "the cat sat on the mat", "ทดสอบ", "Это текст. " * 400]


@pytest.fixture(scope="module")
def config():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("config", overrides=["model=e5-small-l2"]))


@pytest.fixture
def store(tmp_path, config):
    """One trained run: the packaged encoder, its first layer changed."""
    store = ResultStore(tmp_path / "results")
    encoder = load(config.model, seed=0)
    next(iter(encoder.backbone.encoder.layer[0].parameters())).data *= 1.5
    encoder.save(store.stage_dir("train", "key") / "encoder")
    choices = {"model": "e5-small-l2", "sampler": "hybrid", "data": "toy"}
    data = {"name": "toy", "rows": 1200, "languages": ["en", "de"]}
    provenance = {
        "layers": 2,
        "time": "2026-01-01T00:00:00Z",
        "commit": "abc",
        "stages": {"train": "key"},
        "data": data,
    }
    record = Record(
        name="run",
        cache_key="1",
        status="done",
        choices=choices,
        config=plain(config),
        seed=0,
        provenance=provenance,
        metrics={"toy.mono.map": 0.8125},
        profile=profile(2),
        training={"final_loss": 1.0},
        notes=("An exercise.",),
    )
    store.save(record)
    return store, encoder


def quietly_loaded(folder, caplog):
    """The exported encoder as sentence-transformers loads it: a warning is an error, and so is a logged one."""
    from sentence_transformers import SentenceTransformer

    transformers.logging.set_verbosity_warning()  # which pipeline.encoder.sources silences
    transformers.logging.enable_propagation()
    try:
        model = SentenceTransformer(str(folder), device="cpu")
    finally:
        transformers.logging.disable_propagation()
        transformers.logging.set_verbosity_error()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    return model


def test_sentence_transformers_gives_the_same_embeddings(store, config, tmp_path, caplog):
    results, encoder = store
    export(results, "run", tmp_path / "exported")
    theirs = quietly_loaded(tmp_path / "exported", caplog)
    untrained = encode(load(config.model, seed=0), TEXTS, "passage")
    ours = encode(encoder, TEXTS, "passage")
    assert np.abs(ours - untrained).max() > 1e-3
    np.testing.assert_allclose(theirs.encode_document(TEXTS), ours, atol=1e-6)
    np.testing.assert_allclose(theirs.encode_query(TEXTS[:3]), encode(encoder, TEXTS[:3], "query"), atol=1e-6)
    settings = json.loads((tmp_path / "exported/tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"  # transformers 4 knows it too
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "exported").rglob("*") if path.is_file()}
    assert (modes, (tmp_path / "exported").stat().st_mode & 0o777) == ({0o644}, 0o755)  # for other users too
    assert (tmp_path / "exported" / "README.md").read_text() == card(results.load("run"), Variant(), BASE, "mit")


def test_the_card_shows_figures_sources_and_notes(store):
    record = store[0].load("run")
    text = card(record, Variant(), BASE, "mit")
    assert yaml.safe_load(text.split("---")[1]) == {
        "base_model": BASE,
        "language": ["en", "de"],
        "license": "mit",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
    }
    assert "| toy.mono.map | 0.8125 |\n" in text
    assert "\n| energy per 1,000 queries (J) | 62 | modelled |\n" in text
    assert "\n| time per passage (ms) | 5 | measured |\n" in text
    assert f"- Base model: {BASE}, 2 layers (e5-small-l2)\n- Licence of the base model: mit\n" in text
    assert "- Training data: 1,200 rows of toy in en, de\n- Batches: hybrid; seed 0\n" in text
    assert "An exercise." in text
    assert "inference variant" not in text
    assert "of the inference variant onnx int8\n" in card(record, Variant("onnx", "int8"), None, None)
    assert "mean vector" not in text
    assert "- Index: of each passage the mean" in card(record, Variant(index="SQ8", centre="passages"), None, None)
    assert "has to know each query's language" in card(record, Variant(centre="both"), None, None)
    assert "Encode queries" not in text
    assert "Encode queries with the encoder in the folder query_encoder" in card(
        record, Variant(query_encoder="other"), None, None
    )


def test_the_card_tells_no_path_of_the_machine(store):
    record = store[0].load("run")
    distill = {"teacher": "/home/ada/other", "steps": 2}
    model = record.config["model"] | {"weights": "/home/ada/mine", "distill": distill}
    text = card(replace(record, config=record.config | {"model": model}), Variant(), None, None)
    assert "- Base model: mine, 2 layers" in text
    assert "- Distilled from other in 2 steps\n" in text
    assert "/home" not in text


def test_the_licence_is_that_of_the_folder(tmp_path, config):
    model = replace(config.model, weights=str(tmp_path), license=None)
    assert origin(model) == (None, None)
    (tmp_path / "README.md").write_text("---\nlicense: gemma\n---\n# A model\n")
    assert origin(model) == (None, "gemma")
    assert origin(replace(model, license="mit")) == (None, "mit")
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(UserError, match=r"README\.md cannot be read: .*; set model\.license\.$"):
        origin(model)


def test_a_refused_export_is_one_sentence_and_leaves_nothing(store, tmp_path, monkeypatch, capsys):
    results, _ = store
    with pytest.raises(UserError, match=r"no run .* in .*: .*There are: "):
        export(results, "other", tmp_path / "exported")
    (results.stage_dir("train", "key") / "encoder" / "model.safetensors").write_bytes(b"truncated")
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        export(results, "run", tmp_path / "exported")
    with pytest.raises(UserError, match="exists already"):
        export(results, "run", tmp_path)
    monkeypatch.setattr("sys.argv", ["export", "run", "too=x"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "error: unknown key too: did you mean to? There are: to, results_dir.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_an_export_needs_no_locale(tmp_path):
    """A note in another script, written where the locale knows ASCII alone."""
    code = """
import sys
from pathlib import Path
from tiny import encoder
from pipeline.encoder import model_folder
assert sys.flags.utf8_mode == 0
model_folder.write(encoder(), Path(sys.argv[1]), "\\u0939\\u093f, \\u4e2d")
"""
    names = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code, str(tmp_path / "exported")]
    done = subprocess.run(command, env=os.environ | names, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exported/README.md").read_text(encoding="utf-8") == "हि, 中"


def test_cls_pooling_is_kept(tmp_path, caplog):
    encoder = tiny_encoder(pooling="cls")
    model_folder.write(encoder, tmp_path / "exported", card="")
    theirs = quietly_loaded(tmp_path / "exported", caplog)
    np.testing.assert_allclose(
        theirs.encode_document(["a", "b c"]), encode(encoder, ["a", "b c"], "passage"), atol=1e-6
    )
