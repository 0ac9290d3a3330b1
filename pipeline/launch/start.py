"""`python -m pipeline.launch.start launch.worker` or `profiling.worker METER`: how child processes begin and end.

A sweep starts hundreds of them. Garbage collection while a hundred thousand objects are imported, and taking the
interpreter apart at the end, took 2.4 of the 5.6 seconds that the imports of a run took.
"""

import gc
import os
import signal
import sys
from importlib import import_module

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says what ended this process
    gc.disable()
    main = import_module(f"pipeline.{sys.argv[1]}").main
    gc.freeze()  # imported objects stay
    gc.enable()
    code = 0
    try:
        main(*sys.argv[2:])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
