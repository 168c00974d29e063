"""Centre features against the full map, made by its definition."""

import pytest
import torch

from crowdseg.ops import feature_map as bands
from crowdseg.ops import smoothed_center_features


def read(full, points, batch_index, size):
    """``(B, D, H, W)`` read bilinearly at points clamped into the image."""
    limit = torch.tensor([size[1] - 1, size[0] - 1], dtype=points.dtype)
    place = torch.minimum(points.clamp(min=0), limit)
    low = place.floor().long()
    high = torch.minimum(low + 1, limit.long())
    fx, fy = (place - low).unsqueeze(-1).unbind(1)
    b = batch_index
    top = full[b, :, low[:, 1], low[:, 0]] * (1 - fx) + full[b, :, low[:, 1], high[:, 0]] * fx
    bottom = full[b, :, high[:, 1], low[:, 0]] * (1 - fx) + full[b, :, high[:, 1], high[:, 0]] * fx
    return top * (1 - fy) + bottom * fy


@pytest.mark.parametrize("kernel_size, sigma", [(7, 1.5), (7, 3.0), (1, 1.0), (13, 2.0)])
@pytest.mark.parametrize(
    "cells, size",
    [((7, 9), (28, 36)), ((7, 9), (14, 18)), ((5, 6), (5, 6)), ((1, 1), (1, 1)), ((1, 3), (8, 5)), ((9, 4), (100, 61))],
)
def test_equals_the_full_map(feature_map, cells, size, kernel_size, sigma):
    rng = torch.Generator().manual_seed(3)
    embedding = torch.rand(2, 5, *cells, generator=rng, dtype=torch.float64)
    points = torch.rand(40, 2, generator=rng, dtype=torch.float64) * torch.tensor([size[1] + 3, size[0] + 3]) - 2
    points[::3] = points[::3].round()
    batch_index = torch.randint(2, (40,), generator=rng)
    features = smoothed_center_features(embedding, points, size, batch_index, kernel_size=kernel_size, sigma=sigma)
    full = feature_map(embedding, size, kernel_size, sigma)
    torch.testing.assert_close(features, read(full, points, batch_index, size))


@pytest.mark.parametrize("tile", [5, 16, 256])
def test_tiles_make_the_full_map(feature_map, tile, monkeypatch):
    monkeypatch.setattr(bands, "TILE", tile)
    size, blur = (28, 37), bands.Blur(7, 1.5)
    embedding = torch.rand(3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    expected = feature_map(embedding[None], size, *blur)[0]
    weight = torch.rand_like(expected)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), embedding)
    full, grad = torch.zeros_like(expected), torch.zeros_like(embedding)
    for piece in bands.tiles(size, embedding, blur):
        y0, y1, x0, x1 = piece.window
        features = piece.features(embedding.detach())
        full[:, y0:y1, x0:x1] = features.T.view(3, y1 - y0, x1 - x0)
        piece.spread(weight[:, y0:y1, x0:x1].flatten(1).T, grad)
    torch.testing.assert_close(full, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_gradcheck(scene):
    embedding = scene.embedding.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda e: smoothed_center_features(e, scene.points, scene.size, scene.batch_index), embedding
    )


def test_points_in_parts(scene, monkeypatch):
    inputs = (scene.embedding.requires_grad_(), scene.points, scene.size, scene.batch_index)
    whole = smoothed_center_features(*inputs)
    (grad,) = torch.autograd.grad(whole.square().sum(), inputs[0])
    monkeypatch.setattr(bands, "GATHER", 1)
    parts = smoothed_center_features(*inputs)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), inputs[0])[0], grad)


def test_bfloat16_is_summed_in_float32(scene):
    half = scene.embedding.to(torch.bfloat16)
    inputs = (scene.points.float(), scene.size, scene.batch_index)
    features = smoothed_center_features(half, *inputs)
    wide = smoothed_center_features(half.float(), *inputs)
    assert features.dtype == torch.bfloat16
    assert torch.equal(features, wide.to(torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(smoothed_center_features(half.float(), *inputs), wide)


def test_a_constant_stays_constant_except_at_the_border():
    ones = torch.ones(1, 2, 8, 8)
    features = smoothed_center_features(ones, torch.tensor([[15.0, 15.5], [0.0, 0.0]]), (32, 32))
    assert features[0].tolist() == pytest.approx([1, 1], abs=1e-6)
    assert features[1].max() < 0.5  # the zero padding of the blur takes its share
