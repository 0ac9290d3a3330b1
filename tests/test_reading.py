"""pipeline.data.reading, text and tables: what a line is, when texts are equal, and what of a file is refused."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from pipeline.data.reading import lines, parse_json, read_json
from pipeline.data.tables import read_table
from pipeline.data.text import Keyed, hash64, is_blank, normal
from pipeline.values import UserError

CAFE = [
    "caf\u00e9 A",
    "cafe\u0301 A",
    "caf\u00e9 \uff21",
    "caf\u00e9 A ",
    "caf\u00e9\u00a0A",
    "caf\u00e9\tA",
    "\ufeffcaf\u00e9 A",
]


def test_spellings_of_one_text_are_equal() -> None:
    assert {normal(text) for text in CAFE} == {"caf\u00e9 A"}
    assert len({hash64(text) for text in CAFE}) == 1
    assert normal("a") != normal("A")


@pytest.mark.parametrize("text", [None, "", " ", "\n", "\u00a0", "\u200b", "\ufeff\u3000"])
def test_blank_is_empty(text: str | None) -> None:
    assert is_blank(text)


def test_a_repeated_key_counts_once_or_is_refused_with_both_places() -> None:
    keyed: Keyed[tuple[str, str], int] = Keyed("judgement")
    keyed.put(("7", "p"), 1, "qrels.tsv, line 1")
    keyed.put(("7", "p"), 1, "qrels.tsv, line 2")
    assert (dict(keyed), keyed.repeated) == ({("7", "p"): 1}, 1)
    message = r"^qrels\.tsv, line 3 repeats the judgement 7 p of qrels\.tsv, line 1 with other content\.$"
    with pytest.raises(UserError, match=message):
        keyed.put(("7", "p"), 0, "qrels.tsv, line 3")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mark_line_ends_and_blank_lines_are_no_content(tmp_path: Path, suffix: str) -> None:
    path, content = tmp_path / f"a.tsv{suffix}", "\ufeffa\tb\r\n\n  \nc\u2028d\n\n".encode()
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert list(lines(path)) == [(1, "a\tb"), (4, "c\u2028d")]


def test_what_is_not_utf8_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n\xff\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2 is not UTF-8 text: invalid start byte at byte 0\.$"):
        list(lines(path))
    path.write_bytes('{"data": []}'.encode("utf-16"))
    with pytest.raises(UserError, match=r"a\.jsonl, line 1 is not UTF-8 text"):
        list(lines(path))
    path.write_bytes(b'{"data":\n"\xe9"}')
    with pytest.raises(UserError, match=r"a\.jsonl, line 2 is not UTF-8 text"):
        read_json(path)


def test_gzip_is_streamed_and_a_truncated_file_is_named(tmp_path: Path) -> None:
    whole, path = gzip.compress("a\nβ\u2028γ\n".encode()), tmp_path / "docs.gz"
    path.write_bytes(whole)
    assert list(lines(path)) == [(1, "a"), (2, "β\u2028γ")]
    for broken in (whole[:-1], whole[:12], b"not gzip", whole[:-8] + bytes(8)):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"docs\.gz is truncated or not gzipped text"):
            list(lines(path))


def test_broken_json_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "en.json"
    path.write_text('{\n "data": [1,\n  2,,\n]}')
    with pytest.raises(UserError, match=r"en\.json is broken JSON at line 3: expecting value\.$"):
        read_json(path)
    with pytest.raises(UserError, match=r"en\.json is broken JSON at line 7: "):
        parse_json("{", path, line=7)
    with pytest.raises(UserError, match=r"en\.json, line 1: the JSON is nested too deeply\.$"):
        parse_json("[" * 100_000, path)


def test_half_of_a_surrogate_pair_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "en.json"
    path.write_text('{"a": "\\ud83d\\ude00",\n "b": "x\\ud83d"}')
    with pytest.raises(UserError, match=r"en\.json, line \d holds \\ud83d, half of a surrogate pair, which is no text"):
        read_json(path)
    assert parse_json('"\\ud83d\\ude00"', path) == "\U0001f600"


@pytest.mark.parametrize("kind", ["category", "string", "string_view", "large_string", "null"])
def test_texts_of_parquet_are_read_in_every_type_that_holds_text(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.parquet"
    if kind in ("category", "string"):
        pd.DataFrame({"text": pd.Series(["a", "b", "a"], dtype=kind)}).to_parquet(path)
    else:
        values = [None] * 3 if kind == "null" else ["a", "b", "a"]
        array = pyarrow.array(values, getattr(pyarrow, kind)())
        pyarrow.parquet.write_table(pyarrow.table({"text": array}), path)
    read = [row["ours"] for _, row in read_table(path, {"ours": "text"})]
    assert read == ([None] * 3 if kind == "null" else ["a", "b", "a"])


def test_lists_of_texts_and_other_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": [["a"], None], "x": [1, 2]}), path)
    assert [row for _, row in read_table(path, {"negatives": "n"})] == [{"negatives": ["a"]}, {"negatives": None}]
    with pytest.raises(UserError, match=r"a\.parquet: column x must hold text, got int64\.$"):
        list(read_table(path, {"id": "x"}))
    assert np.all([number for number, _ in read_table(path, {"negatives": "n"})] == np.array([1, 2]))


def test_jsonl_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "\ufeff" + json.dumps({"id": "a"}) + "\r\n\r\n" + json.dumps({"id": "b"}) + "\n\n", encoding="utf-8"
    )
    assert list(read_table(path, {"id": "id"})) == [(1, {"id": "a"}), (3, {"id": "b"})]
