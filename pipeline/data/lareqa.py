"""LAReQA (Roy et al. 2020, arXiv:2004.05484): XQuAD-R and MLQA-R, question answering as sentence retrieval.

Reads the authors' JSON files, one `{language}.json` per language: articles > paragraphs > `context`, `sentence_breaks`
(character offsets), `qas`. The passages are sentences, `context[start:end]` of each break; the relevant one is that in
which the answer starts (`start <= answer_start < end`). A query has the same id in every language, so queries and
relevant passages of two languages are joined by id.

Axes: N rows (queries) of the training text, L languages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.groups import connected_groups
from pipeline.data.hub import fetch
from pipeline.data.reading import read_as
from pipeline.data.tables import read_table
from pipeline.data.text import check_languages, is_blank
from pipeline.values import Collection, ParallelText, Texts, UserError, relevance_of

TEST_EVERY = 3  # of XQuAD-R's 48 articles, every third from the first is held out: 16 to test, 32 to train on
XQUAD = "google/xquad", "51adfef1c1287aab1d2d91b5bead9bcfb9c68583"  # the parquet files and revision that mteb reads


class Query(NamedTuple):
    """A query of an article, and where its answer is."""

    id: str
    text: str
    context: int  # position of its paragraph in the article
    sentence: int  # position of the relevant sentence in the article


@dataclass(frozen=True)
class Article:
    """An article in one language; `sentences` are those of all its paragraphs (`contexts`)."""

    title: str
    contexts: Sequence[str]
    sentence_ids: Sequence[str]
    sentences: Sequence[str]
    queries: Sequence[Query]


@dataclass
class _Answer:
    text: str
    answer_start: int


@dataclass
class _QA:
    id: str
    question: str
    answers: list[_Answer]


@dataclass
class _Paragraph:
    context: str
    sentence_breaks: list[tuple[int, int]]
    qas: list[_QA]


@dataclass
class _Article:
    title: str
    paragraphs: list[_Paragraph]


@dataclass
class _File:
    """A published file, as far as it is read."""

    data: list[_Article]


def benchmark(name: str, languages: list[str], path: str | None) -> Collection:
    """Load all articles of `xquad_r` or `mlqa_r` (a query of MLQA-R exists in 2 to 4 languages, rarely more)."""
    return _sentence_retrieval(name, _read(name, languages, path, f"eval.{name}.path"))


def test_articles(languages: list[str], path: str | None) -> Collection:
    """Load the 16 held-out articles of XQuAD-R; the pools contain only their sentences."""
    articles_by_language = _read("xquad_r", languages, path, "eval.xquad_r_articles.path")
    _check_aligned(articles_by_language, "eval.xquad_r_articles.path")
    held_out = {language: articles[::TEST_EVERY] for language, articles in articles_by_language.items()}
    return _sentence_retrieval("xquad_r_articles", held_out)


def train_articles(languages: list[str], path: str | None) -> ParallelText:
    """Load the other 32 articles of XQuAD-R as pairs of a query and its relevant sentence."""
    rows: dict[str, list[tuple[Article, Query]]] = {}
    articles_by_language = _read("xquad_r", languages, path, "data.path")
    _check_aligned(articles_by_language, "data.path")
    for language, articles in articles_by_language.items():
        training = [article for number, article in enumerate(articles) if number % TEST_EVERY]
        rows[language] = [(article, query) for article in training for query in article.queries]
    ids = [query.id for _, query in rows[languages[0]]]
    return ParallelText(
        name="xquad_r_articles",
        languages=tuple(languages),
        ids=ids,
        questions={language: [query.text for _, query in pairs] for language, pairs in rows.items()},
        passages={
            language: [article.sentences[query.sentence] for article, query in pairs]
            for language, pairs in rows.items()
        },
        available_NL=np.ones((len(ids), len(languages)), dtype=bool),
        # Languages split a paragraph differently, and a batch may pair a row with any of them.
        passage_group=connected_groups(
            [[article.sentence_ids[query.sentence] for article, query in pairs] for pairs in rows.values()]
        ),
        titles=[article.title for article, _ in rows[languages[0]]],
        provenance={"source": "XQuAD-R, 32 of its 48 articles"},
    )


def _check_aligned(articles_by_language: dict[str, list[Article]], key: str) -> None:
    """Raise UserError unless all languages have the same queries in the same articles, which are split by position."""
    first, *others = articles_by_language
    ids = [[query.id for query in article.queries] for article in articles_by_language[first]]
    for language in others:
        if [[query.id for query in article.queries] for article in articles_by_language[language]] != ids:
            raise UserError(f"{key}: the query ids of {language}.json differ from those of {first}.json.")


def mteb_contexts(languages: list[str], path: str | None) -> Collection:
    """Load mteb's XQuADRetrieval: rank the 240 paragraphs of a query's own language.

    As in mteb, texts are stripped, and of queries with equal text (they have the same paragraph) the last id is kept.
    Without a folder, XQuAD's parquet files are read from the hub: the same paragraphs and queries, without articles and
    titles. So the clusters of queries are their paragraphs there, and their articles otherwise.
    """
    rows: dict[str, list[tuple[str, str, str]]] = {}  # id, query, context
    titles: set[str] = set()
    if path is None:
        rows = {language: _hub_rows(language) for language in languages}
        first: dict[str, str] = {}  # by context, the first query id of the first language
        clusters = {id: first.setdefault(context, id) for id, _, context in rows[languages[0]]}
    else:
        articles_by_language = _read("xquad_r", languages, path, "eval.xquad_mteb.path")
        clusters = _clusters(articles_by_language)
        for language, articles in articles_by_language.items():
            rows[language] = [
                (query.id, query.text, article.contexts[query.context])
                for article in articles
                for query in article.queries
            ]
            titles |= {article.title for article in articles}
    queries, passages, relevance = {}, {}, {}
    for language, triples in rows.items():
        id_of = {query.strip(): id for id, query, _ in triples}
        context_of = {query.strip(): context.strip() for _, query, context in triples}
        contexts = list(dict.fromkeys(context.strip() for _, _, context in triples))
        position = {context: number for number, context in enumerate(contexts)}
        queries[language] = Texts(list(id_of.values()), list(id_of))
        passages[language] = Texts([f"{language}/{number}" for number in range(len(contexts))], contexts)
        relevant = [position[context_of[query]] for query in id_of]
        relevance[language, language] = relevance_of(enumerate(relevant))
    return Collection(
        "xquad_mteb",
        queries,
        passages,
        relevance,
        settings=("mono",),
        main_metric="ndcg_10",
        titles=frozenset(titles),
        clusters=clusters,
        cluster_name="paragraph" if path is None else "article",
        provenance={"source": "XQuAD as in mteb's XQuADRetrieval"},
    )


def _hub_rows(language: str) -> list[tuple[str, str, str]]:
    """Return id, question and context of each row of XQuAD in one language."""
    repo, revision = XQUAD
    filename = f"xquad.{language}/validation-00000-of-00001.parquet"
    file = fetch(repo, filename, folder=None, key="eval.xquad_mteb.path", revision=revision)
    rows = []
    for number, row in read_table(file, {name: name for name in ("id", "question", "context")}):
        if empty := [name for name, text in row.items() if is_blank(text)]:
            raise UserError(f"{file}, row {number}: column {empty[0]} must not be empty.")
        rows.append((row["id"], row["question"], row["context"]))
    return rows


def _sentence_retrieval(name: str, articles_by_language: dict[str, list[Article]]) -> Collection:
    """Return the benchmark in which every sentence is a passage."""
    queries, passages = {}, {}
    relevant: dict[str, dict[str, int]] = {}  # by language and query id, the position of the relevant sentence
    for language, articles in articles_by_language.items():
        of_language = [query for article in articles for query in article.queries]
        queries[language] = Texts([query.id for query in of_language], [query.text for query in of_language])
        sentence_ids = [id for article in articles for id in article.sentence_ids]
        passages[language] = Texts(sentence_ids, [text for article in articles for text in article.sentences])
        position = {id: number for number, id in enumerate(sentence_ids)}
        relevant[language] = {
            query.id: position[article.sentence_ids[query.sentence]]
            for article in articles
            for query in article.queries
        }
        if len(relevant[language]) < len(of_language):
            raise UserError(f"{name}: {language}.json repeats a query id.")
    relevance = {
        (query_language, passage_language): relevance_of(
            (number, relevant[passage_language][id])
            for number, id in enumerate(queries[query_language].ids)
            if id in relevant[passage_language]
        )
        for query_language in articles_by_language
        for passage_language in articles_by_language
    }
    return Collection(
        name,
        queries,
        passages,
        relevance,
        titles=frozenset(article.title for articles in articles_by_language.values() for article in articles),
        clusters=_clusters(articles_by_language),
        cluster_name="article",
        provenance={"source": f"LAReQA's {name}"},
    )


def _clusters(articles_by_language: dict[str, list[Article]]) -> dict[str, str]:
    """Return the article of each query id, by its title in the first language that has it.

    Articles of two languages that share a query are one, also where each has queries that the other lacks (MLQA-R).
    """
    titles: dict[str, str] = {}
    labels_by_language: list[dict[str, str]] = []
    for language, articles in articles_by_language.items():
        of_language: dict[str, str] = {}
        for number, article in enumerate(articles):
            name = f"{language}/{number}"
            of_language |= {query.id: name for query in article.queries}
            titles = {query.id: article.title or name for query in article.queries} | titles
        labels_by_language.append(of_language)
    ids = list(titles)
    groups = connected_groups(
        [[of_language.get(id, f"query {id}") for id in ids] for of_language in labels_by_language]
    )
    return {id: titles[ids[group]] for id, group in zip(ids, groups, strict=True)}


def _read(name: str, languages: list[str], path: str | None, key: str) -> dict[str, list[Article]]:
    check_languages(languages)
    if path is None:
        raise UserError(
            f"{key} is null, but the hub's copy of {name} lacks the sentence breaks. Point {key} at the original "
            f"files; the header of conf/eval/{name}.yaml says how to get them."
        )
    return {language: _read_language(path, language, key) for language in languages}


def _read_language(path: str, language: str, key: str) -> list[Article]:
    file = Path(path, f"{language}.json")
    if not file.is_file():
        present = ", ".join(sorted(file.stem for file in Path(path).glob("*.json"))) or "none"
        raise UserError(f"{key}: {path} has no {language}.json (languages there: {present}).")
    articles = read_as(_File, file).data
    if not any(paragraph.qas for article in articles for paragraph in article.paragraphs):
        raise UserError(f"{file} holds no query.")
    return [_article(article, f"{language}/{number}", file) for number, article in enumerate(articles)]


def _article(article: _Article, id: str, file: Path) -> Article:
    """Parse an article; sentence ids are `id`/paragraph/sentence, by position."""
    contexts: list[str] = []
    sentence_ids: list[str] = []
    sentences: list[str] = []
    queries: list[Query] = []
    for number, paragraph in enumerate(article.paragraphs):
        context, breaks = paragraph.context, paragraph.sentence_breaks
        for qa in paragraph.qas:
            where = f"{file}: article {article.title!r:.80}, query {qa.id:.80}"
            if not qa.answers:
                raise UserError(f"{where}: there is no answer.")
            answer, answer_start = qa.answers[0].text, qa.answers[0].answer_start
            found = context[answer_start : answer_start + len(answer)]
            if is_blank(qa.question):
                raise UserError(f"{where}: the question is empty.")
            relevant = [position for position, (start, end) in enumerate(breaks) if start <= answer_start < end]
            if not relevant:
                raise UserError(f"{where}: the answer starts at character {answer_start}, outside every sentence.")
            if found != answer:
                raise UserError(f"{where}: at character {answer_start} stands {found!r:.80}, not {answer!r:.80}.")
            queries.append(Query(qa.id, qa.question, number, len(sentences) + relevant[0]))
        contexts.append(context)
        sentence_ids += [f"{id}/{number}/{position}" for position in range(len(breaks))]
        sentences += [context[start:end] for start, end in breaks]
    return Article(article.title, contexts, sentence_ids, sentences, queries)
