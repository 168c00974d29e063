"""Scenes and plain, dense references shared by the operators' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map

from crowdseg import _native, ops
from tests.emulator.build import compiler, emulated_module

# Times vary on shared machines; the backend is the same for all examples of a test.
settings.register_profile("ops", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("ops")


@pytest.fixture(params=["torch", "native", "emulated", "cuda"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What runs the operators on CPU tensors: torch, the CPU kernels, the CUDA kernels emulated or on a GPU."""
    name = request.param
    if name == "emulated":
        monkeypatch.setitem(_native.KERNELS, "cpu", request.getfixturevalue("emulated_kernels"))
    elif name == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")
        monkeypatch.setitem(_native.KERNELS, "cpu", OnTheGpu())
    if name != "torch" and _native.KERNELS["cpu"].missing:
        pytest.skip(f"no kernels here: {_native.KERNELS['cpu'].missing}")
    # Fills new tensors with NaN, so that whatever a kernel fails to write shows.
    torch.use_deterministic_algorithms(name == "emulated")
    with ops.use_backend("torch" if name == "torch" else "native"):
        yield name
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def large(backend: str) -> None:
    """For tests with too many points for the emulator."""
    if backend == "emulated":
        pytest.skip("minutes in the emulator")


@pytest.fixture(scope="session")
def emulated_kernels() -> _native.Kernels:
    if compiler() is None:
        pytest.skip("no C++ compiler for the emulator")
    return EmulatedKernels(emulated_module())


class EmulatedKernels(_native.Kernels):
    """The CUDA drivers over CPU tensors."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, lambda device: emulated_stream())
        self._loaded = module, module.problem()


def emulated_stream() -> Any:
    """As :class:`crowdseg._native.Stream`, with memory full of 0xff."""
    memory: list[Tensor] = []

    def allocate(size: int) -> int:
        memory.append(torch.full((size,), 0xFF, dtype=torch.uint8))
        return memory[-1].data_ptr()

    return SimpleNamespace(handle=0, index=0, allocate=allocate)


class OnTheGpu:
    """The CUDA drivers, given copies of CPU tensors; what they write is copied back."""

    missing = property(lambda self: _native.KERNELS["cuda"].missing)

    def run(self, name: str, device: torch.device, *args: Any) -> None:
        copies = tree_map(lambda value: value.cuda() if isinstance(value, Tensor) else value, args)
        _native.KERNELS["cuda"].run(name, torch.device("cuda", torch.cuda.current_device()), *copies)
        for value, copy in zip(tree_leaves(args), tree_leaves(copies), strict=True):
            if isinstance(value, Tensor) and not torch.equal(value, copy.cpu()):
                value.copy_(copy)


@dataclass
class Scene:
    """A random ragged batch; the points of its images are mixed up."""

    size: tuple[int, int]
    embedding: Tensor  # (B, D, h, w)
    points: Tensor  # (N, 2)
    batch_index: Tensor  # (N,)
    radii: Tensor  # (N,)
    labels: Tensor  # (B, H, W)
    valid: Tensor  # (B, H, W)
    logits: Tensor  # (B, h, w)
    stride: int


def make_scene(
    counts: tuple[int, ...] = (9, 0, 1, 14),
    cells: tuple[int, int] = (7, 9),
    stride: int = 4,
    depth: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Scene:
    rng = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, dtype=dtype)

    size = (cells[0] * stride, cells[1] * stride)
    batch = len(counts)
    batch_index = torch.repeat_interleave(torch.tensor(counts))
    batch_index = batch_index[torch.randperm(len(batch_index), generator=rng)]
    # From two pixels outside to two pixels outside, half of them on whole pixels.
    points = random(len(batch_index), 2) * torch.tensor([size[1] + 3, size[0] + 3]) - 2
    points[::2] = points[::2].round()
    radii = ops.nearest_neighbor_radii(points, batch_index, max_radius=min(size) / 2)
    blobs = ops.exclusion_labels(points, radii * 0.6, size, batch_index, batch)
    return Scene(
        size=size,
        embedding=2 * random(batch, depth, *cells) - 1,
        points=points,
        batch_index=batch_index,
        radii=radii,
        labels=blobs,
        valid=random(batch, *size) > 0.2,
        logits=4 * random(batch, *cells) - 2,
        stride=stride,
    )


@pytest.fixture
def scene() -> Scene:
    return make_scene()


@pytest.fixture
def scenes() -> Callable[..., Scene]:
    return make_scene


def dense_feature_map(embedding: Tensor, size: tuple[int, int], kernel_size: int, sigma: float) -> Tensor:
    """F by its definition: interpolate, then convolve with zero padding. ``(B, D, h, w)`` -> ``(B, D, H, W)``."""
    full = functional.interpolate(embedding, size, mode="bilinear", align_corners=False)
    offset = torch.arange(kernel_size, dtype=full.dtype) - kernel_size // 2
    taps = torch.exp(-(offset**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    depth = full.shape[1]
    for shape, padding in (((1, 1, -1, 1), (kernel_size // 2, 0)), ((1, 1, 1, -1), (0, kernel_size // 2))):
        full = functional.conv2d(full, taps.view(shape).repeat(depth, 1, 1, 1), padding=padding, groups=depth)
    return full


@pytest.fixture
def feature_map() -> Callable[..., Tensor]:
    return dense_feature_map
