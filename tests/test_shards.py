"""Vectors in shards, on a disk and elsewhere: whole or not at all, read by rows and blocks, ranked as in memory."""

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest

from pipeline.groups import EncodeConfig
from pipeline.retrieval import exact, faiss_index
from pipeline.retrieval.centring import centred
from pipeline.retrieval.vectors import Truncated
from pipeline.store.shards import Shards, check_folder
from pipeline.values import Collection, Relevance, Texts, UserError

PASSAGES, QUERIES, WIDTH, SIZE = 103, 12, 16, 20


def unit(count: int, seed: int) -> np.ndarray:
    emb_ND = np.random.default_rng(seed).standard_normal((count, WIDTH), np.float32)
    return emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{tmp_path}/a b" if request.param == "local" else f"memory://{tmp_path.name}"


def saved(url: str, emb_ND: np.ndarray, precision: str = "float32") -> Shards:
    shards = Shards(url, SIZE, precision)
    for first in range(0, len(emb_ND), SIZE):
        shards.save(first, emb_ND[first : first + SIZE])
    return shards


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_rows_are_those_of_an_array(url: str, precision: str) -> None:
    emb_ND = unit(PASSAGES, 0)
    rows, expected = saved(url, emb_ND, precision).rows(PASSAGES, WIDTH), emb_ND.astype(precision).astype(np.float32)
    assert (rows.shape, rows.dtype, len(rows)) == (emb_ND.shape, np.float32, PASSAGES)
    np.testing.assert_array_equal(np.asarray(rows), expected)
    for part in (slice(0, 20), slice(19, 21), slice(5, 87), slice(100, 200), slice(50), slice(3, 3)):
        np.testing.assert_array_equal(np.asarray(rows[part]), expected[part])
    np.testing.assert_array_equal(np.asarray(rows[7:90][15:40]), expected[22:47])
    for positions in ([102, 0, 19, 20, 20], []):
        np.testing.assert_array_equal(rows[np.array(positions, int)], expected[positions])
        np.testing.assert_array_equal(rows[:][np.array(positions, int)], expected[positions])
    with pytest.raises(ValueError, match="step 1"):
        rows[::2]


def test_files_are_numpys_own(tmp_path: Path) -> None:
    emb_ND = unit(SIZE, 0)
    saved(str(tmp_path), emb_ND, "float16")
    loaded_ND = np.load(tmp_path / "0.npy", allow_pickle=False)
    assert loaded_ND.dtype == np.float16
    np.testing.assert_array_equal(loaded_ND, emb_ND.astype(np.float16))


def test_a_shard_is_whole_or_made_again(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    shards = saved(url, unit(45, 0))
    assert [shards.kept(first, (size, WIDTH)) for first, size in {0: 20, 20: 20, 40: 5}.items()] == [True] * 3
    assert not shards.kept(60, (20, WIDTH))
    assert capsys.readouterr().err == ""
    system = shards.system
    content = bytearray(system.cat_file(shards.file(0)))
    content[-1] ^= 1
    system.pipe_file(shards.file(0), bytes(content))
    system.rm_file(shards.file(20))
    system.pipe_file(shards.facts(40), system.cat_file(shards.facts(40))[:-1])
    for first, size in {0: 20, 20: 20, 40: 5}.items():
        assert not shards.kept(first, (size, WIDTH))
        assert f"{first}.npy is damaged or missing: it has to be made again." in capsys.readouterr().err
    shards.save(0, unit(20, 1))
    assert shards.kept(0, (20, WIDTH))
    assert not shards.kept(0, (20, WIDTH - 1))  # of another encoder


def test_a_full_disk_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(str(tmp_path), SIZE)
    monkeypatch.setattr(shards.system, "pipe_file", lambda *_: (_ for _ in ()).throw(OSError("No space left")))
    with pytest.raises(OSError, match="No space left"):
        shards.save(0, unit(SIZE, 0))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def collection() -> Collection:
    rng = np.random.default_rng(3)

    def texts(count: int) -> Texts:
        return Texts([str(n) for n in range(count)], [""] * count)

    def judged(pool: int) -> Relevance:
        query = np.repeat(np.arange(QUERIES, dtype=np.int32), 2)
        return Relevance(query, rng.integers(pool, size=2 * QUERIES), np.ones(2 * QUERIES, np.int8))

    pools = {"de": texts(PASSAGES), "en": texts(47)}
    relevance = {(language, pool): judged(len(pools[pool])) for language in pools for pool in pools}
    return Collection("shards", {language: texts(QUERIES) for language in pools}, pools, relevance)


@pytest.mark.parametrize("centre", [None, "passages", "both"])
@pytest.mark.parametrize("width", [WIDTH, 9])
@pytest.mark.parametrize("index", ["exact", "Flat", "SQ8", "IVF4,Flat;nprobe=4", "PCA8,HNSW8"])
def test_ranks_from_shards_are_those_from_memory(
    collection: Collection, tmp_path: Path, index: str, width: int, centre: str | None
) -> None:
    queries = {language: unit(QUERIES, n) for n, language in enumerate(collection.queries)}
    whole = {language: unit(len(pool), 5 + n) for n, (language, pool) in enumerate(collection.passages.items())}
    streamed = {
        language: saved(f"{tmp_path}/{language}", emb_ND).rows(len(emb_ND), WIDTH) for language, emb_ND in whole.items()
    }
    results = []
    for passages in (whole, streamed):
        sides = [{language: Truncated(emb, width) for language, emb in side.items()} for side in (queries, passages)]
        sides = [*centred(*sides, centre)] if centre else sides
        rank = exact.rank(*sides, collection, block=32) if index == "exact" else None
        results.append(rank or faiss_index.rank_by_index(*sides, collection, index))
    assert len(results[0]) == 6
    for one, other in zip(*results, strict=True):
        assert (one.setting, one.query_language) == (other.setting, other.query_language)
        np.testing.assert_array_equal(one.rank, other.rank)
        np.testing.assert_array_equal(one.top_language_QK, other.top_language_QK)


def test_half_precision_moves_scores_by_its_rounding_only() -> None:
    emb_ND = unit(500, 0)
    rows = saved("memory://half", emb_ND, "float16").rows(500, WIDTH)
    read_ND = np.asarray(rows)
    assert abs(np.linalg.norm(read_ND, axis=1) - 1).max() < 2**-11
    assert abs(read_ND @ emb_ND.T - emb_ND @ emb_ND.T).max() < 2**-11


def test_an_index_of_many_vectors_is_trained_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample is drawn across pools without repetition; blocks and pools are added in their order."""
    monkeypatch.setattr(faiss_index, "TRAINED", 60)
    monkeypatch.setattr(faiss_index, "TRAINED_PER_CENTROID", 10)
    monkeypatch.setattr(faiss_index, "ADDED", 16)
    pools, trained = {"de": unit(PASSAGES, 0), "en": unit(47, 1)}, []
    train = faiss_index.faiss.IndexIVFFlat.train
    monkeypatch.setattr(
        faiss_index.faiss.IndexIVFFlat, "train", lambda self, emb_ND: trained.append(emb_ND) or train(self, emb_ND)
    )
    index = faiss_index.index_of(pools, "IVF4,Flat;nprobe=4", lambda block_ND, _: np.asarray(block_ND))
    both_ND = np.concatenate(list(pools.values()))
    (sample_ND,) = trained
    assert len(np.unique(sample_ND, axis=0)) == 60
    places = (sample_ND[:, None] == both_ND).all(axis=2).argmax(axis=1)
    assert (np.diff(places) > 0).all()
    assert 0 < (places >= PASSAGES).sum() < 47
    np.testing.assert_array_equal(index.search(both_ND, 1)[1][:, 0], np.arange(150))


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("ftp://host/a", r"encode\.folder=ftp://host/a: it must be a path, or begin with file://"),
        ("simplecache::memory://a", r"it must be a path, or begin with"),
        ("s3://bucket/a", r"encode\.folder=s3://bucket/a: a package is missing: Install s3fs to access S3\."),
        ("/proc/a", r"encode\.folder=/proc/a cannot be written: "),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(folder: str, sentence: str) -> None:
    if folder.startswith("s3"):
        with pytest.raises(ImportError):
            import s3fs  # noqa: F401
    with pytest.raises(UserError, match=sentence):
        check_folder(folder)


def test_a_folder_that_can_be_used_is_left_empty(url: str) -> None:
    check_folder(url)
    system, path = fsspec.url_to_fs(url)
    assert system.ls(path) == []


def test_other_processes_do_not_see_memory() -> None:
    EncodeConfig(workers=1, folder="memory://a").check()
    with pytest.raises(UserError, match=r"encode\.folder=memory://a: other processes do not see"):
        EncodeConfig(workers=2, folder="memory://a").check()


def test_the_checksum_file_is_written_last(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, written = Shards(url, SIZE), []
    pipe_file = shards.system.pipe_file

    def pipe(path: str, content: bytes) -> None:
        written.append(np.frombuffer(shards.system.cat_file(shards.file(0))[128:], np.float32))
        pipe_file(path, content)

    monkeypatch.setattr(shards.system, "pipe_file", pipe)
    emb_SD = unit(SIZE, 0)
    shards.save(0, emb_SD)
    np.testing.assert_array_equal(written[0].reshape(SIZE, WIDTH), emb_SD)
    assert json.loads(shards.system.cat_file(shards.facts(0)))["shape"] == [SIZE, WIDTH]
