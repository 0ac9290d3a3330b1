"""worldfacts: the size, that texts never change by themselves, and sentences checked by eye against CLDR's pages."""

import re

import numpy as np
import pytest
from babel import Locale
from omegaconf import OmegaConf

from pipeline.data.worldfacts import LANGUAGES, benchmark, train
from pipeline.targets import build
from pipeline.values import UserError

ALL = list(LANGUAGES)


@pytest.fixture(scope="module")
def training():
    return train(ALL)


@pytest.fixture(scope="module")
def test():
    return benchmark(ALL)


def territories(ids):
    return {row.split("-")[0] for row in ids}


def test_size_and_split(training, test):
    queries = test.queries["en"]
    assert (len(training), len(queries)) == (1280, 323)
    assert (len(territories(training.ids)), len(territories(queries.ids))) == (196, 50)
    assert not territories(training.ids) & territories(queries.ids)
    assert len(test.titles) == 50
    assert test.clusters == {id: id.split("-")[0] for id in queries.ids}
    assert test.cluster_name == "territory"
    assert not test.titles & set(training.titles)


def test_every_row_exists_in_every_language(training, test):
    assert training.languages == LANGUAGES
    assert training.available_NL.shape == (1280, 11)
    assert training.available_NL.all()
    assert len(set(training.passage_group)) == 1280
    for language in ALL:
        assert len(training.questions[language]) == len(training.passages[language]) == len(training)
        assert test.queries[language].ids == test.passages[language].ids == test.queries["en"].ids
        assert len(test.queries[language]) == len(test.passages[language]) == 323


def test_the_texts_never_change_with_one_version_of_babel(training, test):
    assert (training.provenance["babel"], training.provenance["cldr"]) == ("2.18.0", "47")
    assert training.provenance["sha256"] == "921d52d43364ddde96d4290d138f9b4cb1642f05b0087a2c39198de84438a180"
    assert test.provenance["sha256"] == "c42ae6df792f23bc11351c8fedfc3ceaca57f3ebf4c8b39d44a2ece45107cf80"


def test_fewer_languages_are_the_same_rows(training):
    two = train(["hi", "de"])
    assert two.languages == ("hi", "de")
    assert two.ids == training.ids
    assert two.available_NL.shape == (1280, 2)
    assert two.passages == {language: training.passages[language] for language in ("hi", "de")}
    assert two.provenance["sha256"] != training.provenance["sha256"]


@pytest.mark.parametrize("language", ALL)
def test_no_text_occurs_twice(training, test, language):
    texts = [*training.questions[language], *training.passages[language]]
    texts += [*test.queries[language].texts, *test.passages[language].texts]
    assert len(set(texts)) == 2 * (1280 + 323)


def test_one_relevant_passage_per_language(test):
    assert set(test.relevance) == {(of_query, of_passage) for of_query in ALL for of_passage in ALL}
    assert test.settings == ("mono", "cross", "multi")
    relevance = test.relevance["th", "el"]
    assert (relevance.query.dtype, relevance.passage.dtype, relevance.grade.dtype) == (np.int32, np.int64, np.int8)
    assert list(relevance.query) == list(relevance.passage) == list(range(323))
    assert set(relevance.grade) == {1}


@pytest.mark.parametrize(
    ("row", "language", "passage", "query"),
    [
        (
            "HR-former",
            "en",
            "Croatia: from 1994 to 2023 the money in circulation was called Croatian Kuna.",
            "Croatia: which currency was used before?",
        ),
        ("SE-clock", "de", "Schweden: Die amtliche Normalzeit heißt Mitteleuropäische Normalzeit.", None),
        (
            "EG-zone",
            "es",
            "Egipto: los relojes siguen la hora de El Cairo.",
            "Egipto: ¿qué lugar da nombre al huso horario?",
        ),
        ("EG-zone", "ar", "تُضبط الساعات في مصر على توقيت القاهرة.", None),
        ("IL-week", "ru", "Израиль: новую неделю в календаре открывает воскресенье.", None),
        ("BR-spoken", "el", "Βραζιλία: περίπου το 91% του πληθυσμού μιλά Πορτογαλικά.", None),
        ("TR-since", "tr", "Türkiye: bugünkü yasal ödeme aracı 2005 yılında dolaşıma girdi.", None),
        ("IN-official", "hi", "भारत का सरकारी कामकाज हिन्दी और अंग्रेज़ी में होता है।", "भारत की आधिकारिक भाषाएँ कौन-सी हैं?"),
        ("GB-zone", "vi", "Đồng hồ ở Vương quốc Anh chạy theo giờ của London.", None),
        ("KR-currency", "zh", "韩国如今的法定支付手段是韩元。", "韩国现在使用哪种货币？"),
        ("SE-week", "th", "ปฏิทินในสวีเดนเริ่มสัปดาห์ใหม่ในวันจันทร์", "ในสวีเดน วันแรกของสัปดาห์คือวันอะไร?"),
    ],
)
def test_sentences_read_by_eye(training, row, language, passage, query):
    assert training.text(training.ids.index(row), language, "passage") == passage
    if query:
        assert training.text(training.ids.index(row), language, "query") == query


def test_a_fact_without_a_name_in_one_language_is_dropped_in_all(test):
    assert "XCG" in Locale("en").currencies  # Curaçao's guilder since 2025
    assert "XCG" not in Locale("hi").currencies
    assert "CW-official" in test.queries["en"].ids
    assert not {"CW-currency", "CW-since"} & set(test.queries["en"].ids)


@pytest.mark.parametrize("language", ["ar", "el", "hi", "ru", "th", "zh"])
def test_no_name_falls_back_to_english_or_to_a_code(training, test, language):
    texts = [*training.questions[language], *training.passages[language]]
    texts += [*test.queries[language].texts, *test.passages[language].texts]
    francs = re.compile("CFA|CFP|BEAC")  # abbreviations that stay Latin in CLDR's own translations
    assert [text for text in texts if re.search("[A-Za-z]", francs.sub("", text))] == []


@pytest.mark.parametrize("languages", [[], ["en", "xx"], ["en", "en"]])
def test_impossible_languages(languages):
    for source in (train, benchmark):
        with pytest.raises(ValueError, match=r"^languages must be distinct and among ar, de, .*, got"):
            source(languages)


def test_an_unknown_language_is_one_sentence_that_names_the_key():
    node = OmegaConf.create({"_target_": "pipeline.data.worldfacts.train", "languages": ["xx"]})
    with pytest.raises(UserError, match=r"^data\.languages must be .* among ar, de, el, .* zh, got xx$"):
        build("data", node)
