"""What is particular to the CPU kernels: threads, forks, instruction sets, large inputs."""

import os
import subprocess
import sys

import pytest
import torch

from crowdseg import ops
from crowdseg.errors import UsageError


@pytest.fixture(autouse=True)
def native_only(backend):
    if backend != "native":
        pytest.skip("about the CPU kernels")


@pytest.fixture
def scene(scenes):
    return scenes(counts=(60, 0, 1, 90), cells=(30, 41), depth=16, dtype=torch.float32)


def everything(s):
    """Results of all operators, the gradients of two among them."""
    embedding = s.embedding.detach().requires_grad_()
    loss = ops.pull_push_loss(embedding, s.points, s.labels, s.batch_index, valid=s.valid)
    centers = ops.smoothed_center_features(embedding, s.points, s.size, s.batch_index)
    return [
        ops.nearest_neighbor_radii(s.points, s.batch_index),
        ops.exclusion_labels(s.points, s.radii, s.size, s.batch_index, len(s.labels)),
        ops.energy_labels(embedding, s.points, s.radii, s.size, s.batch_index),
        *ops.p2r_targets(s.logits, s.points, s.stride, s.batch_index),
        loss.detach(),
        centers.detach(),
        torch.autograd.grad(loss + centers.square().sum(), embedding)[0],
    ]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_number_of_threads_changes_no_bit(scene, threads, count):
    threads(1)
    expected = everything(scene)
    threads(count)
    for _ in range(3):
        for found, one_thread in zip(everything(scene), expected, strict=True):
            assert torch.equal(found, one_thread)


PROCESSES = """
import os, sys, torch
from crowdseg import ops
scene = torch.load(sys.argv[1], weights_only=False)

def loss(_=None):  # nothing in it goes through torch's own loops over many numbers, which hang in a fork
    tensors = [scene[name] for name in ("embedding", "points", "labels", "batch_index")]
    return ops.pull_push_loss(*tensors, valid=scene["valid"]).item()

torch.set_num_threads(2)
expected = loss()
if sys.argv[2] == "fork":
    child = os.fork()
    if child == 0:
        os._exit(0 if loss() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
else:
    loader = torch.utils.data.DataLoader(range(4), batch_size=None, num_workers=2, collate_fn=loss)
    assert list(loader) == [expected] * 4
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("how", ["fork", "workers"])
def test_processes_forked_after_threads_do_not_hang(scene, tmp_path, how):
    torch.save(vars(scene), tmp_path / "scene.pt")
    command = [sys.executable, "-c", PROCESSES, str(tmp_path / "scene.pt"), how]
    subprocess.run(command, env={**os.environ, "CROWDSEG_OPS": "native"}, check=True, timeout=100)


RUN = """
import sys, torch
from crowdseg import _native, ops
scene, path = torch.load(sys.argv[1], weights_only=False), sys.argv[2]
embedding = scene["embedding"].requires_grad_()
loss = ops.pull_push_loss(embedding, scene["points"], scene["labels"], scene["batch_index"])
labels = ops.exclusion_labels(scene["points"], scene["radii"], scene["size"], scene["batch_index"], 4)
torch.save([_native.KERNELS["cpu"].module.isa(), loss.detach(), torch.autograd.grad(loss, embedding)[0], labels], path)
"""


def test_every_instruction_set_agrees(scene, tmp_path):
    torch.save(vars(scene), tmp_path / "scene.pt")
    results = []
    for isa in ("base", "avx2", "avx512"):
        environment = {**os.environ, "CROWDSEG_ISA": isa, "CROWDSEG_OPS": "native"}
        command = [sys.executable, "-c", RUN, str(tmp_path / "scene.pt"), str(tmp_path / f"{isa}.pt")]
        subprocess.run(command, env=environment, check=True)
        results.append(torch.load(tmp_path / f"{isa}.pt"))
    base = results[0]
    assert base[0] == "base"
    for found in results[1:]:  # of the best set that this machine has, where it lacks the one asked for
        torch.testing.assert_close(found[1:3], base[1:3], rtol=1e-5, atol=1e-7)
        assert torch.equal(found[3], base[3])


def test_a_million_points():
    points = torch.rand(1_000_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4095
    radii = ops.nearest_neighbor_radii(points)
    labels = ops.exclusion_labels(points, radii, (4096, 4096))
    own = points[::1000].round().long()
    distance = (points[labels[0, own[:, 1], own[:, 0]].long() - 1] - own).norm(dim=1)
    assert (labels[0, own[:, 1], own[:, 0]] > 0).all()
    assert (distance <= (points[::1000] - own).norm(dim=1) + 1e-9).all()


def test_dense_spots_in_a_wide_image_do_not_cost_their_square():
    rng = torch.Generator().manual_seed(0)
    spots = torch.rand(4, 2, generator=rng, dtype=torch.float64) * 4000
    points = torch.cat([spot + torch.rand(50_000, 2, generator=rng, dtype=torch.float64) * 1e-3 for spot in spots])
    points = torch.cat([points, torch.rand(1000, 2, generator=rng, dtype=torch.float64) * 1e6])
    radii = ops.nearest_neighbor_radii(points, min_radius=0)
    with ops.use_backend("torch"):
        expected = ops.nearest_neighbor_radii(points, min_radius=0)
    torch.testing.assert_close(radii, expected)


def test_labels_beyond_32_bits_are_refused(scene):
    labels = scene.labels.long() * 2**33
    with pytest.raises(UsageError, match="labels must fit in 32 bits"):
        ops.pull_push_loss(scene.embedding, scene.points, labels, scene.batch_index)
