"""Profiling: what an encoder costs on this machine - latency, throughput, memory, energy, index size.

In: a `meter.Job` (model, checkpoint, texts, settings, device). Out: a `store.records.Profile`.
`measure` runs each file of `meters/` in a fresh process (`worker`); `summary` merges their results, and `quality` says
whether they may be believed. `architectures` profiles models by themselves, on the made-up texts of `words`.
Read `measure` first, then `meter` and one file of `meters/`.
"""
