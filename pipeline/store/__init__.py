"""The store: everything that is kept on disk, and the border between making results and reading them.

In: records, tables and stage results. Out: the same, intact or not at all. `files` writes atomically with checksums,
`locks` keeps processes apart, `keys` hashes what a result follows from, `stage` makes each result once.
Read `results` first.
"""
