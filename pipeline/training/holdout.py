"""Which rows of the training data are held out to validate on. Needs neither torch nor Lightning.

Legend: N rows of the training data, L languages.
"""

import numpy as np

from pipeline.groups import TrainerConfig
from pipeline.values import ParallelText


def hold_out(data: ParallelText, trainer: TrainerConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `available_NL` into training rows and held-out rows.

    `seed` draws `trainer.holdout_fraction` of the passage groups; a group is held out as a whole. Without
    `trainer.patience` nothing is held out.

    Returns:
        bool [N, L] of the training rows, and of the held-out rows ([0, L] without `trainer.patience`).
    """
    available_NL = data.available_NL
    if trainer.patience is None:
        return available_NL, available_NL[:0]
    groups, group_N = np.unique(data.passage_group, return_inverse=True)
    order_N = np.random.default_rng(seed).permutation(len(groups))[group_N]
    held_out_N = order_N < round(trainer.holdout_fraction * len(groups))
    return available_NL & ~held_out_N[:, None], available_NL & held_out_N[:, None]
