"""Any benchmark of the catalogue ir_datasets (MacAvaney et al. 2021, arXiv:2103.02280; ir-datasets.com), by its id.

The library downloads, checks and unpacks what an id names; texts are copied once into the cache of `datasets`. It is an
extra: pip install -c constraints.txt -e '.[ir]'.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from itertools import count
from typing import Any

from pipeline.data import corpus
from pipeline.data.arrow import folder_name
from pipeline.data.text import Keyed, hash64, is_blank, normal, repeats
from pipeline.values import Collection, Texts, UserError

KEY = "eval.ir_datasets.id"


def benchmark(id: str, language: str) -> Collection:
    """Load a data set with documents, queries and qrels; queries without a judgement are left out.

    Args:
        id: such as beir/scifact/test or mr-tydi/sw/test.
        language: the name of its language in tables and figures.
    """
    dataset = _dataset(id)
    grades: Keyed[tuple[str, str], int] = Keyed("judgement")
    for number, judgement in zip(count(1), dataset.qrels_iter(), strict=False):
        key = normal(judgement.query_id), normal(judgement.doc_id)
        where = f"{id}, judgement {number}"
        grades.put(key, corpus.grade(judgement.relevance, where), where)
    judged = {query for query, _ in grades}
    queries: Keyed[str, str] = Keyed("query")
    for number, query in zip(count(1), dataset.queries_iter(), strict=False):
        if normal(query.query_id) in judged:
            queries.put(normal(query.query_id), _text(query), f"{id}, query {number}")
    if orphans := judged - queries.keys():
        raise UserError(f"{KEY}={id}: its qrels judge query {min(orphans)}, which its queries lack.")
    folder = folder_name([], "ir_datasets", id, version("ir_datasets"))
    stored = corpus.stored(_passages(dataset, id), folder, progress=f"{id}, corpus")
    place = corpus.positions(stored, {docid for _, docid in grades}, f"{KEY}={id}: the corpus")
    relevance = corpus.relevance(grades, queries, place)
    return Collection(
        f"ir_datasets[{re.sub(r'[^A-Za-z0-9_-]+', '-', id)}]",
        {language: Texts(list(queries), list(queries.values()))},
        {language: Texts(stored["docid"], stored["text"])},
        {(language, language): relevance},
        settings=("mono",),
        every_query_counts=True,
        main_metric="ndcg_10",
        provenance={"source": f"ir_datasets {id}", "note": repeats({"judgements": grades.repeated})},
    )


def _dataset(id: str) -> Any:
    """Return the library's data set."""
    try:
        import ir_datasets
    except ModuleNotFoundError as error:
        install = "pip install -c constraints.txt -e '.[ir]'"
        raise UserError(f"eval=ir_datasets: ir_datasets is not installed: {install}.") from error
    try:
        dataset = ir_datasets.load(id)
    except (KeyError, FileNotFoundError) as error:
        raise UserError(
            f"{KEY}={id}: ir_datasets has no such data set (https://ir-datasets.com lists them)."
        ) from error
    for part in ("docs", "queries", "qrels"):
        if not getattr(dataset, f"has_{part}")():
            raise UserError(f"{KEY}={id}: this data set has no {part}; name one of its parts, such as {id}/test.")
    return dataset


def _passages(dataset: Any, id: str) -> Iterator[corpus.Passage]:
    """Yield the documents, of those repeated the first; a repeated id with other text is refused."""
    seen: dict[int, int] = {}  # hashes: of an id, of its text
    for number, document in zip(count(1), dataset.docs_iter(), strict=False):
        docid = normal(document.doc_id)
        passage = corpus.Passage(docid, getattr(document, "title", "") or "", _text(document))
        if is_blank(passage.text):
            continue
        key, content = hash64(docid), hash64(passage.text)
        if key not in seen:
            seen[key] = content
            yield passage
        elif seen[key] != content:
            raise UserError(f"{KEY}={id}: document {number} repeats the id {docid} with other content.")


def _text(record: Any) -> str:
    """Return what the library says is a record's text."""
    return " ".join(record.default_text().split("\n")).strip()
