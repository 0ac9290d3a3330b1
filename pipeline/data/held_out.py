"""A benchmark of the rows that a parallel training set holds out: eval=parallel.

Axes: N rows.
"""

from typing import Any

import numpy as np

from pipeline.data import parallel
from pipeline.data.text import normal
from pipeline.values import Collection, Texts, UserError, relevance_of


def benchmark(training: dict[str, Any]) -> Collection:
    """Load the rows that `training`, the config of a parallel training set, holds out.

    A language's pool is its distinct passages; relevant to a query are all passages of its group, in every language.

    Raises:
        UserError: if `training` is another kind of data, or holds out nothing.
    """
    settings = {key: value for key, value in training.items() if not key.startswith("_")}
    if training.get("_target_") != f"{parallel.__name__}.{parallel.train.__name__}":
        raise UserError("eval=parallel ranks rows held out of a parallel set: choose data=parallel, or another eval.")
    if not settings["held_out"]:
        raise UserError("data.held_out=0 leaves eval=parallel nothing to rank: set a share such as data.held_out=0.1.")
    data = parallel.train(**settings | {"held_out": 0.0})
    held_N = parallel.held_out_rows(data.passage_group, settings["held_out"])
    queries: dict[str, Texts] = {}
    passages: dict[str, Texts] = {}
    asked: dict[str, np.ndarray] = {}  # by language, the group of each query
    answers: dict[str, dict[int, list[int]]] = {}  # by language and group, the positions of its passages
    for column, language in enumerate(data.languages):
        rows = np.flatnonzero(held_N & data.available_NL[:, column]).tolist()
        if not rows:
            raise UserError(f"data.held_out={settings['held_out']} holds out no row in {language}.")
        groups = data.passage_group[rows]
        queries[language] = Texts([data.ids[row] for row in rows], [data.text(row, language, "query") for row in rows])
        asked[language], of_group, distinct = groups, answers.setdefault(language, {}), dict[str, str]()
        for row, group in zip(rows, groups.tolist(), strict=True):
            text = data.text(row, language, "passage")
            if normal(text) not in distinct:
                of_group.setdefault(group, []).append(len(distinct))
                distinct[normal(text)] = text
        passages[language] = Texts([f"{language}/{n}" for n in range(len(distinct))], list(distinct.values()))
    relevance = {
        (of_query, of_passage): relevance_of(
            (number, place)
            for number, group in enumerate(asked[of_query].tolist())
            for place in answers[of_passage].get(group, ())
        )
        for of_query in data.languages
        for of_passage in data.languages
    }
    titles = frozenset(data.titles[row] for row in np.flatnonzero(held_N).tolist()) if data.titles else frozenset()
    name = f"{data.name}[held out]"
    provenance = {"source": "rows held out of the training set", "held_out": settings["held_out"]}
    return Collection(name, queries, passages, relevance, titles=titles, provenance=provenance)
