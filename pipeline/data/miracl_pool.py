"""`miracl[pool]`: real MIRACL passages in 18 languages, from published retrieval results, in MIRACL's own layout.

Not MIRACL: the pool is small, and the queries are those with a relevant passage in it. It compares encoders with one
another, and no score of it may stand beside a published MIRACL score. docs/data.md says how it was made.
"""

from dataclasses import replace
from pathlib import Path

from pipeline.data import miracl
from pipeline.values import Collection, UserError

KEY = "eval.miracl_pool.path"
TRUNCATED = ["bn", "te", "th"]  # languages with most of the passages that the source truncates
FEWEST = 40  # queries: the score of a language with fewer says little


def pool(languages: list[str], path: str | None) -> Collection:
    """Load the topics, judgements and whole pools of these languages.

    Args:
        languages: keys of miracl.PASSAGES. The macro average is over all of them.
        path: folder of the files, a folder per language as on the hub.

    Raises:
        UserError: without the folder; it says how to get it.
    """
    if path is None or not Path(path).is_dir():
        missing = f"there is no folder {path}" if path else "MIRACL_POOL_DIR is not set"
        way_out = "make it from project-miracl/nomiracl as docs/data.md says, and set MIRACL_POOL_DIR to it"
        raise UserError(f"{KEY}: {missing}. The pool is not on the hub: {way_out}.")
    collection = miracl.dev(languages, path, "full", seed=0, key=KEY)
    facts = {"source": "MIRACL v1.0 dev, passages from project-miracl/nomiracl", "pool": "pool"}
    return replace(collection, name="miracl[pool]", provenance={**facts, "note": _note(collection)})


def _note(collection: Collection) -> str:
    """Return what must stand wherever a score does."""
    queries = {language: len(texts) for language, texts in collection.queries.items()}
    passages = sum(map(len, collection.passages.values()))
    note = f"miracl[pool] is not MIRACL: it ranks {passages:,} MIRACL passages that were retrieved for other questions,"
    note += f" for the {sum(queries.values()):,} dev queries with a relevant passage among them. Its scores compare"
    note += " encoders with one another, and never with published MIRACL scores."
    if truncated := [language for language in queries if language in TRUNCATED]:
        note += f" Long passages are truncated, most of them in {', '.join(truncated)}."
    if few := [f"{language} ({count})" for language, count in queries.items() if count < FEWEST]:
        note += f" The macro average includes languages with fewer than {FEWEST} queries: {', '.join(few)}."
    repeated = collection.provenance["note"]
    return f"{note} {repeated}" if repeated else note
