"""Features at the points: the smoothed embedding read where the heads are."""

import torch
from torch import Tensor

from crowdseg import _native
from crowdseg.ops.batching import Grouped, group_by_image
from crowdseg.ops.checks import check_blur, check_float_map, check_points, check_size
from crowdseg.ops.feature_map import Blur, CenterFeatures, blur_taps
from crowdseg.ops.precision import compute_dtype, exact, full_precision


def smoothed_center_features(
    embedding: Tensor,
    points: Tensor,
    size: tuple[int, int],
    batch_index: Tensor | None = None,
    *,
    kernel_size: int = 7,
    sigma: float = 1.5,
) -> Tensor:
    """Read the upsampled, blurred embedding bilinearly at each point (xmask section 3).

    The embedding is resized bilinearly to ``size`` (half-pixel centres, edge clamp), blurred with a separable Gaussian
    (zero padding) and read at the points. Only the cells around each point are touched.

    Args:
        embedding: ``(B, D, h, w)`` floats; bfloat16 and float16 are summed in float32.
        points: ``(N, 2)`` floats as (x, y), pixels of the full image; points outside read the nearest edge.
        size: ``(H, W)`` of the full image.
        batch_index: ``(N,)`` the image of each point; None for one image.
        kernel_size: taps of the blur, odd.
        sigma: its standard deviation, pixels.

    Returns:
        ``(N, D)`` in the type of ``embedding``; differentiable in ``embedding``, not in ``points``.

    Raises:
        UsageError: wrong shapes or types, coordinates that are not finite, an image index outside the batch.
    """
    batch_index = check_points(points, batch_index)
    check_float_map("embedding", embedding, "B, D, h, w", points)
    check_size(size)
    check_blur(kernel_size, sigma)
    return _op(embedding, points.detach(), batch_index, size[0], size[1], kernel_size, sigma)


@full_precision
def smoothed_center_features_torch(
    embedding: Tensor, points: Tensor, batch_index: Tensor, height: int, width: int, kernel_size: int, sigma: float
) -> Tensor:
    """Reference: weighted sums over a few cells along each axis."""
    group_by_image(points, batch_index, len(embedding))
    wide = embedding.to(compute_dtype(embedding.dtype))
    centers = CenterFeatures(exact(points), batch_index, (height, width), wide, Blur(kernel_size, sigma))
    return centers.read(wide).to(embedding.dtype)


@full_precision
def smoothed_center_features_backward_torch(
    grad: Tensor,
    embedding: Tensor,
    points: Tensor,
    batch_index: Tensor,
    height: int,
    width: int,
    kernel_size: int,
    sigma: float,
) -> Tensor:
    """The transpose of the forward: ``(N, D)`` -> ``(B, D, h, w)``. ``embedding`` gives shape and type only."""
    wide = grad.to(compute_dtype(grad.dtype))
    like = wide.new_empty(1).expand(embedding.shape)
    centers = CenterFeatures(exact(points), batch_index, (height, width), like, Blur(kernel_size, sigma))
    return centers.spread(wide).to(embedding.dtype)


def smoothed_center_features_native(
    embedding: Tensor, points: Tensor, batch_index: Tensor, height: int, width: int, kernel_size: int, sigma: float
) -> Tensor:
    """The kernel: each point reads its few cells."""
    grouped = Grouped.of(points, batch_index, len(embedding))
    wide = embedding.to(compute_dtype(embedding.dtype))
    features = wide.new_empty(len(points), embedding.shape[1])
    taps = blur_taps(kernel_size, sigma, points.device)
    _native.run("center_features", points.device, grouped, wide, height, width, taps, features)
    return grouped.restore(features).to(embedding.dtype)


def smoothed_center_features_backward_native(
    grad: Tensor,
    embedding: Tensor,
    points: Tensor,
    batch_index: Tensor,
    height: int,
    width: int,
    kernel_size: int,
    sigma: float,
) -> Tensor:
    """The transpose of :func:`smoothed_center_features_native`."""
    grouped = Grouped.of(points, batch_index, len(embedding))
    wide = grouped.sort(grad.to(compute_dtype(grad.dtype)))
    out = wide.new_empty(embedding.shape)
    taps = blur_taps(kernel_size, sigma, points.device)
    _native.run("center_features_backward", points.device, grouped, wide, height, width, taps, out)
    return out.to(embedding.dtype)


_op = torch.library.custom_op("crowdseg::smoothed_center_features", smoothed_center_features_torch, mutates_args=())
_backward_op = torch.library.custom_op(
    "crowdseg::smoothed_center_features_backward", smoothed_center_features_backward_torch, mutates_args=()
)


@_op.register_fake
def _(embedding, points, batch_index, height, width, kernel_size, sigma):
    return embedding.new_empty((len(points), embedding.shape[1]))


@_backward_op.register_fake
def _(grad, embedding, points, batch_index, height, width, kernel_size, sigma):
    return embedding.new_empty(embedding.shape)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = inputs[3:]


def _backward(ctx, grad):
    return _backward_op(grad, *ctx.saved_tensors, *ctx.settings), *[None] * 6


_op.register_autograd(_backward, setup_context=_save)

_native.attach(_op, smoothed_center_features_torch, smoothed_center_features_native)
_native.attach(_backward_op, smoothed_center_features_backward_torch, smoothed_center_features_backward_native)
