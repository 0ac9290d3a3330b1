"""Bulk encoding and single queries against sentence-transformers' encode; embeddings must be the same."""

import numpy as np
import torch

from pipeline.bench import texts
from pipeline.bench.pairs import Row, alternate
from pipeline.encoding import encode
from pipeline.profiling.throughput import matrix_product_flop_per_s, transformer_flop

CONTEXTS, PAIRS, QUERIES = 2000, 2, 200


def bulk() -> list[Row]:
    """float32 against encode at its defaults; the share of a matrix product measured beside it stands in the note."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    passages = texts.contexts(CONTEXTS)
    found: dict[str, np.ndarray] = {}
    few = passages[:64]
    encode(ours, few, "passage"), theirs.encode_document(few)

    def run_ours() -> None:
        found["ours"] = encode(ours, passages, "passage")

    def run_theirs() -> None:
        found["theirs"] = theirs.encode_document(passages)

    ceiling = matrix_product_flop_per_s(torch.float32, "cpu")
    taken = alternate(run_ours, run_theirs, PAIRS)
    ceiling = max(ceiling, matrix_product_flop_per_s(torch.float32, "cpu"))
    config = ours.backbone.config
    lengths = [len(row) for row in ours.tokenize(passages, "passage")]
    sizes = {"layers": config.num_hidden_layers, "width": config.hidden_size, "feed_forward": config.intermediate_size}
    share = transformer_flop(lengths, **sizes) / min(taken[0]) / ceiling
    cosine = float((found["ours"] * found["theirs"]).sum(axis=1).min())
    note = f"cosine at least {cosine:.4f}; {share:.0%} of a float32 matrix product's {ceiling / 1e9:.0f} GFLOP/s"
    work = f"encode {CONTEXTS} contexts, mean {np.mean(lengths):.0f} tokens, float32"
    return [Row(work, "SentenceTransformer.encode", 1.5, *taken, note)]


def one_query() -> list[Row]:
    """Batch 1, tokenisation included: the median over real questions of 11 languages."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    asked = texts.questions(QUERIES)
    ours_s, theirs_s = [], []
    for question in asked:
        of_ours, of_theirs = alternate(
            lambda question=question: encode(ours, [question], "query"),
            lambda question=question: theirs.encode_query([question]),
            1,
        )
        ours_s += of_ours
        theirs_s += of_theirs
    return [Row(f"one query, batch 1, p50 of {QUERIES}", "SentenceTransformer.encode", 1.5, ours_s, theirs_s)]
