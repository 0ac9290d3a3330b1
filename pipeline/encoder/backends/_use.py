"""The Universal Sentence Encoder where it was deployed (encoder.use): no backend that other encoders can choose."""

from pathlib import Path

from tokenizers import Tokenizer

from pipeline.encoder.deployed import Description, Session
from pipeline.encoder.use import GRAPH, runner


def preload(folder: Path) -> None:
    """Import ONNX Runtime."""
    import onnxruntime  # noqa: F401


def load(folder: Path, description: Description, tokenizer: Tokenizer, *, threads: int, device: str) -> Session:
    """Return the encoder."""
    run = runner(str(folder / GRAPH), threads)
    return Session(description, tokenizer, run, threads={"onnxruntime": threads}, device_type=device)
