"""pipeline.data.parallel: small files by the documented schema, and the real SQuAD sets against their counts."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from pipeline.sampling.crosslingual import Crosslingual
from pipeline.sampling.strategy import Corpus, batches
from pipeline.targets import build
from pipeline.values import ParallelText, UserError

ROOT = Path(__file__).parent.parent
ENGLISH = [
    {"id": "a", "question": "Who?", "passage": "Ada did.", "title": "T", "passage_id": "p1", "negatives": ["Bob."]},
    {"id": "b", "question": "When?", "passage": "In May.", "title": "T", "passage_id": "p2", "negatives": None},
    {"id": "c", "question": "Where?", "passage": "", "title": "T", "passage_id": "p3", "negatives": []},
]
GERMAN = [
    {"id": "d", "question": "Wie?", "passage": "So.", "title": "U", "passage_id": "p1", "negatives": []},
    {"id": "b", "question": "Wann?", "passage": "Im Mai.", "title": "T", "passage_id": "p2", "negatives": ["Im Juni."]},
    {"id": "c", "question": None, "passage": "Hier.", "title": "T", "passage_id": "p3", "negatives": []},
]


@pytest.fixture(autouse=True)
def arrow_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@cache
def node(yaml: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=[f"data={yaml}"]).data


def load(path: Path | None, *languages: str, yaml: str = "parallel", **settings: Any) -> ParallelText:
    """What a run loads for `data=<yaml> data.path=<path> …`."""
    return build("data", {**node(yaml), "path": path and str(path), "languages": list(languages), **settings})


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(exist_ok=True)
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.write_text(lines, encoding="utf-8", newline="\n")
    return file


def contents(data: ParallelText) -> dict[str, Any]:
    columns = {"ids": list(data.ids), "groups": data.passage_group.tolist(), "exist": data.available_NL.tolist()}
    for language in data.languages:
        columns[language] = list(zip(data.questions[language], data.passages[language], strict=True))
    return columns


EXPECTED = {
    "ids": ["a", "b", "d"],
    "groups": [0, 1, 2],
    "exist": [[True, False], [True, True], [False, True]],
    "en": [("Who?", "Ada did."), ("When?", "In May."), (None, None)],
    "de": [(None, None), ("Wann?", "Im Mai."), ("Wie?", "So.")],
}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_files_of_languages_are_joined_by_id(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"set/en.{suffix}", ENGLISH)
    write(tmp_path / f"set/de.{suffix}", GERMAN)
    data = load(tmp_path / "set", "en", "de")
    assert contents(data) == EXPECTED
    assert data.ids[1:] == ["b", "d"]
    assert (data.titles, data.negatives) == (None, None)
    with pytest.raises(KeyError, match="parallel: row 0 has no de passage"):
        data.text(0, "de", "passage")
    assert list(load(tmp_path / "set", "de", "en").ids) == ["d", "b", "a"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [f"de.{suffix}", f"en.{suffix}"]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_one_file_with_a_column_of_languages_is_the_same(tmp_path: Path, suffix: str) -> None:
    rows = [row | {"language": "de"} for row in GERMAN] + [row | {"language": "en"} for row in ENGLISH]
    file = write(tmp_path / f"set/all.{suffix}", rows)
    assert contents(load(file, "en", "de", language_column="language")) == EXPECTED
    with pytest.raises(UserError, match=r"has no row with question and passage in fr \(languages there: de, en\)"):
        load(file, "en", "fr", language_column="language")
    with pytest.raises(UserError, match=r"^data\.path: .* is one file: data\.language_column must name"):
        load(file, "en", "de")


def test_optional_columns(tmp_path: Path) -> None:
    write(tmp_path / "set/en.jsonl", ENGLISH)
    write(tmp_path / "set/de.parquet", GERMAN)
    data = load(
        *(tmp_path / "set", "en", "de"),
        **{"title_column": "title", "passage_id_column": "passage_id", "negatives_column": "negatives"},
    )
    assert list(data.titles or []) == ["T", "T", "U"]
    assert data.passage_group.tolist() == [0, 1, 0]  # a exists in English alone, d in German: by p1 they are one
    assert {language: list(texts) for language, texts in (data.negatives or {}).items()} == {
        "en": [["Bob."], None, None],
        "de": [None, ["Im Juni."], []],
    }


def test_rows_with_the_same_passage_in_any_language_are_one_group(tmp_path: Path) -> None:
    texts = {
        "en": ["Six.", "Six.", "Ten.", "Eleven."],
        "de": ["Sechs.", "6.", "6.", "Zehn."],
        "fr": ["", "", "", "Dix."],
    }
    for language, passages in texts.items():
        rows = [{"id": str(n), "question": f"{n}?", "passage": passage} for n, passage in enumerate(passages)]
        write(tmp_path / f"set/{language}.jsonl", rows)
    assert load(tmp_path / "set", "en").passage_group.tolist() == [0, 0, 2, 3]
    assert load(tmp_path / "set", "de").passage_group.tolist() == [0, 1, 1, 3]
    assert load(tmp_path / "set", "en", "de").passage_group.tolist() == [0, 0, 0, 3]
    assert list(load(tmp_path / "set", "fr").ids) == ["3"]


@pytest.mark.parametrize("rows", [1023, 1024, 1025, 2500])
def test_rows_beyond_one_chunk_of_any_reader(tmp_path: Path, rows: int) -> None:
    table = [{"id": f"{n}", "question": f"q{n}", "passage": f"p{n // 2}"} for n in range(rows)]
    write(tmp_path / "set/en.parquet", table)
    write(tmp_path / "set/de.jsonl", table[::-1])
    data = load(tmp_path / "set", "en", "de")
    assert list(data.ids) == [row["id"] for row in table]
    for language in ("en", "de"):
        assert list(data.questions[language]) == [row["question"] for row in table]
    assert data.passage_group.tolist() == [n // 2 * 2 for n in range(rows)]


def test_samplers_use_what_exists(tmp_path: Path) -> None:
    write(tmp_path / "set/en.jsonl", ENGLISH)
    write(tmp_path / "set/de.jsonl", GERMAN)
    data = load(tmp_path / "set", "en", "de")
    corpus = Corpus(data.languages, data.available_NL)
    for [draw] in batches(Crosslingual(), corpus, 1, steps=5, seed=0):
        assert data.ids[draw.row] == "b"
        assert data.text(draw.row, draw.query_language, "query") in ("When?", "Wann?")


@pytest.mark.slow
def test_squad_parallel_has_the_counts_of_its_readme(shared_data: Path) -> None:
    folder, yaml = shared_data / "squad-parallel", "squad_parallel"
    data = load(folder, "en", "fi", "pt", yaml=yaml)
    assert len(data) == 87_599
    assert data.available_NL.sum(axis=0).tolist() == [87_599, 65_014, 2_110]
    row = 5
    assert (data.ids[row], (data.titles or [])[row]) == ("2008_Sichuan_earthquake#000#05", "2008_Sichuan_earthquake")
    table = pyarrow.parquet.read_table(folder / "fi.parquet", columns=["id", "question", "answer_sentence"]).to_pylist()
    texts = {line["id"]: (line["question"], line["answer_sentence"]) for line in table if line["answer_sentence"]}
    for row in np.flatnonzero(data.available_NL[:, 1])[::997].tolist():
        assert (data.text(row, "fi", "query"), data.text(row, "fi", "passage")) == texts[data.ids[row]]
    group_of = dict(zip(data.passages["fi"], data.passage_group.tolist(), strict=True))
    assert all(
        group_of[text] == group for text, group in zip(data.passages["fi"], data.passage_group, strict=True) if text
    )


def test_squad_parallel_by_paragraph(shared_data: Path) -> None:
    columns = {"passage_column": "context", "passage_id_column": "paragraph_id"}
    data = load(shared_data / "squad-parallel", "pt", yaml="squad_parallel", **columns)
    assert (len(data), len(np.unique(data.passage_group))) == (3_286, 506)


@pytest.mark.slow
def test_squad_dev_parallel_has_the_counts_of_its_readme_and_carries_its_note(shared_data: Path) -> None:
    languages = ["en", "es", "fi", "id", "it", "sv"]
    folder, yaml = shared_data / "squad-dev-parallel", "squad_dev_parallel"
    data = load(folder, *languages, yaml=yaml)
    whole = load(folder, *languages, yaml=yaml, passage_column="context")
    assert whole.available_NL.sum(axis=0).tolist() == [6_719, 5_055, 5_014, 3_770, 5_048, 4_492]
    in_languages = np.bincount(whole.available_NL.sum(axis=1), minlength=7)
    assert (len(whole), in_languages[6], in_languages[5:].sum(), in_languages[4:].sum()) == (6_719, 1_774, 3_598, 4_569)
    assert data.available_NL.sum(axis=0).tolist() == [6_719, 5_055, 4_003, 3_770, 5_048, 4_492]
    assert "same 48 articles as XQuAD" in data.provenance["note"]
    assert "not article-disjoint" in data.provenance["note"]


def test_wrong_paths_and_languages_are_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "set/en.jsonl", ENGLISH)
    for path, languages, message in [
        (None, ["en"], r"^data\.path is null\. .* the header of the yaml in conf/data says how to get them\.$"),
        (tmp_path / "none", ["en"], r"^data\.path: there is no file or folder .*none\.$"),
        (tmp_path / "set", ["en", "fr"], r"has no fr\.parquet or fr\.jsonl \(languages there: en\)\.$"),
        (tmp_path / "cache", ["en"], r"has no en\.parquet or en\.jsonl \(languages there: none\)\.$"),
    ]:
        with pytest.raises(UserError, match=message):
            load(path, *languages)
    for languages in ([], ["en", "en"]):
        with pytest.raises(UserError, match=r"^data\.languages must be distinct and at least one, got"):
            load(tmp_path / "set", *languages)


GOOD = b'{"id": "a", "question": "q", "passage": "p"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + b'{"id": "b", \n', r"en\.jsonl is broken JSON at line 2"),
        (GOOD + b'{"id": "b", "question": "q"}\n', r"en\.jsonl, line 2 lacks the column passage; it has id, question"),
        (GOOD + b'["b"]\n', r'en\.jsonl, line 2 is not a JSON object: \["b"\]'),
        (
            GOOD + b'{"id": 7, "question": "q", "passage": "p"}',
            r"en\.jsonl, line 2: column id must hold text, got 7\.$",
        ),
        (GOOD + b'{"id": "", "question": "q", "passage": "p"}', r"en\.jsonl, row 2: column id must not be empty\.$"),
        (
            GOOD + b'{"id": "b", "question": ["q"], "passage": "p"}',
            r"line 2: column question must hold text, got \['q'\]",
        ),
        (
            GOOD + b'{"id": "a", "question": "q", "passage": "other"}',
            r"^data\.path: .*set, en: rows 1 and 2 have the id 'a' and differ in passage",
        ),
        (GOOD + b'{"id": "\xff"}', r"en\.jsonl, line 2 is not UTF-8 text"),
        (
            b'{"id": "a", "question": "", "passage": "p"}',
            r"has no row with question and passage in en\.$",
        ),
        (b"", r"has no row with question and passage in en\.$"),
    ],
)
def test_broken_jsonl_names_file_line_and_column(
    tmp_path: Path, arrow_files: Path, content: bytes, message: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/en.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "set", "en")
    if not content.endswith(b'"other"}'):  # what is seen only once all rows are known
        assert not list(arrow_files.rglob("*.arrow"))
    (tmp_path / "set/en.jsonl").write_bytes(GOOD)
    assert list(load(tmp_path / "set", "en").ids) == ["a"]


def test_rows_repeated_word_for_word_count_once_and_are_noted(tmp_path: Path) -> None:
    write(tmp_path / "set/en.jsonl", [ENGLISH[0], ENGLISH[1], ENGLISH[0]])
    data = load(tmp_path / "set", "en")
    assert list(data.ids) == ["a", "b"]
    assert data.provenance["note"] == "Repeated entries were counted once: row (1)."


def test_ids_and_passages_are_joined_in_their_normal_form(tmp_path: Path) -> None:
    """FINDINGS E2: six spellings of one passage are one group, and an id in NFC is that in NFD."""
    spellings = ["caf\u00e9 A", "cafe\u0301 A", "caf\u00e9 \uff21", "caf\u00e9 A ", "caf\u00e9\u00a0A", "caf\u00e9\tA"]
    rows = [{"id": f"\u00e9{n}", "question": "q", "passage": text} for n, text in enumerate(spellings)]
    write(tmp_path / "set/en.jsonl", rows)
    write(tmp_path / "set/fr.jsonl", [row | {"id": f"e\u0301{n}"} for n, row in enumerate(rows)])
    data = load(tmp_path / "set", "en", "fr")
    assert data.available_NL.all()
    assert len(data) == 6
    assert data.passage_group.tolist() == [0] * 6
    assert list(data.passages["en"]) == spellings  # as they are written


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u200b"])
def test_blank_is_empty(tmp_path: Path, blank: str) -> None:
    rows = [{"id": "a", "question": blank, "passage": "p"}, {"id": "b", "question": "q", "passage": blank}]
    write(tmp_path / "set/en.jsonl", [*rows, {"id": "c", "question": "q", "passage": "p"}])
    assert list(load(tmp_path / "set", "en").ids) == ["c"]
    write(tmp_path / "set/en.jsonl", [{"id": blank, "question": "q", "passage": "p"}])
    with pytest.raises(UserError, match=r"en\.jsonl, row 1: column id must not be empty\.$"):
        load(tmp_path / "set", "en")


def test_a_positive_is_never_its_own_negative(tmp_path: Path) -> None:
    """FINDINGS E3: as one, it would keep the loss above ln 2. Rows a and b share a passage id; blank texts go."""
    rows = [
        {
            "id": id,
            "question": "q",
            "passage": passage,
            "passage_id": group,
            "negatives": ["One.\u00a0", "Uno.", " ", "x"],
        }
        for id, passage, group in (("a", "One.", "1"), ("b", "Uno.", "1"), ("c", "Two.", "2"))
    ]
    write(tmp_path / "set/en.jsonl", rows)
    columns = {"passage_id_column": "passage_id", "negatives_column": "negatives"}
    data = load(tmp_path / "set", "en", **columns)
    assert list((data.negatives or {})["en"]) == [["x"], ["x"], ["One.\u00a0", "Uno.", "x"]]


def test_held_out_rows_are_a_benchmark_of_their_own(tmp_path: Path) -> None:
    """Rows 2n and 2n + 1 share a passage, so they are held out together and both answer to it."""
    for language in ("en", "de"):
        rows = [{"id": f"{n}", "question": f"{language} q{n}", "passage": f"{language} p{n // 2}"} for n in range(40)]
        write(tmp_path / f"set/{language}.jsonl", rows)
    training = load(tmp_path / "set", "en", "de", held_out=0.25)
    whole = load(tmp_path / "set", "en", "de")
    held_out = np.flatnonzero(~training.available_NL.any(axis=1)).tolist()
    assert len(held_out) == 10
    assert {row ^ 1 for row in held_out} == set(held_out)
    node_ = {**node("parallel"), "path": str(tmp_path / "set"), "languages": ["en", "de"], "held_out": 0.25}
    test = build("eval.parallel", {"_target_": "pipeline.data.held_out.benchmark", "training": node_})
    assert test.queries["de"].ids == [whole.ids[row] for row in held_out]
    assert sorted(test.passages["en"].texts) == sorted({whole.text(row, "en", "passage") for row in held_out})
    relevance = test.relevance["de", "en"]
    for query, place in zip(relevance.query, relevance.passage, strict=True):
        assert test.passages["en"].texts[place] == whole.text(held_out[query], "en", "passage")
    assert len(relevance.query) == 10
    with pytest.raises(UserError, match=r"^data\.held_out=0 leaves eval=parallel nothing to rank"):
        build("eval.parallel", {"_target_": "pipeline.data.held_out.benchmark", "training": node_ | {"held_out": 0.0}})
    with pytest.raises(UserError, match=r"^eval=parallel ranks rows held out of a parallel set: choose data=parallel"):
        build("eval.parallel", {"_target_": "pipeline.data.held_out.benchmark", "training": {"_target_": "x"}})


def test_broken_parquet_names_file_and_column(tmp_path: Path) -> None:
    file = write(tmp_path / "set/en.parquet", ENGLISH)
    with pytest.raises(UserError, match=r"en\.parquet lacks the column answer; it has id, question, passage, title"):
        load(tmp_path / "set", "en", passage_column="answer")
    with pytest.raises(UserError, match=r"en\.parquet: column title must hold a list of texts, got string\.$"):
        load(tmp_path / "set", "en", negatives_column="title")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"en\.parquet is not a parquet file, or it is damaged: "):
        load(tmp_path / "set", "en")


PEAK = """
import sys
import datasets, pandas, pyarrow.parquet
from pipeline.data import parallel
columns = dict(id_column="id", question_column="question", passage_column="passage")
optional = dict.fromkeys(["language_column", "title_column", "passage_id_column", "negatives_column", "note"])
optional["held_out"] = 0.0
data = parallel.train("set", sys.argv[1], ["en"], **columns, **optional)
assert data.text(len(data) - 1, "en", "passage").startswith(f"{len(data) - 1} ")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """20 times the rows and the text, 80 MB: on the first run, which fills the cache, and on the second."""

    def peaks_mib(rows: int) -> list[float]:
        folder, text = tmp_path / str(rows), "word " * 800
        lines = ({"id": str(n), "question": f"{n}?", "passage": f"{n} {text}"} for n in range(rows))
        folder.mkdir()
        (folder / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        command = [sys.executable, "-c", PEAK, str(folder)]
        environment = {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
        return [int(run.stdout) / 1024 for run in runs]

    small, large = peaks_mib(1_000), peaks_mib(20_000)
    assert np.subtract(large, small).max() < 25, (small, large)
