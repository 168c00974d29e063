"""One-to-one matching on sparse graphs of candidate pairs, and the scores that follow from its size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from crowdseg.rle import spans

Indices = np.ndarray  # (K,) int64


@dataclass(frozen=True)
class Matches:
    """How many of ``predictions`` and ``targets`` found each other; add them to pool images.

    ``matched`` is whole but for the mean over several distances.
    """

    matched: float = 0
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


def reach(limit: float | np.ndarray) -> float | np.ndarray:
    """A limit of distances with room for their rounding, so that a pair exactly at it is within."""
    return limit * (1 + 1e-9) + 1e-9


@dataclass(frozen=True)
class Candidates:
    """The pairs of rows and columns that may be matched, row by row.

    Attributes:
        first: ``(rows + 1,)`` int64 where the columns of each row begin.
        column: ``(K,)`` int64.
        columns: how many there are.
    """

    first: np.ndarray
    column: Indices
    columns: int

    @classmethod
    def of(cls, rows: Indices, columns: Indices, shape: tuple[int, int]) -> Candidates:
        """From ``(K,)`` distinct pairs, and the numbers of rows and columns."""
        order = np.argsort(rows, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
        return cls(first, columns[order], shape[1])

    @property
    def rows(self) -> int:
        return len(self.first) - 1


def maximum_matching(candidates: Candidates, start: Indices | None = None) -> Indices:
    """The largest one-to-one matching among candidate pairs.

    From all free rows at once, trees of alternating paths grow until they meet free columns; each that meets one is
    turned round, which gives its row a column, and so on until none meets any. (scipy's maximum_bipartite_matching
    does not come back from 10,000 points with ten candidates each.)

    Args:
        candidates: the pairs that may be matched.
        start: ``(rows,)`` a matching among these pairs to begin with, such as that of fewer pairs.

    Returns:
        ``(rows,)`` int64 the column of each row, -1 where it is unmatched.
    """
    partner = np.full(candidates.rows, -1) if start is None else start.copy()
    owner = np.full(candidates.columns, -1)
    owner[partner[partner >= 0]] = np.flatnonzero(partner >= 0)
    while True:
        parent, column = _alternating_trees(candidates, partner, owner)
        if not len(column):
            return partner
        while len(column):  # all the trees' paths, a step at a time
            row = parent[column]
            before = partner[row]
            partner[row], owner[column] = column, row
            column = before[before >= 0]


def _alternating_trees(candidates: Candidates, partner: Indices, owner: Indices) -> tuple[Indices, Indices]:
    """The row by which each column was reached from the free rows, and one free column of each tree that met any."""
    first, size = candidates.first, np.diff(candidates.first)
    parent, root, met = np.full(len(owner), -1), np.full(len(partner), -1), np.zeros(len(partner), bool)
    front = np.flatnonzero((partner < 0) & (size > 0))
    root[front] = front
    free_ends = [np.zeros(0, np.int64)]
    while len(front):
        column = candidates.column[spans(first[front], size[front])]
        row = np.repeat(front, size[front])
        new = parent[column] < 0
        column, row = column[new], row[new]
        parent[column] = row
        column = column[parent[column] == row]  # of several rows one has it: trees stay apart
        free = column[owner[column] < 0]
        trees, one = np.unique(root[parent[free]], return_index=True)
        free_ends.append(free[one])
        met[trees] = True
        column = column[owner[column] >= 0]
        front = owner[column]
        root[front] = root[parent[column]]
        front = front[~met[root[front]]]
    return parent, np.concatenate(free_ends)


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
