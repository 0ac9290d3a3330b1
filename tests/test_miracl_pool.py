"""pipeline.data.miracl_pool: the real pool of 18 languages, its note, and what is said without its folder."""

from pathlib import Path

import pytest
from test_config import composed

from pipeline.data import miracl
from pipeline.data.miracl_pool import FEWEST, KEY, pool
from pipeline.values import UserError

QUERIES = {
    **{"id": 144, "ar": 134, "sw": 120, "te": 85, "th": 66, "bn": 65, "yo": 53, "hi": 47, "zh": 46, "fa": 39, "ru": 33},
    **{"ja": 29, "fi": 26, "de": 19, "ko": 18, "es": 15, "fr": 14, "en": 13},
}
DEFAULT = list(composed("eval=miracl_pool").eval.miracl_pool.languages)


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    if not (shared_data / "miracl-pool").is_dir():
        pytest.skip("the real data have no miracl-pool")
    return str(shared_data / "miracl-pool")


def test_the_pool_has_its_published_counts_in_18_languages(folder: str) -> None:
    collection = pool(list(miracl.PASSAGES), folder)
    assert collection.name == "miracl[pool]"
    assert {language: len(texts) for language, texts in collection.queries.items()} == QUERIES
    assert sum(map(len, collection.passages.values())) == 80_971
    assert sum((judged.grade > 0).sum() for judged in collection.relevance.values()) == 1_301
    for language, texts in collection.queries.items():  # every query has a relevant passage in the pool
        judged = collection.relevance[language, language]
        assert set(judged.query[judged.grade > 0].tolist()) == set(range(len(texts)))
    assert (collection.settings, collection.main_metric, collection.samples) == (("mono",), "ndcg_10", {})
    note = collection.provenance["note"]
    assert note.startswith("miracl[pool] is not MIRACL: it ranks 80,971 MIRACL passages")
    assert "for the 966 dev queries" in note
    assert "never with published MIRACL scores" in note
    few = ", ".join(f"{language} ({QUERIES[language]})" for language in miracl.PASSAGES if QUERIES[language] < 40)
    assert note.endswith(f"fewer than 40 queries: {few}.")


def test_the_macro_average_is_over_languages_with_many_queries(folder: str) -> None:
    assert {language for language, count in QUERIES.items() if count >= FEWEST} == set(DEFAULT)
    assert "truncated, most of them in te, th, bn." in pool(DEFAULT, folder).provenance["note"]
    alone = pool(["yo"], folder).provenance["note"]
    assert "truncated" not in alone
    assert "fewer than" not in alone


def test_without_its_folder_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    for path, missing in {None: "MIRACL_POOL_DIR is not set", str(tmp_path / "no"): "there is no folder .*no"}.items():
        with pytest.raises(UserError, match=rf"^{KEY}: {missing}\..* project-miracl/nomiracl as docs/data\.md says"):
            pool(["yo"], path)
    with pytest.raises(UserError, match=rf"^{KEY}: there is no file .*topics\.miracl-v1\.0-yo-dev\.tsv"):
        pool(["yo"], str(tmp_path))
