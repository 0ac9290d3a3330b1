"""worldfacts: the embedded parallel QA corpus, generated from Unicode CLDR through Babel, in the format of XQuAD-R.

A territory is an article of up to eight sentences, each of which answers one query. Every row exists in all eleven
languages: a fact that CLDR cannot name in one of them is dropped in all. `train` returns the training pairs and
`benchmark` the held-out territories. The sentence templates around CLDR's names are in worldfacts.yaml.

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

from pipeline.data.text import check_languages
from pipeline.values import Collection, ParallelText, Relevance, Texts

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
LATIN = {"de", "en", "es", "tr", "vi"}
NO_ARTICLE = {"001", "AQ", "ZZ"}  # the world, Antarctica (no money, no language), unknown
HELD_OUT_EVERY = 5  # territories, in the order of their ISO codes


class Row(NamedTuple):
    """One fact: `texts` has, by language, the sentence that states it and the query that it answers."""

    territory: str
    kind: str
    texts: dict[str, tuple[str, str]]

    @property
    def id(self) -> str:
        """The same in all languages."""
        return f"{self.territory}-{self.kind}"


def train(languages: list[str]) -> ParallelText:
    """Load four fifths of the territories. No two rows share a passage."""
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
    """Load the other fifth of the territories; a language's pool is all their sentences, one relevant per query."""
    rows = _rows(languages, held_out=True)
    ids = [row.id for row in rows]
    position = np.arange(len(rows))
    relevance = Relevance(position.astype(np.int32), position.astype(np.int64), np.ones(len(rows), dtype=np.int8))
    return Collection(
        name="worldfacts",
        queries={language: Texts(ids, [row.texts[language][1] for row in rows]) for language in languages},
        passages={language: Texts(ids, [row.texts[language][0] for row in rows]) for language in languages},
        relevance={(of_query, of_passage): relevance for of_query in languages for of_passage in languages},
        titles=frozenset(Locale("en").territories[row.territory] for row in rows),
        clusters={row.id: row.territory for row in rows},
        cluster_name="territory",
        provenance=_provenance(rows, languages),
    )


def _rows(languages: list[str], held_out: bool) -> list[Row]:
    """Return one side of the split; the rows do not depend on the languages."""
    check_languages(languages, LANGUAGES)
    test_territories = sorted({row.territory for row in _corpus()})[::HELD_OUT_EVERY]
    return [row for row in _corpus() if (row.territory in test_territories) == held_out]


@cache
def _corpus() -> tuple[Row, ...]:
    """Return the rows of both sides, ordered by territory and kind. Takes a second, so it runs once per process."""
    rows = []
    templates = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    locales = {language: Locale(language) for language in LANGUAGES}
    for territory in sorted(get_global("territory_zones").keys() - NO_ARTICLE):
        facts = {language: _facts(territory, locale) for language, locale in locales.items()}
        for kind, pairs in templates.items():
            if all(kind in facts[language] for language in LANGUAGES):
                texts = {}
                for language, (passage, query) in pairs.items():
                    fields = facts[language][kind] | {"place": locales[language].territories[territory]}
                    texts[language] = (passage.format(**fields), query.format(**fields))
                rows.append(Row(territory, kind, texts))
    return tuple(rows)


def _facts(territory: str, locale: Locale) -> dict[str, dict[str, Any]]:
    """Return what CLDR states about a territory in one language: the fields of worldfacts.yaml's templates, by kind."""
    return _currency(territory, locale) | _languages(territory, locale) | _time(territory, locale)


def _currency(territory: str, locale: Locale) -> dict[str, dict[str, Any]]:
    facts, names = {}, locale.currencies
    # Request all dates: the default, today, would change the corpus overnight.
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


def _languages(territory: str, locale: Locale) -> dict[str, dict[str, Any]]:
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
        if locale.language in LATIN:  # UTS 35, part 4: CLDR omits a name that is the same as in the zone's key
            name = name or zone.split("/")[-1].replace("_", " ")
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
    """Return 0 for Monday; None if Babel has no locale for the territory."""
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
