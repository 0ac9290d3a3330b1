"""Other engines and precisions against the encoder itself, on real weights and on tiny, exaggerated ones."""

import inspect
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from test_encoder import BERT, XLMR, compose_model, tiny

from pipeline.encoder import backends
from pipeline.encoder.deploy import Unavailable, check, deploy, footprint, threads
from pipeline.encoder.encoding import encode
from pipeline.encoder.sources import load, positions
from pipeline.values import UserError, Variant

# Several scripts and lengths: one of a single word, one empty, one truncated.
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


@pytest.fixture
def emulated_bfloat16(monkeypatch):
    """Run bfloat16 on processors without instructions for it as well."""
    monkeypatch.setattr("pipeline.encoder.deploy.has_bfloat16", lambda device: True)


@pytest.fixture(scope="module")
def e5():
    return load(compose_model("e5-small-l3"), seed=0)


def cosines(deployed, encoder):
    return (encode(deployed, TEXTS, "passage") * encode(encoder, TEXTS, "passage")).sum(1)


@pytest.mark.parametrize(
    ("architecture", "backend"),
    [(BERT, "onnx"), (XLMR, "onnx"), (XLMR, "openvino"), (XLMR, "compile"), (BERT, "onednn"), (XLMR, "onednn")],
    ids=lambda value: value if isinstance(value, str) else value["model_type"],
)
def test_an_engine_computes_what_torch_computes_for_any_shape(architecture, backend):
    encoder = tiny(architecture=architecture | SHARP)
    deployed, numbers = deploy(encoder, Variant(backend)), torch.Generator().manual_seed(0)
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        for texts, tokens in SHAPES:
            rows = torch.randint(5, 1000, (texts, tokens), generator=numbers).tolist()
            rows[0] = rows[0][: tokens // 2 + 1] if texts > 1 else rows[0]  # padded
            ids_NT, mask_NT = encoder.pad(rows)
            np.testing.assert_allclose(deployed(ids_NT, mask_NT), encoder(ids_NT, mask_NT), atol=1e-5)
    assert cosines(deployed, encoder).min() > 0.99999
    assert (deployed.width, deployed.device, deployed.max_tokens) == (encoder.width, encoder.device, encoder.max_tokens)
    assert set(threads(deployed).values()) == {1}
    assert footprint(deployed).parameters == footprint(encoder).parameters


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
@pytest.mark.usefixtures("emulated_bfloat16")
def test_fewer_bits_weigh_less_and_stay_close(e5, backend, precision, cosine, share):
    if backend == "eager" and precision == "int8":
        pytest.importorskip("torchao")
    torch.set_num_threads(2)
    before = encode(e5, TEXTS, "passage")
    deployed = deploy(e5, Variant(backend, precision))
    lowest = cosines(deployed, e5).min()
    assert lowest > cosine
    assert lowest < 0.999999  # fewer bits are at work
    np.testing.assert_array_equal(encode(e5, TEXTS, "passage"), before)
    assert set(threads(deployed).values()) == {2}
    full, small = footprint(e5), footprint(deployed)
    assert small.parameters == full.parameters
    assert small.memory_bytes < share * full.memory_bytes
    assert small.disk_bytes < share * full.disk_bytes


@pytest.mark.usefixtures("emulated_bfloat16")
def test_a_footprint_by_hand():
    encoder = tiny(architecture=BERT)
    weights = 1000 * 32 + 32 * 32 + 2 * 32 + 2 * 32  # pieces, positions, token types, their normalisation
    weights += 2 * (4 * (32 * 32 + 32) + 2 * 32 + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 32)
    positions = 2 * 32 * 8  # BERT keeps the ids of positions and of token types as two rows of int64, in memory only
    assert footprint(encoder)[:2] == (weights, 4 * weights + positions)
    assert footprint(deploy(encoder, Variant("eager", "bfloat16")))[:2] == (weights, 2 * weights + positions)
    assert footprint(deploy(encoder, Variant("onednn")))[:2] == (weights, 4 * weights + positions)
    assert 4 * weights < footprint(encoder).disk_bytes < 4 * weights + 4000


def test_passages_may_be_truncated_further():
    encoder = tiny()
    deployed = deploy(encoder, Variant(max_passage_tokens=9))
    assert len(deployed.tokenize(TEXTS[-1:], "passage")[0]) == 9
    assert len(encoder.tokenize(TEXTS[-1:], "passage")[0]) == 32


@pytest.mark.usefixtures("emulated_bfloat16")
def test_an_unsupported_precision_is_one_sentence():
    for backend, precision in (("onnx", "bfloat16"), ("onednn", "int8")):
        with pytest.raises(UserError, match=rf"^variants: backend={backend} does not support precision={precision}\.$"):
            deploy(tiny(), Variant(backend, precision))


@pytest.mark.parametrize("backend", ["eager", "onednn", "openvino"])
def test_bfloat16_needs_a_processor_with_instructions_for_it(monkeypatch, backend):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    with pytest.raises(Unavailable, match=r"^variants: precision=bfloat16 needs a processor .* bfloat16 instructions"):
        deploy(tiny(), Variant(backend, "bfloat16"))
    deploy(tiny(), Variant())


def test_every_file_of_backends_is_a_backend():
    paths = sorted(Path(backends.__file__).parent.glob("[!_]*.py"))
    assert [path.stem for path in paths] == ["compile", "eager", "onednn", "onnx", "openvino"]
    for path in paths:
        module = import_module(f"pipeline.encoder.backends.{path.stem}")
        assert list(inspect.signature(module.build).parameters) == ["backbone", "precision"]


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
        deploy(tiny(), Variant(backend, precision))


@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled:UserWarning")  # once per process: the caches are ours
def test_compiling_needs_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    without = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with torch._inductor.config.patch(without), pytest.raises(Unavailable, match=r"needs a C\+\+ compiler"):
        deploy(tiny(layers=1), Variant("compile"))


def test_lengths_and_widths_beyond_the_encoders_are_refused():
    encoder = tiny()
    available, width = positions(encoder.backbone), encoder.width
    check([Variant(), Variant(max_passage_tokens=available, width=width)], encoder)
    for variant, reason in (
        (
            Variant(max_passage_tokens=available + 1),
            f"max_passage_tokens={available + 1}: the model takes at most {available} tokens",
        ),
        (Variant(width=width + 1), f"width={width + 1}: the model's embeddings have {width} dimensions"),
    ):
        with pytest.raises(UserError, match=f"^variants: {reason}"):
            check([Variant(), variant], encoder)
