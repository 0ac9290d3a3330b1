"""Memory meter: what a process that serves the encoder needs, from its start on. Needs Linux's /proc.

This process is such a process: it imports the engine, loads the deployed folder and encodes one batch, and little else
(the meter itself). An engine that maps its file into memory, as ONNX Runtime and OpenVINO do, counts the pages that it
has touched. An index is measured after that, and counted apart.

"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from pipeline.profiling.meter import Figure, Job
from pipeline.profiling.samples import distinct_texts
from pipeline.profiling.served import Served

MIB = 2**20
Built = TypeVar("Built")
Made = TypeVar("Made")


class Memory(TypedDict):
    """`idle_rss_mib` is that of the process before it builds; the peaks are of the whole process as well."""

    idle_rss_mib: float
    load_peak_rss_mib: float
    serving_peak_rss_mib: float
    file_rss_mib: float  # of the serving process: pages of files (libraries, mapped weights), which processes may share
    gpu_peak_allocated_mib: float | None
    gpu_peak_reserved_mib: float | None


class MemoryResult(Memory):
    parameters: int | None
    weights_mib: float
    weights_on_disk_mib: float
    index_bytes_per_passage: float | None
    index_missing: str | None  # why there was no index


def run(job: Job, load: Callable[[], Served]) -> MemoryResult:
    """Measure the loading of what serves, and its work on passages of the largest token budget."""

    def encode_batch(served: Served) -> Any:
        texts = distinct_texts(
            job.texts_of("passage"),
            lambda text: len(served.tokenize(text, "passage")),
            max(job.settings.token_budgets),
        )
        return served.encode(texts, "passage", job.token_budget)

    served, encoded, measured = measure(load, encode_batch, device=job.device)
    facts = served.facts()
    return {
        **measured,
        "parameters": facts["parameters"],
        "weights_mib": facts["weights_bytes"] / MIB,
        "weights_on_disk_mib": facts["weights_on_disk"] / MIB,
        "index_bytes_per_passage": None if served.missing else served.index_bytes(encoded),
        "index_missing": served.missing,
    }


def figures(result: MemoryResult, job: Job) -> dict[str, Figure]:
    """Return the memory of the process and of the GPU, and the sizes of weights and of a flat index."""
    index = (
        f"not measured: {result['index_missing']}"
        if result["index_missing"]
        else "measured: bytes of the saved index; of vectors its growth, of BM25 postings and vocabulary"
    )
    no_gpu = "not measured: no CUDA device"
    allocated, reserved = result["gpu_peak_allocated_mib"], result["gpu_peak_reserved_mib"]
    peak_mib = max(result["load_peak_rss_mib"], result["serving_peak_rss_mib"])
    return {
        "peak_rss_mib": Figure(peak_mib, "measured: VmHWM of the process that loads and serves the encoder"),
        "load_peak_rss_mib": Figure(result["load_peak_rss_mib"], "measured: VmHWM from the start until loaded"),
        "encoder_rss_mib": Figure(
            result["serving_peak_rss_mib"] - result["idle_rss_mib"],
            "measured: VmHWM while encoding, less VmRSS before loading",
        ),
        "gpu_peak_allocated_mib": Figure(
            allocated, no_gpu if allocated is None else "measured: torch.cuda.max_memory_allocated"
        ),
        "gpu_peak_reserved_mib": Figure(
            reserved, no_gpu if reserved is None else "measured: torch.cuda.max_memory_reserved"
        ),
        "weights_mib": Figure(result["weights_mib"], "measured: parameters and buffers, or the engine's model file"),
        "weights_on_disk_mib": Figure(result["weights_on_disk_mib"], "measured: size of the deployed weights"),
        "index_bytes_per_passage": Figure(result["index_bytes_per_passage"], index),
        "parameters": Figure(
            result["parameters"],
            "not measured: BM25 has no parameters" if result["parameters"] is None else "measured: counted",
        ),
    }


def status_mib(field: str, process: int | str = "self") -> float:
    """Return VmRSS (resident now), VmHWM (its peak), RssAnon or RssFile (now: without mapped files, or these alone).

    Args:
        process: its id.

    proc_pid_status(5) gives KiB.
    """
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    )
    return int(lines[field].split()[0]) / 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # proc_pid_clear_refs(5): sets VmHWM to VmRSS


def measure(build: Callable[[], Built], use: Callable[[Built], Made], *, device: str) -> tuple[Built, Made, Memory]:
    """Build the encoder and let it work; return both results and what they took.

    The peak while loading depends on the file format, so it is kept apart. The GPU's peaks, at work too, are torch's
    own: what it handed out (allocated) and took from the driver (reserved).
    """
    idle_mib = status_mib("VmRSS")
    built = build()
    load_peak_mib = status_mib("VmHWM")
    _reset_peak()
    cuda = None
    if device == "cuda":
        import torch

        cuda = torch.cuda
        cuda.empty_cache()
        cuda.reset_peak_memory_stats()
    made = use(built)
    memory: Memory = {
        "idle_rss_mib": idle_mib,
        "load_peak_rss_mib": load_peak_mib,
        "serving_peak_rss_mib": status_mib("VmHWM"),
        "file_rss_mib": status_mib("RssFile"),
        "gpu_peak_allocated_mib": cuda.max_memory_allocated() / MIB if cuda else None,
        "gpu_peak_reserved_mib": cuda.max_memory_reserved() / MIB if cuda else None,
    }
    return built, made, memory
