"""How strategies look: each has the same name, colour and marker in every figure, page and sweep.

The colours are those of Okabe & Ito (2008), which people with any kind of colour vision can tell apart, and a brown in
place of their yellow, which is too light for markers on white.
"""

import re
from collections.abc import Iterable
from itertools import cycle
from typing import NamedTuple

import pandas as pd

from pipeline.analysis.strategies import strategy_name

__all__ = ["MARKERS", "Look", "looks_of", "looks_of_systems", "strategy_name"]

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, BROWN = "#0072B2", "#D55E00", "#CC79A7", "#6B4C1E"
LIGHT, DARK = "#A6DDFA", "#00263B"  # the ends of the hue of hybrid: alpha 0 and 1
MARKERS = {  # of matplotlib -> plotly's name, and the character that stands for it in a legend
    "o": ("circle", "●"),
    "s": ("square", "■"),
    "^": ("triangle-up", "▲"),
    "D": ("diamond", "◆"),
    "v": ("triangle-down", "▼"),
    "X": ("x", "✖"),
    "<": ("triangle-left", "◀"),
    ">": ("triangle-right", "▶"),
    "P": ("cross", "✚"),
    "*": ("star", "★"),
    "p": ("pentagon", "⬟"),
    "h": ("hexagon", "⬢"),
    "d": ("diamond-tall", "⧫"),
}


class Look(NamedTuple):
    """A colour as #RRGGBB and a marker of matplotlib."""

    colour: str
    marker: str

    @property
    def symbol(self) -> str:
        """The marker by the name that plotly has for it."""
        return MARKERS[self.marker][0]

    @property
    def in_browser(self) -> dict[str, str]:
        """What the figures of a page need of it."""
        symbol, glyph = MARKERS[self.marker]
        return {"colour": self.colour, "symbol": symbol, "glyph": glyph}


FIXED = {  # by the name of the strategy without its settings
    "hybrid": Look(BLUE, "o"),
    "crosslingual": Look(VERMILLION, "s"),
    "monolingual": Look(GREEN, "^"),
    "mixed": Look(PURPLE, "D"),
    "english": Look(BROWN, "v"),
    "no training": Look(BLACK, "X"),
}
KINDS = {  # of systems: how they come to their cost (systems.kind)
    "full": Look(BLUE, "o"),
    "truncated": Look(SKY, "s"),
    "distilled": Look(GREEN, "^"),
    "asymmetric": Look(VERMILLION, "D"),
    "static": Look(ORANGE, "P"),
    "lexical": Look(BROWN, "v"),
    "fused": Look(PURPLE, "h"),
}
FREE = list(zip((ORANGE, SKY, GREEN, PURPLE, VERMILLION, BLUE, BLACK), "P*phdP*", strict=True))


def looks_of(strategies: Iterable[str]) -> dict[str, Look]:
    """Return the look of each strategy.

    Strategies of this project look the same whatever else is in the sweep; hybrids are blue, lighter below alpha .5 and
    darker above. All other names take the free looks in order. Two of one colour get different markers.

    Args:
        strategies: as in the column `strategy` of the tables, or any other names.

    >>> [look.colour for look in looks_of(["mine", "hybrid", "hybrid_25"]).values()]
    ['#0072B2', '#53A8D6', '#E69F00']
    """
    looks: dict[str, Look] = {}
    free = cycle(FREE)
    for strategy in sorted(dict.fromkeys(strategies), key=lambda name: known(name) is None):  # the fixed looks first
        look = known(strategy) or Look(*next(free))
        others = (Look(look.colour, marker) for marker in MARKERS)
        looks[strategy] = next((other for other in (look, *others) if other not in looks.values()), look)
    return looks


def looks_of_systems(systems: pd.DataFrame) -> dict[str, Look]:
    """Return the look of each system: of several strategies and several models, a colour per strategy and a marker per
    model.

    Args:
        systems: columns `system`, `model` and `strategy`.

    >>> systems = pd.DataFrame({"system": list("xyz"), "model": list("ssl"), "strategy": ["hybrid", "none", "none"]})
    >>> [look.colour for look in looks_of_systems(systems).values()]
    ['#0072B2', '#000000', '#000000']
    """
    by_strategy, by_model = looks_of(systems["strategy"]), looks_of(systems["model"])
    looks = {}
    for system, model, strategy in systems[["system", "model", "strategy"]].itertuples(index=False):
        look = by_model[model] if len(by_strategy) == 1 else by_strategy[strategy]
        looks[system] = look if 1 in (len(by_strategy), len(by_model)) else Look(look.colour, by_model[model].marker)
    return looks


def known(strategy: str) -> Look | None:
    """Return the look of a strategy of this project, or of a kind of system; None for others.

    >>> known("crosslingual languages_by=batch")
    Look(colour='#D55E00', marker='s')
    """
    sampler, _, settings = strategy_name(strategy).partition(", ")
    alpha = re.search(r"(?:^|, )alpha (\d*\.?\d+)", settings)
    if sampler == "hybrid" and alpha:
        return hybrid(float(alpha[1]))
    return FIXED.get(sampler) or KINDS.get(sampler)


def hybrid(alpha: float) -> Look:
    """Return the look of hybrid batches: the colour is that of alpha .5, mixed with LIGHT below and DARK above.

    >>> hybrid(0.75)
    Look(colour='#004C76', marker='>')
    """
    if alpha == 0.5:
        return FIXED["hybrid"]
    end, marker = (LIGHT, "<") if alpha < 0.5 else (DARK, ">")
    share = abs(2 * alpha - 1)
    channels = [(int(BLUE[i : i + 2], 16), int(end[i : i + 2], 16)) for i in (1, 3, 5)]
    return Look("#" + "".join(f"{round(middle + share * (last - middle)):02X}" for middle, last in channels), marker)
