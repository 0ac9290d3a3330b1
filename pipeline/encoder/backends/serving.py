"""The trained encoder served by another engine or in fewer bits: the same texts in, nearly the same vectors out.

`cell` and `meter` pass an encoder through `serve` and use the result as they would the encoder: only its backbone is
another. torch runs `eager`, `compile` and `onednn`; ONNX Runtime and OpenVINO run one ONNX file, exported here.

Axes: N texts of a batch, T tokens, D embedding width.
"""

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from pipeline import onednn
from pipeline.encoder.model import Encoder, positions
from pipeline.values import Serving, UserError


class Unavailable(Exception):
    """A way of serving that this machine lacks; the sentence says what would bring it."""


class Footprint(NamedTuple):
    """Of an encoder's weights. An engine's own copies and scratch memory show in the process's peak, not here."""

    parameters: int
    memory_bytes: int
    disk_bytes: int


class Exported(nn.Module):
    """Stands in for the backbone that was exported: its config and device, another engine's arithmetic."""

    def __init__(self, backbone: PreTrainedModel, run: Callable[..., Tensor], threads: dict[str, int], file_bytes: int):
        super().__init__()
        self.config, self.dtype, self.device = backbone.config, backbone.dtype, backbone.device
        self.run, self.threads = run, threads
        self.footprint = Footprint(backbone.num_parameters(), file_bytes, file_bytes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.run(input_ids=input_ids, attention_mask=attention_mask))


def serve(encoder: Encoder, backend: str, precision: str, max_passage_tokens: int | None = None) -> Encoder:
    """A trained encoder (evaluation mode, float32) by one of BACKENDS in float32, bfloat16 or int8.

    `encoder` stays as it is; the result may share its weights. An engine keeps the thread count that torch has now.
    UserError for a combination that the engine cannot do, Unavailable where the engine is not installed.
    """
    return Encoder(
        BACKENDS[backend](encoder.backbone, precision),  # type: ignore[arg-type]  # has what an Encoder asks of it
        encoder.tokenizer,
        pad_id=encoder.pad_id,
        pooling=encoder.pooling,
        prefixes=encoder.prefixes,
        max_tokens=encoder.max_tokens | ({"passage": max_passage_tokens} if max_passage_tokens else {}),
    ).eval()


def check(servings: Sequence[Serving], encoder: Encoder) -> None:
    """UserError for the first length or width that the encoder does not have, before any work is done for it."""
    for serving in servings:
        if (serving.max_passage_tokens or 0) > (most := positions(encoder.backbone)):
            raise UserError(
                f"variants: max_passage_tokens={serving.max_passage_tokens}: the model has positions for {most} tokens."
            )
        if (serving.width or 0) > encoder.width:
            raise UserError(f"variants: width={serving.width} is more than the embedding's {encoder.width}.")


def threads(encoder: Encoder) -> dict[str, int]:
    """By library: torch pools and normalises whatever engine runs the backbone."""
    return {"torch": torch.get_num_threads()} | getattr(encoder.backbone, "threads", {})


def footprint(encoder: Encoder) -> Footprint:
    backbone = encoder.backbone
    if isinstance(backbone, Exported):
        return backbone.footprint
    tensors = [plain for tensor in [*backbone.parameters(), *backbone.buffers()] for plain in _plain(tensor)]
    state = [plain for tensor in backbone.state_dict().values() for plain in _plain(tensor)]
    return Footprint(
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        memory_bytes=sum(tensor.nbytes for tensor in tensors),
        disk_bytes=len(safetensors.torch.save({str(n): tensor.contiguous() for n, tensor in enumerate(state)})),
    )


def _plain(tensor: Tensor) -> list[Tensor]:
    """What a quantised tensor is made of, which claims the dtype that it stands for; any other tensor itself."""
    if tensor.is_mkldnn:
        return [tensor.to_dense()]
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]


def _eager(backbone: PreTrainedModel, precision: str) -> nn.Module:
    if precision == "float32":
        return backbone
    own = copy.deepcopy(backbone)
    if precision == "bfloat16":
        return own.to(torch.bfloat16)  # type: ignore[arg-type]  # lost in a decorator
    _require("int8", "torchao")
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(own, Int8DynamicActivationInt8WeightConfig())  # of linear layers; embeddings stay float32
    return own


def _onednn(backbone: PreTrainedModel, precision: str) -> nn.Module:
    """torch, with all linear layers by oneDNN."""
    _refuse(precision == "int8", "backend=onednn cannot do precision=int8")
    _refuse(backbone.device.type == "cuda", "backend=onednn cannot do device=cuda")
    if not onednn.available():
        raise Unavailable("variants: this torch was built without oneDNN.")
    own = _eager(backbone, precision)
    if own is backbone:  # then it shares all but the linear layers
        own = copy.deepcopy(backbone, {id(parameter): parameter for parameter in backbone.parameters()})
    onednn.replace_linear(own)
    return own


def _compile(backbone: PreTrainedModel, precision: str) -> nn.Module:
    """Compiled here and not at the first text, which may be one that is timed: for batches, then for batch 1."""
    module = _eager(backbone, precision)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated", DeprecationWarning)  # torch's own
        warnings.filterwarnings("ignore", "Int8Tensor does not implement _stable_hash_for_caching", UserWarning)
        from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

        # All of it or an error: after a few shapes or models torch would else go on eagerly without a word.
        compiled = torch.compile(module, dynamic=True, fullgraph=True, isolate_recompiles=True)  # type: ignore[call-overload]
        try:
            compiled(**_example(backbone, texts=2))
            compiled(**_example(backbone, texts=1))
        except InductorError as error:
            if not isinstance(error.inner_exception, InvalidCxxCompiler | CppCompileError):
                raise
            raise Unavailable(
                "variants: backend=compile needs a C++ compiler such as g++, and none works here."
            ) from error
    return compiled


def _onnx(backbone: PreTrainedModel, precision: str) -> nn.Module:
    _refuse(precision == "bfloat16", "backend=onnx cannot do precision=bfloat16")
    device = backbone.device
    _refuse(precision == "int8" and device.type == "cuda", "backend=onnx cannot do precision=int8 on device=cuda")
    _require("onnx", "onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device.type]
    if provider not in onnxruntime.get_available_providers():
        raise Unavailable("variants: this onnxruntime knows no CUDA: pip install onnxruntime-gpu in its place.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as torch under OMP_WAIT_POLICY=passive
    with tempfile.TemporaryDirectory() as folder:
        path = _export(backbone, Path(folder))
        if precision == "int8":
            path = _quantise(path)
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
        file_bytes = _bytes(path)
    (output,) = session.get_outputs()
    place = device.type, device.index or 0

    def run(**inputs: Tensor) -> Tensor:
        hidden_NTD = torch.empty(*inputs["input_ids"].shape, backbone.config.hidden_size, device=device)
        binding = session.io_binding()
        for name, tensor in inputs.items():
            dtype = {torch.int64: np.int64, torch.bool: np.bool_}[tensor.dtype]
            binding.bind_input(name, *place, dtype, tensor.shape, tensor.data_ptr())
        binding.bind_output(output.name, *place, np.float32, hidden_NTD.shape, hidden_NTD.data_ptr())
        if device.type == "cuda":
            torch.cuda.synchronize()  # the engine has a stream of its own
        session.run_with_iobinding(binding)
        return hidden_NTD

    return Exported(backbone, run, {"onnxruntime": session.get_session_options().intra_op_num_threads}, file_bytes)


def _openvino(backbone: PreTrainedModel, precision: str) -> nn.Module:
    _refuse(backbone.device.type == "cuda", "backend=openvino cannot do device=cuda")
    _require("openvino", "onnx", "onnxscript", "openvino")
    import openvino

    core = openvino.Core()
    can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    _refuse(precision == "bfloat16" and "BF16" not in can, "backend=openvino cannot do precision=bfloat16 on this CPU")
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "ENABLE_CPU_PINNING": False,  # torch's threads are not pinned either
    }
    with tempfile.TemporaryDirectory() as folder:
        model = core.read_model(_export(backbone, Path(folder)))
        if precision == "int8":
            _compress(model)
        path = Path(folder, "served.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        compiled = core.compile_model(path, "CPU", settings)
        file_bytes = _bytes(path)
    request = compiled.create_infer_request()

    def run(**inputs: Tensor) -> Tensor:
        return torch.from_numpy(request.infer({name: tensor.numpy() for name, tensor in inputs.items()})[0])

    return Exported(backbone, run, {"openvino": compiled.get_property("INFERENCE_NUM_THREADS")}, file_bytes)


def _export(backbone: PreTrainedModel, folder: Path) -> Path:
    """As ONNX, for any number of texts and tokens."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # "no torchvision"
    axes_NT = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    example = _example(backbone, texts=2)
    with warnings.catch_warnings():  # of torch's exporter about torch
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            backbone, kwargs=example, dynamic_shapes=dict.fromkeys(example, axes_NT), dynamo=True, verbose=False
        )
    assert program  # typed as optional for the exporter of old
    # Tells onnxruntime's quantiser that shapes are inferred and the graph is simplified: torch did both.
    program.model.metadata_props["onnx.quant.pre_process"] = "onnxruntime.quant"
    path = folder / "exported.onnx"
    program.save(path, external_data=True)
    return path


def _quantise(path: Path) -> Path:
    """Weights, embeddings too, in 7 bits and activations in 8: products of 8 and 8 bits overflow the 16 bits in which
    a processor without VNNI adds pairs of them."""
    from onnxruntime.quantization import quantize_dynamic

    quantised = path.with_name("quantised.onnx")
    quantize_dynamic(path, quantised, per_channel=True, reduce_range=True)
    return quantised


def _compress(model: Any) -> None:
    """Weights of an OpenVINO model, embeddings too, as int8 with a scale for each output and each embedding. Where the
    processor has VNNI the plugin quantises activations as they come; elsewhere it multiplies in float32."""
    import openvino.opset13 as op

    places = {"MatMul": (1, 0), "Gather": (0, 1)}  # which input holds the weights, and the axis that shares a scale
    for node in model.get_ops():
        if node.get_type_name() not in places:
            continue
        port, axis = places[node.get_type_name()]
        source = node.input_value(port).get_node()
        if source.get_type_name() == "Constant" and (weight := source.get_data()).dtype == np.float32:
            scale = np.maximum(np.abs(weight).max(axis, keepdims=True) / 127, np.finfo(np.float32).tiny)
            int8 = op.convert(op.constant(np.round(weight / scale).astype(np.int8)), "f32")
            node.input(port).replace_source_output(op.multiply(int8, op.constant(scale)).output(0))


def _example(backbone: PreTrainedModel, texts: int) -> dict[str, Tensor]:
    """A batch of ids that are no padding; its numbers do not matter, but 0 and 1 are special to torch's exporter."""
    ids_NT = torch.full((texts, 7), 5, device=backbone.device)
    return {"input_ids": ids_NT, "attention_mask": torch.ones_like(ids_NT, dtype=torch.bool)}


def _bytes(path: Path) -> int:
    """Of a model's file and of the file beside it that holds its weights, if there is one."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))


def _refuse(impossible: bool, sentence: str) -> None:
    if impossible:
        raise UserError(f"variants: {sentence}.")


def _require(extra: str, *modules: str) -> None:
    if missing := [module for module in modules if find_spec(module) is None]:
        raise Unavailable(
            f"variants: {', '.join(missing)} is not installed: pip install -c constraints.txt -e '.[{extra}]'."
        )


BACKENDS: dict[str, Callable[[PreTrainedModel, str], nn.Module]] = {
    "eager": _eager,
    "onednn": _onednn,
    "compile": _compile,
    "onnx": _onnx,
    "openvino": _openvino,
}
