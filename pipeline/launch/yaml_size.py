"""How much a yaml stands for: an alias may repeat what repeats others, so that a few lines become billions of values.

OmegaConf copies whatever an alias names, and would not end (the attack is known as "billion laughs").
"""

from pathlib import Path

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult

from pipeline.values import UserError

MOST_VALUES, DEEPEST = 10_000, 50  # the longest config that is shipped has 70 values, 4 deep


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's reader of a folder of configs, which looks at the size of each before OmegaConf does.

    It keeps its name: where a launcher's process registers the readers again, Hydra refuses another name in its place.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if path.is_file():
            check_size(path)
        return super().load_config(config_path)


def look_at_sizes() -> None:
    """Have Hydra read configs through FileConfigSource, in this process."""
    Plugins.instance()  # registers the reader whose place it takes
    SourcesRegistry.instance().types["file"] = FileConfigSource


def check_size(path: Path) -> None:
    """Raise UserError for a yaml that stands for more than MOST_VALUES values, or is nested deeper than DEEPEST.

    What is no yaml passes: Hydra says what is wrong with it.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return
    except RecursionError:
        raise UserError(f"{path} is nested more than {DEEPEST} deep.") from None
    sizes: dict[int, int] = {}

    def size(node: yaml.Node | None, depth: int) -> int:
        """Count the values that a node stands for."""
        if depth > DEEPEST:
            raise UserError(f"{path} is nested more than {DEEPEST} deep, or contains itself.")
        if id(node) not in sizes:
            inside = node.value if isinstance(node, yaml.CollectionNode) else []
            children = [child for entry in inside for child in (entry if isinstance(entry, tuple) else (entry,))]
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in children)
        return sizes[id(node)]

    if size(root, 0) > MOST_VALUES:
        raise UserError(f"{path} stands for more than {MOST_VALUES:,} values, its aliases written out.")
