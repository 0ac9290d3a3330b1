"""Fixtures for all tests. Threads that spin while a neighbour has the cores would make small steps crawl."""

import copy
import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest

CONF = Path(__file__).parent.parent / "conf"

# nohup has the tests started with SIGHUP ignored, & in a script with SIGINT. Their child processes would inherit that,
# and rightly ignore these signals as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def shipped_configs_are_parsed_once():
    """Hydra reads some twenty yaml files for each of a thousand command lines; those of conf/ do not change."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    from pipeline.launch import yaml_size

    def once(read):
        known = {}

        def load_config(self, config_path):
            if Path(self.path) != CONF:
                return read(self, config_path)
            place = (self.provider, config_path)
            if place not in known:
                known[place] = read(self, config_path)
            return copy.deepcopy(known[place])

        return load_config

    with pytest.MonkeyPatch.context() as patch:
        for source in (FileConfigSource, yaml_size.FileConfigSource):
            patch.setattr(source, "load_config", once(source.load_config))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder that holds xquad-r/, squad-parallel/, squad-dev-parallel/ and miracl/."""
    folder = os.environ.get("PIPELINE_SHARED_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PIPELINE_SHARED_DATA names no folder with the real data")
    return Path(folder)
