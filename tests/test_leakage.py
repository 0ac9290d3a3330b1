"""pipeline.data.leakage: hand-worked overlaps, and what is known of the real pairings of training set and benchmark."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from pipeline.data import lareqa, leakage, worldfacts
from pipeline.data.text import normal
from pipeline.targets import build
from pipeline.values import Collection, ParallelText, Texts

CONF = str(Path(__file__).parent.parent / "conf")
LANGUAGES = ["ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh"]


def training(titles: Sequence[str] | None = None, **columns: Sequence[str | None]) -> ParallelText:
    """Two languages; `questions` and `passages` are those of the first."""
    ids = columns.get("ids", ["t1", "t2", "t3"])
    nothing: list[str | None] = [None] * len(ids)
    questions = {"en": columns.get("questions", nothing), "de": nothing}
    passages = {"en": nothing, "de": columns.get("passages", nothing)}
    available_NL, group_N = np.ones((len(ids), 2), dtype=bool), np.arange(len(ids))
    return ParallelText("set", ("en", "de"), ids, questions, passages, available_NL, group_N, titles)  # type: ignore[arg-type]


def benchmark(titles: Sequence[str] = (), **texts: Sequence[str]) -> Collection:
    ids = [f"b{number}" for number in range(9)]
    queries = {language: Texts(ids, column) for language, column in texts.items() if language != "zh"}
    return Collection("b", queries, {"zh": Texts(ids, texts.get("zh", []))}, {}, titles=frozenset(titles))


def counts(data: ParallelText, collection: Collection) -> list[int | None]:
    return [leakage.check(data, collection)[kind] for kind in leakage.KINDS]


def test_each_kind_is_found_by_itself() -> None:
    held_out = benchmark(titles=["Super_Bowl_50"], en=["Who won?"], zh=["谁赢了。"])
    assert counts(training(), held_out) == [0, None, 0, 0]
    assert counts(training(ids=["t1", "b0"]), held_out) == [1, None, 0, 0]
    assert counts(training(titles=["Super Bowl 50", "Super_Bowl_50", "Other"]), held_out) == [0, 1, 0, 0]
    assert counts(training(questions=["Who lost?", " who\nWON? ", None]), held_out) == [0, None, 1, 0]
    assert counts(training(passages=["谁赢了。", None, "谁赢了"]), held_out) == [0, None, 0, 1]
    assert counts(training(questions=["谁赢了。", None, None]), held_out) == [0, None, 0, 0]  # a passage there
    assert counts(training(titles=["A"] * 3), benchmark(en=["Who won?"])) == [0, None, 0, 0]


def test_distinct_texts_count_and_examples_stand_as_trained_on() -> None:
    data = training(ids=[f"t{n}" for n in range(6)], questions=["A?", "a?", "B ?", "c?", None, "D?"])
    result = leakage.check(data, benchmark(en=["a?", "b ?"], de=["A?", "C?", "d?"]))
    assert result["queries"] == 4
    assert result["examples"]["queries"] == ["A?", "B ?", "c?"]
    assert result["checked"] == {"ids": 6, "titles": 0, "queries": 5, "passages": 0}
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("language", ["ar", "hi"])
def test_a_copy_in_another_normal_form_leaks_whole(shared_data: Path, language: str) -> None:
    """FINDINGS E2: of XQuAD-R against its NFC copy, 150 of 1,243 Hindi passages and 34 Arabic ones were missed."""
    collection = lareqa.benchmark("xquad_r", [language], str(shared_data / "xquad-r"))
    [passages], [queries] = collection.passages.values(), collection.queries.values()
    count = len(passages)
    data = ParallelText(
        name="copy",
        languages=(language,),
        ids=[f"t{n}" for n in range(count)],
        questions={
            language: [unicodedata.normalize("NFC", text) for text in [*queries.texts, *passages.texts][:count]]
        },
        passages={language: [unicodedata.normalize("NFC", text) for text in passages.texts]},
        available_NL=np.ones((count, 1), dtype=bool),
        passage_group=np.arange(count),
    )
    result = leakage.check(data, collection)
    assert result["passages"] == len({normal(text).casefold() for text in passages.texts})
    assert result["queries"] == len({normal(text).casefold() for text in queries.texts})


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 9])
def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(leakage, "CHUNK", 4)
    data = training(ids=[str(n) for n in range(rows)], questions=[f"{n % 7}?" for n in range(rows)])
    result = leakage.check(data, benchmark(en=[f"{n}?" for n in range(1, 8)]))
    assert result["queries"] == len({n % 7 for n in range(rows)} - {0})
    assert result["checked"]["queries"] == rows


def test_the_sentence_names_what_is_shared() -> None:
    clean = {"ids": 0, "titles": None, "queries": 0, "passages": 0}
    assert leakage.sentence("set", "b", clean) is None
    note = leakage.sentence("set", "b", clean | {"titles": 48, "queries": 1})
    assert note == "The training data set shares titles (48), queries (1) with b."


def test_the_record_says_what_is_shared() -> None:
    from pipeline.store.provenance import notes

    data, held_out = training(titles=["T"] * 3), benchmark(titles=["t"])
    note = leakage.sentence(data.name, held_out.name, leakage.check(data, held_out))
    sources = [data.provenance, held_out.provenance]
    assert note == "The training data set shares titles (1) with b."
    assert notes(sources, [note], cost_only=False, halvings=0) == [note]
    assert notes(sources, [], cost_only=False, halvings=0) == []


@pytest.mark.slow
def test_the_splits_of_one_source_share_nothing(shared_data: Path) -> None:
    folder = str(shared_data / "xquad-r")
    articles = lareqa.train_articles(LANGUAGES, folder), lareqa.test_articles(LANGUAGES, folder)
    for data, collection in (articles, (worldfacts.train(LANGUAGES), worldfacts.benchmark(LANGUAGES))):
        assert counts(data, collection) == [0, 0, 0, 0]
    assert counts(articles[0], lareqa.benchmark("xquad_r", LANGUAGES, folder))[:2] == [758, 32]


@pytest.fixture(scope="module")
def squad(shared_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """data=<name> by sentences or by paragraphs."""
    import datasets.config

    def load(name: str, **settings: Any) -> ParallelText:
        with initialize_config_dir(CONF, version_base="1.3"):
            node = compose("config", overrides=[f"data={name}"]).data
        return build("data", {**node, "path": str(shared_data / name.replace("_", "-")), **settings})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield load


@pytest.mark.slow
def test_squad_parallel_shares_one_generic_query_with_xquad_r(squad, shared_data: Path) -> None:
    result = leakage.check(
        squad("squad_parallel", languages=["en", "pt"]),
        lareqa.benchmark("xquad_r", LANGUAGES, str(shared_data / "xquad-r")),
    )
    assert [result[kind] for kind in leakage.KINDS] == [0, 0, 1, 0]
    assert result["examples"]["queries"] == ["What was the average family size?"]
    assert result["checked"] == {"ids": 87_599, "titles": 87_599, "queries": 89_709, "passages": 89_709}


@pytest.mark.slow
def test_squad_parallel_shares_no_paragraph_with_xquad(squad, shared_data: Path) -> None:
    contexts = lareqa.mteb_contexts(LANGUAGES, str(shared_data / "xquad-r"))
    by_paragraph = {"passage_column": "context", "passage_id_column": "paragraph_id", "languages": ["en", "pt"]}
    data = squad("squad_parallel", **by_paragraph)
    assert counts(data, contexts) == [0, 0, 1, 0]
    assert len(np.unique(data.passage_group)) == 18_896


@pytest.mark.slow
def test_squad_dev_parallel_shares_all_48_articles_with_xquad_r(squad, shared_data: Path) -> None:
    xquad_r = lareqa.benchmark("xquad_r", LANGUAGES, str(shared_data / "xquad-r"))
    assert counts(squad("squad_dev_parallel"), xquad_r) == [0, 48, 0, 0]
