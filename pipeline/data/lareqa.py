"""LAReQA (Roy et al. 2020, arXiv:2004.05484): XQuAD-R and MLQA-R, question answering as sentence retrieval.

Reads the authors' JSON, one `{language}.json` each: articles > paragraphs > `context`, `sentence_breaks` (character
offsets), `qas`. A candidate is `context[start:end]` of a sentence break; gold is the one where the answer starts
(`start <= answer_start < end`). A question keeps its id in every language, so relevance is equality of ids.

Axes: N rows (questions) of the training text, L languages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.groups import connected
from pipeline.data.hub import fetch, read_json
from pipeline.values import Collection, ParallelText, Relevance, Texts, UserError

TEST_EVERY = 3  # of XQuAD-R's 48 articles, every third from the first is held out: 16, and 32 to train on
XQUAD = "google/xquad", "51adfef1c1287aab1d2d91b5bead9bcfb9c68583"  # the parquet files and revision that mteb read


class Question(NamedTuple):
    id: str
    text: str
    context: int  # the position of its paragraph in the article
    sentence: int  # the position of the gold sentence in the article


@dataclass(frozen=True)
class Article:
    title: str
    contexts: Sequence[str]
    sentence_ids: Sequence[str]
    sentences: Sequence[str]
    questions: Sequence[Question]


def benchmark(name: str, languages: list[str], path: str | None) -> Collection:
    """All articles of `xquad_r` or `mlqa_r` (whose questions exist in 2 to 4 languages and rarely more)."""
    return _sentence_retrieval(name, _read(name, languages, path, f"eval.{name}.path"))


def test_articles(languages: list[str], path: str | None) -> Collection:
    """The 16 held-out articles of XQuAD-R; the pools hold their sentences only."""
    articles = _read("xquad_r", languages, path, "eval.xquad_r_articles.path")
    return _sentence_retrieval("xquad_r_articles", {language: its[::TEST_EVERY] for language, its in articles.items()})


def train_articles(languages: list[str], path: str | None) -> ParallelText:
    """The other 32 articles, as pairs of a question and its gold sentence."""
    articles = {
        language: [article for number, article in enumerate(its) if number % TEST_EVERY]
        for language, its in _read("xquad_r", languages, path, "data.path").items()
    }
    rows = {language: [(a, q) for a in its for q in a.questions] for language, its in articles.items()}
    ids = [question.id for _, question in rows[languages[0]]]
    for language in languages:
        if [question.id for _, question in rows[language]] != ids:
            raise UserError(f"data.path: the questions of {language}.json are not those of {languages[0]}.json.")
    return ParallelText(
        name="xquad_r_articles",
        languages=tuple(languages),
        ids=ids,
        questions={language: [question.text for _, question in pairs] for language, pairs in rows.items()},
        passages={language: [a.sentences[q.sentence] for a, q in pairs] for language, pairs in rows.items()},
        available_NL=np.ones((len(ids), len(languages)), dtype=bool),
        # Languages split a paragraph differently, and a batch may pair a row with any of them.
        passage_group=connected([[a.sentence_ids[q.sentence] for a, q in pairs] for pairs in rows.values()]),
        titles=[article.title for article, _ in rows[languages[0]]],
        provenance={"source": "XQuAD-R, 32 of its 48 articles"},
    )


def mteb_contexts(languages: list[str], path: str | None) -> Collection:
    """mteb's XQuADRetrieval: find the paragraph, among the 240 of the question's language.

    Texts are stripped; of questions with the same text (they ask of the same paragraph) the last one's id stays.
    Without a folder it reads XQuAD's parquet files from the hub: the same paragraphs and questions, without titles.
    """
    rows: dict[str, list[tuple[str, str, str]]] = {}  # id, question, context
    titles: set[str] = set()
    if path is None:
        rows = {language: _hub_rows(language) for language in languages}
    else:
        for language, articles in _read("xquad_r", languages, path, "eval.xquad_mteb.path").items():
            rows[language] = [(q.id, q.text, a.contexts[q.context]) for a in articles for q in a.questions]
            titles |= {article.title for article in articles}
    queries, passages, relevance = {}, {}, {}
    for language, its in rows.items():
        id_of = {question.strip(): id for id, question, _ in its}
        context_of = {question.strip(): context.strip() for _, question, context in its}
        contexts = list(dict.fromkeys(context.strip() for _, _, context in its))
        position = {context: number for number, context in enumerate(contexts)}
        queries[language] = Texts(list(id_of.values()), list(id_of))
        passages[language] = Texts([f"{language}/{number}" for number in range(len(contexts))], contexts)
        gold = [position[context_of[question]] for question in id_of]
        relevance[language, language] = _relevance(enumerate(gold))
    provenance = {"source": "XQuAD as in mteb's XQuADRetrieval"}
    return Collection(
        "xquad_mteb", queries, passages, relevance, ("mono",), titles=frozenset(titles), provenance=provenance
    )


def _hub_rows(language: str) -> list[tuple[str, str, str]]:
    import pyarrow.parquet

    repo, revision = XQUAD
    filename = f"xquad.{language}/validation-00000-of-00001.parquet"
    file = fetch(repo, filename, folder=None, key="eval.xquad_mteb.path", revision=revision)
    columns = pyarrow.parquet.read_table(file, columns=["id", "question", "context"]).to_pydict()
    return list(zip(columns["id"], columns["question"], columns["context"], strict=True))


def _sentence_retrieval(name: str, articles: dict[str, list[Article]]) -> Collection:
    queries, passages, gold = {}, {}, {}
    for language, its in articles.items():
        questions = [question for article in its for question in article.questions]
        queries[language] = Texts([q.id for q in questions], [q.text for q in questions])
        sentence_ids = [id for article in its for id in article.sentence_ids]
        passages[language] = Texts(sentence_ids, [text for article in its for text in article.sentences])
        position = {id: number for number, id in enumerate(sentence_ids)}
        gold[language] = {q.id: position[a.sentence_ids[q.sentence]] for a in its for q in a.questions}
        if len(gold[language]) < len(questions):
            raise UserError(f"{name}: {language}.json holds a question id twice.")
    relevance = {
        (asked, answered): _relevance(
            (query, gold[answered][id]) for query, id in enumerate(queries[asked].ids) if id in gold[answered]
        )
        for asked in articles
        for answered in articles
    }
    titles = frozenset(article.title for its in articles.values() for article in its)
    return Collection(name, queries, passages, relevance, titles=titles, provenance={"source": f"LAReQA's {name}"})


def _relevance(pairs: Iterable[tuple[int, int]]) -> Relevance:
    query, passage = np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T
    return Relevance(query.astype(np.int32), passage, np.ones(len(query), dtype=np.int8))


def _read(name: str, languages: list[str], path: str | None, key: str) -> dict[str, list[Article]]:
    if not languages:
        raise ValueError("languages must name at least one, got none")
    if path is None:
        raise UserError(
            f"{key} is null: the hub holds {name} only without its sentence breaks; the header of "
            f"conf/eval/{name}.yaml says how to get the original files."
        )
    return {language: _read_language(path, language, key) for language in languages}


def _read_language(path: str, language: str, key: str) -> list[Article]:
    file = Path(path, f"{language}.json")
    if not file.is_file():
        present = ", ".join(sorted(file.stem for file in Path(path).glob("*.json"))) or "none"
        raise UserError(f"{key}: {path} has no {language}.json (languages there: {present}).")
    try:
        articles = read_json(file)["data"]
        return [_article(article, f"{language}/{number}", file) for number, article in enumerate(articles)]
    except KeyError as error:
        raise UserError(f"{file} lacks the key {error} of LAReQA's format.") from error
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f"{file} is not in LAReQA's format: {error}.") from error


def _article(article: dict[str, Any], id: str, file: Path) -> Article:
    contexts: list[str] = []
    sentence_ids: list[str] = []
    sentences: list[str] = []
    questions: list[Question] = []
    for number, paragraph in enumerate(article["paragraphs"]):
        context, breaks = paragraph["context"], paragraph["sentence_breaks"]
        for qa in paragraph["qas"]:
            answer_start = qa["answers"][0]["answer_start"]
            gold = [position for position, (start, end) in enumerate(breaks) if start <= answer_start < end]
            if not gold:
                raise UserError(
                    f"{file}: in article {article['title']!r} the answer of question {qa['id']} starts at character "
                    f"{answer_start}, in no sentence."
                )
            questions.append(Question(qa["id"], qa["question"], number, len(sentences) + gold[0]))
        contexts.append(context)
        sentence_ids += [f"{id}/{number}/{position}" for position in range(len(breaks))]
        sentences += [context[start:end] for start, end in breaks]
    return Article(article["title"], contexts, sentence_ids, sentences, questions)
