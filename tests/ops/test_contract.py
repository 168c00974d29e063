"""What all operators share: registration, batching, layouts, compilation, refusals."""

import pytest
import torch
from torch.library import opcheck

from crowdseg import ops
from crowdseg.errors import UsageError

CALLS = {
    "nearest_neighbor_radii": lambda s: ops.nearest_neighbor_radii(s.points, s.batch_index),
    "exclusion_labels": lambda s: ops.exclusion_labels(s.points, s.radii, s.size, s.batch_index, len(s.labels)),
    "smoothed_center_features": lambda s: ops.smoothed_center_features(s.embedding, s.points, s.size, s.batch_index),
    "pull_push_loss": lambda s: ops.pull_push_loss(s.embedding, s.points, s.labels, s.batch_index, valid=s.valid),
    "energy_labels": lambda s: ops.energy_labels(s.embedding, s.points, s.radii, s.size, s.batch_index),
    "p2r_targets": lambda s: torch.stack([t.double() for t in ops.p2r_targets(s.logits, s.points, 4, s.batch_index)]),
}
every_op = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


def select(scene, image):
    """One image of a scene, as a batch of one."""
    own = scene.batch_index == image
    for name in ("points", "radii"):
        setattr(scene, name, getattr(scene, name)[own])
    scene.batch_index = torch.zeros(int(own.sum()), dtype=torch.int64)
    for name in ("embedding", "labels", "valid", "logits"):
        setattr(scene, name, getattr(scene, name)[image : image + 1])
    return scene


@pytest.mark.parametrize("counts", [(4, 0, 5), (0,)])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_opcheck(scenes, counts, needs_grad):
    s = scenes(counts=counts, cells=(3, 4), depth=2)
    s.embedding = s.embedding.to(memory_format=torch.channels_last)
    s.logits = s.logits.transpose(1, 2).contiguous().transpose(1, 2)
    embedding = s.embedding.requires_grad_(needs_grad)
    registered = torch.ops.crowdseg
    opcheck(registered.nearest_neighbor_radii, (s.points, s.batch_index, 3.0, 9.0))
    opcheck(registered.exclusion_labels, (s.points, s.radii, s.batch_index, *s.size, len(counts)))
    features = (embedding, s.points, s.batch_index, *s.size, 7, 1.5)
    opcheck(registered.smoothed_center_features, features)
    opcheck(
        registered.smoothed_center_features_backward,
        (torch.ones(len(s.points), 2, dtype=torch.float64), s.embedding.detach(), *features[1:]),
    )
    pull = (embedding, s.points, s.labels, s.valid, s.batch_index, 0.6, 0.1, 7, 1.5, 3.0, 6.0, needs_grad)
    opcheck(registered.pull_push_loss, pull)
    claim = torch.zeros(len(s.points), dtype=torch.bool)
    opcheck(
        registered.energy_labels,
        (s.embedding.detach(), s.points, s.radii, s.batch_index, claim, *s.size, 0.6, 0.8, 7, 1.5),
    )
    opcheck(registered.p2r_targets, (s.logits, s.points, s.batch_index, 4, 8.0, 96.0, 8.0, 1.0))


@pytest.mark.parametrize("name", ["exclusion_labels", "energy_labels", "p2r_targets", "pull_push_loss"])
def test_a_batch_is_its_images_one_by_one(scenes, name):
    whole = CALLS[name](scenes())
    parts = [CALLS[name](select(scenes(), image)) for image in range(4)]
    if name == "pull_push_loss":
        torch.testing.assert_close(whole, torch.stack(parts).mean())
    else:
        assert torch.equal(whole, torch.cat(parts, dim=whole.ndim - 3))


@every_op
def test_layout_does_not_matter(scenes, call):
    expected, scene = call(scenes()), scenes()
    scene.points = scene.points.T.contiguous().T
    scene.radii = torch.stack([scene.radii, scene.radii], 1)[:, 0]
    scene.batch_index = torch.stack([scene.batch_index, scene.batch_index], 1)[:, 0]
    for name in ("embedding", "labels", "valid", "logits"):
        value = getattr(scene, name)
        setattr(scene, name, value.transpose(-1, -2).contiguous().transpose(-1, -2))
    assert not scene.points.is_contiguous() and not scene.embedding.is_contiguous()
    torch.testing.assert_close(call(scene), expected, rtol=1e-12, atol=1e-12)


@every_op
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_cpu(scenes, call):
    expected, scene = call(scenes()), scenes()
    for name, value in vars(scene).items():
        if isinstance(value, torch.Tensor):
            setattr(scene, name, value.cuda())
    result = call(scene)
    assert result.is_cuda
    torch.testing.assert_close(result.cpu(), expected)


@every_op
def test_compiles_without_a_graph_break(scene, call):
    expected = call(scene)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(call, backend="aot_eager", fullgraph=True)(scene), expected)


def test_compiled_gradient(scene):
    def loss(embedding):
        pull_push = ops.pull_push_loss(embedding, scene.points, scene.labels, scene.batch_index)
        return pull_push + ops.smoothed_center_features(embedding, scene.points, scene.size, scene.batch_index).sum()

    torch._dynamo.reset()
    embedding = scene.embedding.requires_grad_()
    (expected,) = torch.autograd.grad(loss(embedding), embedding)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(embedding), embedding)[0], expected)


@every_op
def test_nobody(scenes, call):
    result = call(scenes(counts=(0, 0)))
    assert not result.any()


@every_op
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_points_that_are_nowhere(scene, call, value):
    scene.points[3, 1] = value
    with pytest.raises(UsageError, match="NaN or infinite"):
        call(scene)


@every_op
@pytest.mark.parametrize("image", [-1, 4])
def test_refuses_images_outside_the_batch(scene, call, image, request):
    if image == 4 and "nearest_neighbor_radii" in request.node.name:
        pytest.skip("radii know no batch size")
    scene.batch_index[0] = image
    with pytest.raises(UsageError, match="batch_index must be in"):
        call(scene)


@every_op
@pytest.mark.parametrize("change", [lambda p: p[:, :1], lambda p: p.long(), lambda p: p[None]])
def test_refuses_points_of_another_shape_or_type(scene, call, change):
    scene.points = change(scene.points)
    with pytest.raises(UsageError, match=r"points must be floats of shape \(N, 2\)"):
        call(scene)


@every_op
def test_refuses_a_batch_index_of_another_length(scene, call):
    scene.batch_index = scene.batch_index[1:]
    with pytest.raises(UsageError, match="batch_index must have one value per point"):
        call(scene)


@pytest.mark.parametrize(
    "message, call",
    [
        ("radii must have one", lambda s: ops.exclusion_labels(s.points, s.radii[1:], s.size, s.batch_index, 4)),
        ("radii holds neg", lambda s: ops.exclusion_labels(s.points, -s.radii, s.size, s.batch_index, 4)),
        ("radii holds neg", lambda s: ops.energy_labels(s.embedding, s.points, s.radii / 0 * 0, s.size, s.batch_index)),
        ("size must be", lambda s: ops.exclusion_labels(s.points, s.radii, (0, 4), s.batch_index, 4)),
        ("2\\^31 pixels", lambda s: ops.exclusion_labels(s.points, s.radii, (1 << 16, 1 << 15), s.batch_index, 4)),
        ("2\\^31 pixels", lambda s: ops.energy_labels(s.embedding, s.points, s.radii, (1 << 16, 1 << 15))),
        ("must not be negative", lambda s: ops.exclusion_labels(s.points, s.radii, s.size, s.batch_index, -1)),
        ("must not be negative", lambda s: ops.nearest_neighbor_radii(s.points, min_radius=-1)),
        ("embedding must have", lambda s: ops.smoothed_center_features(s.embedding[0], s.points, s.size)),
        ("embedding must be floats", lambda s: ops.smoothed_center_features(s.embedding.long(), s.points, s.size)),
        ("odd and positive", lambda s: ops.smoothed_center_features(s.embedding, s.points, s.size, kernel_size=6)),
        ("sigma must be", lambda s: ops.smoothed_center_features(s.embedding, s.points, s.size, sigma=0)),
        ("labels must be integers", lambda s: ops.pull_push_loss(s.embedding, s.points, s.labels.double())),
        ("labels holds 1", lambda s: ops.pull_push_loss(s.embedding, s.points, s.labels[:1])),
        ("valid must be bool", lambda s: ops.pull_push_loss(s.embedding, s.points, s.labels, valid=s.labels)),
        (
            "claim_circle must be bool",
            lambda s: ops.energy_labels(s.embedding, s.points, s.radii, s.size, claim_circle=s.radii),
        ),
        ("stride must be", lambda s: ops.p2r_targets(s.logits, s.points, 0)),
        ("is on meta", lambda s: ops.p2r_targets(s.logits.to("meta"), s.points, 4)),
    ],
)
def test_refuses_in_a_sentence(scene, message, call):
    with pytest.raises(UsageError, match=message):
        call(scene)
