"""Pull/push loss: pixels of a person's mask near the person's feature, the rest of the circle away from it."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from crowdseg import _native
from crowdseg.ops.batching import Grouped, group_by_image, nearest_pixel
from crowdseg.ops.checks import check_blur, check_clamp, check_float_map, check_map, check_points, check_size, require
from crowdseg.ops.circles import circle_pixels, pick
from crowdseg.ops.feature_map import Blur, CenterFeatures, Tile, blur_taps, tiles
from crowdseg.ops.precision import compute_dtype, exact, full_precision
from crowdseg.ops.radii import grouped_radii, nearest_neighbor_radii_torch

# Two ways of computing the same F differ by some eps; below that, F - c has no direction.
ROUNDING = 16


def pull_push_loss(
    embedding: Tensor,
    points: Tensor,
    labels: Tensor,
    batch_index: Tensor | None = None,
    *,
    valid: Tensor | None = None,
    threshold: float = 0.6,
    margin: float = 0.1,
    kernel_size: int = 7,
    sigma: float = 1.5,
    min_radius: float = 3.0,
    max_radius_factor: float = 0.5,
) -> Tensor:
    """Discriminative loss of the embedding inside the exclusion circles (xmask section 4).

    With F the smoothed embedding and ``c_n`` its value at the point's pixel, pixels of the circle that share the
    point's label are pulled (``max(0, |F - c_n| - (threshold - margin))``, mean over them) and all others pushed
    (``max(0, threshold + 4 margin - |F - c_n|)``, mean over them). Points on background or on invalid pixels, and
    points without a pixel to pull, are left out; they still shape the circles. The loss is the mean over an image's
    kept points (0 without any), averaged over the B images.

    Args:
        embedding: ``(B, D, h, w)`` floats; bfloat16 and float16 are summed in float32.
        points: ``(N, 2)`` floats as (x, y), pixels of the full image; those outside take the nearest pixel's label.
        labels: ``(B, H, W)`` integers of 32 bits, 0 background; an instance's label is any positive number.
        batch_index: ``(N,)`` the image of each point; None for one image.
        valid: ``(B, H, W)`` bool, False where a pixel says nothing; None for all True.
        threshold, margin: tau and m, in units of the embedding.
        kernel_size, sigma: the blur, as in :func:`smoothed_center_features`.
        min_radius, max_radius_factor: circles are clamped to ``[min_radius, max_radius_factor * min(H, W)]``.

    Returns:
        A scalar, float64 for a float64 embedding, else float32. Differentiable once in ``embedding``; the gradient of
        ``|F - c|`` at ``F = c`` is 0.

    Raises:
        UsageError: wrong shapes or types, coordinates that are not finite, an image index outside the batch.
    """
    batch_index = check_points(points, batch_index)
    check_float_map("embedding", embedding, "B, D, h, w", points)
    check_map("labels", labels, "B, H, W", points)
    require(not labels.is_floating_point(), f"labels must be integers, got {labels.dtype}")
    check_size((labels.shape[1], labels.shape[2]))
    require(len(labels) == len(embedding), f"labels holds {len(labels)} images, embedding {len(embedding)}")
    if valid is None:
        valid = torch.ones_like(labels, dtype=torch.bool)
    require(valid.shape == labels.shape, f"valid must have the labels' shape, got {tuple(valid.shape)}")
    require(valid.dtype == torch.bool, f"valid must be bool, got {valid.dtype}")
    check_blur(kernel_size, sigma)
    max_radius = max_radius_factor * min(labels.shape[1:])
    check_clamp(min_radius, max_radius)
    need_grad = embedding.requires_grad and torch.is_grad_enabled()
    tensors = (embedding, points.detach(), labels, valid, batch_index)
    return _op(*tensors, threshold, margin, kernel_size, sigma, min_radius, max_radius, need_grad)[0]


@full_precision
def pull_push_loss_torch(
    embedding: Tensor,
    points: Tensor,
    labels: Tensor,
    valid: Tensor,
    batch_index: Tensor,
    threshold: float,
    margin: float,
    kernel_size: int,
    sigma: float,
    min_radius: float,
    max_radius: float,
    need_grad: bool,
) -> tuple[Tensor, Tensor]:
    """Reference: the loss and, with ``need_grad``, its gradient in the embedding (else an empty tensor).

    Given the number of pixels of each term, the loss is a weighted sum over pairs of a point and a pixel, so the
    gradient is made in the same pass.
    """
    groups = group_by_image(points, batch_index, len(embedding))
    radii = nearest_neighbor_radii_torch(points, batch_index, min_radius, max_radius)
    wide = embedding.to(compute_dtype(embedding.dtype))
    size, blur = (labels.shape[1], labels.shape[2]), Blur(kernel_size, sigma)
    place = nearest_pixel(points, size)
    column, row = place.unbind(1)
    own_label = labels[batch_index, row, column]
    candidate = (own_label > 0) & valid[batch_index, row, column]

    reader = CenterFeatures(exact(place), batch_index, size, wide, blur)
    centers = reader.read(wide)
    image_tiles = list(tiles(size, wide, blur))
    loss = wide.new_zeros(())
    grad, center_grad = wide.new_zeros(wide.shape), torch.zeros_like(centers)
    hinge = _Hinge(*_Hinge.bounds(threshold, margin), need_grad)
    for image, group in enumerate(groups):
        own = group[candidate[group]]
        if len(own) == 0:
            continue
        circles = _Circles(points[own], radii[own], own_label[own], labels[image], valid[image])
        weights = circles.weights().to(wide.dtype) / len(embedding)
        for tile in image_tiles:
            part, tile_grad, own_grad = _tile_loss(
                tile.features(wide[image]), centers[own], circles, weights, tile, hinge
            )
            loss += part
            if need_grad:
                tile.spread(tile_grad, grad[image])
                center_grad[own] += own_grad
    if not need_grad:
        return loss, embedding.new_empty(0)
    return loss, (grad + reader.spread(center_grad)).to(embedding.dtype)


def pull_push_loss_native(
    embedding: Tensor,
    points: Tensor,
    labels: Tensor,
    valid: Tensor,
    batch_index: Tensor,
    threshold: float,
    margin: float,
    kernel_size: int,
    sigma: float,
    min_radius: float,
    max_radius: float,
    need_grad: bool,
) -> tuple[Tensor, Tensor]:
    """The kernel: tile by tile, with nothing of the image's size but labels and the embedding's gradient."""
    grouped = Grouped.of(points, batch_index, len(embedding))
    wide = embedding.to(compute_dtype(embedding.dtype))
    loss, grad = wide.new_empty(1), wide.new_empty(wide.shape if need_grad else (0, 0, 0, 0))
    _native.run(
        "pull_push",
        points.device,
        grouped,
        grouped_radii(grouped, min_radius, max_radius),
        wide,
        _narrow(labels).contiguous(),
        valid.contiguous(),
        blur_taps(kernel_size, sigma, points.device),
        *_Hinge.bounds(threshold, margin),
        ROUNDING * torch.finfo(wide.dtype).eps,
        loss,
        grad,
    )
    return loss[0], grad.to(embedding.dtype) if need_grad else embedding.new_empty(0)


def _narrow(labels: Tensor) -> Tensor:
    """As int32, which is what the kernel compares."""
    if labels.dtype == torch.int64:
        low, high = torch.aminmax(labels)
        require(bool(max(-low, high) < 2**31), "labels must fit in 32 bits; number the instances anew")
    return labels.to(torch.int32)


class _Circles(NamedTuple):
    """The candidates of one image and the maps that say which pixel pulls and which pushes."""

    points: Tensor  # (n, 2)
    radii: Tensor  # (n,)
    own_label: Tensor  # (n,)
    labels: Tensor  # (H, W)
    valid: Tensor  # (H, W) bool

    def pairs(self, window: tuple[int, int, int, int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Per chunk, each ``(P,)``: circle; place in the window, row by row; term: 0 pull, 1 push, 2 none."""
        y0, y1, x0, x1 = window
        labels, valid = (plane[y0:y1, x0:x1].flatten() for plane in (self.labels, self.valid))
        for circle, y, x, _ in circle_pixels(self.points, self.radii, window):
            place = (y - y0) * (x1 - x0) + x - x0
            push = (pick(labels, place) != pick(self.own_label, circle)).to(torch.int64)
            yield circle, place, torch.where(pick(valid, place), push, 2)

    def weights(self) -> Tensor:
        """Weight of one pixel of each term in the image's loss, ``(n, 3)``, last column 0."""
        count = torch.zeros(3 * len(self.points), dtype=torch.int64, device=self.points.device)
        for circle, _, term in self.pairs((0, self.labels.shape[0], 0, self.labels.shape[1])):
            count += torch.bincount(3 * circle + term, minlength=len(count))
        count = count.view(-1, 3)
        kept = count[:, :1] > 0
        weight = torch.where(kept & (count > 0), 1 / (exact(count) * kept.sum()), 0)
        weight[:, 2] = 0
        return weight


class _Hinge(NamedTuple):
    """Where pulling ends and where pushing ends, as distances of features; and whether gradients are wanted."""

    near: float
    far: float
    need_grad: bool

    @staticmethod
    def bounds(threshold: float, margin: float) -> tuple[float, float]:
        """``near`` and ``far``."""
        return threshold - margin, threshold + 4 * margin


def _tile_loss(
    features: Tensor, centers: Tensor, circles: _Circles, weights: Tensor, tile: Tile, hinge: _Hinge
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of one tile of one image, and its gradients in the tile's ``features`` (P, D) and ``centers`` (n, D)."""
    loss, features_grad, centers_grad = features.new_zeros(()), torch.zeros_like(features), torch.zeros_like(centers)
    # Sign and offset of the hinge max(0, sign * distance + offset) of each term.
    sign = features.new_tensor([1.0, -1.0, 0.0])
    offset = features.new_tensor([-hinge.near, hinge.far, 0.0])
    rounding = ROUNDING * torch.finfo(features.dtype).eps
    for circle, place, term in circles.pairs(tile.window):
        difference = pick(features, place) - pick(centers, circle)
        distance = difference.square().sum(1).sqrt_()
        weight, side = pick(weights.view(-1), 3 * circle + term), pick(sign, term)
        slack = (side * distance + pick(offset, term)).clamp_(min=0)
        loss += torch.dot(weight, slack)
        if hinge.need_grad:
            active = (slack > 0) & (distance > rounding)
            difference *= torch.where(active, weight * side / distance, 0)[:, None]
            features_grad.index_add_(0, place, difference)
            centers_grad.index_add_(0, circle, difference, alpha=-1)
    return loss, features_grad, centers_grad


_op = torch.library.custom_op("crowdseg::pull_push_loss", pull_push_loss_torch, mutates_args=())


@_op.register_fake
def _(embedding, points, labels, valid, batch_index, *settings):
    loss = embedding.new_empty((), dtype=compute_dtype(embedding.dtype))
    return loss, embedding.new_empty(embedding.shape if settings[-1] else 0)


def _save(ctx, inputs, output):
    ctx.save_for_backward(output[1])


def _backward(ctx, loss_grad, _):
    (grad,) = ctx.saved_tensors
    return (grad * loss_grad).to(grad.dtype), *[None] * 11


_op.register_autograd(_backward, setup_context=_save)

_native.attach(_op, pull_push_loss_torch, pull_push_loss_native)
