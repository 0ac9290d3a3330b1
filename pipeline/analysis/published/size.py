"""Accuracy over active parameters: monolingual against cross-lingual search, and the sizes of one recipe.

Lines are those of analysis.scaling: least squares over log2(active parameters), drawn with the error over languages and
with what the models deviate from the line. Axes: N models, B draws over languages.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pipeline.analysis.errors import LEVEL, interval
from pipeline.analysis.published.languages import CROSS, MONO, Sample
from pipeline.analysis.published.models import CLASSES
from pipeline.analysis.scaling import line

GAP = "gap"  # monolingual less cross-lingual accuracy
ALL = "all multilingual models"
MULTILINGUAL = 0.75  # of its accuracy in English, that a multilingual model reaches in the median language
RETRIEVER = 0.5  # of the best model's median, that an encoder for retrieval reaches
ENGLISH = ("en", "eng", "eng_Latn")
Samples = Mapping[tuple[str, str], Sample]  # by benchmark and setting


def multilingual(scores: pd.DataFrame) -> set[tuple[str, str]]:
    """Return the (benchmark, model) pairs of models that search in most languages, nearly as well as in English.

    An English model grows better at English alone, and one that finds hardly anything (a language model without
    training for retrieval) does not grow better: neither says how languages gain from size. Their monolingual accuracy
    in the median language must be MULTILINGUAL of that in English, and RETRIEVER of the benchmark's best.

    Args:
        scores: of scores.Published.

    >>> table = {"benchmark": "b", "model": list("eeemmm"), "subset": ["en", "ru", "zh"] * 2}
    >>> multilingual(pd.DataFrame(table | {"ndcg_at_10": [0.6, 0.1, 0.2, 0.6, 0.5, 0.5]}))
    {('b', 'm')}
    """
    halves = scores["subset"].str.partition("-")
    mono = scores[(halves[2] == "") | (halves[0] == halves[2])].assign(language=halves[0])
    groups = mono.groupby(["benchmark", "model"])["ndcg_at_10"].median()
    english = mono[mono["language"].isin(ENGLISH)].set_index(["benchmark", "model"])["ndcg_at_10"]
    near_english = ~(groups < MULTILINGUAL * english.reindex(groups.index))  # kept, if there is no English
    useful = groups >= RETRIEVER * groups.groupby("benchmark").transform("max")
    return set(groups[near_english & useful].index)


def gaps(samples: Samples) -> pd.DataFrame:
    """Return mono, cross, and their gap with its 95 % interval low, high: one row per benchmark with both and model."""
    frames = []
    for benchmark, mono, cross in both_settings(samples):
        draws_BM = mono.draws_BM - cross.draws_BM
        low_M, high_M = interval(draws_BM)
        columns = {MONO: mono.mean_M, CROSS: cross.mean_M, GAP: mono.mean_M - cross.mean_M}
        table = pd.DataFrame(columns | {"low": low_M, "high": high_M}).rename_axis("model")
        frames.append(table.reset_index().assign(benchmark=benchmark))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def both_settings(samples: Samples) -> list[tuple[str, Sample, Sample]]:
    """Return the benchmarks that have monolingual and cross-lingual pairs, with both samples."""
    return [(name, samples[name, MONO], samples[name, CROSS]) for name, setting in samples if setting == CROSS]


def trends(samples: Samples, models: pd.DataFrame, chosen: set[tuple[str, str]]) -> pd.DataFrame:
    """Return how accuracy, and the gap between settings, change with a doubling of the active parameters.

    Args:
        samples: of languages.samples.
        models: with the columns model, active_parameters and zero_shot.
        chosen: of `multilingual`.

    Returns:
        One row per benchmark, `quantity` (mono, cross or gap) and group of models (all, and each of CLASSES): `slope`
        per doubling with its 95 % interval low, high, `models`, `languages`, and `lack_of_fit`, the standard deviation
        of models around the line beyond their errors.
    """
    rows = []
    for benchmark, quantity, mean_M, draws_BM, languages in quantities(samples):
        for group in (ALL, *CLASSES):
            of_group = models[(models["zero_shot"] == group) | (group == ALL)]
            active = of_group.set_index("model")["active_parameters"].loc[lambda counts: counts > 0]
            names = [name for name in mean_M.index if name in active.index and (benchmark, name) in chosen]
            if active.reindex(names).nunique() > 2:
                row = {"benchmark": benchmark, "quantity": quantity, "group": group, "languages": languages}
                rows.append(row | trend(active[names], mean_M[names], draws_BM[names]))
    return pd.DataFrame(rows)


def quantities(samples: Samples) -> list[tuple[str, str, pd.Series, pd.DataFrame, int]]:
    """Return (benchmark, quantity, mean_M, draws_BM, languages) of every setting and gap."""
    settings = [(name, setting, *sample) for (name, setting), sample in samples.items()]
    return settings + [
        (name, GAP, mono.mean_M - cross.mean_M, mono.draws_BM - cross.draws_BM, mono.languages)
        for name, mono, cross in both_settings(samples)
    ]


def trend(active_N: pd.Series, mean_N: pd.Series, draws_BN: pd.DataFrame) -> dict[str, float]:
    """Return slope per doubling, its interval, lack of fit and number of models of one line.

    >>> active_N, mean_N = pd.Series([1e6, 2e6, 4e6]), pd.Series([0.5, 0.6, 0.7])
    >>> of = trend(active_N, mean_N, pd.DataFrame([mean_N] * 9))
    >>> round(of["slope"], 3), round(of["low"], 3), abs(round(of["lack_of_fit"], 3)), of["models"]
    (0.1, 0.1, 0.0, 3)
    """
    active_BN = np.tile(active_N.to_numpy(float), (len(draws_BN), 1))
    fitted = line(active_N.to_numpy(float), mean_N.to_numpy(), active_BN, draws_BN.to_numpy())
    low, high = interval(fitted.slope_B)
    bounds = {"slope": fitted.slope, "low": float(low), "high": float(high)}
    return bounds | {"lack_of_fit": fitted.lack_of_fit, "models": len(active_N)}


def ladders(samples: Samples, models: pd.DataFrame) -> pd.DataFrame:
    """Return what a doubling of the active parameters buys within each recipe that has two sizes or more.

    Returns:
        One row per benchmark, quantity and recipe: `slope`, low, high, lack_of_fit (NaN for two sizes), models,
        `smallest`, `largest`. The interval is over languages and, from three sizes on, the lack of fit.
    """
    rows = []
    sized = models[models["recipe"].notna() & (models["active_parameters"] > 0)]
    for benchmark, quantity, mean_M, draws_BM, languages in quantities(samples):
        for recipe, group in sized[sized["model"].isin(mean_M.index)].groupby("recipe"):
            active = group.set_index("model")["active_parameters"].sort_values()
            if active.nunique() > 1:
                names = list(active.index)
                row = {"benchmark": benchmark, "quantity": quantity, "recipe": recipe, "languages": languages}
                row |= trend(active, mean_M[names], draws_BM[names])
                rows.append(row | {"smallest": names[0], "largest": names[-1]})
    return pd.DataFrame(rows)


def within_recipes(ladders: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over recipes of what a doubling buys, with a 95 % interval over recipes (Student's t).

    >>> table = pd.DataFrame({"benchmark": "b", "quantity": "mono", "recipe": ["e5", "f2"], "slope": [0.02, 0.03]})
    >>> within_recipes(table).round(3).to_dict("records")
    [{'benchmark': 'b', 'quantity': 'mono', 'slope': 0.025, 'recipes': 2, 'low': -0.039, 'high': 0.089}]
    """
    if ladders.empty:
        return pd.DataFrame()
    groups = ladders.groupby(["benchmark", "quantity"], sort=False)["slope"]
    table = groups.agg(slope="mean", sd="std", recipes="size").query("recipes > 1").reset_index()
    reach = stdtrit(table["recipes"] - 1, (1 + LEVEL) / 2) * table["sd"] / np.sqrt(table["recipes"])
    return table.drop(columns="sd").assign(low=table["slope"] - reach, high=table["slope"] + reach)
