"""Batch strategies: which rows and languages make a training batch. A strategy never sees a text.

In: a `Corpus`, which says which rows exist in which languages, the batch size, a random generator, the progress.
Out: batches, lists of `Draw` (row, query language, passage language; pipeline.values).
One file per strategy, named by the `_target_` of its yaml in conf/sampler. Read first: strategy.py, monolingual.py.
"""
