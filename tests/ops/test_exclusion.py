"""Exclusive label maps against all pairs of pixels and points."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crowdseg import ops
from crowdseg.ops import circles, exclusion_labels

SIZE = (12, 17)
coordinates = st.one_of(st.floats(-6, 24), st.integers(-6, 24).map(float))
circle = st.tuples(coordinates, coordinates, st.one_of(st.floats(0, 12), st.sampled_from([0.0, 3.0, 5.0, math.inf])))
crowds = st.lists(circle, max_size=12).map(lambda rows: torch.tensor(rows, dtype=torch.float64).view(-1, 3))


def squared_distances(points, size):
    """``(H, W, N)``."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2


def dense_labels(points, radii, size):
    distance = squared_distances(points, size)
    distance = torch.where(distance <= radii**2 * (1 + 1e-6), distance, math.inf)
    if len(points) == 0:
        return torch.zeros(size, dtype=torch.int32)
    least, owner = distance.min(-1)
    # min() does not promise which of several equal values it names
    owner = (distance == least[..., None]).to(torch.int8).argmax(-1)
    return torch.where(least.isfinite(), owner + 1, 0).to(torch.int32)


@given(crowds)
def test_each_pixel_belongs_to_the_nearest_circle_that_holds_it(crowd):
    labels = exclusion_labels(crowd[:, :2], crowd[:, 2], SIZE)
    assert torch.equal(labels[0], dense_labels(crowd[:, :2], crowd[:, 2], SIZE))


@given(crowds.filter(len), st.integers(1, 40))
def test_chunks_do_not_show(crowd, chunk):
    whole = exclusion_labels(crowd[:, :2], crowd[:, 2], SIZE)
    kept, circles.CHUNK = circles.CHUNK, chunk
    try:
        assert torch.equal(exclusion_labels(crowd[:, :2], crowd[:, 2], SIZE), whole)
    finally:
        circles.CHUNK = kept


def test_the_neighbour_on_the_rim_is_inside_in_every_precision():
    rng = torch.Generator().manual_seed(1)
    for _ in range(200):
        points = torch.randint(0, 40, (2, 2), generator=rng)
        if torch.equal(points[0], points[1]):
            continue
        for dtype in (torch.float32, torch.float64):
            place = points.to(dtype)
            radius = ops.nearest_neighbor_radii(place, min_radius=0)[:1]
            labels = exclusion_labels(place[:1], radius, (40, 40))
            assert labels[0, points[1, 1], points[1, 0]] == 1


def test_a_farther_point_with_a_larger_circle_owns_what_the_nearer_does_not_reach():
    labels = exclusion_labels(torch.tensor([[0.0, 0.0], [10.0, 0.0]]), torch.tensor([2.0, 9.0]), (1, 11))
    assert labels[0, 0].tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]


def test_one_pixel_and_points_outside():
    points = torch.tensor([[-1.0, 0.0], [0.0, 3.0]])
    assert exclusion_labels(points, torch.tensor([1.0, 2.9]), (1, 1)).tolist() == [[[1]]]
    assert exclusion_labels(points, torch.tensor([0.9, 2.9]), (1, 1)).tolist() == [[[0]]]


def test_labels_count_within_the_image():
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    labels = exclusion_labels(points, torch.zeros(3), (1, 4), torch.tensor([1, 0, 1]), batch_size=3)
    assert labels[:, 0].tolist() == [[0, 0, 0, 1], [1, 0, 0, 2], [0, 0, 0, 0]]


@pytest.mark.usefixtures("large")
def test_a_hundred_thousand_points():
    points = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(0)) * 1000
    labels = exclusion_labels(points, ops.nearest_neighbor_radii(points), (1000, 1000))
    row, column = points[:, 1].round().long().clamp(max=999), points[:, 0].round().long().clamp(max=999)
    assert labels[0, row, column].all()  # the pixel under a point is in its circle, whoever owns it
    owner = labels[0].flatten()[::9973].long() - 1
    pixel = torch.stack([torch.arange(0, 10**6, 9973) % 1000, torch.arange(0, 10**6, 9973) // 1000], 1)
    nearest = (pixel[:, None] - points[None].double()).square().sum(-1).amin(1)
    own = (pixel - points[owner].double()).square().sum(-1)
    assert (own >= nearest).all() and (own[owner >= 0] == nearest[owner >= 0]).double().mean() > 0.7
