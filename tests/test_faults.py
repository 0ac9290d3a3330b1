"""What goes wrong in a night of cells, done for real: processes that are killed, hang or run twice, full disks."""

import resource
import signal

import psutil
import pytest
from command import SMALL, TINY, cells, child_of, records, run, start


def sentences(err):
    return [line for line in err.splitlines() if line.startswith("error: ")]


def ended(process):
    """Whether a process is gone, or will be in a moment."""
    return process in psutil.wait_procs([process], timeout=20)[0]


def status(sweep, folder):
    code, out, err = run(sweep, cwd=folder, module="pipeline.status")
    assert code == 0, err
    return out.splitlines()


def test_results_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for mode in ([], ["-m"]):
        code, _, err = run(*mode, *TINY, "results_dir=file/results", cwd=tmp_path)
        assert code == 2, err
        assert sentences(err)[0].startswith("error: results_dir=file/results cannot be written")
        assert "Traceback" not in err
        assert "load" not in err


def test_a_kill_at_the_smallest_chunks_and_a_loss_that_is_no_number_are_failures(tmp_path):
    nan = ["sampler=monolingual", "trainer.learning_rate=1e30", "trainer.steps=3"]
    process = start("-m", *SMALL, *nan, "seed=0,1", "sweep=failing", cwd=tmp_path)
    child = None
    for _ in range(3):
        child = child_of(process, other_than=child)
        child.send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    first, second = cells(tmp_path, "failing")
    assert (first["status"], first["reason"]) == ("failed", "killed by SIGKILL (the out-of-memory killer does this)")
    assert second["status"] == "failed"
    assert second["reason"].startswith("FloatingPointError: the loss is nan at step")
    assert not list(tmp_path.rglob("done.json"))
    table = [line for line in err.splitlines() if line.startswith("failed ")]
    assert [line.partition(" s  ")[2] for line in table] == [first["reason"], second["reason"]]
    assert err.splitlines()[-1] == "2 failed"


def test_a_child_that_hangs_is_ended_with_all_it_started(tmp_path):
    process = start(*TINY, "time_limit_min=0.05", cwd=tmp_path)
    child = child_of(process)
    child.suspend()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "took longer than time_limit_min=0.05" in err
    assert ended(child)
    assert cells(tmp_path, "adhoc")[0]["status"] == "failed"


def test_ctrl_c_ends_everything_and_keeps_the_state(tmp_path):
    process = start("-m", *TINY, "sweep=stopped", cwd=tmp_path)
    child = child_of(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "interrupted: the same command goes on where this one stopped"
    assert ended(child)
    assert status("stopped", tmp_path)[-1].startswith("stopped: 0 of 1 cells; dead")


def test_a_dead_sweep_is_finished_by_two_at_once_and_what_is_damaged_is_made_again(tmp_path):
    command = ["-m", *SMALL, "sampler=monolingual", "sweep=twice"]
    dead = start(*command, cwd=tmp_path)
    child = child_of(dead)
    assert status("twice", tmp_path)[-1].endswith("; running")
    dead.kill()
    dead.communicate()
    assert ended(child)  # it notices by itself
    table, *_, last = status("twice", tmp_path)
    assert table.startswith("waiting ")
    assert last.startswith("twice: 0 of 1 cells; dead")

    first = start(*command, cwd=tmp_path)
    child_of(first).send_signal(signal.SIGKILL)  # for want of memory, as it were: it is tried again
    second = start(*command, cwd=tmp_path)
    said = [process.communicate(timeout=240)[1].splitlines() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    for stage in ("train", "evaluate"):
        assert sum(line == f"  {stage} …" for lines in said for line in lines) == 1
    assert any(line.startswith("  waiting for ") for line in said[1])
    assert any("] cached in 0 s" in line for line in said[1])
    (before,) = records(tmp_path)
    assert "Out of memory: 1/2 of the usual tokens went through the encoder at once." in before["notes"]
    assert status("twice", tmp_path)[-1] == "twice: 1 of 1 cells; finished"

    (encoder,) = tmp_path.glob("results/stages/train-*/encoder/model.safetensors")
    encoder.write_bytes(encoder.read_bytes()[:-1])
    (record,) = tmp_path.glob("results/runs/*/record.json")
    record.write_text(record.read_text()[:-100])
    code, _, err = run(*command, cwd=tmp_path)
    assert code == 0, err
    for path in (encoder, record):
        assert f"{path.relative_to(tmp_path)} is damaged" in err
    (after,) = records(tmp_path)
    assert after["metrics"] == pytest.approx(before["metrics"], abs=1e-3)


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(tmp_path):
    process = start(*TINY, cwd=tmp_path)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))  # bytes, of any file
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "] failed in " in err
    assert "File too large" in err
    assert sentences(err)[-1].startswith("error: how e5-small-")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_torch_says_in_two_ways_that_memory_does_not_suffice():
    import torch

    from pipeline.experiment import out_of_memory

    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 46)
    assert out_of_memory(raised.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes differ"))
