"""P2R targets against all pairs of cells and points."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crowdseg.ops import p2r_targets

STRIDE = 4
coordinates = st.one_of(st.integers(-1, 40).map(float), st.floats(-1, 40), st.sampled_from([1.5, 3.5, 5.5, 7.5]))
crowds = st.lists(st.tuples(coordinates, coordinates), max_size=12).map(
    lambda points: torch.tensor(points, dtype=torch.float64).view(-1, 2)
)


def loop(logits, points, min_radius=8.0, max_radius=96.0, point_cost=8.0, class_cost=1.0):
    targets, owners = torch.zeros_like(logits), torch.zeros(logits.shape, dtype=torch.int32)
    own_cells = {}
    for row in range(logits.shape[0]):
        for column in range(logits.shape[1]):
            centre = torch.tensor([column, row]) * STRIDE + (STRIDE - 1) / 2
            square = ((points - centre) ** 2).sum(1).tolist()
            if square and min(square) < max_radius**2:
                owner = square.index(min(square))
                own_cells.setdefault(owner, []).append((math.sqrt(min(square)), row, column))
                owners[row, column] = owner + 1
    for cells in own_cells.values():
        region = min(max(max(cells)[0], min_radius), max_radius)
        costs = [point_cost * d / region - class_cost * float(logits[row, column]) for d, row, column in cells]
        _, row, column = cells[costs.index(min(costs))]
        targets[row, column] = 1
    return targets, owners


@given(crowds, st.integers(0, 3))
def test_equals_all_pairs(points, seed):
    logits = torch.randn(7, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    targets, owners = p2r_targets(logits[None], points, STRIDE)
    expected_targets, expected_owners = loop(logits, points)
    assert torch.equal(owners[0], expected_owners)
    assert torch.equal(targets[0], expected_targets)


@given(crowds)
def test_settings_are_used_and_equal_costs_take_the_first_cell(points):
    settings = {"min_radius": 3.0, "max_radius": 9.0, "point_cost": 2.0, "class_cost": 0.0}
    logits = torch.zeros(7, 9, dtype=torch.float64)
    targets, owners = p2r_targets(logits[None], points, STRIDE, **settings)
    expected_targets, expected_owners = loop(logits, points, **settings)
    assert torch.equal(owners[0], expected_owners)
    assert torch.equal(targets[0], expected_targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types(dtype):
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    points = torch.tensor([[3.0, 4.0], [17.0, 9.0]])
    targets, owners = p2r_targets(logits, points, STRIDE, torch.tensor([1, 0]))
    assert targets.dtype == dtype and owners.dtype == torch.int32
    assert targets.sum((1, 2)).tolist() == [1, 1]
    assert (owners == 1).all()


@pytest.mark.usefixtures("large")
def test_a_dense_crowd_and_one_place():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 256, 256, generator=rng)
    points = torch.rand(100_000, 2, generator=rng) * 1023
    targets, owners = p2r_targets(logits, points, STRIDE)
    assert (owners > 0).all()
    assert targets.sum() == len(owners.unique())
    everyone = points[:1].repeat(100_000, 1)
    targets, owners = p2r_targets(logits, everyone, STRIDE)
    assert targets.sum() == 1 and owners.unique().tolist() == [0, 1]
