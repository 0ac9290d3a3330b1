"""An exported encoder is the same encoder: as sentence-transformers loads it, and in its card's figures."""

import warnings

import numpy as np
import pytest
from records import profile
from tiny import PACKAGED as MODEL
from tiny import encoder as tiny_encoder

from pipeline.encoder import model as encoders
from pipeline.encoder.encoding import encode
from pipeline.export import export, main
from pipeline.store.results import ResultStore
from pipeline.values import Record, UserError

TEXTS = ["Wer war das?", "the cat sat on the mat", "ทดสอบ", "Это текст. " * 400]


@pytest.fixture
def store(tmp_path):
    """One trained run: the packaged encoder, its first layer changed."""
    store = ResultStore(tmp_path / "results")
    encoder = encoders.load(**MODEL, seed=0)
    next(iter(encoder.backbone.encoder.layer[0].parameters())).data *= 1.5
    encoder.save(store.stage_dir("train", "key") / "encoder")
    choices = {"model": "e5-small-l2", "sampler": "hybrid", "data": "toy"}
    provenance = {"layers": 2, "commit": "abc", "stages": {"train": "key"}}
    record = Record(
        name="run", fingerprint="1", status="done", choices=choices, config={"model": MODEL}, seed=0,
        provenance=provenance, metrics={"toy.mono.map": 0.8125}, profile=profile(2), training={"final_loss": 1.0},
        notes=("An exercise.",),
    )  # fmt: skip
    store.save(record)
    return store, encoder


def test_sentence_transformers_gives_the_same_embeddings(store, tmp_path):
    from sentence_transformers import SentenceTransformer

    results, encoder = store
    export(results, "run", tmp_path / "exported")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # theirs
        theirs = SentenceTransformer(str(tmp_path / "exported"), device="cpu")
    untrained = encode(encoders.load(**MODEL, seed=0), TEXTS, "passage")
    ours = encode(encoder, TEXTS, "passage")
    assert np.abs(ours - untrained).max() > 1e-3
    np.testing.assert_allclose(theirs.encode_document(TEXTS), ours, atol=1e-6)
    np.testing.assert_allclose(theirs.encode_query(TEXTS[:3]), encode(encoder, TEXTS[:3], "query"), atol=1e-6)
    card = (tmp_path / "exported" / "README.md").read_text()
    for said in ("| toy.mono.map | 0.8125 |", "An exercise.", "hybrid batches", "modelled"):
        assert said in card


def test_what_cannot_be_exported_is_one_sentence_and_leaves_nothing(store, tmp_path, monkeypatch, capsys):
    results, _ = store
    with pytest.raises(UserError, match=r"record\.json does not exist"):
        export(results, "other", tmp_path / "exported")
    (results.stage_dir("train", "key") / "encoder" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        export(results, "run", tmp_path / "exported")
    with pytest.raises(UserError, match="exists already"):
        export(results, "run", tmp_path)
    monkeypatch.setattr("sys.argv", ["export", "run", "too=x"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith("error: usage:")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_pooling_of_cls_is_kept(tmp_path):
    from sentence_transformers import SentenceTransformer

    from pipeline.export import fill

    encoder = tiny_encoder()
    encoder.pooling = "cls"
    choices = {"model": "tiny", "sampler": "none", "data": "toy"}
    fill(tmp_path, encoder, Record("run", "1", "done", choices, {"model": MODEL}, 0, {"layers": 1, "commit": None}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(
        theirs.encode_document(["a", "b c"]), encode(encoder, ["a", "b c"], "passage"), atol=1e-6
    )
