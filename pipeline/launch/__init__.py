"""Launching: from a composed config to a finished run, whatever Hydra launcher is used.

In: a config. Out: a RunState, and the records that a child process wrote to the store. A run happens in a child
process of its own (`child` starts it or has `forkserver` fork it, `worker` is its main function), so a crash or an
out-of-memory kill cannot touch another. Read `runs` first, then `request`, which names the cache key of every stage.
"""
