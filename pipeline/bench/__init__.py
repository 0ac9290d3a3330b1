"""`make bench`: this project's speed beside sentence-transformers, FAISS and the machine's own limit.

In: XQuAD-R's texts (XQUAD_R_DIR) and the encoder e5-small-l12, the same on both sides of a comparison.
Out: a table of ratios in Markdown, results/reference/bench.md; docs/speed.md explains the goals that were missed.
One file per subject: encoding, corpus (large ones), gpu, training, ranking, runs, growth, instrument (the profiler).
Read first: pairs.py.
"""
