"""Retrieval: rank a benchmark's passages for its queries, and score the rankings.

In: an encoder (or its embeddings), a Collection and an inference variant. Out: stored rankings, then tables per query
and mean figures. The two steps are files of their own, so that a new metric encodes and ranks nothing.
Read first: ranking.py (embeddings to stored rankings), then scoring.py (stored rankings to tables) and metrics.py.
"""
