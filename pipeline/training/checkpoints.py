"""Checkpoints of a training: each is there whole or not at all, and nothing in it is unpickled.

    <folder>/step-00000050/weights.safetensors   what training changes
                           best.safetensors      the weights of the lowest held-out loss; empty before there is one
                           state.pt              optimiser, schedule, step, curve, … (torch.load, weights_only)
                           sha256.json           vouches for the files above (files.write_json)

`training` writes one every `trainer.checkpoint_every` steps and goes on from the newest sound one.
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

from pipeline.store.files import read_json, sync, write_json
from pipeline.values import UserError

KEPT = 2  # should the newest be broken, there is the one before it
FILES = ("weights.safetensors", "best.safetensors", "state.pt")


@dataclass(frozen=True)
class Checkpoint:
    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    state: Mapping[str, Any]  # plain values, and tensors on the CPU


def write(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write under a temporary name, sync, rename; then let all but the newest KEPT go."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".") as temporary:
        made = Path(temporary, f"step-{step:08d}")
        made.mkdir()
        save_file(dict(checkpoint.weights), made / "weights.safetensors")
        save_file(dict(checkpoint.best), made / "best.safetensors")
        torch.save(dict(checkpoint.state), made / "state.pt")
        write_json(made / "sha256.json", {}, [made / name for name in FILES])
        made.rename(folder / made.name)
    sync(folder)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def latest(folder: Path) -> Checkpoint | None:
    """The newest sound checkpoint. A broken one is named on stderr and removed; so is what a killed `write` left."""
    for unfinished in folder.glob(".*"):
        shutil.rmtree(unfinished)
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return read(path)
        except (OSError, UserError) as error:
            print(f"{path} is broken ({error}): going on from the checkpoint before it, if any.", file=sys.stderr)
            shutil.rmtree(path)
    return None


def read(path: Path) -> Checkpoint:
    """OSError or UserError if any file is not what was written."""
    read_json(path / "sha256.json")
    weights, best = load_file(path / "weights.safetensors"), load_file(path / "best.safetensors")
    return Checkpoint(weights, best, torch.load(path / "state.pt", map_location="cpu", weights_only=True))
