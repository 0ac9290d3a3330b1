"""The workers that encode a corpus together: processes and actors of Ray give the vectors of one process, or end."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_config import composed
from tiny import encoder

from pipeline import config
from pipeline.encoder import encoding
from pipeline.encoder.deploy import save
from pipeline.encoder.encoding import encode_shards, missing_shards
from pipeline.encoder.worker import Worker
from pipeline.launch.crew import COMMAND, Crew, check_room
from pipeline.store.shards import Shards
from pipeline.values import Variant

COUNT, SIZE, WIDTH, BUDGET = 70, 16, 32, 64
TEXTS = [f"passage {n}" + " and more" * (n % 7) for n in range(COUNT)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """In this process as in the workers: a product of matrices that threads share may round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def memory_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's count is of the whole machine, where another test may run out of memory at the same moment."""
    for module in ("child", "crew"):
        monkeypatch.setattr(f"pipeline.launch.{module}.oom_kills", lambda: 0)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder."""
    folder = tmp_path_factory.mktemp("deployed")
    save(encoder(), Variant(), folder)
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The vectors as one process encodes them."""
    shards = Shards(str(tmp_path_factory.mktemp("expected")), SIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "SHARD", SIZE)
        patch.setattr(encoding, "CHUNK", SIZE)  # a worker's chunk ends with its shard
        encode_shards(encoder(), TEXTS, "passage", shards, range(0, COUNT, SIZE), token_budget=BUDGET)
    return np.asarray(shards.rows(COUNT, WIDTH))


def crew(folder: Path, *overrides: str) -> Crew:
    return Crew(config.check(composed("threads=1", "device=cpu", "encode.workers=2", *overrides)), lambda: folder)


def encode(workers: Crew, shards: Shards, firsts: list[int]) -> None:
    workers.encode(TEXTS, "passage", shards, firsts, token_budget=BUDGET, progress="corpus")


def test_two_processes_give_the_vectors_of_one(
    deployed: Path, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a worker was killed: the run fails with the reason, and its shard alone is lost."""
    monkeypatch.setattr(encoding, "SHARD", SIZE)
    monkeypatch.setattr(encoding, "CHUNK", SIZE)
    shards = Shards(str(tmp_path / "shards"), SIZE)
    with crew(deployed) as workers:
        encode(workers, shards, [])
        assert workers.members == []  # nothing to do, so none was started
        encode(workers, shards, [0, 16])
        processes = [member.process for member in workers.members]
        processes[0].kill()
        with pytest.raises(RuntimeError, match="a worker that encodes: killed by SIGKILL"):
            encode(workers, shards, [32, 48, 64])
        assert [process.poll() for process in processes] == [-9, -9]
    lost = missing_shards(shards, COUNT, WIDTH, None)
    assert {0, 16}.isdisjoint(lost)
    encode_shards(encoder(), TEXTS, "passage", shards, lost, token_budget=BUDGET)  # as a resumed run may
    np.testing.assert_array_equal(np.asarray(shards.rows(COUNT, WIDTH)), expected)


def test_ray_gives_the_vectors_of_one_process(
    deployed: Path, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve them
    shards = Shards(str(tmp_path), SIZE, "float16")
    with crew(deployed, "encode.ray=local") as workers:
        encode(workers, shards, [*range(0, COUNT, SIZE)])
        refusing = Shards("/proc/shards", SIZE)
        with pytest.raises(RuntimeError, match=r"a worker that encodes: .*Error: .*/proc/shards"):
            encode(workers, refusing, [0])
    stored = expected.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(shards.rows(COUNT, WIDTH)), stored)


def test_a_worker_ends_when_its_run_is_gone() -> None:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
    process.communicate(b'{"folder": "none", "threads": 1, "device": "cpu"}\n', timeout=120)
    assert process.returncode == -9


def test_a_worker_says_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = {"texts": ["a"], "side": "passage", "token_budget": 8, "first": 0}
    task |= {"url": str(tmp_path), "size": 1, "precision": "float32"}
    answer = Worker(str(tmp_path / "missing"), 1, "cpu").perform(task)
    assert answer["error"].startswith("FileNotFoundError: ")
    assert not answer["out_of_memory"]
    assert "Traceback" in capsys.readouterr().err


def test_a_cluster_that_is_too_small_is_refused(deployed: Path) -> None:
    settings = crew(deployed, "threads=4").config
    check_room(settings, {"CPU": 8.0})
    with pytest.raises(config.UserError, match=r"encode\.workers=2: they need 8 CPUs; the Ray cluster at None has 7\."):
        check_room(settings, {"CPU": 7.0})


def test_ray_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.groups.find_spec", lambda name: None)
    with pytest.raises(config.UserError, match=r"encode\.ray=auto: ray is missing: pip install"):
        config.check(composed("encode.ray=auto"))
