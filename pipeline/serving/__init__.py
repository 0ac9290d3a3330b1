"""Serving: a finished run as an HTTP server that speaks OpenAI's embeddings protocol.

In: a finished run of the store, or an exported folder (`encoders`). Out: answers to `/v1/embeddings` (`app`), vectors
equal to those that the run was evaluated with. `batching` puts the texts of many requests into one batch of the
engine; it knows nothing of the web.
Read `batching` first, then `protocol`, which says what a request may hold, `app` and `server`.
"""
