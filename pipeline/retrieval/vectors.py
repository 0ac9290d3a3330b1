"""Embeddings as rankings take them: numpy's arrays, or arrays that are read, or truncated, a block at a time.

Axes: N vectors, D embedding width.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np


class Vectors(Protocol):
    """A float32 array [N, D], or what acts as one: a slice or a selection of rows, which np.asarray reads."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """float32."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...

    def __array__(self) -> np.ndarray: ...


class Derived:
    """Vectors that are made of others when they are read.

    Args:
        emb_ND: the others.
        make: takes some of them as an array [N, D], and returns as many vectors [N, width].
    """

    def __init__(self, emb_ND: Vectors, make: Callable[[np.ndarray], np.ndarray], width: int):
        self.emb_ND, self.make, self.width, self.dtype = emb_ND, make, width, emb_ND.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self.emb_ND), self.width

    def __len__(self) -> int:
        return len(self.emb_ND)

    def __getitem__(self, rows: Any) -> "Derived":
        return Derived(self.emb_ND[rows], self.make, self.width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        emb_ND = self.make(np.asarray(self.emb_ND))
        return emb_ND if dtype is None else emb_ND.astype(dtype)


class Truncated(Derived):
    """The first `width` dimensions of vectors, of unit length again.

    >>> truncated = Truncated(np.array([[3, 4, 12], [0, 5, 12]], np.float32) / 13, 2)
    >>> truncated.shape, np.asarray(truncated[1:])
    ((2, 2), array([[0., 1.]], dtype=float32))
    """

    def __init__(self, emb_ND: Vectors, width: int):
        check_width(width, emb_ND)
        super().__init__(emb_ND, partial(truncate, width=width), width)


class Shifted(Derived):
    """Vectors less one vector, of unit length again.

    >>> np.asarray(Shifted(np.array([[0.6, 0.8], [0.8, 0.6]], np.float32), np.array([0, 0.8], np.float32))[:1])
    array([[1., 0.]], dtype=float32)
    """

    def __init__(self, emb_ND: Vectors, shift_D: np.ndarray):
        super().__init__(emb_ND, partial(shift, shift_D=shift_D.astype(emb_ND.dtype)), emb_ND.shape[1])


def truncate(emb_ND: np.ndarray, width: int) -> np.ndarray:
    """Return the first `width` dimensions, rescaled to unit length: Matryoshka embeddings (Kusupati et al. 2022).

    Raises:
        ValueError: for a width outside [1, D].

    >>> truncate(np.array([[3, 4, 12]]) / 13, 2)
    array([[0.6, 0.8]])
    """
    check_width(width, emb_ND)
    return emb_ND[:, :width] / np.linalg.norm(emb_ND[:, :width], axis=1, keepdims=True)


def shift(emb_ND: np.ndarray, shift_D: np.ndarray) -> np.ndarray:
    """Return the vectors less `shift_D`, rescaled to unit length."""
    shifted_ND = emb_ND - shift_D
    return shifted_ND / np.linalg.norm(shifted_ND, axis=1, keepdims=True)


def mean(emb_ND: Vectors, block: int = 2**16) -> np.ndarray:
    """Return the mean [D] of vectors, which are read a block at a time.

    >>> mean(np.array([[0.6, 0.8], [0.8, 0.6], [1, 0]], np.float32), block=2).round(4).tolist()
    [0.8, 0.4667]
    """
    starts = range(0, len(emb_ND), block)
    sums = [np.asarray(emb_ND[start : start + block]).sum(axis=0, dtype=np.float64) for start in starts]
    return np.sum(sums, axis=0) / len(emb_ND)


def check_width(width: int, emb_ND: Vectors) -> None:
    """Raise ValueError for a width outside [1, D]."""
    if not 0 < width <= emb_ND.shape[1]:
        raise ValueError(f"width must lie in [1, {emb_ND.shape[1]}], got {width}")
