"""pipeline.data.miracl: the real topics and qrels; small corpora as published files, from a folder and from the hub."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hub_server import HubServer

from pipeline.data import miracl
from pipeline.values import Collection, Sample, UserError

OTHERS = 40  # passages of the small corpus that are not judged
QRELS = [("7", "1#0", 1), ("7", "2#0", 0), ("9", "1#0", 0), ("9", "3#4", 1)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def write_shards(folder: Path, docids: list[str], shards: int) -> None:
    folder.mkdir(parents=True)
    for shard in range(shards):
        rows = [{"docid": id, "title": f"T{id}", "text": f"text of {id}"} for id in docids[shard::shards]]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"docs-{shard}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), compresslevel=1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two topics and 43 passages in 11 shards, in the hub's layout."""
    root = tmp_path / "miracl"
    dev = root / "miracl-v1.0-sw"
    (dev / "topics").mkdir(parents=True)
    (dev / "qrels").mkdir()
    (dev / "topics/topics.miracl-v1.0-sw-dev.tsv").write_text("7\tNani?\n9\tWapi\u2028?\n", encoding="utf-8")
    qrels = "".join(f"{topic}\tQ0\t{docid}\t{grade}\n" for topic, docid, grade in QRELS)
    (dev / "qrels/qrels.miracl-v1.0-sw-dev.tsv").write_text(qrels)
    docids = ["2#0", *(f"{number}#1" for number in range(OTHERS)), "1#0", "3#4"]
    write_shards(root / "miracl-corpus-v1.0-sw", docids, shards=11)
    return root


def load(folder: Path | None, pool: str, seed: int = 0) -> Collection:
    return miracl.dev(["sw"], folder and str(folder), pool, seed)


def judgements(collection: Collection) -> list[tuple[str, str, int]]:
    relevance, queries, passages = collection.relevance["sw", "sw"], collection.queries["sw"], collection.passages["sw"]
    rows = zip(relevance.query, relevance.passage.tolist(), relevance.grade.tolist(), strict=True)
    return [(queries.ids[query], passages.ids[passage], grade) for query, passage, grade in rows]


def test_topics_and_qrels_of_18_languages_have_the_published_counts(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for kind in ("topics", "qrels"):
        shutil.copytree(shared_data / "miracl" / kind, root / kind)
    for language in miracl.PASSAGES:
        lines = (root / f"qrels/qrels.miracl-v1.0-{language}-dev.tsv").read_text().splitlines()
        write_shards(root / f"miracl-corpus-v1.0-{language}", sorted({line.split("\t")[2] for line in lines}), shards=1)
    collection = miracl.dev(list(miracl.PASSAGES), str(root), "judged", 0)
    topics = {language: len(queries) for language, queries in collection.queries.items()}
    judged = {language: len(relevance.grade) for (language, _), relevance in collection.relevance.items()}
    assert (len(topics), sum(topics.values()), sum(judged.values())) == (18, 13_495, 130_408)
    assert (topics["de"], judged["de"], topics["yo"], judged["yo"]) == (305, 3_144, 119, 1_188)
    english = collection.relevance["en", "en"]  # mteb's published 2.911 relevant passages per topic
    assert (english.grade > 0).sum() / topics["en"] == pytest.approx(2.911138923654568)
    assert collection.every_query_counts
    assert (collection.settings, collection.main_metric) == (("mono",), "ndcg_10")
    assert collection.clusters["0"] == "ar/151236"  # of the first language that has this topic


def test_topics_of_one_page_are_a_cluster(folder: Path) -> None:
    """The page of the first relevant passage; a topic without a relevant passage is its own."""
    qrels = "7\tQ0\t1#0\t0\n7\tQ0\t3#4\t1\n7\tQ0\t2#0\t1\n9\tQ0\t3#1\t1\n"
    (folder / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv").write_text(qrels)
    collection = load(folder, "judged")
    assert collection.clusters == {"7": "sw/3", "9": "sw/3"}
    assert collection.cluster_name == "page"
    (folder / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv").write_text(qrels.replace("3#1\t1", "3#1\t0"))
    assert load(folder, "judged").clusters == {"7": "sw/3"}


@pytest.mark.parametrize("pool", ["judged", "sample:1", "full"])
def test_every_judgement_is_kept_in_every_pool(folder: Path, pool: str) -> None:
    collection = load(folder, pool)
    assert collection.name == f"miracl[{pool}]"
    assert judgements(collection) == QRELS
    assert list(collection.queries["sw"].texts) == ["Nani?", "Wapi\u2028?"]
    assert collection.titles == {"T1#0", "T2#0", "T3#4"}
    passages = collection.passages["sw"]
    assert len(passages) == 3 + {"judged": 0, "sample:1": 1, "full": OTHERS}[pool]
    assert collection.samples == ({"sw": Sample(judged=3, full=131_924)} if pool == "sample:1" else {})
    assert list(passages.texts) == [f"T{id} text of {id}" for id in passages.ids]


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(folder: Path) -> None:
    ids = {n: list(load(folder, f"sample:{n}").passages["sw"].ids) for n in (1, 10, OTHERS - 1, OTHERS, OTHERS + 1)}
    assert [len(pool) - 3 for pool in ids.values()] == [1, 10, OTHERS - 1, OTHERS, OTHERS]
    for n, pool in ids.items():
        assert pool == ids[OTHERS][: 3 + n]
        assert set(pool[:3]) == {"1#0", "2#0", "3#4"}
    assert set(ids[OTHERS]) == set(load(folder, "full").passages["sw"].ids)
    assert ids[OTHERS + 1] == ids[OTHERS]
    assert ids[10] != list(load(folder, "sample:10", seed=1).passages["sw"].ids)


def test_shards_are_read_in_the_order_of_their_numbers(folder: Path) -> None:
    ids = load(folder, "full").passages["sw"].ids[:]
    lines = gzip.decompress((folder / "miracl-corpus-v1.0-sw/docs-10.jsonl.gz").read_bytes()).splitlines()
    shard = [json.loads(line)["docid"] for line in lines]
    assert ids[-len(shard) :] == shard


def test_the_pool_is_stored_once_and_follows_the_files(folder: Path, cache: Path) -> None:
    load(folder, "sample:5")
    stored = sorted(cache.rglob("*.arrow"))
    load(folder, "sample:5")
    assert sorted(cache.rglob("*.arrow")) == stored
    shutil.rmtree(folder / "miracl-corpus-v1.0-sw")
    write_shards(folder / "miracl-corpus-v1.0-sw", ["1#0", "2#0", "3#4", "new#0"], shards=1)
    assert load(folder, "sample:5").passages["sw"].ids[:] == ["1#0", "2#0", "3#4", "new#0"]


LOAD_FROM_HUB = """
import json, sys
from pipeline.data import miracl
collection = miracl.dev(["sw"], None, sys.argv[1], 0)
print(json.dumps([collection.passages["sw"].ids[:], collection.passages["sw"].texts[:]]))
"""


def test_the_hub_gives_what_the_folder_gives(folder: Path, tmp_path: Path) -> None:
    for repo, part in {"miracl": "miracl-v1.0-sw", "miracl-corpus": "miracl-corpus-v1.0-sw"}.items():
        shutil.copytree(folder / part, tmp_path / "hub/datasets/miracl" / repo / part)
    passages = load(folder, "sample:7").passages["sw"]
    with HubServer(tmp_path / "hub") as hub:
        assert json.loads(hub.client(LOAD_FROM_HUB, "sample:7")) == [passages.ids[:], passages.texts[:]]


@pytest.mark.parametrize("id", ["id", "_id"])
def test_the_hard_pool_is_mtebs_own_topics_and_passages(tmp_path: Path, id: str) -> None:
    tables: dict[str, list[dict[str, Any]]] = {
        "corpus": [{id: docid, "title": f"T{docid}", "text": f"text of {docid}"} for docid in ("8#1", "1#0", "2#0")],
        "queries": [{id: "7", "text": "Nani?"}],
        "qrels": [{"query-id": "7", "corpus-id": docid, "score": grade} for _, docid, grade in QRELS[:2]],
    }
    root = tmp_path / "datasets/mteb/MIRACLRetrievalHardNegatives"
    for kind, rows in tables.items():
        file = root / f"sw-{kind}/dev-00000-of-00001.parquet"
        file.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    collection = load(root, "hard")
    assert collection.name == "miracl[hard]"
    assert judgements(collection) == QRELS[:2]
    passages = collection.passages["sw"]
    assert passages.texts[:] == ["T8#1 text of 8#1", "T1#0 text of 1#0", "T2#0 text of 2#0"]
    with HubServer(tmp_path) as hub:
        hub.revisions.add("d7d94fa4b946cec4a27c84653aa0cf6b33f74a3c")
        assert json.loads(hub.client(LOAD_FROM_HUB, "hard")) == [passages.ids[:], passages.texts[:]]
    (root / "sw-corpus/dev-00000-of-00001.parquet").write_bytes(b"PAR0")
    with pytest.raises(UserError, match=r"dev-00000-of-00001\.parquet is not a parquet file"):
        load(root, "hard")


@pytest.mark.parametrize("pool", ["", "Full", "sample", "sample:0", "sample:-1", "sample:1e3", "sample:10 "])
def test_an_unknown_pool_is_refused(folder: Path, pool: str) -> None:
    with pytest.raises(ValueError, match=r"^pool must be judged, hard, sample:N \(N a positive number\) or full, got"):
        load(folder, pool)


def test_an_unknown_language_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^languages must be distinct and among ar, .*, got el$"):
        miracl.dev(["sw", "el"], str(folder), "judged", 0)


def test_broken_files_are_one_sentence_and_leave_nothing_behind(folder: Path, cache: Path) -> None:
    corpus = folder / "miracl-corpus-v1.0-sw"
    first = corpus / "docs-0.jsonl.gz"
    whole = first.read_bytes()
    row = gzip.decompress(whole).splitlines()[0].decode()
    for content, message in {
        whole[:-9]: r"docs-0\.jsonl\.gz is truncated",
        gzip.compress(f"{row}\n{row[:-1]}\n".encode()): r"docs-0\.jsonl\.gz is broken JSON at line 2",
        gzip.compress(b'{"docid": "1#0", "title": ""}\n'): r"docs-0\.jsonl\.gz, line 1: a passage needs docid and text",
        gzip.compress(b'{"docid": "1#0", "title": "", "text": null}\n'): r"line 1: a passage needs docid and text",
    }.items():
        first.write_bytes(content)
        with pytest.raises(UserError, match=message):
            load(folder, "full")
        assert not list(cache.rglob("*.arrow"))
    first.write_bytes(whole)
    assert len(load(folder, "full").passages["sw"]) == OTHERS + 3


def test_repeated_judgements_topics_and_passages_count_once_or_are_refused(folder: Path) -> None:
    """FINDINGS E1: a judgement twice gave a mean average precision of 1.5."""
    qrels = folder / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv"
    topics = folder / "miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv"
    written = qrels.read_text()
    for pool in ("judged", "full"):
        qrels.write_text(written + "7\tQ0\t1#0\t1\n")
        collection = load(folder, pool)
        assert judgements(collection) == QRELS
        note = collection.provenance["note"]
        assert note == "MIRACL, sw: Repeated entries were counted once: judgements (1)."
        qrels.write_text(written + "7\tQ0\t1#0\t0\n")
        where = r"qrels\.miracl-v1\.0-sw-dev\.tsv, line 5 repeats the judgement 7 1#0 of .*, line 1 with other content"
        with pytest.raises(UserError, match=where):
            load(folder, pool)
    qrels.write_text(written)
    topics.write_text("7\tNani?\n9\tWapi?\n7\tNini?\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"dev\.tsv, line 3 repeats the topic 7 of .*dev\.tsv, line 1 with other"):
        load(folder, "judged")
    topics.write_text("7\tNani?\n9\t\u00a0\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"dev\.tsv, line 2: topic 9 has no text\.$"):
        load(folder, "judged")
    topics.write_text("7\tNani?\n9\tWapi?\n", encoding="utf-8")
    shard = folder / "miracl-corpus-v1.0-sw/docs-11.jsonl.gz"
    again = {"docid": "1#0", "title": "T1#0", "text": "text of 1#0"}
    shard.write_bytes(gzip.compress(json.dumps(again).encode()))
    assert len(load(folder, "full").passages["sw"]) == OTHERS + 3
    shard.write_bytes(gzip.compress(json.dumps(again | {"text": "other"}).encode()))
    with pytest.raises(UserError, match=r"docs-11\.jsonl\.gz, row 1 repeats the id 1#0 of .*\.jsonl\.gz, row \d+ with"):
        load(folder, "full")


def test_missing_shards_and_passages_are_named(folder: Path) -> None:
    corpus = folder / "miracl-corpus-v1.0-sw"
    (corpus / "docs-3.jsonl.gz").rename(corpus / "docs-11.jsonl.gz")
    with pytest.raises(UserError, match=r"^eval\.miracl\.path: .* must hold docs-0\.jsonl\.gz, .* without gaps"):
        load(folder, "judged")
    shutil.rmtree(corpus)
    with pytest.raises(UserError, match=r"^eval\.miracl\.path: there is no folder .*miracl-corpus-v1\.0-sw\.$"):
        load(folder, "judged")
    write_shards(corpus, ["1#0", "2#0"], shards=1)
    with pytest.raises(UserError, match=r"the sw corpus lacks 1 of its 3 judged passages, such as 3#4"):
        load(folder, "judged")


def test_broken_tables_are_named(folder: Path) -> None:
    qrels = folder / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv"
    for line, says in {"7 Q0 1#0 1": "expected 4 columns", "7\tQ0\t1#0\trelevant": "a grade is a whole number"}.items():
        qrels.write_text(f"7\tQ0\t1#0\t1\n{line}\n")
        with pytest.raises(UserError, match=rf"sw-dev\.tsv, line 2: {says}"):
            load(folder, "judged")
    qrels.write_text("8\tQ0\t1#0\t1\n")
    with pytest.raises(UserError, match=r"the sw qrels judge topic 8, which the topics file lacks"):
        load(folder, "judged")
    qrels.unlink()
    with pytest.raises(UserError, match=r"^eval\.miracl\.path: there is no file .*qrels\.miracl-v1\.0-sw-dev\.tsv"):
        load(folder, "judged")


def test_relevance_has_the_types_of_values(folder: Path) -> None:
    relevance = load(folder, "judged").relevance["sw", "sw"]
    dtypes = [array.dtype for array in (relevance.query, relevance.passage, relevance.grade)]
    assert dtypes == [np.int32, np.int64, np.int8]
