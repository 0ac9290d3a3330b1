"""Draws of costs: what a profile measured in other rounds could have said. errors.py has the draws of accuracies.

A cost is drawn as value x exp(relative error x t), with t of Student's distribution with one degree of freedom less
than the rounds of the profile. Systems that share the measurements of one encoder (`encoder_key`) share the draw: what
they cost differs by nothing that was measured. Axes: B draws, N points.
"""

from functools import lru_cache
from zlib import crc32

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pipeline.analysis.errors import DRAWS, LEVEL

LEAST_DEGREES = 2  # of freedom: a profile has three rounds at least
ERROR = ["relative_error", "rounds", "error_key"]  # columns of points that say how a cost is drawn


def costs(points: pd.DataFrame, size: int = DRAWS) -> np.ndarray:
    """Return draws [B, N] of the points' costs.

    Args:
        points: with the columns `value` and ERROR. A `relative_error` of 0 or NaN (a profile that holds none) fixes the
            cost; points with an equal `error_key` share the draw. Without these columns all costs are fixed.

    >>> points = pd.DataFrame({"value": [10.0, 20.0, 5.0], "relative_error": [0.1, 0.1, np.nan], "rounds": 5,
    ...                        "error_key": ["e5 latency", "e5 latency", "old"]})
    >>> drawn_BN = costs(points, size=4000)
    >>> np.allclose(drawn_BN[:, 1], 2 * drawn_BN[:, 0]), np.ptp(drawn_BN[:, 2]).item()
    (True, 0.0)
    """
    factor_BN, value_N = np.ones((size, len(points))), points["value"].to_numpy(float)
    if "relative_error" not in points:
        return value_N * factor_BN
    error_N = points["relative_error"].to_numpy(float)
    degrees_N = np.maximum(points["rounds"].fillna(0).to_numpy(float) - 1, LEAST_DEGREES)
    places = np.flatnonzero(error_N > 0)
    keys = zip(points["error_key"].iloc[places], degrees_N[places], strict=True)
    drawn_NB = np.array([student_t(str(key), degrees, size) for key, degrees in keys]).reshape(-1, size)
    factor_BN[:, places] = np.exp(error_N[places, None] * drawn_NB).T
    return value_N * factor_BN


@lru_cache(8192)  # of 16 kB each
def student_t(key: str, degrees: float, size: int) -> np.ndarray:
    """Return draws of Student's t with `degrees` degrees of freedom, the same for all that share a measurement.

    >>> np.array_equal(student_t("e5 latency", 2.0, 3), student_t("e5 latency", 2.0, 5)[:3])
    True
    """
    return np.random.default_rng(crc32(key.encode())).standard_t(degrees, size)


def cost_bounds(value_N: np.ndarray, error_N: np.ndarray, rounds_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends [N] of the 95 % intervals of costs: the quantiles of what `costs` draws, without noise.

    Args:
        value_N: the costs.
        error_N: their relative standard errors; NaN or 0 where the cost is fixed.
        rounds_N: the rounds of their profiles.

    >>> low_N, high_N = cost_bounds(np.array([10.0, 10.0]), np.array([0.1, np.nan]), np.array([3, 3]))
    >>> low_N.round(2).tolist(), high_N.round(2).tolist()
    ([6.5, 10.0], [15.38, 10.0])
    """
    degrees_N = np.maximum(np.nan_to_num(rounds_N.astype(float)) - 1, LEAST_DEGREES)
    far_N = np.exp(np.nan_to_num(error_N.astype(float)) * stdtrit(degrees_N, (1 + LEVEL) / 2))
    return value_N / far_N, value_N * far_N
