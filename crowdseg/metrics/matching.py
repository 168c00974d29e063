"""One-to-one matching on sparse graphs of candidate pairs, and the scores that follow from its size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching, min_weight_full_bipartite_matching

Indices = np.ndarray  # (K,) int64


@dataclass(frozen=True)
class Matches:
    """How many of ``predictions`` and ``targets`` found each other; add them to pool images."""

    matched: int = 0
    predictions: int = 0
    targets: int = 0

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.matched + other.matched, self.predictions + other.predictions, self.targets + other.targets)

    @property
    def precision(self) -> float | None:
        """Share of predictions that are right; None where nothing was predicted."""
        return ratio(self.matched, self.predictions)

    @property
    def recall(self) -> float | None:
        """Share of targets that were found; None where there are none."""
        return ratio(self.matched, self.targets)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None where there are neither predictions nor targets."""
        return ratio(2 * self.matched, self.predictions + self.targets)


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, None where it is undefined."""
    return part / whole if whole else None


def maximum_matching(rows: Indices, columns: Indices, shape: tuple[int, int]) -> Indices:
    """The largest one-to-one matching among candidate pairs.

    Args:
        rows, columns: ``(K,)`` the pairs that may be matched.
        shape: numbers of rows and columns.

    Returns:
        ``(shape[0],)`` the column of each row, -1 where it is unmatched.
    """
    if not len(rows):
        return np.full(shape[0], -1)
    graph = csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=shape)
    return maximum_bipartite_matching(graph, perm_type="column")


def best_assignment(rows: Indices, columns: Indices, weights: np.ndarray, shape: tuple[int, int]) -> Indices:
    """The one-to-one matching with the largest sum of weights (Hungarian matching on a sparse graph).

    Pairs that are not given weigh nothing, so the result equals that on the dense matrix filled with zeros.

    Args:
        rows, columns: ``(K,)`` distinct pairs.
        weights: ``(K,)`` in (0, 1].
        shape: numbers of rows and columns.

    Returns:
        ``(M,)`` indices of the chosen pairs.
    """
    alone = (np.bincount(rows, minlength=shape[0])[rows] == 1) & (
        np.bincount(columns, minlength=shape[1])[columns] == 1
    )
    contested = np.flatnonzero(~alone)
    if not len(contested):
        return np.flatnonzero(alone)
    chosen = contested[_assign(rows[contested], columns[contested], weights[contested])]
    return np.sort(np.concatenate([np.flatnonzero(alone), chosen]))


def _assign(rows: Indices, columns: Indices, weights: np.ndarray) -> Indices:
    """Indices of the best pairs. Every row may also stay alone, so that a full matching of the rows always exists."""
    row_ids, row = np.unique(rows, return_inverse=True)
    column_ids, column = np.unique(columns, return_inverse=True)
    n_rows, n_columns = len(row_ids), len(column_ids)
    own = np.arange(n_rows)
    # Costs stay away from 0, which scipy reads as "no edge"; staying alone costs as much as a weight of 0.
    costs = np.concatenate([2.0 - weights, np.full(n_rows, 2.0)])
    graph = csr_matrix(
        (costs, (np.concatenate([row, own]), np.concatenate([column, n_columns + own]))),
        shape=(n_rows, n_columns + n_rows),
    )
    matched_row, matched_column = min_weight_full_bipartite_matching(graph)
    real = matched_column < n_columns
    pair_of = csr_matrix((np.arange(1, len(row) + 1), (row, column)), shape=(n_rows, n_columns))
    return np.asarray(pair_of[matched_row[real], matched_column[real]]).ravel() - 1
