"""XLM-R-large on a GPU in bfloat16: against sentence-transformers' encode, and as a share of a matrix product."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from pipeline.bench import texts
from pipeline.bench.pairs import Row, in_turns
from pipeline.encoder.deploy import deploy
from pipeline.encoder.encoding import encode
from pipeline.profiling.meters.ceiling import matrix_product_flop_per_s
from pipeline.values import UserError, Variant

MODEL = [
    "model=xlmr-large",
    "model.weights=random",
]  # the values of the weights do not change the cost; tokens are real
BACKENDS = ["eager", "compile"]
ROUNDS = 5
GOAL = 1.5
THEIRS = "theirs"


def bulk() -> list[Row]:
    """Compare the encoding of all of XQuAD's paragraphs, in 11 languages.

    Raises:
        UserError: without a GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("gpu: torch sees no CUDA device here.")
    ours = texts.encoder(*MODEL).to("cuda")
    theirs = texts.sentence_transformer(ours, device="cuda", model_kwargs={"dtype": torch.bfloat16})
    passages = [paragraph["context"] for of_language in texts.paragraphs().values() for paragraph in of_language]
    embeddings: dict[str, np.ndarray] = {}

    def run(name: str, work: Callable[[], np.ndarray]) -> None:
        embeddings[name] = work()

    encoders = {backend: deploy(ours, Variant(backend, "bfloat16")) for backend in BACKENDS}
    works = {
        backend: partial(run, backend, partial(encode, encoder, passages, "passage"))
        for backend, encoder in encoders.items()
    }
    works[THEIRS] = partial(run, THEIRS, partial(theirs.encode_document, passages))
    before = matrix_product_flop_per_s(torch.bfloat16, "cuda")
    times_s = in_turns(works, ROUNDS)
    ceiling = max(before, matrix_product_flop_per_s(torch.bfloat16, "cuda"))
    tokens, flop = texts.work(ours, passages)
    work = f"XLM-R-large, {len(passages)} contexts, mean {tokens:.0f} tokens, bfloat16"
    rows = []
    for backend in BACKENDS:
        cosine = float((embeddings[backend] * embeddings[THEIRS]).sum(axis=1).min())
        share = flop / np.median(times_s[backend]) / ceiling
        note = f"{backend}; cosine at least {cosine:.4f}; "
        note += f"{share:.0%} of a matrix product's {ceiling / 1e12:.0f} TFLOP/s"
        rows.append(Row(work, "SentenceTransformer.encode, bfloat16", GOAL, times_s[backend], times_s[THEIRS], note))
    return rows
