"""pipeline.data.mmarco: small files in the published layout, from a folder and from a hub on loopback."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer

from pipeline.data import mmarco
from pipeline.values import ParallelText, UserError

ROOT = Path(__file__).parent.parent
TRIPLES = "data/triples.train.ids.small.tsv"
QUERIES = "data/google/queries/train/{}_queries.train.tsv"
COLLECTION = "data/google/collections/{}_collection.tsv"
FILES = {  # ids out of order, in unlike order, and one (query 9, passage 5) that no triple names
    TRIPLES: "7\t0\t3\n2\t4\t0\n7\t0\t1\n7\t4\t3\n11\t1\t0\n7\t0\t2\n",
    QUERIES.format("english"): "7\twho?\n2\twhen?\n9\twhy?\n11\twhere?\n",
    QUERIES.format("german"): "11\two?\n2\twann?\n7\twer?\n9\twarum?\n",
    COLLECTION.format("english"): "0\tzero\n1\tone\n2\ttwo \t2\n3\tthree\n4\tfour\n5\tfive\n",
    COLLECTION.format("german"): "5\tfünf\n4\tvier\n3\tdrei\u2028\r\n2\tzwei\n1\teins\n0\tnull",
}
MADE = [{"pair_N.npy", "count_N.npy", "negative_T.npy"}, {"start.npy", "bytes.npy"}]  # in a folder of the cache


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "mmarco" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mmarco" / name).write_bytes(text.encode())
    return tmp_path / "mmarco"


def load(folder: Path) -> ParallelText:
    return mmarco.train(["en", "de"], str(folder))


def test_a_row_is_a_query_with_one_of_its_positives(folder: Path) -> None:
    data = load(folder)
    assert list(data.ids) == ["2-4", "7-0", "7-4", "11-1"]
    assert {language: list(texts) for language, texts in data.questions.items()} == {
        "en": ["when?", "who?", "who?", "where?"],
        "de": ["wann?", "wer?", "wer?", "wo?"],
    }
    assert {language: list(texts) for language, texts in data.passages.items()} == {
        "en": ["four", "zero", "four", "one"],
        "de": ["vier", "null", "vier", "eins"],
    }
    assert {language: list(texts) for language, texts in (data.negatives or {}).items()} == {
        "en": [["zero"], ["three", "one", "two \t2"], ["three"], ["zero"]],
        "de": [["null"], ["drei\u2028", "eins", "zwei"], ["drei\u2028"], ["null"]],
    }
    assert data.passage_group.tolist() == [0, 0, 0, 3]  # 2-4 and 7-4 by the passage, 7-4 and 7-0 by the query
    assert data.available_NL.tolist() == [[True, True]] * 4
    assert data.provenance["triples"] == 6


def test_repeated_ids_count_once_or_are_refused(folder: Path) -> None:
    german = folder / COLLECTION.format("german")
    content = german.read_text(encoding="utf-8")
    german.write_text(content.replace("4\tvier\n", "4\tvier\n\n4\tvier\r\n"), encoding="utf-8")
    assert list(load(folder).passages["de"]) == ["vier", "null", "vier", "eins"]
    german.write_text(content.replace("4\tvier\n", "4\tvier\n4\tfive\n"), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"german_collection\.tsv, line 3 repeats the id 4 of line 2 with other content"
    ):
        load(folder)


def test_no_positive_of_a_query_is_its_negative(folder: Path) -> None:
    """Query 7 has the positives 0 and 4; negatives repeat and name them."""
    (folder / TRIPLES).write_text("7\t0\t4\n7\t0\t3\n7\t4\t0\n7\t0\t3\n7\t0\t1\n")
    assert list((load(folder).negatives or {})["en"]) == [["three", "one"], []]


def test_a_byte_order_mark_is_no_part_of_an_id(folder: Path) -> None:
    english = folder / COLLECTION.format("english")
    english.write_text("\ufeff" + english.read_text(encoding="utf-8"), encoding="utf-8")
    assert list(load(folder).passages["en"]) == ["four", "zero", "four", "one"]


def test_the_cache_is_filled_once_and_follows_the_files(folder: Path, cache: Path) -> None:
    load(folder)
    before = {file: file.stat().st_mtime_ns for file in cache.rglob("*.npy")}
    assert len(before) == 3 + 4 * 2
    load(folder)
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.npy")} == before
    (folder / COLLECTION.format("german")).write_text("".join(f"{id}\tneu {id}\n" for id in range(5)))
    assert list(load(folder).passages["de"]) == ["neu 4", "neu 0", "neu 4", "neu 1"]


@pytest.mark.parametrize("triples", [1, 6, 7, 8, 500])
def test_chunks_do_not_change_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, triples: int) -> None:
    """Chunks of 7 bytes and 3 ids against a dictionary of lists."""
    monkeypatch.setattr(mmarco, "CHUNK_BYTES", 7)
    monkeypatch.setattr(mmarco, "CHUNK_IDS", 3)
    write_set(tmp_path / "set", passages=40, triples=triples)
    expected: dict[tuple[int, int], list[int]] = {}
    for line in (tmp_path / "set" / TRIPLES).read_text().splitlines():
        query, positive, negative = map(int, line.split("\t"))
        expected.setdefault((query, positive), []).append(negative)
    data = mmarco.train(["en"], str(tmp_path / "set"))
    assert list(data.ids) == [f"{query}-{positive}" for query, positive in sorted(expected)]
    for row, (query, positive) in enumerate(sorted(expected)):
        assert data.text(row, "en", "query") == f"query {query}"
        assert data.text(row, "en", "passage").startswith(f"passage {positive} ")
        negatives = [text.split()[1] for text in (data.negatives or {})["en"][row]]
        own = {other for of_query, other in expected if of_query == query}
        distinct = dict.fromkeys(expected[query, positive])
        assert negatives == [str(negative) for negative in distinct if negative not in own]


LOAD_FROM_HUB = """
import json
from pipeline.data import mmarco
data = mmarco.train(["en", "de"], None)
sides = [data.questions, data.passages, data.negatives]
print(json.dumps([list(data.ids), [{language: list(texts) for language, texts in side.items()} for side in sides]]))
"""


def test_the_hub_gives_what_the_folder_gives(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "hub/datasets/unicamp-dl/mmarco")
    data = load(folder)
    sides = [data.questions, data.passages, data.negatives or {}]
    expected = [list(data.ids), [{language: list(texts) for language, texts in side.items()} for side in sides]]
    with HubServer(tmp_path / "hub") as hub:
        assert json.loads(hub.client(LOAD_FROM_HUB)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            TRIPLES,
            b"7\t0\t3\n7\t0\n",
            r"small\.tsv must hold three ids per line, separated by tabs: .*Expected 3 columns, got 2",
        ),
        (TRIPLES, b"7\t0\tx\n", r"small\.tsv must hold three ids per line, separated by tabs: .*invalid value 'x'"),
        (TRIPLES, b"7\t0\t-1\n", r"small\.tsv must hold three ids per line, separated by tabs: .*invalid value '-1'"),
        (
            TRIPLES,
            b"7\t0\t6\n",
            r"english_collection\.tsv lacks 1 ids that the triples name, such as 6: is it complete\?$",
        ),
        (TRIPLES, b"", r"triples\.train\.ids\.small\.tsv holds no triples\.$"),
        (
            QUERIES.format("german"),
            b"11\two?\n2\twann?\n",
            r"german_queries\.train\.tsv lacks 1 ids .* such as 7: is it complete",
        ),
        (
            COLLECTION.format("german"),
            b"0\tnull\n1 eins\n",
            r"german_collection\.tsv, line 2 must hold an id, a tab and",
        ),
        (
            COLLECTION.format("german"),
            b"0\tnull\n\teins\n",
            r"german_collection\.tsv, line 2 must hold an id, a tab and",
        ),
        (COLLECTION.format("german"), b"0\tnull\n1\t\xff\n", r"german_collection\.tsv, line 2 is not UTF-8 text"),
    ],
)
def test_broken_files_are_one_sentence_and_leave_nothing_behind(
    folder: Path, cache: Path, name: str, content: bytes, message: str
) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(folder)
    assert all(set(os.listdir(made)) in MADE for made in cache.iterdir())
    (folder / name).write_bytes(whole)
    assert len(load(folder)) == 4


def test_missing_files_and_unknown_languages_are_named(folder: Path) -> None:
    (folder / QUERIES.format("german")).unlink()
    with pytest.raises(UserError, match=r"^data\.path: there is no file .*german_queries\.train\.tsv\.$"):
        load(folder)
    for languages, got in {("en", "xx"): "xx", (): "none", ("en", "en"): "en, en"}.items():
        with pytest.raises(ValueError, match=rf"^languages must be distinct and among ar, de, .* zh, got {got}$"):
            mmarco.train(list(languages), str(folder))


def write_set(folder: Path, passages: int, triples: int) -> None:
    chance = random.Random(0)
    files: dict[str, Iterator[str]] = {
        COLLECTION.format("english"): (f"{id}\tpassage {id} {'word ' * 400}\n" for id in range(passages)),
        QUERIES.format("english"): (f"{3 * id}\tquery {3 * id}\n" for id in range(passages)),
        TRIPLES: (
            f"{3 * query}\t{query}\t{chance.randrange(passages)}\n"
            for query in chance.choices(range(passages), k=triples)
        ),
    }
    for name, lines in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(lines))


PEAK = """
import sys
import datasets, pyarrow.csv
from pipeline.data import mmarco
data = mmarco.train(["en"], sys.argv[1])
assert all(len(text) > 2000 for text in data.passages["en"])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_peak_memory_does_not_grow_with_the_collection(tmp_path: Path) -> None:
    """50 times the passages, 80 MB, and the triples; every positive is read."""

    def peak_mib(passages: int) -> float:
        write_set(tmp_path / str(passages), passages, triples=5 * passages)
        environment = {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", PEAK, str(tmp_path / str(passages))]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(run.stdout) / 1024

    small, large = peak_mib(800), peak_mib(40_000)
    assert large - small < 40, (small, large)
