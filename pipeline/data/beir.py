"""Benchmarks in BEIR's layout (Thakur et al. 2021, arXiv:2104.08663), one folder, or one a language:

    {path}/corpus.jsonl, queries.jsonl, qrels/{split}.tsv              also corpus.jsonl.gz, queries.jsonl.gz
    {path}/{language}/corpus.jsonl, …

A line of the corpus has `_id`, `text` and perhaps `title`, a query `_id` and `text`; the columns of the qrels are the
ids of a query and a passage, and a grade. Queries without a judgement in the split are left out, as in BEIR's own code.

With several languages, a query searches its own (mono). If translations share their ids, cross and multi are ranked as
well: `parallel` says which ids do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.data import corpus
from pipeline.data.arrow import folder_name
from pipeline.data.reading import lines, parse_json
from pipeline.data.text import Keyed, check_languages, is_blank, normal, repeats
from pipeline.values import Collection, Relevance, Setting, Texts, UserError

if TYPE_CHECKING:
    from datasets import Dataset

KEY = "eval.beir.path"
SUFFIXES = (".jsonl", ".jsonl.gz")
UNNAMED = "und"  # ISO 639-2: undetermined
Parallel = Literal["no", "queries", "passages"]


@dataclass(frozen=True)
class Judged:
    """What one language's files hold: its judged queries, its corpus, and the grades of pairs of their ids."""

    queries: Mapping[str, str]
    corpus: "Dataset"
    grades: Mapping[tuple[str, str], int]


def benchmark(path: str | None, languages: list[str] | None, split: str, parallel: Parallel) -> Collection:
    """Load a benchmark.

    Args:
        path: the folder.
        languages: names of its subfolders; None for all of them. For one folder without subfolders, the name of its
            language.
        split: the file of the qrels, without `.tsv`.
        parallel: `no`: a query searches its own language. `queries`: queries that are translations share their id, so
            the passages judged for it in any language are relevant to all of them. `passages`: passages that are
            translations share their id, so what is relevant to a query in its language is so in the others.
    """
    folders = _folders(path, languages)
    noted: list[str] = []
    loaded = {language: _load(folder, language, split, noted) for language, folder in folders.items()}
    if parallel != "no" and len(loaded) < 2:
        raise UserError(f"eval.beir.parallel={parallel}: {path} has one language.")
    return collection(f"beir[{Path(path or '').name}]", loaded, parallel, note=" ".join(noted) or None)


def collection(name: str, loaded: Mapping[str, Judged], parallel: Parallel, *, note: str | None) -> Collection:
    """Join the languages to one benchmark.

    Raises:
        UserError: if no ids are shared, though they should be parallel.
    """
    docids = {docid for judged in loaded.values() for _, docid in judged.grades}
    position = {language: corpus.found(judged.corpus, docids) for language, judged in loaded.items()}
    relevance: dict[tuple[str, str], Relevance] = {}
    for asked, own in loaded.items():
        for pool, other in loaded.items():
            if asked == pool or parallel == "queries":
                grades = {key: grade for key, grade in other.grades.items() if key[0] in own.queries}
            elif parallel == "passages":
                grades = {key: grade for key, grade in own.grades.items() if key[1] in position[pool]}
            else:
                continue
            if not grades:
                raise UserError(f"eval.beir.parallel={parallel}: {asked} and {pool} share no judged {parallel}.")
            relevance[asked, pool] = corpus.relevance(grades, loaded[asked].queries, position[pool])
    settings: tuple[Setting, ...] = ("mono",) if parallel == "no" else ("mono", "cross", "multi")
    return Collection(
        name,
        {language: Texts(list(judged.queries), list(judged.queries.values())) for language, judged in loaded.items()},
        {language: Texts(judged.corpus["docid"], judged.corpus["text"]) for language, judged in loaded.items()},
        relevance,
        settings=settings,
        every_query_counts=parallel == "no",
        main_metric="ndcg_10",
        provenance={"source": "files in BEIR's layout", "note": note},
    )


def _folders(path: str | None, languages: list[str] | None) -> dict[str, Path]:
    """Return the folder of each language."""
    if path is None:
        raise UserError(f"{KEY} is null: set it to a folder with corpus.jsonl, queries.jsonl and qrels/.")
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"{KEY}: there is no folder {root}.")
    if languages is not None:
        check_languages(languages)
    if any((root / f"corpus{suffix}").is_file() for suffix in SUFFIXES):
        if languages is not None and len(languages) > 1:
            raise UserError(f"{KEY}: {root} holds one corpus, but eval.beir.languages names {len(languages)}.")
        return {languages[0] if languages else UNNAMED: root}
    found = {
        folder.name: folder
        for folder in sorted(root.iterdir())
        if any((folder / f"{name}{suffix}").is_file() for name in ("corpus", "queries") for suffix in SUFFIXES)
    }  # what lacks the other file is refused when it is read, not left out
    there = ", ".join(found) or "none"
    if not found:
        raise UserError(f"{KEY}: {root} has no corpus.jsonl, nor a folder per language that has one.")
    for language in languages or ():
        if language not in found:
            raise UserError(f"{KEY}: {root} has no folder {language} with a corpus.jsonl (languages there: {there}).")
    return {language: found[language] for language in languages or found}


def _load(folder: Path, language: str, split: str, noted: list[str]) -> Judged:
    """Read one language's folder; `noted` gets a sentence on what was repeated."""
    qrels = folder / "qrels" / f"{split}.tsv"
    if not qrels.is_file():
        splits = ", ".join(sorted(file.stem for file in qrels.parent.glob("*.tsv"))) or "none"
        raise UserError(f"eval.beir.split={split}: there is no file {qrels} (splits there: {splits}).")
    grades: Keyed[tuple[str, str], int] = Keyed("judgement")
    for place, query, docid, grade in _qrels(qrels):
        grades.put((query, docid), grade, place)
    if not grades:
        raise UserError(f"{qrels} holds no judgement.")
    queries: Keyed[str, str] = Keyed("query")
    file = _file(folder, "queries")
    for number, line in lines(file):
        here, row = f"{file}, line {number}", parse_json(line, file, number)
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("_id", "text")):
            raise UserError(f"{here}: a query needs _id and text, got {line:.80}.")
        if is_blank(row["text"]):
            raise UserError(f"{here}: query {row['_id']} has no text.")
        queries.put(normal(row["_id"]), row["text"], here)
    judged = {query for query, _ in grades}
    if orphans := judged - queries.keys():
        raise UserError(f"{qrels} judges query {min(orphans)}, which {file} lacks.")
    if note := repeats({"queries": queries.repeated, "judgements": grades.repeated}):
        noted.append(f"{language}: {note}")
    source = _file(folder, "corpus")
    stored = corpus.stored(
        corpus.distinct([source], _passages), folder_name([source], "beir"), progress=f"{folder.name}, corpus"
    )
    corpus.positions(stored, {docid for _, docid in grades}, f"{KEY}: {source}")
    return Judged({id: text for id, text in queries.items() if id in judged}, stored, grades)


def _file(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise UserError(f"{KEY}: there is no file {folder / name}.jsonl.")


def _passages(file: Path) -> Iterator[tuple[int, corpus.Passage]]:
    for number, line in lines(file):
        place = f"{file}, line {number}"
        passage = corpus.passage(parse_json(line, file, number), "_id", place)
        if is_blank(passage.text):
            raise UserError(f"{place}: passage {passage.docid} has no text.")
        yield number, passage


def _qrels(file: Path) -> Iterator[tuple[str, str, str, int]]:
    """Yield place, query id, passage id and grade of each judgement; a first line without a grade is the header."""
    for number, line in lines(file):
        place, row = f"{file}, line {number}", line.split("\t")
        grade = row[-1].strip()
        if number == 1 and len(row) == 3 and not grade.lstrip("-").isdecimal():
            continue
        if len(row) != 3:
            wanted = "a query's id, a passage's id and a whole grade, separated by tabs"
            raise UserError(f"{place}: expected {wanted}; got {line!r:.80}.")
        yield place, normal(row[0]), normal(row[1]), corpus.grade(grade, place)
