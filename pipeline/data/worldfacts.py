"""worldfacts: the embedded parallel QA corpus, built on the fly from Unicode CLDR through Babel, in XQuAD-R's shape.

A territory is an article of up to eight sentences, each answers one question, and every row exists in all eleven
languages: a fact that CLDR cannot name in one of them is dropped in all. `train` feeds the samplers; `benchmark`, the
territories it holds out, feeds the evaluation. The sentences around CLDR's names are in worldfacts.yaml.
Axes: N rows, L languages.
"""

import hashlib
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from babel import Locale, UnknownLocaleError, localedata
from babel.core import get_global
from babel.languages import get_official_languages, get_territory_language_info
from babel.lists import format_list
from babel.numbers import format_percent, get_territory_currencies

from pipeline.values import Collection, ParallelText, Relevance, Texts

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
LATIN = {"de", "en", "es", "tr", "vi"}
NO_ARTICLE = {"001", "AQ", "ZZ"}  # the world, Antarctica (no money, no language), unknown
HELD_OUT_EVERY = 5  # territories, in the order of their ISO codes


class Row(NamedTuple):
    """One fact: `texts` holds by language the sentence that states it and the question it answers."""

    territory: str
    kind: str
    texts: dict[str, tuple[str, str]]

    @property
    def id(self) -> str:
        return f"{self.territory}-{self.kind}"


def train(languages: list[str]) -> ParallelText:
    """Four fifths of the territories; each row's passage is a sentence of its own."""
    rows = _rows(languages, held_out=False)
    return ParallelText(
        name="worldfacts",
        languages=tuple(languages),
        ids=[row.id for row in rows],
        questions={language: [row.texts[language][1] for row in rows] for language in languages},
        passages={language: [row.texts[language][0] for row in rows] for language in languages},
        available_NL=np.ones((len(rows), len(languages)), dtype=bool),
        passage_group=np.arange(len(rows)),
        titles=[Locale("en").territories[row.territory] for row in rows],
        provenance=_provenance(rows, languages),
    )


def benchmark(languages: list[str]) -> Collection:
    """One fifth of the territories: all their sentences are a language's pool, one of them answers a question."""
    rows = _rows(languages, held_out=True)
    ids = [row.id for row in rows]
    same = np.arange(len(rows))
    gold = Relevance(same.astype(np.int32), same.astype(np.int64), np.ones(len(rows), dtype=np.int8))
    return Collection(
        name="worldfacts",
        queries={language: Texts(ids, [row.texts[language][1] for row in rows]) for language in languages},
        passages={language: Texts(ids, [row.texts[language][0] for row in rows]) for language in languages},
        relevance={(asked, answered): gold for asked in languages for answered in languages},
        titles=frozenset(Locale("en").territories[row.territory] for row in rows),
        provenance=_provenance(rows, languages),
    )


def _rows(languages: list[str], held_out: bool) -> list[Row]:
    """One side of the split, the same rows whatever languages are asked for."""
    if not languages or len(set(languages)) < len(languages) or not set(languages) <= set(LANGUAGES):
        raise ValueError(
            f"languages must be distinct and among {', '.join(LANGUAGES)}, got {', '.join(languages) or 'none'}"
        )
    chosen = sorted({row.territory for row in _corpus()})[::HELD_OUT_EVERY]
    return [row for row in _corpus() if (row.territory in chosen) == held_out]


@cache
def _corpus() -> tuple[Row, ...]:
    """Every row of both sides, in the order of territory and kind; it takes a second, so once a process."""
    rows = []
    sentences = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    locales = {language: Locale(language) for language in LANGUAGES}
    for territory in sorted(get_global("territory_zones").keys() - NO_ARTICLE):
        facts = {language: _facts(territory, locale) for language, locale in locales.items()}
        for kind, pairs in sentences.items():
            if all(kind in facts[language] for language in LANGUAGES):
                texts = {}
                for language, (passage, question) in pairs.items():
                    fields = facts[language][kind] | {"place": locales[language].territories[territory]}
                    texts[language] = (passage.format(**fields), question.format(**fields))
                rows.append(Row(territory, kind, texts))
    return tuple(rows)


def _facts(territory: str, locale: Locale) -> dict[str, dict[str, Any]]:
    """What CLDR can say of a territory in one language: the fields of worldfacts.yaml's sentences, by kind."""
    return _money(territory, locale) | _speech(territory, locale) | _time(territory, locale)


def _money(territory: str, locale: Locale) -> dict[str, dict[str, Any]]:
    facts, names = {}, locale.currencies
    # All times at once: "as of today" would change the corpus overnight.
    tenders = get_territory_currencies(territory, date.min, date.max, include_details=True)
    current = [tender for tender in tenders if tender["to"] is None]
    if len(current) == 1 and current[0]["currency"] in names:
        facts["currency"] = {"value": names[current[0]["currency"]]}
        facts["since"] = {"year": current[0]["from"].year}
    former = [tender for tender in tenders if tender["to"] is not None]
    if former:
        last = max(former, key=lambda tender: (tender["to"], tender["from"]))
        if last["currency"] in names and last["currency"] not in {tender["currency"] for tender in current}:
            years = {"start": last["from"].year, "end": last["to"].year}
            facts["former"] = {"value": names[last["currency"]]} | years
    return facts


def _speech(territory: str, locale: Locale) -> dict[str, dict[str, Any]]:
    facts, names = {}, locale.languages
    official = get_official_languages(territory, de_facto=True)
    if official and all(code in names for code in official):
        facts["official"] = {"value": format_list([names[code] for code in official], locale=locale)}
    percent: dict[str, Any] = {
        code: info["population_percent"] for code, info in get_territory_language_info(territory).items()
    }
    most = [code for code in percent if percent[code] == max(percent.values())]
    if len(most) == 1 and most[0] in names:
        share = format_percent(percent[most[0]] / 100, locale=locale)
        facts["spoken"] = {"value": names[most[0]], "share": share}
    return facts


def _time(territory: str, locale: Locale) -> dict[str, dict[str, Any]]:
    facts = {}
    zone, *more = get_global("territory_zones")[territory]
    if not more:
        name = locale.time_zones.get(zone, {}).get("city")
        if locale.language in LATIN:
            name = name or zone.split("/")[-1].replace(
                "_", " "
            )  # UTS 35, part 4: left out where it reads as in the key
        elif name == localedata.load("root")["time_zones"].get(zone, {}).get("city"):
            name = None  # inherited, not translated
        if name and name != locale.territories[territory]:
            facts["zone"] = {"value": name}
        clock = locale.meta_zones.get(get_global("meta_zones").get(zone), {}).get("long", {}).get("standard")
        if clock:
            facts["clock"] = {"value": clock}
    first_day = _first_week_day(territory)
    if first_day is not None:
        facts["week"] = {"value": locale.days["stand-alone"]["wide"][first_day]}
    return facts


@cache
def _first_week_day(territory: str) -> int | None:
    """0 for Monday; None where Babel has no locale of the territory."""
    try:
        return Locale.parse(f"und_{territory}").first_week_day
    except UnknownLocaleError:
        return None


def _provenance(rows: list[Row], languages: list[str]) -> dict[str, Any]:
    texts = "\n".join(text for row in rows for language in languages for text in row.texts[language])
    return {
        "source": "Unicode CLDR through Babel, with sentences of our own around its names",
        "licence": "Unicode-3.0",
        "babel": version("babel"),
        "cldr": get_global("cldr")["version"],
        "sha256": hashlib.sha256(texts.encode()).hexdigest(),
        "note": "a self-contained exercise, not evidence",
    }
