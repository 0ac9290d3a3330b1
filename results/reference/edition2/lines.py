"""Write the lines that the query encoders of the second edition learned from: text of XQuAD-R's languages, one per row.

python results/reference/edition2/lines.py XQUAD_R_DIR MIRACL_DIR MIRACL_POOL_DIR SQUAD_PARALLEL_DIR HELP_DIR lines.txt

HELP_DIR holds the html pages of Debian 12's packages libreoffice-help-{de,el,es,hi,ru,tr,vi,zh-cn}, unpacked by
`dpkg-deb -x PACKAGE HELP_DIR`: the only text of many in Greek, Turkish and Vietnamese that needs no account.
Nothing is of XQuAD's test articles.
"""

import csv
import gzip
import html
import json
import random
import re
import sys
from pathlib import Path

import pandas as pd

from pipeline.bench.texts import LANGUAGES
from pipeline.data.lareqa import train_articles

IN_MIRACL = ["ar", "de", "en", "es", "hi", "ru", "th", "zh"]
HELP = {"de": 1000, "el": 4000, "es": 1000, "hi": 1000, "ru": 1000, "tr": 4000, "vi": 4000, "zh-CN": 1000}  # lines
PASSAGES, QUESTIONS = 1500, 5000  # sentences of MIRACL's passages per language; questions of SQuAD


def fits(text: str) -> bool:
    """Whether a text is as long as a line may be."""
    return 20 <= len(text) <= 220


def sentences(text: str) -> list[str]:
    """Return the sentences of a passage that fit."""
    return [part for part in map(str.strip, re.split(r"(?<=[.!?।؟。！？])\s*", text)) if fits(part)]


def help_lines(folder: Path) -> list[str]:
    """Return the paragraphs of LibreOffice's help in one language that fit."""
    paragraphs = [
        " ".join(html.unescape(re.sub(r"<[^>]+>", "", paragraph)).split())
        for page in sorted(folder.rglob("*.html"))
        for paragraph in re.findall(r"<p\b[^>]*>(.*?)</p>", page.read_text("utf-8"), flags=re.DOTALL)
    ]
    return list(filter(fits, paragraphs))


def main() -> None:
    """Write the file of lines and print how many each source gave."""
    xquad, miracl, pool, squad, help_dir, to = map(Path, sys.argv[1:])
    draw = random.Random(0)
    lines: dict[str, None] = {}  # in order, each once

    def add(source: str, found: list[str]) -> None:
        before = len(lines)
        lines.update(dict.fromkeys(" ".join(line.split()) for line in found))
        print(f"{source:30} {len(lines) - before:6}")

    articles = train_articles(list(LANGUAGES), str(xquad))
    add("XQuAD-R, questions", [text for texts in articles.questions.values() for text in texts])
    add("XQuAD-R, sentences", [text for texts in articles.passages.values() for text in texts if len(text) <= 400])
    for language in IN_MIRACL:
        with (miracl / "topics" / f"topics.miracl-v1.0-{language}-dev.tsv").open(encoding="utf-8") as file:
            add(f"MIRACL, topics {language}", [topic for _, topic in csv.reader(file, delimiter="\t", quoting=3)])
        with gzip.open(pool / f"miracl-corpus-v1.0-{language}" / "docs-0.jsonl.gz", "rt", encoding="utf-8") as file:
            found = [sentence for row in file for sentence in sentences(json.loads(row)["text"])]
        add(f"MIRACL, sentences {language}", draw.sample(found, PASSAGES))
    questions = sorted(set(pd.read_parquet(squad / "en.parquet")["question"]))
    add("SQuAD, questions en", draw.sample(questions, QUESTIONS))
    for language, number in HELP.items():
        found = sorted(set(help_lines(help_dir / "usr/share/libreoffice/help" / language / "text")))
        add(f"LibreOffice's help, {language}", draw.sample(found, min(number, len(found))))
    to.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{'all':30} {len(lines):6}")


if __name__ == "__main__":
    main()
