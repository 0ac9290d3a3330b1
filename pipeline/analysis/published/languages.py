"""Intervals over languages: what would other languages have said of the same models?

Published scores come without queries, so languages are what can be resampled. All models share the draws, hence
differences between models are paired. Axes: B draws, L languages, S subsets, M models.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pipeline.analysis.errors import DRAWS, LEVEL, interval

MONO, CROSS = "mono", "cross"


class Sample(NamedTuple):
    """The mean of one setting: by model, and as drawn over languages."""

    mean_M: pd.Series
    draws_BM: pd.DataFrame
    languages: int


def setting_of(subset: str) -> str:
    """Return the setting of a subset: a language, or a pair of the query's and the passage's language.

    >>> [setting_of(subset) for subset in ("ar", "deu-deu", "ara-deu")]
    ['mono', 'mono', 'cross']
    """
    first, _, second = subset.partition("-")
    return CROSS if second and second != first else MONO


def samples(scores: pd.DataFrame, size: int = DRAWS, seed: int = 0) -> dict[str, Sample]:
    """Return the mean nDCG@10 of each setting of one benchmark, and its draws over languages.

    A draw takes as many languages as there are, with replacement; a pair counts as often as its two languages together
    (product). A language that is half of every cross-lingual pair, as English is in Belebele, is part of the design and
    always counts once. Both settings share the languages of a draw, so that their difference is paired.

    Means over few languages are too close together: with L languages they are stretched by sqrt(L / (L - 1)), and by
    Student's t of L - 1 degrees of freedom over the normal law.

    Args:
        scores: of one benchmark (scores.Published), all models with the same subsets.

    >>> scores = pd.DataFrame({"model": list("aabb"), "subset": ["de", "en"] * 2, "ndcg_at_10": [0.4, 0.6, 0.5, 0.7]})
    >>> sample = samples(scores)["mono"]
    >>> sample.mean_M.round(2).to_dict(), sample.draws_BM.diff(axis=1)["b"].round(2).unique().tolist()
    ({'a': 0.5, 'b': 0.6}, [0.1])
    """
    score_SM = scores.pivot(index="subset", columns="model", values="ndcg_at_10")
    pairs = [(subset.split("-")[0], subset.split("-")[-1]) for subset in score_SM.index]
    setting_S = np.array([setting_of(subset) for subset in score_SM.index])
    names = sorted({language for pair in pairs for language in pair})
    first_S, second_S = (np.array([names.index(pair[side]) for pair in pairs]) for side in (0, 1))
    count_BL = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size)
    cross_S = setting_S == CROSS
    for language in range(len(names)):
        if cross_S.sum() > 2 and ((first_S == language) | (second_S == language))[cross_S].mean() > 0.9:
            count_BL[:, language] = 1
    weight_BS = count_BL[:, first_S] * np.where(cross_S, count_BL[:, second_S], 1)
    by_setting = {}
    for setting in (MONO, CROSS):
        chosen_S = setting_S == setting
        if chosen_S.any():
            by_setting[setting] = _sample(score_SM[chosen_S], weight_BS[:, chosen_S], len(names))
    return by_setting


def _sample(score_SM: pd.DataFrame, weight_BS: np.ndarray, languages: int) -> Sample:
    mean_M = score_SM.mean()
    weight_BS = np.where(weight_BS.sum(axis=1, keepdims=True) > 0, weight_BS, 1)  # no pair was drawn: all of them
    drawn_BM = weight_BS @ score_SM.to_numpy() / weight_BS.sum(axis=1, keepdims=True)
    stretched_BM = mean_M.to_numpy() + stretch(languages) * (drawn_BM - mean_M.to_numpy())
    return Sample(mean_M, pd.DataFrame(stretched_BM, columns=score_SM.columns), languages)


def stretch(languages: int) -> float:
    """Return the factor by which bootstrap draws of a mean over few languages are too close together.

    >>> round(stretch(7), 2), round(stretch(122), 2)
    (1.35, 1.01)
    """
    if languages < 2:
        return 1.0
    quantile = (1 + LEVEL) / 2
    student = stdtrit(languages - 1, quantile) / stdtrit(np.inf, quantile)
    return float(student * np.sqrt(languages / (languages - 1)))


def accuracies(sample: Sample) -> pd.DataFrame:
    """Return one row per model: accuracy, and the ends accuracy_low and accuracy_high of its 95 % interval."""
    low_M, high_M = interval(sample.draws_BM)
    bounds = {"accuracy": sample.mean_M, "accuracy_low": low_M, "accuracy_high": high_M}
    return pd.DataFrame(bounds, index=sample.mean_M.index).rename_axis("model").reset_index()


def difference(sample: Sample, a: str, b: str) -> tuple[float, float, float]:
    """Return the accuracy of model a less that of b, with its 95 % interval: the ends exclude 0 if it can be told.

    >>> draws_BM = pd.DataFrame({"a": [0.5, 0.7], "b": [0.4, 0.6]})
    >>> [round(number, 2) for number in difference(Sample(draws_BM.mean(), draws_BM, 2), "a", "b")]
    [0.1, 0.1, 0.1]
    """
    low, high = interval((sample.draws_BM[a] - sample.draws_BM[b]).to_numpy())
    return float(sample.mean_M[a] - sample.mean_M[b]), float(low), float(high)
