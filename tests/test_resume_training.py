"""A killed training resumes and ends bit-identical; a damaged checkpoint is never used."""

import math
import os
import resource
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import forked
import pytest
import tiny
import torch
from tiny import LONG, encoder, train

from pipeline.store import files
from pipeline.training.checkpoints import FILES, Checkpoint, latest, write

TIMED = {"pairs_per_s"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(tmp_path_factory.mktemp("undisturbed"), **LONG)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a training that received SIGKILL between two checkpoints."""
    folder = tmp_path_factory.mktemp("killed") / "checkpoints"
    process = forked.start(partial(train, **LONG), folder, stderr=folder.parent / "stderr")
    while process.is_alive() and not (folder / "step-00000040").exists():
        time.sleep(0.001)
    process.kill()
    assert forked.finish(process) == -signal.SIGKILL
    return folder


def steps(folder):
    return [int(path.name.removeprefix("step-")) for path in sorted(folder.glob("step-*"))]


def assert_same(one, other):
    """Compare weights and curve bit by bit, apart from timings."""
    for name, value in one[0].state_dict().items():
        assert torch.equal(value, other[0].state_dict()[name]), name
    untimed = [[{k: v for k, v in point.items() if k not in TIMED} for point in run[1]] for run in (one, other)]
    assert untimed[0] == untimed[1]
    assert one[2] == other[2]


def test_a_killed_training_resumes_and_ends_bit_identical(undisturbed, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "copy")
    assert 40 <= steps(folder)[-1] < LONG["steps"]
    (folder / ".unfinished").mkdir()  # as left by a kill while a checkpoint is written
    best = min(undisturbed[1], key=lambda point: point.get("held_out_loss", math.inf))
    assert best["step"] < 40  # so the best weights come from the checkpoint
    resumed = train(folder, **LONG)
    assert_same(resumed, undisturbed)
    assert steps(folder) == [100, 120]
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, path.stat().st_size - 1), Path.unlink, "flip"])
@pytest.mark.parametrize("name", [*FILES, "sha256.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(killed, tmp_path, capsys, name, damage):
    folder = shutil.copytree(killed, tmp_path / "copy")
    before, newest = steps(folder)[-2:]
    path = folder / f"step-{newest:08d}" / name
    if damage == "flip":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        damage(path)
    assert latest(folder).state["progress"]["step"] == before
    (message,) = capsys.readouterr().err.splitlines()
    assert f"step-{newest:08d} is damaged" in message
    assert steps(folder)[-1] == before


@pytest.mark.parametrize("changes", [{"hard_negatives": 2}, {"lora_rank": 2}], ids=str)
def test_every_kind_of_training_resumes_bit_identical(tmp_path, monkeypatch, changes):
    if "lora_rank" in changes:
        pytest.importorskip("peft")
    whole = train(tmp_path, dropout=0.1, **changes)
    shutil.rmtree(tmp_path / "step-00000006")
    monkeypatch.setattr("pipeline.training.negatives.mine", None)  # mined rows are stored
    assert_same(train(tmp_path, dropout=0.1, **changes), whole)


def test_without_an_intact_checkpoint_training_starts_again(undisturbed, killed, tmp_path, capsys):
    folder = shutil.copytree(killed, tmp_path / "copy")
    for path in folder.glob("*/weights.safetensors"):
        os.truncate(path, 100)
    assert_same(train(folder, **LONG), undisturbed)
    assert capsys.readouterr().err.count("is damaged, training resumes") >= 2


def train_with_a_signal(folder, number):
    """After the third step, to all processes of the group, as Slurm sends it."""
    os.setpgid(0, 0)

    def warn(point):
        if point["step"] == 3:
            os.killpg(0, number)

    tiny.fit = partial(tiny.fit, on_point=warn)
    train(folder, checkpoint_every=100)


def test_a_warning_of_slurm_writes_a_checkpoint_and_ends_the_training(tmp_path):
    """As many steps are kept as were made, whatever `checkpoint_every` says, and the training resumes bit-identical."""
    process = forked.start(train_with_a_signal, tmp_path, signal.SIGUSR1, stderr=tmp_path.parent / "stderr")
    assert forked.finish(process) == -signal.SIGUSR1, (tmp_path.parent / "stderr").read_text()
    assert steps(tmp_path) == [3]
    assert_same(train(tmp_path), train(tmp_path / "whole"))


def test_sigterm_ends_a_training_at_once_and_by_its_name(tmp_path):
    """Lightning would exit with 1, as a training that failed does."""
    process = forked.start(train_with_a_signal, tmp_path, signal.SIGTERM, stderr=tmp_path.parent / "stderr")
    assert forked.finish(process) == -signal.SIGTERM, (tmp_path.parent / "stderr").read_text()
    assert steps(tmp_path) == []


def test_a_finished_training_is_not_repeated(tmp_path, monkeypatch):
    first = train(tmp_path)
    monkeypatch.setattr("pipeline.training.fit.run", None)
    assert_same(train(tmp_path), first)


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    weights = dict(encoder().trained())
    write(tmp_path, 1, Checkpoint(weights, {}, {"step": 1}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 2, Checkpoint(weights, {}, {"step": 2}))
    monkeypatch.undo()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, state in {"weights": {}, "state": {"much": torch.zeros(100_000)}}.items():
        small = weights if name == "weights" else {}
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # bytes, of any file
        try:
            with pytest.raises(OSError, match=r"step-00000002 cannot be written: is the disk full\?$"):
                write(tmp_path, 2, Checkpoint(small, {}, state))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert latest(tmp_path).state == {"step": 1}
