"""Encoders: from a model's config and its own files (declared.py) to vectors of its texts.

In: a `config.ModelConfig` (weights, pooling, prefixes, lengths), texts, and a `values.Variant` to deploy as.
Out: an `Encoder` in float32 (sources.load); a folder that serves it on another engine (deploy.save) and the encoder of
that folder (deployed.load), which imports nothing of what made it; embeddings of either (encoding.encode).
Read `model.py` first, then `head.py`, `sources.py`, `encoding.py`, `deploy.py` and `deployed.py`; each engine is a file
in `backends/`.
"""

import sys

# transformers would load compiled code from the hub, where a model's files ask for it and this library is installed.
sys.modules["kernels"] = None  # type: ignore[assignment]
