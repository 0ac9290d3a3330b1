"""Capacity: how many queries per second a system carries within a limit on its p99 latency.

In: a finished run (in process, with the batching of `serving`) or the address of a server, and a benchmark's texts.
Out: a `store.capacity.Capacity`. MLPerf's LoadGen sends the queries (`loadgen`), a bisection finds the rate (`search`),
and `systems` says what is tested.
Read `meter` first, then `loadgen`.
"""
