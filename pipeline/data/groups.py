"""Groups of training rows that share a passage and so must not be negatives of each other.

Axes: N rows, K labelings of the rows.
"""

from collections.abc import Sequence

import numpy as np


def connected_groups(labels_KN: Sequence[Sequence | np.ndarray]) -> np.ndarray:
    """Group rows that have equal labels in any labeling, directly or through other rows (connected components).

    Args:
        labels_KN: K labelings of the N rows, for example the passage of each row in each language.

    Returns:
        int64 [N]: the group of each row, numbered by the group's first row.

    Rows 0 and 1 share `a` in the first labeling, rows 1 and 2 share `y` in the second; row 3 shares nothing:

    >>> connected_groups([["a", "a", "b", "c"], ["x", "y", "y", "z"]]).tolist()
    [0, 0, 0, 3]
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
