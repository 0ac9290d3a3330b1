"""Pareto fronts: which points no other point beats at once on cost and on accuracy. Pure functions of arrays.

Lower cost and higher accuracy are better. Axes: N points, x any leading axes (bootstrap draws).
"""

import numpy as np


def non_dominated(cost_xN: np.ndarray, accuracy_xN: np.ndarray, *further_costs_xN: np.ndarray) -> np.ndarray:
    """Boolean mask of the front, in as many objectives as there are arguments.

    A point is dominated if another is no worse in every objective and better in at least one. So of two points that
    tie in one objective the better in the other stays, and exact duplicates stay or go together. A point with a NaN
    neither dominates nor stands on the front.
    """
    loss_xNM = np.stack(np.broadcast_arrays(cost_xN, -np.asarray(accuracy_xN), *further_costs_xN), axis=-1)
    row_xN1M, column_x1NM = loss_xNM[..., :, None, :], loss_xNM[..., None, :, :]
    dominates_xNN = np.all(row_xN1M <= column_x1NM, axis=-1) & np.any(row_xN1M < column_x1NM, axis=-1)
    return ~np.any(dominates_xNN, axis=-2) & ~np.any(np.isnan(loss_xNM), axis=-1)


def front(cost_N: np.ndarray, accuracy_N: np.ndarray) -> np.ndarray:
    """Positions of the front's points, from the cheapest to the dearest; of duplicates the first."""
    positions = np.flatnonzero(non_dominated(cost_N, accuracy_N))
    _, first = np.unique(np.asarray(cost_N)[positions], return_index=True)
    return positions[first]


def hypervolume(
    cost_xN: np.ndarray, accuracy_xN: np.ndarray, reference_cost: float, reference_accuracy: float
) -> np.ndarray:
    """Area that the points dominate, bounded by a reference point that is worse than all of interest.

    Unit: accuracy times cost's unit; give the logarithm of the cost for an area in orders of magnitude. Parts beyond
    the reference count nothing.
    """
    cost_xN, accuracy_xN = np.broadcast_arrays(np.minimum(cost_xN, reference_cost), accuracy_xN)
    order_xN = np.argsort(cost_xN, axis=-1)
    width_xN = np.diff(np.take_along_axis(cost_xN, order_xN, axis=-1), append=reference_cost, axis=-1)
    best_xN = np.maximum.accumulate(np.take_along_axis(accuracy_xN, order_xN, axis=-1), axis=-1)
    return (width_xN * np.maximum(best_xN - reference_accuracy, 0)).sum(-1)


def hypervolume_3(
    cost_N: np.ndarray,
    accuracy_xN: np.ndarray,
    bias_xN: np.ndarray,
    reference_cost: float,
    reference_accuracy: float,
    reference_bias: float,
) -> np.ndarray:
    """Volume that the points dominate in three objectives: slab by slab of the cost, each as wide as to the next dearer
    point and as large as the area of all that cost no more."""
    accuracy_xN, bias_xN = np.broadcast_arrays(accuracy_xN, bias_xN)
    edges = np.unique(np.minimum([*cost_N, reference_cost], reference_cost))
    volume_x = np.zeros(accuracy_xN.shape[:-1])
    for edge, width in zip(edges, np.diff(edges), strict=False):
        no_dearer = cost_N <= edge
        area_x = hypervolume(bias_xN[..., no_dearer], accuracy_xN[..., no_dearer], reference_bias, reference_accuracy)
        volume_x += width * area_x
    return volume_x


def knee(cost_N: np.ndarray, accuracy_N: np.ndarray) -> int | None:
    """Position of the front's point farthest above the chord between its ends, where more cost begins to buy less.

    Das 1999, "On characterizing the knee of the Pareto curve". None if no point lies above the chord; of equals the
    cheapest.
    """
    positions = front(cost_N, accuracy_N)
    if len(positions) < 3:
        return None
    cost, accuracy = np.asarray(cost_N)[positions], np.asarray(accuracy_N)[positions]
    above = (accuracy - accuracy[0]) / np.ptp(accuracy) - (cost - cost[0]) / np.ptp(cost)
    best = int(above.argmax())
    return int(positions[best]) if above[best] > 1e-12 else None
