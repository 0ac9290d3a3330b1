"""The meters, each the work of a process of its own, which `profile` starts by way of `start`.

A child says "ready" once its libraries are there, reads a job (JSON) on stdin and answers what the meter found (JSON)
on stdout; everything else that prints goes to stderr. A meter that lacks a library says so under `missing`, in place of
its figures: torch, transformers and pandas are enough for the others.

Axes: N texts, D embedding width, T tokens; 1 for a single query.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.encoder import model as encoders
from pipeline.encoder.backends import serving
from pipeline.encoder.encoding import encode
from pipeline.launch.commands import REFUSED
from pipeline.profiling import energy, latency, machine, memory, nvidia, throughput, words
from pipeline.profiling.samples import round_robin
from pipeline.values import Side, UserError

Job = dict[str, Any]  # profile.Job; and token_budget, once throughput has run

INDEXED_PASSAGES = 32  # real vectors of the index that is searched; their repetitions fill it
TOP_K = 10
NOISE = 0.3  # length of the noise on a unit vector: the repetitions of a passage have a cosine of .96 to it
SIDES: tuple[Side, Side] = ("query", "passage")


def _encoder(job: Job) -> encoders.Encoder:
    tokenizer = words.tokenizer if job["made_up_words"] else None
    encoder = encoders.load(**job["model"], seed=job["seed"], random_tokenizer=tokenizer)
    if job["checkpoint"]:
        encoder.restore(Path(job["checkpoint"]))
    served = serving.serve(encoder.to(job["device"]), job["backend"], job["precision"])
    job["engine_threads"] = serving.threads(served)
    return served


def _texts(job: Job, side: Side) -> dict[str, list[str]]:
    return {language: sides[side] for language, sides in job["texts"].items()}


def _counter(encoder: encoders.Encoder, side: Side) -> Callable[[str], int]:
    return lambda text: len(encoder.tokenize([text], side)[0])


def _batch(encoder: encoders.Encoder, job: Job, tokens: int) -> list[str]:
    """Passages over the languages in turn, that fill one batch of so many tokens."""
    return throughput.sample(_texts(job, "passage"), _counter(encoder, "passage"), tokens)


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
        seed=job["seed"],
    )
    return found | {
        "matrix_product_dtype": str(dtype),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),  # highest: no TF32
        "attn_implementation": config._attn_implementation,
    }


def run_latency(job: Job) -> dict[str, Any]:
    encoder, settings = _encoder(job), job["settings"]
    device_ms = _time_on_device(encoder) if job["device"] == "cuda" else None

    def encode_ids(ids: Sequence[int]) -> np.ndarray:
        ids_1T, mask_1T = encoder.pad([list(ids)])
        with torch.inference_mode():
            return encoder(ids_1T.to(encoder.device), mask_1T.to(encoder.device)).cpu().numpy()

    missing = machine.missing("faiss")
    search, index_name = (None, None) if missing else _search(encoder, job)
    found = latency.measure(
        lambda text: encoder.tokenize([text], "query")[0],
        encode_ids,
        search,
        _texts(job, "query"),
        min_calls=settings["min_calls"],
        min_seconds=settings["min_seconds"],
        synchronise=torch.cuda.synchronize if job["device"] == "cuda" else lambda: None,
        device_ms=device_ms,
        seed=job["seed"],
    )
    return found | {"index": index_name, "index_missing": missing}


def _time_on_device(encoder: encoders.Encoder) -> Callable[[], float]:
    """Let CUDA events go before and after each forward pass; the result gives the ms between the last two.

    Call it once the device is done. Gaps in which the device waits for its next kernel count: they are waited for.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    encoder.register_forward_pre_hook(lambda *_: start.record())
    encoder.register_forward_hook(lambda *_: end.record())
    return lambda: start.elapsed_time(end)


def _search(encoder: encoders.Encoder, job: Job) -> tuple[Callable[[np.ndarray], Any], str]:
    """The search of a flat index of `index_rows` vectors, on the GPUs where the encoder runs there; and its name."""
    import faiss

    from pipeline.retrieval import faiss_index as indexes

    passages = [text for _, text in round_robin(_texts(job, "passage"))][:INDEXED_PASSAGES]
    emb_ND = encode(encoder, passages, "passage", token_budget=job["token_budget"])
    index = indexes.build_index(np.resize(emb_ND, (job["settings"]["index_rows"], encoder.width)))
    gpus = faiss.get_num_gpus() if job["device"] == "cuda" else 0
    if gpus:
        index = indexes.to_gpus(index)
    where = f", on {gpus} GPU" if gpus else ""
    name = f"Flat, {index.ntotal} x {index.d} float32, top {TOP_K}{where}"
    return lambda emb_1D: indexes.search(index, emb_1D, TOP_K), name


def run_memory(job: Job) -> dict[str, Any]:
    built: dict[str, Any] = {}

    def build() -> encoders.Encoder:
        built["encoder"] = _encoder(job)
        return built["encoder"]

    def use(encoder: encoders.Encoder) -> None:
        texts = _batch(encoder, job, max(job["settings"]["token_budgets"]))
        built["emb_ND"] = encode(encoder, texts, "passage", token_budget=job["token_budget"])

    found = memory.measure(build, use, device=job["device"])
    weights = serving.footprint(built["encoder"])
    missing = machine.missing("faiss")
    return found | {
        "parameters": weights.parameters,
        "weights_mib": weights.memory_bytes / memory.MIB,
        "weights_on_disk_mib": weights.disk_bytes / memory.MIB,
        "index_bytes_per_passage": None if missing else _index_bytes_per_passage(built["emb_ND"]),
        "index_missing": missing,
    }


def _index_bytes_per_passage(emb_ND: np.ndarray) -> float:
    import faiss

    from pipeline.retrieval import faiss_index as indexes

    index = indexes.build_index(emb_ND)
    return faiss.serialize_index(index).nbytes / index.ntotal


def run_energy(job: Job) -> dict[str, Any]:
    on_gpu = job["device"] == "cuda"
    if missing := machine.missing("codecarbon") or (nvidia.problem() if on_gpu else None):
        return {"missing": missing}
    encoder, settings = _encoder(job), job["settings"]
    tracker = energy.Tracker(settings["country"], nvidia.energy_j if on_gpu else None)
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


def run_index(job: Job) -> dict[str, Any]:
    """Every width and index that the job lists, filled with `index_rows` vectors and asked the texts' own queries.

    The vectors are those of the passages, each many times over with a little noise (NOISE): one passage's repetitions
    alone would have all graphs and cells of an index end in the same place.
    """
    import faiss

    from pipeline.profiling import index
    from pipeline.retrieval import faiss_index as indexes

    encoder, settings = _encoder(job), job["settings"]
    faiss.omp_set_num_threads(job["threads"])
    texts = {side: [text for _, text in round_robin(_texts(job, side))] for side in SIDES}
    emb_QD, emb_ND = (encode(encoder, texts[side], side, token_budget=job["token_budget"]) for side in SIDES)
    rng = np.random.default_rng(job["seed"])
    emb_ND = np.resize(emb_ND, (settings["index_rows"], encoder.width))
    noise_ND = rng.standard_normal(emb_ND.shape, np.float32)
    emb_ND = emb_ND + NOISE * noise_ND / np.linalg.norm(noise_ND, axis=1, keepdims=True)
    found = []
    for wanted in job["indexes"]:
        width, factory = wanted["width"] or encoder.width, wanted["factory"]
        measured = index.measure(
            partial(indexes.build_index, factory=factory),
            indexes.search,
            indexes.truncate(emb_ND, width),
            indexes.truncate(emb_QD, width),
            k=TOP_K,
            min_calls=settings["min_calls"],
            min_seconds=settings["min_seconds"],
            seed=job["seed"],
        )
        found.append(measured | {"width": width, "factory": factory})
    return {"indexes": found}


METERS = {"throughput": run_throughput, "latency": run_latency, "memory": run_memory, "energy": run_energy}
METERS |= {"index": run_index}


def _threads(job: Job) -> dict[str, int]:
    """By library; of FAISS, where it has been used."""
    faiss = sys.modules.get("faiss")
    return job.get("engine_threads", {}) | ({"faiss": faiss.omp_get_max_threads()} if faiss else {})


def main(meter: str) -> None:
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        print("ready", file=answer, flush=True)
        job = json.load(sys.stdin)
        torch.set_num_threads(job["threads"])
        try:
            with machine.watch(job["device"]) as seen:
                found = METERS[meter](job)
        except UserError as error:
            print(error, file=sys.stderr)
            sys.exit(REFUSED)
        json.dump(found | {"watch": seen, "threads": _threads(job)}, answer)
