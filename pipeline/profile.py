"""Profiles an encoder: each meter in a fresh child process, one after another, while the parent sleeps.

`cell` calls `measure`; the children run this file as `python -m pipeline.profile <meter>`: they read a job (JSON) on
stdin and answer what the meter found (JSON) on stdout; everything else that prints goes to stderr.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import safetensors.torch
import torch

from pipeline import encoder as encoders
from pipeline import retrieval
from pipeline.encoding import encode
from pipeline.profiling import energy, latency, machine, memory, nvidia, throughput
from pipeline.profiling.samples import round_robin
from pipeline.profiling.summary import summarise
from pipeline.values import Profile, Side

Texts = Mapping[str, Mapping[Side, Sequence[str]]]  # language -> side -> texts
Job = dict[str, Any]  # model, checkpoint, texts, settings, threads, device, seed; token_budget, once throughput has run

INDEXED_PASSAGES = 32  # real vectors of the index that is searched; their repetitions fill it
TOP_K = 10


def key(
    architecture: Mapping[str, Any], texts: Texts, settings: Mapping[str, Any], *, threads: int, device: str
) -> str:
    """Under which a profile may be shared: by every encoder of this architecture, on this machine and these texts."""
    from pipeline.results import fingerprint  # not above: it brings pandas, which would slow every child's start

    return fingerprint([dict(architecture), texts, dict(settings), threads, machine.facts(device)])


def measure(
    model: Mapping[str, Any],
    checkpoint: str | None,
    texts: Texts,
    settings: Mapping[str, Any],
    *,
    threads: int,
    device: str,
    seed: int,
) -> Profile:
    """`model` and `settings` are the config's nodes, `checkpoint` the folder that Encoder.save wrote, `device` cpu or
    cuda. RuntimeError with the reason when a child dies."""
    job: Job = {"model": dict(model), "checkpoint": checkpoint, "texts": texts, "settings": dict(settings)}
    job |= {"threads": threads, "device": device, "seed": seed}
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        # Importing takes longer than some meters, so all import at once; none measures before all are done.
        children = {name: stack.enter_context(_start(name, threads)) for name in METERS}
        for child in children.values():
            assert child.stdout  # a pipe; it says "ready", or closes if the child died
            child.stdout.readline()
        for name, child in children.items():
            found[name] = _answer(name, child, job)
            job["token_budget"] = found["throughput"]["best"]["token_budget"]
    return summarise(found, machine.facts(device), threads=threads)


def _start(meter: str, threads: int) -> subprocess.Popen[str]:
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RAYON_NUM_THREADS": count}
    environment |= {"OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "pipeline.profile", meter]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True)


def _answer(meter: str, child: subprocess.Popen[str], job: Job) -> Any:
    """Give the child its job and sleep until it ends."""
    answer, complaints = child.communicate(json.dumps(job))
    if child.returncode < 0:
        raise RuntimeError(f"the {meter} meter was killed by {signal.Signals(-child.returncode).name}")
    if child.returncode > 0:
        raise RuntimeError(f"the {meter} meter failed: {complaints.strip().splitlines()[-1]}")
    return json.loads(answer)


def _encoder(job: Job) -> encoders.Encoder:
    encoder = encoders.load(**job["model"], seed=job["seed"])
    if job["checkpoint"]:
        encoder.restore(Path(job["checkpoint"]))
    return encoder.to(job["device"])


def _texts(job: Job, side: Side) -> dict[str, list[str]]:
    return {language: sides[side] for language, sides in job["texts"].items()}


def _counter(encoder: encoders.Encoder, side: Side) -> Callable[[str], int]:
    return lambda text: len(encoder.tokenize([text], side)[0])


def _batch(encoder: encoders.Encoder, job: Job, tokens: int) -> list[str]:
    """Passages over the languages in turn, that fill one batch of so many tokens."""
    return throughput.sample(_texts(job, "passage"), _counter(encoder, "passage"), tokens)


def _synchronise(job: Job) -> Callable[[], None]:
    return torch.cuda.synchronize if job["device"] == "cuda" else lambda: None


def run_throughput(job: Job) -> dict[str, Any]:
    encoder, settings = _encoder(job), job["settings"]
    config, dtype = encoder.backbone.config, encoder.backbone.dtype
    sizes = {"layers": config.num_hidden_layers, "width": config.hidden_size, "feed_forward": config.intermediate_size}
    found = throughput.measure(
        lambda texts, budget: encode(encoder, texts, "passage", token_budget=budget),
        _counter(encoder, "passage"),
        _texts(job, "passage"),
        token_budgets=settings["token_budgets"],
        min_seconds=settings["min_seconds"],
        flop=lambda lengths: throughput.transformer_flop(lengths, **sizes),
        ceiling_flop_per_s=lambda: throughput.matrix_product_flop_per_s(dtype, job["device"]),
    )
    return found | {"matrix_product_dtype": str(dtype)}


def run_latency(job: Job) -> dict[str, Any]:
    encoder, settings = _encoder(job), job["settings"]

    def encode_ids(ids: Sequence[int]) -> np.ndarray:
        ids_1T, mask_1T = encoder.pad([list(ids)])
        with torch.inference_mode():
            return encoder(ids_1T.to(encoder.device), mask_1T.to(encoder.device)).cpu().numpy()

    passages = [text for _, text in round_robin(_texts(job, "passage"))][:INDEXED_PASSAGES]
    emb_ND = encode(encoder, passages, "passage", token_budget=job["token_budget"])
    index = retrieval.build_index(np.resize(emb_ND, (settings["index_rows"], encoder.width)))
    found = latency.measure(
        lambda text: encoder.tokenize([text], "query")[0],
        encode_ids,
        lambda emb_1D: retrieval.search(index, emb_1D, TOP_K),
        _texts(job, "query"),
        min_calls=settings["min_calls"],
        min_seconds=settings["min_seconds"],
        synchronise=_synchronise(job),
        seed=job["seed"],
    )
    return found | {"index": f"Flat, {index.ntotal} x {index.d} float32, top {TOP_K}"}


def run_memory(job: Job) -> dict[str, Any]:
    built: dict[str, Any] = {}

    def build() -> encoders.Encoder:
        built["encoder"] = _encoder(job)
        return built["encoder"]

    def use(encoder: encoders.Encoder) -> None:
        texts = _batch(encoder, job, max(job["settings"]["token_budgets"]))
        built["emb_ND"] = encode(encoder, texts, "passage", token_budget=job["token_budget"])

    found = memory.measure(build, use, device=job["device"])
    backbone, index = built["encoder"].backbone, retrieval.build_index(built["emb_ND"])
    tensors = [*backbone.parameters(), *backbone.buffers()]
    state = {name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}
    return found | {
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "weights_mib": sum(tensor.nbytes for tensor in tensors) / memory.MIB,
        "weights_on_disk_mib": len(safetensors.torch.save(state)) / memory.MIB,
        "index_bytes_per_passage": faiss.serialize_index(index).nbytes / index.ntotal,
    }


def run_energy(job: Job) -> dict[str, Any]:
    encoder, settings = _encoder(job), job["settings"]
    tracker = energy.Tracker(settings["country"], nvidia.energy_j if job["device"] == "cuda" else None)
    found = energy.measure(
        tracker,
        lambda texts: encode(encoder, texts, "query", token_budget=job["token_budget"]),
        {language: [[text] for text in texts] for language, texts in _texts(job, "query").items()},
        lambda texts: encode(encoder, texts, "passage", token_budget=job["token_budget"]),
        {"all": [_batch(encoder, job, job["token_budget"])]},
        seconds=settings["energy_seconds"],
        intensity_g_per_kwh=settings["intensity_g_per_kwh"],
    )
    return found | {"country": settings["country"]}


METERS = {"throughput": run_throughput, "latency": run_latency, "memory": run_memory, "energy": run_energy}


def main(meter: str) -> None:
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        print("ready", file=answer, flush=True)
        job = json.load(sys.stdin)
        torch.set_num_threads(job["threads"])
        with machine.watch(job["device"]) as seen:
            found = METERS[meter](job)
        threads = {"torch": torch.get_num_threads(), "faiss": faiss.omp_get_max_threads()}
        json.dump(found | {"watch": seen, "threads": threads}, answer)


if __name__ == "__main__":
    main(sys.argv[1])
