"""What goes wrong in a night of runs, done for real: processes that are killed, hang or run twice, full disks."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import torch
from command import SMALL, TINY, child_of, descendants, inside, is_server, manifest, records, run, start
from hydra import compose, initialize_config_dir
from records import add_run

from pipeline.config import check
from pipeline.launch import child, signals, worker
from pipeline.launch.commands import command
from pipeline.launch.request import make_request
from pipeline.launch.signals import ENDINGS, Terminated, passed_on
from pipeline.store.results import ResultStore
from pipeline.store.stage import unheard
from pipeline.values import WARNINGS

ROOT = Path(__file__).parent.parent


def sentences(err):
    return [line for line in err.splitlines() if line.startswith("error: ")]


def ended(process):
    """Whether a process is gone, or will be in a moment."""
    return process in psutil.wait_procs([process], timeout=20)[0]


def status(sweep, folder):
    code, out, err = inside(sweep, cwd=folder, module="pipeline.status")
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


@pytest.mark.slow
def test_a_read_only_mount_can_be_read_and_what_writes_is_refused(tmp_path):
    add_run(ResultStore(tmp_path / "results"), "toy", 3, "hybrid")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounted = "mount --bind results results && mount -o remount,ro,bind results"
    if subprocess.run([*unshare, mounted], cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("no namespace for mounts here")

    def ends(*arguments):
        command = [*unshare, f'{mounted} && exec "$@"', "sh", sys.executable, "-m", *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    code, out, err = ends("pipeline.status", "toy")
    assert (code, out.splitlines()[-1]) == (0, "toy: 1 of 1 run; finished"), err
    code, out, err = ends("pipeline.recommend", "toy")
    assert code == 0, err
    assert out.startswith("Deploy e5-small-l3 with hybrid batches: ")
    for writes in (["pipeline.report", "toy"], ["pipeline.run", "-m", *TINY]):
        code, _, err = ends(*writes)
        assert code == 2, err
        (sentence,) = sentences(err)
        assert "Read-only file system" in sentence
        assert "results/" in sentence or "results_dir=results cannot be written" in sentence
        assert "Traceback" not in err
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "multirun" not in str(path)}
    assert after == before


@pytest.mark.slow
def test_a_kill_and_a_nan_loss_are_failures(tmp_path):
    nan = ["sampler=monolingual", "trainer.temperature=1e-50", "trainer.steps=3"]
    process = start("-m", *SMALL, *nan, "seed=0,1", "sweep=failing", cwd=tmp_path)
    child_of(process).send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    first, second = manifest(tmp_path, "failing")
    assert first["status"] == "failed"
    assert first["reason"] in ("killed by SIGKILL, not for memory", child.without_answer(-9, None)["reason"])
    assert second["status"] == "failed"
    assert second["reason"].startswith("FloatingPointError: the loss is nan at step")
    assert not list(tmp_path.glob("results/stages/train-*/done.json"))
    table = [line for line in err.splitlines() if line.startswith("failed ")]
    for line, state in zip(table, (first, second), strict=True):
        assert line.endswith(f"  {state['reason']}")
    assert "2 failed" in err.splitlines()
    assert sentences(err) == ["error: sweep failing in results has no finished run."]


@pytest.mark.slow
def test_a_kill_for_memory_is_tried_again_with_half_the_tokens(tmp_path, monkeypatch):
    """The kernel's word is a file here; the child that is killed is real."""
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 5\noom_kill 3\n")
    monkeypatch.setattr(child, "KILL_COUNTS", [vmstat, tmp_path / "no cgroup"])
    assert child.oom_kills() == 3
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=[*SMALL, "sampler=monolingual", f"results_dir={tmp_path / 'results'}"])
    request = make_request(check(cfg), {"model": "m", "sampler": "s", "data": "d"})

    def kill_first_child():
        worker = child_of(psutil.Process())
        vmstat.write_text("pgfault 6\noom_kill 4\n")
        worker.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_first_child)
    killer.start()
    assert child.attempt(request, None, fresh=False) == {"status": "done"}
    killer.join()
    (record,) = records(tmp_path)
    assert record["config"]["trainer"]["forward_tokens"] == 1024  # as it was asked for: it is still the same system
    assert "Out of memory: forward passes took 1/2 of the usual tokens." in record["notes"]


def test_why_a_child_died_without_an_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "KILL_COUNTS", [tmp_path / "vmstat", tmp_path / "memory.events"])
    assert child.oom_kills() is None
    assert "perhaps for memory" in child.without_answer(-signal.SIGKILL, None)["reason"]
    (tmp_path / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert child.without_answer(-signal.SIGKILL, 0)["status"] == "out of memory"
    assert child.without_answer(-signal.SIGKILL, 1) == {
        "status": "failed",
        "reason": "killed by SIGKILL, not for memory",
    }
    assert child.without_answer(-signal.SIGSEGV, 0) == {"status": "failed", "reason": "killed by SIGSEGV"}
    assert "exited with code 3" in child.without_answer(3, 0)["reason"]


def test_a_long_reason_does_not_block(tmp_path):
    """A line of 200 kB in a data file would fill the pipe that the child answers through."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/en.jsonl").write_text('{"id": "' + "x" * 200_000 + '"}\n')
    code, _, err = run("data=parallel", "data.path=data", "data.languages=[en]", "sampler=monolingual",
                       "model=e5-small-l3", "model.layers=1", cwd=tmp_path)  # fmt: skip
    assert code == 2, err[-500:]
    assert "Traceback" not in err


def test_every_answer_of_a_child_fits_into_its_pipe():
    """The parent reads when the child has ended: an answer longer than a pipe's 64 KiB would block both for ever."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=[*TINY, "sampler=none"])
    cfg.results_dir = "/" + "\U0001f600" * 100_000  # the system's refusal repeats it
    outcome = worker.perform(make_request(check(cfg), {"model": "m", "sampler": "s", "data": "d"}), unheard)
    assert outcome["status"] == "failed"
    assert outcome["reason"].startswith("OSError: [Errno 36] File name too long")
    assert 40_000 < len(json.dumps(outcome)) < 65_536


def test_a_child_that_hangs_is_ended_with_all_it_started(tmp_path):
    process = start(*TINY, "time_limit_min=0.05", cwd=tmp_path)
    worker = child_of(process)
    worker.suspend()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert out == ""  # no path of a record that is not there
    assert "took longer than time_limit_min=0.05" in err
    assert ended(worker)
    assert manifest(tmp_path, "adhoc")[0]["status"] == "failed"


def leaves(process, folder, number, sentence):
    """Send a signal to a sweep with a worker: both end, with the sentence and the exit code of the signal."""
    worker = child_of(process)
    (server,) = descendants(psutil.Process(process.pid), is_server)
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert f"{sentence}: run the same command again to resume" in err.splitlines()
    assert ended(worker)
    assert ended(server)
    assert status("stopped", folder)[-1].startswith("stopped: 0 of 1 run; dead")
    assert not list(folder.glob("results/**/.*-*"))


def test_ctrl_c_ends_everything_and_keeps_the_state(tmp_path):
    leaves(start("-m", *TINY, "sweep=stopped", cwd=tmp_path), tmp_path, signal.SIGINT, "interrupted")


@pytest.mark.slow
def test_a_warning_of_slurm_ends_everything_too(tmp_path):
    """Of a sweep by joblib, whose processes are not commands of ours."""
    launcher = ["launcher=joblib", "hydra.launcher.n_jobs=1"]
    leaves(start("-m", *TINY, *launcher, "sweep=stopped", cwd=tmp_path), tmp_path, signal.SIGUSR1, "preempted")


@pytest.mark.slow
def test_process_1_of_a_container_ends_by_sigterm(tmp_path):
    """The kernel hides from process 1 every signal that it has no handler for."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace for processes here")
    command = [*unshare, sys.executable, "-m", "pipeline.run", "-m", *TINY, "sweep=stopped"]
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=err)
    worker = child_of(process)
    (first,) = psutil.Process(process.pid).children()
    first.send_signal(signal.SIGTERM)
    assert process.wait(timeout=240) == 128 + signal.SIGTERM
    assert (tmp_path / "err").read_text().endswith("terminated: run the same command again to resume\n")
    assert ended(worker)


@pytest.fixture
def heard():
    """The signals that reach whoever handled them before; SIGHUP is ignored, as by nohup."""
    numbers: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR2)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda number, frame: numbers.append(number))
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_is_passed_on_to_a_launcher_and_what_the_shell_ignores_stays_ignored(heard):
    with passed_on():
        signal.raise_signal(signal.SIGHUP)
    with pytest.raises(Terminated), passed_on():
        signal.raise_signal(signal.SIGUSR2)
    assert heard == [signal.SIGUSR2]


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDINGS, *WARNINGS])
def test_every_signal_ends_a_command_with_its_sentence_and_code(number, capsys, monkeypatch):
    monkeypatch.setattr(signals, "LONGEST_S", 3600)  # this process goes on
    with pytest.raises(SystemExit) as ended, command():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == f"{signals.WORDS[number]}: run the same command again to resume\n"


def test_ctrl_c_in_the_middle_of_a_copy_is_still_ctrl_c(capsys):
    """OmegaConf restores a flag that a copy, cut short, does not have yet."""

    def copy():
        try:
            raise KeyboardInterrupt
        finally:
            raise AttributeError("_flags")

    with pytest.raises(SystemExit, match="130"), command():
        copy()
    assert capsys.readouterr().err == "interrupted: run the same command again to resume\n"
    with pytest.raises(AttributeError), command():
        raise AttributeError


@pytest.mark.slow
def test_a_dead_sweep_is_finished_by_two_at_once_and_what_is_damaged_is_made_again(tmp_path):
    command = ["-m", *SMALL, "sampler=monolingual", "sweep=twice"]
    dead = start(*command, cwd=tmp_path)
    worker = child_of(dead)
    (server,) = descendants(psutil.Process(dead.pid), is_server)
    assert status("twice", tmp_path)[-1].endswith("; running")
    dead.kill()
    dead.communicate()
    assert ended(worker)  # it notices by itself
    assert ended(server)
    table, *_, last = status("twice", tmp_path)
    assert table.startswith("waiting ")
    assert last.startswith("twice: 0 of 1 run; dead")

    first = start(*command, cwd=tmp_path)
    worker = child_of(first)
    worker.suspend()  # until the second is there: its start may take longer than the whole run
    second = start(*command, cwd=tmp_path)
    try:
        waits = next(line for line in second.stderr if line.startswith("  waiting for "))
    finally:
        worker.resume()
    said = [process.communicate(timeout=240)[1].splitlines() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), (said, waits)
    for stage in ("train", "rank", "score"):
        assert sum(line == f"  {stage} …" for lines in said for line in lines) == 1
    assert any("] cached in 0 s" in line for line in said[1])
    (before,) = records(tmp_path)
    assert status("twice", tmp_path)[-1] == "twice: 1 of 1 run; finished"

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


@pytest.mark.slow
def test_two_hosts_finish_one_sweep_together(tmp_path):
    """Each has a name and a network of its own; they share the results folder alone."""
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']
    if subprocess.run([*unshare, "a", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for names and networks here")
    sweep = ["-m", *SMALL, "sampler=monolingual,hybrid", "threads=1", "sweep=shared"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def begin(host, folder):
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [*unshare, host, sys.executable, "-m", "pipeline.run", *sweep]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path / folder, env=environment, **pipes)

    hosts = [begin("a", "two"), begin("b", "two")]
    said = [host.communicate(timeout=240)[1].splitlines() for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], said
    for stage in ("train", "rank", "score"):
        assert sum(line == f"  {stage} …" for lines in said for line in lines) == 2
    alone = begin("c", "one")
    _, err = alone.communicate(timeout=240)
    assert alone.returncode == 0, err
    for table in ("metrics.csv", "tests.csv", "winners.csv"):
        assert (tmp_path / "two/results/shared" / table).read_bytes() == (
            tmp_path / "one/results/shared" / table
        ).read_bytes()
    assert list((tmp_path / "two/results/locks").iterdir()) == []
    assert not list((tmp_path / "two").glob("results/**/.*-*"))
    assert status("shared", tmp_path / "two")[-1] == "shared: 2 of 2 runs; finished"


@pytest.mark.slow
def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(tmp_path):
    process = start(*TINY, cwd=tmp_path)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))  # bytes, of any file
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "] failed in " in err
    assert "File too large" in err
    assert sentences(err)[-1].startswith("error: the manifest of adhoc cannot be written, e5-small-")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_torch_says_in_two_ways_that_memory_does_not_suffice():
    from pipeline.launch.worker import is_out_of_memory

    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 46)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
