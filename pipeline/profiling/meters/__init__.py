"""The meters: one file each, found by name.

In: a `profiling.meter.Job` and a function that loads its encoder, in a process of their own. Out: raw figures, as JSON.
`run` measures; `figures` turns the result into fields of the Profile, each with its source. A further file here is
measured for every profile and kept in its `details`; `index` alone is measured per inference variant.
Read `throughput` first: it finds the token budget that the others use.
"""
