"""What a reader needs to trust or repeat a run, and the sentences that must stand wherever its figures do."""

import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pipeline.data import leakage
from pipeline.encoder.model import Encoder
from pipeline.values import Collection, ParallelText

LIBRARIES = (
    "torch", "transformers", "pytorch-lightning", "numpy", "faiss-cpu", "faiss-gpu", "codecarbon", "babel",
    "onnxruntime", "openvino", "torchao", "peft",
)  # fmt: skip


def provenance(
    encoder: Encoder, data: ParallelText, benchmarks: Mapping[str, Collection], device: str
) -> dict[str, Any]:
    """What a reader needs to trust or repeat the run."""

    def installed(library: str) -> str | None:
        try:
            return version(library)
        except PackageNotFoundError:
            return None

    command = ["git", "describe", "--always", "--dirty"]
    git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return {
        "layers": encoder.backbone.config.num_hidden_layers,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "data": dict(data.provenance) | {"name": data.name, "rows": len(data), "languages": list(data.languages)},
        "eval": {collection.name: dict(collection.provenance) for collection in benchmarks.values()},
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "libraries": {library: installed(library) for library in LIBRARIES if installed(library)},
        "commit": git.stdout.strip() or None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def notes(
    data: ParallelText,
    benchmarks: Mapping[str, Collection],
    leaks: Mapping[str, dict[str, Any]],
    cost_only: bool,
    halvings: int,
) -> tuple[str, ...]:
    """Sentences that must stand wherever the run's figures do."""
    sources = [data.provenance, *(collection.provenance for collection in benchmarks.values())]
    said = [str(source["note"]) for source in sources if source.get("note")]
    said += [text for benchmark, found in leaks.items() if (text := leakage.sentence(data.name, benchmark, found))]
    if cost_only:
        said.append("Random weights: cost only, no accuracy.")
    if halvings:
        said.append(f"Out of memory: 1/{2**halvings} of the usual tokens went through the encoder at once.")
    return tuple(dict.fromkeys(said))
