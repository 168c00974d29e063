"""The pull/push loss and its gradient against a loop over points on the full map, differentiated by autograd."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crowdseg import ops
from crowdseg.ops import circles, pull_push_loss


def loop(full, scene, threshold=0.6, margin=0.1, min_radius=3.0, max_radius_factor=0.5):
    """The loss from F ``(B, D, H, W)``, point by point as the paper says it."""
    height, width = scene.size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    upper = max_radius_factor * min(scene.size)
    radii = ops.nearest_neighbor_radii(scene.points, scene.batch_index, min_radius=min_radius, max_radius=upper)
    total = full.new_zeros(())
    for image in range(len(full)):
        losses = []
        for point, radius in zip(
            scene.points[scene.batch_index == image], radii[scene.batch_index == image], strict=True
        ):
            column = int(point[0].round().clamp(0, width - 1))
            row = int(point[1].round().clamp(0, height - 1))
            label = scene.labels[image, row, column]
            if label == 0 or not scene.valid[image, row, column]:
                continue
            square = (full[image] - full[image, :, row, column][:, None, None]).square().sum(0)
            distance = torch.where(square > 0, square, 1).sqrt() * (square > 0)
            circle = (x - point[0]) ** 2 + (y - point[1]) ** 2 <= radius**2 * (1 + 1e-6)
            circle = circle & scene.valid[image]
            pull, push = circle & (scene.labels[image] == label), circle & (scene.labels[image] != label)
            if not pull.any():
                continue
            loss = (distance[pull] - (threshold - margin)).clamp(min=0).mean()
            if push.any():
                loss = loss + (threshold + 4 * margin - distance[push]).clamp(min=0).mean()
            losses.append(loss)
        if losses:
            total = total + torch.stack(losses).mean()
    return total / len(full)


def call(scene, embedding=None, **settings):
    embedding = scene.embedding if embedding is None else embedding
    return pull_push_loss(embedding, scene.points, scene.labels, scene.batch_index, valid=scene.valid, **settings)


@pytest.mark.parametrize("cells, stride", [((7, 9), 4), ((9, 6), 2), ((1, 1), 1), ((10, 12), 1), ((3, 4), 8)])
@pytest.mark.parametrize("tile, chunk", [(256, 1 << 18), (11, 50)])
def test_equals_the_loop(scenes, feature_map, cells, stride, tile, chunk, monkeypatch):
    monkeypatch.setattr("crowdseg.ops.feature_map.TILE", tile)
    monkeypatch.setattr(circles, "CHUNK", chunk)
    for seed in range(3):
        scene = scenes(cells=cells, stride=stride, seed=seed)
        embedding = scene.embedding.requires_grad_()
        expected = loop(feature_map(embedding, scene.size, 7, 1.5), scene)
        loss = call(scene)
        torch.testing.assert_close(loss, expected)
        if expected > 0:
            (grad,) = torch.autograd.grad(loss, embedding)
            (expected_grad,) = torch.autograd.grad(expected, embedding)
            torch.testing.assert_close(grad, expected_grad)


def test_settings_are_used(scene, feature_map):
    values = {"threshold": 0.8, "margin": 0.2, "min_radius": 5.0, "max_radius_factor": 0.25}
    full = feature_map(scene.embedding, scene.size, 5, 1.0)
    torch.testing.assert_close(call(scene, kernel_size=5, sigma=1.0, **values), loop(full, scene, **values))


def test_gradcheck(scenes):
    scene = scenes(counts=(6, 4), cells=(4, 5), depth=2)
    assert torch.autograd.gradcheck(lambda e: call(scene, e), scene.embedding.requires_grad_())


def test_float32_agrees_with_float64(scenes):
    scene = scenes(cells=(16, 16), counts=(40, 30), depth=16)
    wide, narrow = scene.embedding.requires_grad_(), scene.embedding.detach().float().requires_grad_()
    losses = call(scene, wide), call(scene, narrow)
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1].double(), losses[0], rtol=1e-5, atol=1e-6)
    grads = [torch.autograd.grad(loss, e)[0].double() for loss, e in zip(losses, (wide, narrow), strict=True)]
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-6)


def test_bfloat16_is_summed_in_float32(scene):
    half = scene.embedding.to(torch.bfloat16).requires_grad_()
    wide = half.detach().float().requires_grad_()
    loss, expected = call(scene, half), call(scene, wide)
    assert torch.equal(loss, expected)
    assert torch.equal(torch.autograd.grad(loss, half)[0], torch.autograd.grad(expected, wide)[0].to(torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(call(scene, wide), expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(random=st.randoms(use_true_random=False))
def test_order_of_points_and_names_of_labels_do_not_matter(scenes, random):
    scene = scenes()
    expected = call(scene)
    order = torch.tensor(random.sample(range(len(scene.points)), len(scene.points)))
    scene.points, scene.batch_index = scene.points[order], scene.batch_index[order]
    highest = int(scene.labels.max())
    scene.labels = torch.tensor([0, *random.sample(range(1, 99), highest)])[scene.labels.long()]
    torch.testing.assert_close(call(scene), expected)


def test_a_constant_embedding_has_no_direction(scene):
    embedding = torch.ones_like(scene.embedding, dtype=torch.float32).requires_grad_()
    scene.points = torch.tensor([[12.0, 12.0], [17.2, 15.4], [24.0, 18.0]])  # away from the border, where F fades
    scene.batch_index = torch.tensor([0, 3, 3])
    scene.labels[:, 10:20:2, 10:30] = 1
    scene.valid.fill_(True)
    loss = call(scene, embedding, max_radius_factor=0.1)
    assert loss > 0
    assert (torch.autograd.grad(loss, embedding)[0] == 0).all()


def test_images_without_kept_points_add_nothing(scene):
    scene.labels.zero_()
    embedding = scene.embedding.requires_grad_()
    loss = call(scene, embedding)
    assert loss == 0
    assert (torch.autograd.grad(loss, embedding)[0] == 0).all()
    empty = pull_push_loss(embedding, scene.points[:0], scene.labels, scene.batch_index[:0])
    assert empty == 0


def test_a_point_whose_circle_misses_its_mask_is_dropped(scene):
    scene.labels.fill_(1)
    expected = call(scene)
    far = torch.tensor([[-40.0, 5.0], [5.0, -40.0]], dtype=torch.float64)  # 40 px out, circles of at most 14 px
    scene.points = torch.cat([scene.points, far])
    scene.batch_index = torch.cat([scene.batch_index, torch.tensor([0, 3])])
    torch.testing.assert_close(call(scene), expected)


@pytest.mark.usefixtures("large")
def test_a_crowd_of_twelve_thousand_in_bounded_memory():
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(12_865, 2, generator=rng) * 1000
    labels = ops.exclusion_labels(points, torch.full((len(points),), 3.0), (1000, 1000))
    embedding = torch.randn(1, 4, 125, 125, generator=rng).requires_grad_()
    loss = pull_push_loss(embedding, points, labels)
    loss.backward()
    assert loss > 0 and embedding.grad.isfinite().all() and embedding.grad.abs().sum() > 0
