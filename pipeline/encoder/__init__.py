"""Encoders: from a model's config to unit vectors of its texts.

In: a `config.ModelConfig` (weights, pooling, prefixes, lengths), texts, and a `values.Variant` to deploy as.
Out: an `Encoder` in float32 (sources.load), the same on another engine (deploy.deploy), embeddings (encoding.encode).
Read `model.py` first, then `sources.py`, `encoding.py` and `deploy.py`; each file in `backends/` is one engine.
"""
