"""Benchmarks in mteb's hub layout: MLQARetrieval, BelebeleRetrieval, MIRACL's hard negatives and others.

    {subset}-corpus/{split}-*.parquet     id (or _id), title, text
    {subset}-queries/{split}-*.parquet    id (or _id), text
    {subset}-qrels/{split}-*.parquet      query-id, corpus-id, score

A subset is a language, or a pair: `ara-deu` ranks Arabic passages for German queries. Each has a pool of its own, even
where two are in one language, so that its score stands beside mteb's published one.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.data import corpus
from pipeline.data.arrow import folder_name
from pipeline.data.hub import fetch, listing
from pipeline.data.tables import Row, column_names, read_table
from pipeline.data.text import Keyed, check_languages, is_blank, normal, repeats
from pipeline.values import Collection, Relevance, Texts, UserError

KEY = "eval.mteb.path"


def benchmark(repo: str, revision: str | None, subsets: list[str], split: str, path: str | None) -> Collection:
    """Load subsets of one benchmark.

    Args:
        repo: its repository on the hub.
        revision: of the repository; None for the newest.
        subsets: such as `deu`, `deu-deu` or `ara-deu`.
        split: of the files.
        path: a local copy of the repository; None downloads the files.
    """
    check_languages(subsets)
    name = f"mteb[{repo.rsplit('/', 1)[-1]}]"
    queries: dict[str, Texts] = {}
    passages: dict[str, Texts] = {}
    relevance: dict[tuple[str, str], Relevance] = {}
    noted: list[str] = []
    for subset in subsets:

        def files(kind: str, subset: str = subset) -> list[Path]:
            folder = f"{subset}-{kind}"
            names = [
                file
                for file in listing(repo, folder, folder=path, key=KEY, revision=revision)
                if file.startswith(f"{split}-") and file.endswith(".parquet")
            ]
            if not names:
                raise UserError(f"eval.mteb.split={split}: {folder} of {path or repo} has no {split}-….parquet.")
            return [fetch(repo, f"{folder}/{file}", folder=path, key=KEY, revision=revision) for file in names]

        topics, grades, of_corpus = read_topics(files("queries")), read_grades(files("qrels")), files("corpus")
        if orphans := {topic for topic, _ in grades} - topics.keys():
            raise UserError(f"{name}: the qrels of {subset} judge query {min(orphans)}, which its queries lack.")
        stored = corpus.stored(
            corpus.distinct(of_corpus, read_passages), folder_name(of_corpus, "mteb"), progress=f"{name}, {subset}"
        )
        place = corpus.positions(stored, {docid for _, docid in grades}, f"{name}: the corpus of {subset}")
        judged = {topic for topic, _ in grades}
        asked = {id: text for id, text in topics.items() if id in judged}
        of_query, of_passage = labels(subset)
        queries[of_query] = Texts(list(asked), list(asked.values()))
        passages[of_passage] = Texts(stored["docid"], stored["text"])
        relevance[of_query, of_passage] = corpus.relevance(grades, asked, place)
        if note := repeats({"queries": topics.repeated, "judgements": grades.repeated}):
            noted.append(f"{name}, {subset}: {note}")
    return Collection(
        name,
        queries,
        passages,
        relevance,
        settings=("mono", "cross"),
        every_query_counts=True,
        main_metric="ndcg_10",
        provenance={"source": repo, "revision": revision, "note": " ".join(noted) or None},
    )


def labels(subset: str) -> tuple[str, str]:
    """Return the names of a subset's queries and passages: one if they are of one language, so that it counts as mono.

    >>> labels("deu"), labels("deu-deu"), labels("ara-deu")
    (('deu', 'deu'), ('deu-deu', 'deu-deu'), ('deu of ara-deu', 'ara of ara-deu'))
    """
    of_passage, _, of_query = subset.partition("-")
    if not of_query or of_query == of_passage:
        return subset, subset
    return f"{of_query} of {subset}", f"{of_passage} of {subset}"


def read_topics(files: Iterable[Path]) -> Keyed[str, str]:
    """Return the queries' texts by id."""
    topics: Keyed[str, str] = Keyed("query")
    for file in files:
        for number, row in rows(file, "id", "text"):
            if is_blank(row["text"]):
                raise UserError(f"{file}, row {number}: query {row['id']} has no text.")
            topics.put(normal(row["id"]), row["text"], f"{file}, row {number}")
    return topics


def read_grades(files: Sequence[Path]) -> Keyed[tuple[str, str], int]:
    """Return the grades by query and passage id; UserError if there are none."""
    grades: Keyed[tuple[str, str], int] = Keyed("judgement")
    for file in files:
        for number, row in rows(file, "query-id", "corpus-id", "score"):
            key = normal(row["query-id"]), normal(row["corpus-id"])
            place = f"{file}, row {number}"
            grades.put(key, corpus.grade(row["score"], place), place)
    if not grades:
        raise UserError(f"{files[0].parent if files else KEY} holds no judgement.")
    return grades


def read_passages(file: Path) -> Iterator[tuple[int, corpus.Passage]]:
    """Yield the numbered passages of a file."""
    for number, row in rows(file, "id", "text", optional=["title"]):
        yield number, corpus.passage(row, "id", f"{file}, row {number}")


def rows(file: Path, *columns: str, optional: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """Yield numbered rows with their identifier in `id`, which some revisions of a repository call `_id`.

    Raises:
        UserError: while iterating, for a damaged file, or a column or value that is missing or of the wrong type.
    """
    names = column_names(file)
    theirs = {name: f"_{name}" if name not in names and f"_{name}" in names else name for name in columns}
    theirs |= {name: name for name in optional if name in names}
    for number, row in read_table(file, theirs):
        for name in columns:
            if row[name] is None:
                raise UserError(f"{file}, row {number}: column {theirs[name]} must not be empty.")
        yield number, row
