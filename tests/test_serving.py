"""Other engines and precisions against the encoder itself, on real weights and on tiny ones that exaggerate."""

import sys

import numpy as np
import pytest
import torch
from test_encoder import BERT, XLMR, compose_model, tiny

from pipeline.encoder.backends.serving import Unavailable, check, footprint, serve, threads
from pipeline.encoder.encoding import encode
from pipeline.encoder.model import load, positions
from pipeline.values import Serving, UserError

# Of several scripts and lengths, one of a single word, one cut at the maximum.
TEXTS = [
    "A river.",
    "",
    "Wie heißt die Hauptstadt von Frankreich?",
    "水在零度结冰。",
    "แม่น้ำสายนี้ไหลลงสู่ทะเล",
    "Ποιος έγραψε; " * 20,
]
# Large numbers, so that a wrong position or a seen padding shows. 32 is the most that the positions allow.
SHARP = {"initializer_range": 0.5, "num_hidden_layers": 1}
SHAPES = [(1, 2), (1, 6), (2, 7), (3, 8), (7, 7), (2, 32)]  # the exporter sees 2 x 7


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def e5():
    return load(**compose_model("e5-small-l3"), seed=0)


def cosines(served, encoder):
    return (encode(served, TEXTS, "passage") * encode(encoder, TEXTS, "passage")).sum(1)


@pytest.mark.parametrize(
    ("architecture", "backend"),
    [(BERT, "onnx"), (XLMR, "onnx"), (XLMR, "openvino"), (XLMR, "compile"), (BERT, "onednn"), (XLMR, "onednn")],
    ids=lambda value: value if isinstance(value, str) else value["model_type"],
)
def test_an_engine_computes_what_torch_computes_for_any_shape(architecture, backend):
    encoder = tiny(architecture=architecture | SHARP)
    served, numbers = serve(encoder, backend, "float32"), torch.Generator().manual_seed(0)
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        for texts, tokens in SHAPES:
            rows = torch.randint(5, 1000, (texts, tokens), generator=numbers).tolist()
            rows[0] = rows[0][: tokens // 2 + 1] if texts > 1 else rows[0]  # padded
            ids_NT, mask_NT = encoder.pad(rows)
            np.testing.assert_allclose(served(ids_NT, mask_NT), encoder(ids_NT, mask_NT), atol=1e-5)
    assert cosines(served, encoder).min() > 0.99999
    assert (served.width, served.device, served.max_tokens) == (encoder.width, encoder.device, encoder.max_tokens)
    assert set(threads(served).values()) == {1}
    assert footprint(served).parameters == footprint(encoder).parameters


@pytest.mark.parametrize(
    ("backend", "precision", "cosine", "share"),
    [
        ("eager", "bfloat16", 0.999, 0.51),
        ("onednn", "bfloat16", 0.999, 0.51),
        ("eager", "int8", 0.995, 0.97),  # the embeddings, most of these weights, stay float32
        ("onnx", "int8", 0.99, 0.27),
        ("openvino", "int8", 0.99, 0.27),
    ],
)
def test_fewer_bits_weigh_less_and_stay_close(e5, backend, precision, cosine, share):
    if backend == "eager" and precision == "int8":
        pytest.importorskip("torchao")
    torch.set_num_threads(2)
    before = encode(e5, TEXTS, "passage")
    served = serve(e5, backend, precision)
    found = cosines(served, e5)
    assert found.min() > cosine
    assert found.min() < 0.999999  # other bits are at work
    np.testing.assert_array_equal(encode(e5, TEXTS, "passage"), before)
    assert set(threads(served).values()) == {2}
    full, small = footprint(e5), footprint(served)
    assert small.parameters == full.parameters
    assert small.memory_bytes < share * full.memory_bytes
    assert small.disk_bytes < share * full.disk_bytes


def test_a_footprint_by_hand():
    encoder = tiny(architecture=BERT)
    weights = 1000 * 32 + 32 * 32 + 2 * 32 + 2 * 32  # pieces, positions, token types, their normalisation
    weights += 2 * (4 * (32 * 32 + 32) + 2 * 32 + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 32)
    positions = 2 * 32 * 8  # BERT keeps the ids of positions and of token types as two rows of int64, in memory only
    assert footprint(encoder)[:2] == (weights, 4 * weights + positions)
    assert footprint(serve(encoder, "eager", "bfloat16"))[:2] == (weights, 2 * weights + positions)
    assert footprint(serve(encoder, "onednn", "float32"))[:2] == (weights, 4 * weights + positions)
    assert 4 * weights < footprint(encoder).disk_bytes < 4 * weights + 4000


def test_passages_may_be_cut_shorter():
    encoder = tiny()
    served = serve(encoder, "eager", "float32", 9)
    assert len(served.tokenize(TEXTS[-1:], "passage")[0]) == 9
    assert len(encoder.tokenize(TEXTS[-1:], "passage")[0]) == 32


def test_what_an_engine_cannot_do_is_a_sentence():
    for backend, precision in (("onnx", "bfloat16"), ("onednn", "int8")):
        with pytest.raises(UserError, match=rf"^variants: backend={backend} cannot do precision={precision}\.$"):
            serve(tiny(), backend, precision)


@pytest.mark.parametrize(
    ("backend", "precision", "module", "extra"),
    [
        ("onnx", "int8", "onnxruntime", "onnx"),
        ("openvino", "float32", "openvino", "openvino"),
        ("eager", "int8", "torchao", "int8"),
    ],
)
def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch, backend, precision, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unavailable, match=rf"^variants: {module} is not installed: pip install .* '\.\[{extra}\]'\.$"):
        serve(tiny(), backend, precision)


@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled:UserWarning")  # said once a process: the caches are ours
def test_compiling_needs_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    without = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with torch._inductor.config.patch(without), pytest.raises(Unavailable, match=r"needs a C\+\+ compiler"):
        serve(tiny(layers=1), "compile", "float32")


def test_what_the_encoder_lacks_is_refused_before_any_work():
    encoder = tiny()
    most, width = positions(encoder.backbone), encoder.width
    check([Serving(), Serving(max_passage_tokens=most, width=width)], encoder)
    for way, reason in (
        (Serving(max_passage_tokens=most + 1), f"max_passage_tokens={most + 1}: the model has positions for {most}"),
        (Serving(width=width + 1), f"width={width + 1} is more than the embedding's {width}"),
    ):
        with pytest.raises(UserError, match=f"^variants: {reason}"):
            check([Serving(), way], encoder)
