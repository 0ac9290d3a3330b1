"""Pareto fronts: the points that no other point beats at once on cost and on accuracy. Pure functions of arrays.

Lower cost and higher accuracy are better. Axes: N points, M objectives, x any leading axes (bootstrap draws).
"""

import numpy as np


def non_dominated(cost_xN: np.ndarray, accuracy_xN: np.ndarray, *further_costs_xN: np.ndarray) -> np.ndarray:
    """Return the boolean mask [x, N] of the front, in as many objectives as there are arguments.

    A point is dominated if another is no worse in every objective and better in at least one. Hence of two points that
    tie in one objective the better in the other stays, and exact duplicates stay or go together. A point with a NaN
    neither dominates nor stands on the front. Memory is that of the arguments: points are sorted, and each meets only
    what comes before it.

    >>> non_dominated(np.array([1, 2, 3]), np.array([0.5, 0.4, 0.6])).tolist()
    [True, False, True]
    >>> non_dominated(np.array([1, 2, 3]), np.array([0.5, 0.4, 0.6]), np.array([9, 7, 8])).tolist()
    [True, True, True]
    """
    losses = np.broadcast_arrays(cost_xN, -np.asarray(accuracy_xN), *further_costs_xN)
    loss_MxN = np.stack([np.asarray(loss, dtype=float) for loss in losses])
    nan_xN = np.isnan(loss_MxN).any(axis=0)
    loss_MxN = np.where(nan_xN, np.inf, loss_MxN)
    dominated_xN = dominated_in_two(*loss_MxN) if len(loss_MxN) == 2 else dominated_in_many(loss_MxN)
    return ~dominated_xN & ~nan_xN


def dominated_in_two(cost_xN: np.ndarray, loss_xN: np.ndarray) -> np.ndarray:
    """Return the mask [x, N] of dominated points: their loss is above the lowest at their cost, or not below the
    lowest at less cost.

    >>> dominated_in_two(np.array([1, 1, 2, 2]), np.array([5, 6, 5, 4])).tolist()
    [False, True, True, False]
    """
    order_xN = np.argsort(cost_xN, axis=-1)
    cost_xN, loss_xN = (np.take_along_axis(a, order_xN, axis=-1) for a in (cost_xN, loss_xN))
    place_N = np.arange(cost_xN.shape[-1])
    differs_xN = np.diff(cost_xN, axis=-1, prepend=-np.inf) > 0
    first_xN = np.maximum.accumulate(np.where(differs_xN, place_N, 0), axis=-1)  # of the same cost
    ends_xN = np.roll(differs_xN, -1, axis=-1)
    ends_xN[..., -1:] = True
    last_xN = np.minimum.accumulate(np.where(ends_xN, place_N, len(place_N))[..., ::-1], axis=-1)[..., ::-1]
    lowest_xN = np.minimum.accumulate(loss_xN, axis=-1)
    before_xN = np.where(first_xN > 0, np.take_along_axis(lowest_xN, np.maximum(first_xN - 1, 0), axis=-1), np.inf)
    mask_xN = (np.take_along_axis(lowest_xN, last_xN, axis=-1) < loss_xN) | (before_xN <= loss_xN)
    dominated_xN = np.empty_like(mask_xN)
    np.put_along_axis(dominated_xN, order_xN, mask_xN, axis=-1)
    return dominated_xN


def dominated_in_many(loss_MxN: np.ndarray) -> np.ndarray:
    """Return the mask [x, N] of dominated points; their time grows with points squared.

    >>> dominated_in_many(np.array([[1, 2, 3], [5, 4, 6], [1, 1, 1]])).tolist()
    [False, False, True]
    """
    order_xN = np.lexsort(loss_MxN[::-1])  # by cost; of equal cost by the next, and so on: a dominator comes earlier
    loss_MxN = np.take_along_axis(loss_MxN, order_xN[None], axis=-1)
    repeated_xN = np.zeros(order_xN.shape, dtype=bool)
    repeated_xN[..., 1:] = (loss_MxN[..., 1:] == loss_MxN[..., :-1]).all(axis=0)
    mask_xN = np.zeros(order_xN.shape, dtype=bool)
    for place in range(1, order_xN.shape[-1]):
        no_worse_Mx = loss_MxN[1:, ..., :place] <= loss_MxN[1:, ..., place, None]
        mask_xN[..., place] = no_worse_Mx.all(axis=0).any(axis=-1)
    # A duplicate shares the fate of the first of its kind, which nothing equal precedes.
    first_xN = np.maximum.accumulate(np.where(repeated_xN, 0, np.arange(order_xN.shape[-1])), axis=-1)
    dominated_xN = np.empty_like(mask_xN)
    np.put_along_axis(dominated_xN, order_xN, np.take_along_axis(mask_xN, first_xN, axis=-1), axis=-1)
    return dominated_xN


def front(cost_N: np.ndarray, accuracy_N: np.ndarray) -> np.ndarray:
    """Return the positions of the front's points, from the cheapest to the most expensive; of duplicates the first.

    >>> front(np.array([3, 2, 1]), np.array([0.6, 0.4, 0.5])).tolist()
    [2, 0]
    """
    positions = np.flatnonzero(non_dominated(cost_N, accuracy_N))
    _, first = np.unique(np.asarray(cost_N)[positions], return_index=True)
    return positions[first]


def hypervolume(
    cost_xN: np.ndarray, accuracy_xN: np.ndarray, reference_cost: float, reference_accuracy: float
) -> np.ndarray:
    """Return the area [x] that the points dominate, bounded by a reference point (Zitzler & Thiele 1999).

    The unit is accuracy times the cost's unit; pass the logarithm of the cost for an area in orders of magnitude. Parts
    beyond the reference count nothing.

    Up to cost 4, the first point dominates 3 x .5, and the second adds 2 x .3.

    >>> float(hypervolume(np.array([1, 2]), np.array([0.5, 0.8]), 4, 0))
    2.1
    """
    cost_xN, accuracy_xN = np.broadcast_arrays(np.minimum(cost_xN, reference_cost), accuracy_xN)
    order_xN = np.argsort(cost_xN, axis=-1)
    width_xN = np.diff(np.take_along_axis(cost_xN, order_xN, axis=-1), append=reference_cost, axis=-1)
    best_xN = np.maximum.accumulate(np.take_along_axis(accuracy_xN, order_xN, axis=-1), axis=-1)
    return (width_xN * np.maximum(best_xN - reference_accuracy, 0)).sum(-1)


def hypervolume_3(
    cost_xN: np.ndarray,
    accuracy_xN: np.ndarray,
    bias_xN: np.ndarray,
    reference_cost: float,
    reference_accuracy: float,
    reference_bias: float,
) -> np.ndarray:
    """Return the volume [x] that the points dominate in three objectives, of which cost and bias are better when lower.

    The volume is summed slab by slab of the cost: a slab is as wide as the distance to the next more expensive point,
    and as large as the area of all points that cost no more.

    From cost 1 to 2 the first point dominates .5 x (1 - .6); from 2 to 4 the second adds .3 x (1 - .8) above it.

    >>> float(hypervolume_3(np.array([1, 2]), np.array([0.5, 0.8]), np.array([0.6, 0.8]), 4, 0, 1).round(6))
    0.72
    """
    cost_xN, accuracy_xN, bias_xN = np.broadcast_arrays(np.minimum(cost_xN, reference_cost), accuracy_xN, bias_xN)
    order_xN = np.argsort(cost_xN, axis=-1)
    cost_xN, accuracy_xN, bias_xN = (np.take_along_axis(a, order_xN, axis=-1) for a in (cost_xN, accuracy_xN, bias_xN))
    width_xN = np.diff(cost_xN, append=reference_cost, axis=-1)
    volume_x = np.zeros(cost_xN.shape[:-1])
    for place in range(cost_xN.shape[-1]):
        affordable = bias_xN[..., : place + 1], accuracy_xN[..., : place + 1]
        volume_x = volume_x + width_xN[..., place] * hypervolume(*affordable, reference_bias, reference_accuracy)
    return volume_x


def beyond(worst: float, best: float, points: int) -> float:
    """Return a reference beyond the worst value, so that the worst point adds something (Ishibuchi et al. 2018).

    With the range from best to worst as 1, it lies at 1 + 1 / H, where H + 1 is the number of `points` on the front:
    "How to specify a reference point in hypervolume calculation for fair performance comparison", Evolutionary
    Computation 26.

    >>> beyond(3.0, 1.0, points=5)
    3.5
    """
    return worst + (worst - best) / max(points - 1, 1)


def knee(cost_N: np.ndarray, accuracy_N: np.ndarray) -> int | None:
    """Return the position of the front's knee, after which more cost begins to buy less; None without a knee.

    It is the front's point farthest above the chord between the front's ends (Das 1999, "On characterizing the knee of
    the Pareto curve"); of equally far ones the cheapest. A front has no knee if no point lies above the chord.

    >>> knee(np.array([0, 1, 2, 4]), np.array([0.0, 0.6, 0.9, 1.0]))
    2
    >>> knee(np.array([0, 1, 2]), np.array([0, 1, 2])) is None
    True
    """
    positions = front(cost_N, accuracy_N)
    if len(positions) < 3:
        return None
    cost, accuracy = np.asarray(cost_N)[positions], np.asarray(accuracy_N)[positions]
    above = (accuracy - accuracy[0]) / np.ptp(accuracy) - (cost - cost[0]) / np.ptp(cost)
    best = int(above.argmax())
    return int(positions[best]) if above[best] > 1e-12 else None
