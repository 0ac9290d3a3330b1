"""Bulk encoding and single queries against sentence-transformers' encode; embeddings must be the same.

The encoder is deployed as inference variants: on another engine or in fewer bits.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from pipeline.bench import texts
from pipeline.bench.pairs import Row, in_turns
from pipeline.encoder.deploy import deploy
from pipeline.encoder.encoding import TextEncoder, encode
from pipeline.profiling.meters.ceiling import matrix_product_flop_per_s
from pipeline.values import Variant

CONTEXTS, ROUNDS, QUERIES = 1000, 2, 200
SHARE_GOAL = 0.75  # of a matrix product, in bfloat16, by the best of ours
# Our inference variants and the goal of each. torch.compile gained nothing (bfloat16) and takes minutes to compile;
# ONNX Runtime's int8 was slower than OpenVINO's.
BULK = {
    Variant("eager", "float32"): 1.5,
    Variant("onednn", "float32"): 1.5,
    Variant("eager", "bfloat16"): 2.4,
    Variant("onednn", "bfloat16"): 2.4,
    Variant("openvino", "bfloat16"): 2.4,
    Variant("openvino", "int8"): 4,
}
ONE_QUERY = ["eager", "onednn", "onnx", "openvino"]
ONE_QUERY_GOAL = 1.5
THEIRS = "theirs"
WARM_UP = 64  # texts
WARM_UP_QUERIES = 20
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def bulk() -> list[Row]:
    """Compare each variant with encode at its defaults, in float32; notes give the share of the machine's ceiling."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    passages = texts.contexts(CONTEXTS)
    warm_up = passages[:: max(1, CONTEXTS // WARM_UP)]
    encoders = {variant: deploy(ours, variant) for variant in BULK}
    embeddings: dict[Variant | str, np.ndarray] = {}

    def run(name: Variant | str, work: Callable[[], np.ndarray]) -> None:
        embeddings[name] = work()

    works: dict[Variant | str, Callable[[], None]] = {
        variant: partial(run, variant, partial(encode, encoder, passages, "passage"))
        for variant, encoder in encoders.items()
    }
    works[THEIRS] = partial(run, THEIRS, partial(theirs.encode_document, passages))
    theirs.encode_document(warm_up)
    for encoder in encoders.values():
        encode(encoder, warm_up, "passage")
    ceilings = [_ceilings()]
    times_s = in_turns(works, ROUNDS, warm=True)
    ceilings.append(_ceilings())

    tokens, flop = texts.work(ours, passages)
    rows = []
    for variant, goal in BULK.items():
        cosine = float((embeddings[variant] * embeddings[THEIRS]).sum(axis=1).min())
        note = f"{variant.backend}; cosine at least {cosine:.4f}"
        if variant.precision in DTYPES:
            ceiling = max(ceiling[variant.precision] for ceiling in ceilings)
            share = flop / min(times_s[variant]) / ceiling
            note += f"; {share:.0%} of a {variant.precision} matrix product's {ceiling / 1e9:.0f} GFLOP/s"
            note += f" (goal {SHARE_GOAL:.0%})" if variant.precision == "bfloat16" else ""
        work = f"encode {CONTEXTS} contexts, mean {tokens:.0f} tokens, {variant.precision}"
        rows.append(Row(work, "SentenceTransformer.encode, float32", goal, times_s[variant], times_s[THEIRS], note))
    return rows


def _ceilings() -> dict[str, float]:
    """Return the FLOP/s of a matrix product by precision."""
    return {name: matrix_product_flop_per_s(dtype, "cpu") for name, dtype in DTYPES.items()}


def one_query() -> list[Row]:
    """Compare the latency of batch 1, tokenization included, over real queries of 11 languages, all in float32."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    queries = texts.queries(QUERIES)

    def by(encoder: TextEncoder) -> Callable[[str], object]:
        return lambda query: encode(encoder, [query], "query")

    encode_one = {backend: by(deploy(ours, Variant(backend))) for backend in ONE_QUERY}
    encode_one[THEIRS] = lambda query: theirs.encode_query([query])
    for call in encode_one.values():
        for query in queries[:WARM_UP_QUERIES]:
            call(query)
    times_s: dict[str, list[float]] = {name: [] for name in encode_one}
    for query in queries:
        for name, call in encode_one.items():
            start_s = time.perf_counter()
            call(query)
            times_s[name].append(time.perf_counter() - start_s)
    work, against = f"one query, batch 1, float32, p50 of {QUERIES}", "SentenceTransformer.encode"
    return [Row(work, against, ONE_QUERY_GOAL, times_s[name], times_s[THEIRS], name) for name in ONE_QUERY]
