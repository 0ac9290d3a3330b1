"""Fixtures for all tests. Threads that spin while a neighbour has the cores would make small steps crawl."""

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest

# nohup, or & in a script, has the tests started with SIGINT ignored. Their child processes would inherit that, and
# rightly ignore Ctrl-C as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder that holds xquad-r/, squad-parallel/, squad-dev-parallel/ and miracl/."""
    folder = os.environ.get("PIPELINE_SHARED_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PIPELINE_SHARED_DATA names no folder with the real data")
    return Path(folder)
