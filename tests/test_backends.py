"""Other engines and precisions against the encoder itself, on real weights and on tiny, exaggerated ones."""

import inspect
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from test_encoder import BERT, XLMR, compose_model, tiny

from pipeline.bench import hand_written
from pipeline.encoder import backends, deployed
from pipeline.encoder.deploy import check, deploy, save
from pipeline.encoder.encoding import encode
from pipeline.encoder.engine import Unavailable
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
# Attention to 2 tokens on either side: padding farther away attends to nothing.
LOCAL = BERT | {"model_type": "modernbert", "pad_token_id": 1, "local_attention": 4}
SHAPES = [(1, 2), (1, 6), (2, 7), (3, 8), (7, 7), (2, 32)]  # the exporter sees 2 x 7


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def emulated_bfloat16(request, monkeypatch):
    """Run bfloat16 on processors without instructions for it as well; oneDNN refuses those without AVX-512."""
    variant = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    of_onednn = (variant.get("backend"), variant.get("precision")) == ("onednn", "bfloat16")
    if of_onednn and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this processor")
    monkeypatch.setattr("pipeline.encoder.deploy.has_bfloat16", lambda device: True)


@pytest.fixture(scope="module")
def e5():
    return load(compose_model("e5-small-l3"), seed=0)


@pytest.fixture(scope="module")
def saved_e5(e5, tmp_path_factory):
    """The folder of e5 as a variant, exported once."""

    @cache
    def folder(variant):
        path = tmp_path_factory.mktemp("e5")
        save(e5, variant, path)
        return path

    return folder


def cosines(served, encoder):
    return (encode(served, TEXTS, "passage") * encode(encoder, TEXTS, "passage")).sum(1)


def saved(encoder, variant, folder, threads=1):
    """The encoder as a variant, by way of its folder; and the folder's description."""
    save(encoder, variant, folder)
    return deployed.load(folder, threads=threads), deployed.describe(folder)


@pytest.mark.parametrize(
    ("architecture", "backend"),
    [
        (BERT, "onnx"),
        (XLMR, "onnx"),
        (XLMR, "openvino"),
        pytest.param(XLMR, "compile", marks=pytest.mark.slow),
        (BERT, "onednn"),
        (XLMR, "onednn"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["model_type"],
)
def test_an_engine_computes_what_torch_computes_for_any_shape(architecture, backend, tmp_path):
    encoder = tiny(architecture=architecture | SHARP)
    served, description = saved(encoder, Variant(backend), tmp_path)
    numbers = torch.Generator().manual_seed(0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for texts, tokens in SHAPES:
            rows = torch.randint(5, 1000, (texts, tokens), generator=numbers).tolist()
            rows[0] = rows[0][: tokens // 2 + 1] if texts > 1 else rows[0]  # padded
            expected = encoder.to_host([encoder.embed(rows)])
            np.testing.assert_allclose(served.to_host([served.embed(rows)]), expected, atol=1e-5)
    assert cosines(served, encoder).min() > 0.99999
    assert (served.width, served.device_type, served.max_tokens) == (encoder.width, "cpu", encoder.max_tokens)
    assert set(served.threads.values()) == {1}
    assert description.parameters == sum(weight.numel() for weight in encoder.parameters())


@pytest.mark.parametrize("architecture", [XLMR, LOCAL], ids=lambda value: value["model_type"])
@pytest.mark.parametrize(
    ("backend", "precision"),
    [("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "bfloat16")],
)
@pytest.mark.usefixtures("emulated_bfloat16")
def test_attention_to_nothing_is_defined(architecture, backend, precision, tmp_path):
    """A tokenizer without special tokens finds none in an empty text, and long padding sees no token nearby."""
    encoder = tiny(architecture=architecture)
    served, _ = saved(encoder, Variant(backend, precision), tmp_path)
    if backend == "onnx" and precision == "float32":
        graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
        counts = Counter(node.op_type for node in graph.node)
        assert (counts["IsNaN"], counts["Softmax"]) == (0, 2)
    rows = [[], [5, 6, 7], [*range(5, 35)]]
    emb_ND = served.embed(rows)
    np.testing.assert_array_equal(emb_ND[0], 0)
    assert (emb_ND[1:] * encoder.to_host([encoder.embed(rows)])[1:]).sum(1).min() > 0.999


def test_cls_pooling_lies_in_the_graph_as_well(tmp_path):
    encoder = tiny(pooling="cls")
    served, _ = saved(encoder, Variant("onnx"), tmp_path)
    np.testing.assert_allclose(encode(served, TEXTS, "query"), encode(encoder, TEXTS, "query"), atol=1e-5)


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("eager", "float32"), ("eager", "bfloat16"), ("onednn", "float32"), ("onednn", "bfloat16"), ("onnx", "int8")],
)
@pytest.mark.usefixtures("emulated_bfloat16")
def test_what_is_loaded_is_what_is_evaluated(backend, precision, tmp_path):
    """An engine on torch evaluates from memory, the others from the folder: the same vectors, to the last bit."""
    encoder, variant = tiny(), Variant(backend, precision)
    served, _ = saved(encoder, variant, tmp_path)
    here = deploy(encoder, variant, tmp_path)
    np.testing.assert_array_equal(encode(served, TEXTS, "passage"), encode(here, TEXTS, "passage"))
    np.testing.assert_array_equal(encode(deploy(encoder, Variant()), TEXTS, "query"), encode(encoder, TEXTS, "query"))


SERVE = """
import sys
from pathlib import Path
from pipeline.encoder import deployed
from pipeline.encoder.encoding import encode
encode(deployed.load(Path(sys.argv[1]), threads=1), ["a text"], "query")
print([name for name in ("torch", "transformers", "onnx", "hydra", "safetensors", "pandas") if name in sys.modules])
"""


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_engine_is_loaded_without_what_made_it(backend, tmp_path):
    save(tiny(), Variant(backend), tmp_path)
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {"model", "sentencepiece", "deployed"}
    done = subprocess.run([sys.executable, "-c", SERVE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
def test_fewer_bits_weigh_less_and_stay_close(e5, saved_e5, backend, precision, cosine, share):
    if backend == "eager" and precision == "int8":
        pytest.importorskip("torchao")
    torch.set_num_threads(2)
    before = encode(e5, TEXTS, "passage")
    folder = saved_e5(Variant(backend, precision))
    served, small = deployed.load(folder, threads=2), deployed.describe(folder)
    lowest = cosines(served, e5).min()
    assert lowest > cosine
    assert lowest < 0.999999  # fewer bits are at work
    np.testing.assert_array_equal(encode(e5, TEXTS, "passage"), before)
    assert set(served.threads.values()) == {2}
    full_bytes = 4 * small.parameters
    assert small.parameters == sum(weight.numel() for weight in e5.parameters())
    assert small.weights_bytes < share * full_bytes
    assert deployed.weights_on_disk(folder) < share * full_bytes


@pytest.mark.usefixtures("emulated_bfloat16")
def test_a_footprint_by_hand(tmp_path):
    encoder = tiny(architecture=BERT)
    weights = 1000 * 32 + 32 * 32 + 2 * 32 + 2 * 32  # pieces, positions, token types, their normalisation
    weights += 2 * (4 * (32 * 32 + 32) + 2 * 32 + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 32)
    positions = 2 * 32 * 8  # BERT keeps the ids of positions and of token types as two rows of int64, in memory only
    for variant, size in ((Variant(), 4), (Variant("eager", "bfloat16"), 2), (Variant("onednn"), 4)):
        folder = tmp_path / variant.label
        _, description = saved(encoder, variant, folder)
        assert (description.parameters, description.weights_bytes) == (weights, size * weights + positions)
        assert size * weights < deployed.weights_on_disk(folder) < size * weights + 6000


def test_passages_may_be_truncated_further(tmp_path):
    encoder = tiny()
    served, _ = saved(encoder, Variant(max_passage_tokens=9), tmp_path)
    assert len(served.tokenize(TEXTS[-1:], "passage")[0]) == 9
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
        assert list(inspect.signature(module.check).parameters) == ["precision", "device"]
        assert list(inspect.signature(module.save).parameters) == ["encoder", "precision", "folder"]
        assert callable(module.load)
        assert callable(module.preload)


STATUS = """
import json, sys
from pathlib import Path
from pipeline.encoder import deployed
from pipeline.encoder.encoding import encode
from pipeline.profiling.meters.memory import status_mib
encode(deployed.load(Path(sys.argv[1]), threads=2), json.load(sys.stdin), "passage", token_budget=10**6)
print(status_mib("VmHWM"))
"""


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.slow
def test_memory_is_that_of_a_hand_written_script_and_int8_needs_less(saved_e5, backend):
    """Peaks of whole processes, on real weights; the script imports nothing of ours."""
    texts, peaks = json.dumps(TEXTS), {}  # distinct, as bulk encoding makes them
    for precision in ("float32", "int8"):
        folder = saved_e5(Variant(backend, precision))
        for name, command in {"ours": ["-c", STATUS], "theirs": [hand_written.__file__]}.items():
            line = [sys.executable, *command, str(folder)]
            done = subprocess.run(line, input=texts, capture_output=True, text=True, check=True)
            peaks[precision, name] = float(done.stdout)
        assert peaks[precision, "ours"] == pytest.approx(peaks[precision, "theirs"], rel=0.1)
    assert peaks["int8", "ours"] < peaks["float32", "ours"]


def test_openvino_forks_no_process_that_sends_usage_data():
    """Such a fork, of a process with threads, held a meter's pipes open for ever."""
    code = """
import os
os.register_at_fork(before=lambda: os._exit(3))
from pathlib import Path
from pipeline.encoder.backends import openvino
openvino.preload(Path())
import openvino.tools.ovc
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
