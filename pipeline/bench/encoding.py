"""Bulk encoding and single queries against sentence-transformers' encode; embeddings must be the same.

The encoder is served as a user of `variants` would have it: by another engine or in fewer bits.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline.bench import texts
from pipeline.bench.pairs import Row, in_turns
from pipeline.encoder.backends import serving
from pipeline.encoder.encoding import encode
from pipeline.encoder.model import Encoder
from pipeline.profiling.throughput import matrix_product_flop_per_s

CONTEXTS, ROUNDS, QUERIES = 2000, 2, 200
# How ours is served, and the ratio asked for. torch.compile gained nothing (bfloat16) and takes minutes to compile;
# ONNX Runtime's int8 was slower than OpenVINO's.
BULK = {
    ("eager", "float32"): 1.5, ("onednn", "float32"): 1.5, ("eager", "bfloat16"): 2.4, ("onednn", "bfloat16"): 2.4,
    ("openvino", "bfloat16"): 2.4, ("openvino", "int8"): 4,
}  # fmt: skip
ONE_QUERY = ["eager", "onednn", "onnx", "openvino"]
FEW = 64  # texts of a warm-up


def bulk() -> list[Row]:
    """Each way against encode at its defaults, in float32; a share of the machine's ceiling is in the note."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    passages = texts.contexts(CONTEXTS)
    few = passages[:: CONTEXTS // FEW]
    served = {way: serving.serve(ours, *way) for way in BULK}
    found: dict[Any, np.ndarray] = {}

    def run(name: Any, work: Callable[[], np.ndarray]) -> None:
        found[name] = work()

    works: dict[Any, Callable[[], Any]] = {
        way: partial(run, way, partial(encode, encoder, passages, "passage")) for way, encoder in served.items()
    }
    works["theirs"] = partial(run, "theirs", partial(theirs.encode_document, passages))
    theirs.encode_document(few)  # warm-up, as of ours
    for encoder in served.values():
        encode(encoder, few, "passage")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    ceilings = [{name: matrix_product_flop_per_s(dtype, "cpu") for name, dtype in dtypes.items()}]
    taken = in_turns(works, ROUNDS, warm=True)
    ceilings += [{name: matrix_product_flop_per_s(dtype, "cpu") for name, dtype in dtypes.items()}]

    tokens, flop = texts.work(ours, passages)
    rows = []
    for way, at_least in BULK.items():
        engine, precision = way
        cosine = float((found[way] * found["theirs"]).sum(axis=1).min())
        note = f"{engine}; cosine at least {cosine:.4f}"
        if precision in dtypes:
            ceiling = max(measured[precision] for measured in ceilings)
            share = flop / min(taken[way]) / ceiling
            note += f"; {share:.0%} of a {precision} matrix product's {ceiling / 1e9:.0f} GFLOP/s"
        work = f"encode {CONTEXTS} contexts, mean {tokens:.0f} tokens, {precision}"
        rows.append(Row(work, "SentenceTransformer.encode, float32", at_least, taken[way], taken["theirs"], note))
    return rows


def one_query() -> list[Row]:
    """Batch 1, tokenisation included: the median over real questions of 11 languages; all in float32."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    asked = texts.questions(QUERIES)
    served = {engine: serving.serve(ours, engine, "float32") for engine in ONE_QUERY}

    def by(encoder: Encoder) -> Callable[[str], Any]:
        return lambda question: encode(encoder, [question], "query")

    ways = {engine: by(encoder) for engine, encoder in served.items()}
    ways["theirs"] = lambda question: theirs.encode_query([question])
    for way in ways.values():
        for question in asked[:20]:
            way(question)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for question in asked:
        for name, way in ways.items():
            start_s = time.perf_counter()
            way(question)
            taken[name].append(time.perf_counter() - start_s)
    work = f"one query, batch 1, float32, p50 of {QUERIES}"
    return [
        Row(work, "SentenceTransformer.encode", 1.5, taken[engine], taken["theirs"], engine) for engine in ONE_QUERY
    ]
