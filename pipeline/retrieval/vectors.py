"""Embeddings as rankings take them: numpy's arrays, or arrays that are read, or truncated, a block at a time.

Axes: N vectors, D embedding width.
"""

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


class Truncated:
    """The first `width` dimensions of vectors, of unit length again, made when they are read.

    >>> truncated = Truncated(np.array([[3, 4, 12], [0, 5, 12]], np.float32) / 13, 2)
    >>> truncated.shape, np.asarray(truncated[1:])
    ((2, 2), array([[0., 1.]], dtype=float32))
    """

    def __init__(self, emb_ND: Vectors, width: int):
        check_width(width, emb_ND)
        self.emb_ND, self.width, self.dtype = emb_ND, width, emb_ND.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self.emb_ND), self.width

    def __len__(self) -> int:
        return len(self.emb_ND)

    def __getitem__(self, rows: Any) -> "Truncated":
        return Truncated(self.emb_ND[rows], self.width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        emb_ND = truncate(np.asarray(self.emb_ND), self.width)
        return emb_ND if dtype is None else emb_ND.astype(dtype)


def truncate(emb_ND: np.ndarray, width: int) -> np.ndarray:
    """Return the first `width` dimensions, rescaled to unit length: Matryoshka embeddings (Kusupati et al. 2022).

    Raises:
        ValueError: for a width outside [1, D].

    >>> truncate(np.array([[3, 4, 12]]) / 13, 2)
    array([[0.6, 0.8]])
    """
    check_width(width, emb_ND)
    return emb_ND[:, :width] / np.linalg.norm(emb_ND[:, :width], axis=1, keepdims=True)


def check_width(width: int, emb_ND: Vectors) -> None:
    """Raise ValueError for a width outside [1, D]."""
    if not 0 < width <= emb_ND.shape[1]:
        raise ValueError(f"width must lie in [1, {emb_ND.shape[1]}], got {width}")
