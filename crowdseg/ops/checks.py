"""What every operator asks of its arguments. Shapes and types are checked at the door; values, which a compiled graph
cannot look at, by the operators themselves (:mod:`crowdseg.ops.batching`)."""

import math

import torch
from torch import Tensor

from crowdseg.errors import UsageError


def require(condition: bool, message: str) -> None:
    """Refuse the call with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UsageError(message)


def check_points(points: Tensor, batch_index: Tensor | None) -> Tensor:
    """Points must be ``(N, 2)`` floats. Returns the batch index, ``(N,)`` int64; None stands for one image."""
    require(
        points.ndim == 2 and points.shape[1] == 2 and points.is_floating_point(),
        f"points must be floats of shape (N, 2) as (x, y), got {points.dtype} {tuple(points.shape)}",
    )
    if batch_index is None:
        return torch.zeros(len(points), dtype=torch.int64, device=points.device)
    check_per_point("batch_index", batch_index, points)
    require(not batch_index.is_floating_point(), f"batch_index must be integers, got {batch_index.dtype}")
    return batch_index.to(torch.int64)


def check_per_point(name: str, values: Tensor, points: Tensor) -> None:
    """``values`` must be ``(N,)`` beside ``points`` ``(N, 2)``, on the same device."""
    require(
        values.shape == (len(points),),
        f"{name} must have one value per point, shape ({len(points)},), got {tuple(values.shape)}",
    )
    check_device(name, values, points)


def check_device(name: str, tensor: Tensor, other: Tensor) -> None:
    """``tensor`` must be where ``other`` is."""
    require(
        tensor.device == other.device,
        f"{name} is on {tensor.device}, the other inputs on {other.device}; move it there",
    )


def check_map(name: str, tensor: Tensor, dims: str, points: Tensor) -> None:
    """``tensor`` must have the dimensions spelled in ``dims`` (as ``"B, h, w"``), none of them empty."""
    shape = tuple(tensor.shape)
    require(
        tensor.ndim == dims.count(",") + 1 and 0 not in shape,
        f"{name} must have the shape ({dims}) and no empty dimension, got {shape}",
    )
    check_device(name, tensor, points)


def check_float_map(name: str, tensor: Tensor, dims: str, points: Tensor) -> None:
    """As :func:`check_map`, for a map of floats."""
    check_map(name, tensor, dims, points)
    require(tensor.is_floating_point(), f"{name} must be floats, got {tensor.dtype}")


def check_size(size: tuple[int, int]) -> None:
    """An image size must be ``(H, W)``, both at least 1, of fewer than 2^31 pixels."""
    require(len(size) == 2 and min(size) >= 1, f"size must be (H, W), both at least 1, got {tuple(size)}")
    require(size[0] * size[1] < 2**31, f"size {tuple(size)} has 2^31 pixels or more; cut the image into parts")


def check_blur(kernel_size: int, sigma: float) -> None:
    """The blur must have an odd number of taps and a positive width."""
    require(kernel_size >= 1 and kernel_size % 2 == 1, f"kernel_size must be odd and positive, got {kernel_size}")
    require(0 < sigma < math.inf, f"sigma must be positive and finite, got {sigma}")


def check_clamp(min_radius: float, max_radius: float) -> None:
    """The limits of radii must not be negative. They may cross, as in tiny images: then the upper one holds."""
    require(
        min_radius >= 0 and max_radius >= 0,
        f"min_radius and max_radius must not be negative, got {min_radius} and {max_radius}",
    )
