"""Which training rows must not be negatives of each other: shared by the sources whose rows share passages.

Axes: N rows, K labelings of them.
"""

from collections.abc import Sequence

import numpy as np


def connected(labels_KN: Sequence[Sequence | np.ndarray]) -> np.ndarray:
    """[N] groups: rows with equal labels in any of the K labelings, directly or through other rows.

    A group bears the number of its first row.
    """
    group_N = np.arange(len(labels_KN[0]))
    while True:
        before_N = group_N
        for labels_N in labels_KN:
            number_N = np.unique(labels_N, return_inverse=True)[1]
            smallest = np.full(number_N.max(initial=-1) + 1, len(group_N))
            np.minimum.at(smallest, number_N, group_N)
            group_N = smallest[number_N]
        if np.array_equal(group_N, before_N):
            return group_N
