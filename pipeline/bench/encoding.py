"""Bulk encoding and single queries against sentence-transformers' encode; embeddings must be the same.

The encoder is served as a user of `variants` would have it: eagerly, in fewer bits, or by another engine.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline import serving
from pipeline.bench import texts
from pipeline.bench.pairs import Row, in_turns
from pipeline.encoder import Encoder
from pipeline.encoding import encode
from pipeline.profiling.throughput import matrix_product_flop_per_s, transformer_flop

CONTEXTS, ROUNDS, QUERIES = 2000, 2, 200
# Of each precision: the engines of which the fastest counts, the ratio asked for, and the least cosine to float32.
BULK = {
    "float32": (["eager"], 1.5), "bfloat16": (["eager"], 2.4), "int8": (["onnx", "openvino"], 4),
}  # fmt: skip
ONE_QUERY = ["eager", "onnx", "openvino"]
PROBE = 64  # texts on which engines are compared


def fastest(encoder: Encoder, engines: list[str], precision: str, probe: Callable[[Encoder], Any]) -> tuple[str, Any]:
    """The engine that does `probe` in the least time, warm, and the encoder served by it."""
    served = {engine: serving.serve(encoder, engine, precision) for engine in engines}
    if len(served) == 1:
        return next(iter(served.items()))
    taken = in_turns({engine: partial(probe, one) for engine, one in served.items()}, 3)
    best = min(served, key=lambda engine: min(taken[engine]))
    return best, served[best]


def bulk() -> list[Row]:
    """Each precision against encode at its defaults, in float32; a share of the machine's ceiling is in the note."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    passages = texts.contexts(CONTEXTS)
    few = passages[:: CONTEXTS // PROBE]
    served = {
        precision: fastest(ours, engines, precision, lambda encoder: encode(encoder, few, "passage"))
        for precision, (engines, _) in BULK.items()
    }
    found: dict[str, np.ndarray] = {}

    def run(name: str, work: Callable[[], np.ndarray]) -> None:
        found[name] = work()

    works = {
        precision: partial(run, precision, partial(encode, encoder, passages, "passage"))
        for precision, (_, encoder) in served.items()
    }
    works["theirs"] = partial(run, "theirs", partial(theirs.encode_document, passages))
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    ceilings = [{name: matrix_product_flop_per_s(dtype, "cpu") for name, dtype in dtypes.items()}]
    theirs.encode_document(few)  # warm-up, as of ours
    for _, encoder in served.values():
        encode(encoder, few, "passage")
    taken = in_turns(works, ROUNDS, warm=True)
    ceilings += [{name: matrix_product_flop_per_s(dtype, "cpu") for name, dtype in dtypes.items()}]

    config = ours.backbone.config
    lengths = [len(row) for row in ours.tokenize(passages, "passage")]
    sizes = {"layers": config.num_hidden_layers, "width": config.hidden_size, "feed_forward": config.intermediate_size}
    flop = transformer_flop(lengths, **sizes)
    rows = []
    for precision, (engine, _) in served.items():
        cosine = float((found[precision] * found["theirs"]).sum(axis=1).min())
        note = f"{engine}; cosine at least {cosine:.4f}"
        if precision in dtypes:
            ceiling = max(measured[precision] for measured in ceilings)
            share = flop / min(taken[precision]) / ceiling
            note += f"; {share:.0%} of a {precision} matrix product's {ceiling / 1e9:.0f} GFLOP/s"
        work = f"encode {CONTEXTS} contexts, mean {np.mean(lengths):.0f} tokens, {precision}"
        against = "SentenceTransformer.encode, float32"
        rows.append(Row(work, against, BULK[precision][1], taken[precision], taken["theirs"], note))
    return rows


def one_query() -> list[Row]:
    """Batch 1, tokenisation included: the median over real questions of 11 languages; all in float32."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    asked = texts.questions(QUERIES)
    served = {engine: serving.serve(ours, engine, "float32") for engine in ONE_QUERY}
    ways: dict[str, Callable[[str], Any]] = {
        engine: lambda question, encoder=encoder: encode(encoder, [question], "query")
        for engine, encoder in served.items()
    }
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
