"""Nearest-neighbour radii against all pairs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crowdseg.ops import nearest_neighbor_radii

coordinates = st.floats(-50, 500, width=32)
crowds = st.lists(st.tuples(coordinates, coordinates), max_size=30).map(
    lambda points: torch.tensor(points, dtype=torch.float64).view(-1, 2)
)


def all_pairs(points, low, high):
    distance = (points[:, None] - points[None]).square().sum(-1).sqrt()
    distance.fill_diagonal_(math.inf)
    return distance.amin(1).clamp(low, high) if len(points) else distance.new_empty(0)


@given(crowds, st.floats(0, 5), st.floats(5, 100))
def test_equals_all_pairs(points, low, high):
    radii = nearest_neighbor_radii(points, min_radius=low, max_radius=high)
    torch.testing.assert_close(radii, all_pairs(points, low, high))


@given(crowds.filter(len), st.randoms(use_true_random=False))
def test_order_of_points_does_not_matter(points, random):
    order = torch.tensor(random.sample(range(len(points)), len(points)))
    assert torch.equal(nearest_neighbor_radii(points)[order], nearest_neighbor_radii(points[order]))


def test_lone_and_coincident_points():
    assert nearest_neighbor_radii(torch.tensor([[3.0, 4.0]])).tolist() == [math.inf]
    assert nearest_neighbor_radii(torch.tensor([[3.0, 4.0]]), max_radius=9).tolist() == [9]
    assert nearest_neighbor_radii(torch.tensor([[3.0, 4.0]]), max_radius=2).tolist() == [2]  # below min_radius
    three = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    assert nearest_neighbor_radii(three, min_radius=0).tolist() == [0, 0, 0]


def test_images_do_not_see_each_other():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [0.0, 7.0]])
    radii = nearest_neighbor_radii(points, torch.tensor([0, 2, 0, 2]), min_radius=0)
    assert radii.tolist() == pytest.approx([10, math.sqrt(50), 10, math.sqrt(50)])


def test_a_hundred_thousand_coincident_and_scattered_points():
    points = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(0)) * 4000
    points[:50_000] = 7.0
    radii = nearest_neighbor_radii(points, min_radius=0)
    assert (radii[:50_000] == 0).all()
    some = torch.arange(50_000, 100_000, 4999)
    distance = (points[some, None].double() - points[None].double()).square().sum(-1).sqrt()
    distance[torch.arange(len(some)), some] = math.inf
    torch.testing.assert_close(radii[some].double(), distance.amin(1))
