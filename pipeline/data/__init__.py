"""Data sets, one file per source: worldfacts (embedded), lareqa, parallel, mmarco, miracl, miracl_pool, beir.

In: a yaml of conf/data or conf/eval, which names a function of this room and a local folder (null: the hub).
Out: a `ParallelText` to train on or a `Collection` to evaluate on (pipeline.values); leakage.py compares the two.
Read first: text.py (when texts are equal), worldfacts.py, then lareqa.py. Sources share hub.py (downloads), reading.py,
tables.py, corpus.py, arrow.py and groups.py.
"""
