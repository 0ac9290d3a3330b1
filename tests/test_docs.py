"""The documentation: its links, the examples that readers paste, and its site."""

import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml

from pipeline.data import beir
from pipeline.sampling.strategy import Corpus, batches

ROOT = Path(__file__).parents[1]
FRONT = ROOT / "README.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "results/reference").glob("*.md")),
    *sorted((ROOT / "results/reference").glob("*/README.md")),
]


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """Return a page without its fenced code and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and images that lie in the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not urlsplit(target).scheme]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S), re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def blocks(page: Path, language: str = "") -> list[str]:
    """Return the contents of a page's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_resolve(page):
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_front_page_is_short_and_has_the_test_command():
    assert len(read(FRONT).split()) < 900
    (command,) = re.findall(r"^make test\b", "\n".join(blocks(FRONT)), re.M)
    assert f"\nexec {command}\n" in read(ROOT / ".ci/run")


LICENCES = {
    "mit": "MIT",
    "apache-2.0": "Apache-2.0",
    "cc-by-nc-4.0": "CC BY-NC 4.0",
    "gemma": "Gemma",
    None: "not stated",
}


def test_the_licences_of_weights_are_those_of_the_configs():
    listed = {}
    for heading, models in re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", read(ROOT / "docs/licences.md"), re.M):
        listed |= dict.fromkeys(re.sub(r"\(.*?\)", "", models).replace(" ", "").split(","), heading)
    for path in sorted((ROOT / "conf/model").glob("*.yaml")):
        config = yaml.safe_load(read(path))
        if "license" in config and path.stem not in ("bm25", "e5-small"):
            assert listed[path.stem].startswith(LICENCES[config["license"]]), path.stem


def test_every_page_is_in_the_index_and_in_the_site():
    index = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in links(ROOT / "docs/index.md")}
    nav = {page for _, page in entries(tomllib.loads(read(ROOT / "docs/zensical.toml"))["project"]["nav"])}
    assert [page for page in PAGES if page not in index and page.name != "index.md"] == []
    assert sorted(nav) == sorted(str(page.relative_to(ROOT)) for page in PAGES)


def entries(nav: list) -> list[tuple[str, str]]:
    """Return (title, page) of all entries of a navigation, those of its sections included."""
    found = []
    for entry in nav:
        for title, target in entry.items():
            found += [(title, target)] if isinstance(target, str) else entries(target)
    return found


def test_the_ten_lines_are_a_benchmark(tmp_path):
    (paste,) = [block for block in blocks(ROOT / "docs/own.md") if "corpus.jsonl" in block]
    subprocess.run(["bash", "-eu"], input=paste, cwd=tmp_path, check=True, text=True)
    files = [path for path in (tmp_path / "my-benchmark").rglob("*") if path.is_file()]
    assert sum(len(read(path).splitlines()) for path in files) == 10
    collection = beir.benchmark(str(tmp_path / "my-benchmark"), None, "test", "no")
    assert [len(texts) for texts in collection.queries.values()] == [3]
    assert [len(texts) for texts in collection.passages.values()] == [4]


def test_the_strategy_in_contributing_draws_batches():
    (source,) = blocks(ROOT / "CONTRIBUTING.md", "python")
    (config,) = blocks(ROOT / "CONTRIBUTING.md", "yaml")
    module: dict = {}
    exec(source, module)
    target = yaml.safe_load(config)["_target_"]
    available_NL = np.array([[True, True, False], [False, True, True], [False, True, True], [True, True, False]])
    strategy = module[target.rpartition(".")[2]]()
    drawn = list(batches(strategy, Corpus(["de", "en", "ru"], available_NL), 3, steps=5, seed=0))
    assert {language for batch in drawn for draw in batch for language in draw[1:]} == {"en"}
    assert [len({draw.row for draw in batch}) for batch in drawn] == [3] * 5


class Built(HTMLParser):
    """The targets of a built page's links and images, its anchors, and paragraphs that hold unrendered Markdown."""

    def __init__(self, page: Path):
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.unrendered: list[str] = []
        self.open: list[str] = []
        self.feed(read(page))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.open.append(tag)
        self.anchors |= {values["id"]} if "id" in values else set()
        self.targets += [values[name] for name in ("href", "src") if values.get(name)]

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "p" in self.open and "code" not in self.open and re.search(r"^(- |\d\. |\||```)|\*\*|\]\(", data, re.M):
            self.unrendered.append(data)


def test_the_site_builds_without_a_broken_link():
    pytest.importorskip("zensical", reason="the extra docs is not installed")
    make = ["make", "--assume-old=.venv/ready-docs", f"BIN={Path(sys.executable).parent}", "docs"]
    built = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    site = ROOT / "docs/build/site"
    pages = [site / page.relative_to(ROOT).with_suffix(".html") for page in PAGES]
    pages = [page.with_name("index.html") if page.name == "README.html" else page for page in pages]
    parsed = {page: Built(page) for page in pages}
    for page, content in parsed.items():
        assert content.unrendered == [], page
        for target in content.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert path.exists(), f"{page}: {target}"
            if parts.fragment and path in parsed:
                assert parts.fragment in parsed[path].anchors, f"{page}: {target}"
