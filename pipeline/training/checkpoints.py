"""Checkpoints of a training. Each is written completely or not at all, and reading one unpickles no code.

    <folder>/step-00000050/weights.safetensors   the trainable weights
                           best.safetensors      weights of the lowest held-out loss; empty before the first validation
                           state.pt              optimizer, schedule, step, curve, … (torch.load with weights_only)
                           sha256.json           checksums of the files above (store.files.write_json)

`module.Contrastive` writes one every `trainer.checkpoint_every` steps; `fit` resumes from the newest intact one.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.store.files import full_disk_named, read_json, sync, write_json
from pipeline.values import UserError

KEEP = 2  # if the newest is damaged, training resumes from the one before it
FILES = ("weights.safetensors", "best.safetensors", "state.pt")


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to resume. Weights are by parameter name of the encoder."""

    weights: Mapping[str, Tensor]
    best_weights: Mapping[str, Tensor]
    state: Mapping[str, Any]  # plain values, and tensors on the CPU


def write(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a step, then remove all but the newest KEEP.

    The files are written under a temporary name, synced and renamed, so a kill or a full disk (OSError) leaves the
    earlier checkpoints as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".") as temporary:
        path = Path(temporary, f"step-{step:08d}")
        path.mkdir()
        with full_disk_named(folder / path.name):
            save_file(dict(checkpoint.weights), path / "weights.safetensors")
            save_file(dict(checkpoint.best_weights), path / "best.safetensors")
            torch.save(dict(checkpoint.state), path / "state.pt")
        write_json(path / "sha256.json", {}, [path / name for name in FILES])
        path.rename(folder / path.name)
    sync(folder)
    for path in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(path)


def latest(folder: Path) -> Checkpoint | None:
    """Return the newest intact checkpoint.

    Damaged checkpoints are reported on stderr and removed, as is what a killed `write` left behind.
    """
    for leftover in folder.glob(".*"):
        shutil.rmtree(leftover)
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return read(path)
        except (OSError, UserError) as error:
            print(
                f"{path} is damaged, training resumes from the checkpoint before it, if any: {error}", file=sys.stderr
            )
            shutil.rmtree(path)
    return None


def read(path: Path) -> Checkpoint:
    """Read one checkpoint; OSError or UserError if any of its files is missing or damaged."""
    read_json(path / "sha256.json")
    weights, best_weights = load_file(path / "weights.safetensors"), load_file(path / "best.safetensors")
    return Checkpoint(weights, best_weights, torch.load(path / "state.pt", map_location="cpu", weights_only=True))
