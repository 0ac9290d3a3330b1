"""XLM-R-large on a GPU, in bfloat16: against sentence-transformers' encode, and as a share of a matrix product."""

from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline.bench import texts
from pipeline.bench.pairs import Row, in_turns
from pipeline.encoder import model as encoders
from pipeline.encoder.backends import serving
from pipeline.encoder.encoding import encode
from pipeline.profiling.throughput import matrix_product_flop_per_s
from pipeline.values import UserError

MODEL = ["model=xlmr-large", "model.weights=random"]  # weights' values do not move the cost; tokens are real
ENGINES = ["eager", "compile"]
ROUNDS = 5
AT_LEAST = 1.5


def bulk() -> list[Row]:
    """All of XQuAD's paragraphs, in 11 languages."""
    if not torch.cuda.is_available():
        raise UserError("gpu: torch sees no CUDA device here.")
    ours = encoders.load(**texts.settings("model", *MODEL), seed=0).to("cuda")
    theirs = texts.sentence_transformer(ours, device="cuda", model_kwargs={"dtype": torch.bfloat16})
    passages = [paragraph["context"] for some in texts.paragraphs().values() for paragraph in some]
    found: dict[str, np.ndarray] = {}

    def run(name: str, work: Any) -> None:
        found[name] = work()

    served = {engine: serving.serve(ours, engine, "bfloat16") for engine in ENGINES}
    works = {
        engine: partial(run, engine, partial(encode, encoder, passages, "passage"))
        for engine, encoder in served.items()
    }
    works["theirs"] = partial(run, "theirs", partial(theirs.encode_document, passages))
    before = matrix_product_flop_per_s(torch.bfloat16, "cuda")
    taken = in_turns(works, ROUNDS)
    ceiling = max(before, matrix_product_flop_per_s(torch.bfloat16, "cuda"))
    tokens, flop = texts.work(ours, passages)
    rows = []
    for engine in ENGINES:
        cosine = float((found[engine] * found["theirs"]).sum(axis=1).min())
        share = flop / np.median(taken[engine]) / ceiling
        note = f"{engine}; cosine at least {cosine:.4f}; {share:.0%} of a matrix product's {ceiling / 1e12:.0f} TFLOP/s"
        work = f"XLM-R-large, {len(passages)} contexts, mean {tokens:.0f} tokens, bfloat16"
        rows.append(Row(work, "SentenceTransformer.encode, bfloat16", AT_LEAST, taken[engine], taken["theirs"], note))
    return rows
