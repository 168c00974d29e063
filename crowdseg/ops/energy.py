"""Energy masks: pixels to the point whose features and place they resemble most."""

from typing import NamedTuple

import torch
from torch import Tensor

from crowdseg import _native
from crowdseg.ops.batching import Grouped, group_by_image
from crowdseg.ops.checks import check_blur, check_float_map, check_per_point, check_points, check_size, require
from crowdseg.ops.circles import Claims, check_radii, circle_pixels, pick
from crowdseg.ops.feature_map import Blur, CenterFeatures, Tile, blur_taps, tiles
from crowdseg.ops.precision import compute_dtype, exact, full_precision


def energy_labels(
    embedding: Tensor,
    points: Tensor,
    radii: Tensor,
    size: tuple[int, int],
    batch_index: Tensor | None = None,
    *,
    geometry_weight: float = 0.6,
    energy_threshold: float = 0.8,
    claim_circle: Tensor | None = None,
    kernel_size: int = 7,
    sigma: float = 1.5,
) -> Tensor:
    """Label the pixels of each circle whose energy for the circle's point is low (xmask section 5).

    The energy of pixel q for point n is ``|F(q) - c_n| + geometry_weight (|q - p_n| / r_n)^2``, with F the smoothed
    embedding and ``c_n`` its value at ``p_n``. A pixel is given to the point of least energy among those whose circle
    holds it and whose energy is below the threshold; equal energies go to the smaller index. A point that claims its
    whole circle is excused from the threshold only: where circles compete, the least energy still decides.

    Args:
        embedding: ``(B, D, h, w)`` floats; bfloat16 and float16 are summed in float32.
        points: ``(N, 2)`` floats as (x, y), pixels of the full image.
        radii: ``(N,)`` pixels, not negative.
        size: ``(H, W)`` of the full image.
        batch_index: ``(N,)`` the image of each point; None for one image.
        claim_circle: ``(N,)`` bool, True for points that claim their whole circle; None for none.
        kernel_size, sigma: the blur, as in :func:`smoothed_center_features`.

    Returns:
        ``(B, H, W)`` int32: 0 background, else 1 + the point's index within its image. No gradient.

    Raises:
        UsageError: wrong shapes or types, infinite coordinates, negative radii, an image index outside the batch.
    """
    batch_index = check_points(points, batch_index)
    check_float_map("embedding", embedding, "B, D, h, w", points)
    check_per_point("radii", radii, points)
    check_size(size)
    check_blur(kernel_size, sigma)
    if claim_circle is None:
        claim_circle = torch.zeros_like(batch_index, dtype=torch.bool)
    check_per_point("claim_circle", claim_circle, points)
    require(claim_circle.dtype == torch.bool, f"claim_circle must be bool, got {claim_circle.dtype}")
    tensors = (embedding.detach(), points.detach(), radii.detach(), batch_index, claim_circle)
    return _op(*tensors, size[0], size[1], geometry_weight, energy_threshold, kernel_size, sigma)


@full_precision
def energy_labels_torch(
    embedding: Tensor,
    points: Tensor,
    radii: Tensor,
    batch_index: Tensor,
    claim_circle: Tensor,
    height: int,
    width: int,
    geometry_weight: float,
    energy_threshold: float,
    kernel_size: int,
    sigma: float,
) -> Tensor:
    """Reference: tile by tile, the circles' pixels compete by energy."""
    groups = group_by_image(points, batch_index, len(embedding))
    embedding = embedding.to(compute_dtype(embedding.dtype))
    blur = Blur(kernel_size, sigma)
    points, radii = exact(points), exact(radii)
    centers = CenterFeatures(points, batch_index, (height, width), embedding, blur).read(embedding)
    threshold = torch.where(claim_circle, torch.inf, energy_threshold).to(embedding.dtype)
    labels = torch.zeros(len(embedding), height, width, dtype=torch.int32, device=embedding.device)
    for tile in tiles((height, width), embedding, blur):
        y0, y1, x0, x1 = tile.window
        for image, own in enumerate(groups):
            if len(own):
                people = _People(points[own], radii[own], centers[own], threshold[own])
                labels[image, y0:y1, x0:x1] = _tile_labels(tile, embedding[image], people, geometry_weight)
    return labels


def energy_labels_native(
    embedding: Tensor,
    points: Tensor,
    radii: Tensor,
    batch_index: Tensor,
    claim_circle: Tensor,
    height: int,
    width: int,
    geometry_weight: float,
    energy_threshold: float,
    kernel_size: int,
    sigma: float,
) -> Tensor:
    """The kernel: circles compete tile by tile."""
    grouped = Grouped.of(points, batch_index, len(embedding))
    check_radii(radii)
    labels = points.new_empty((len(embedding), height, width), dtype=torch.int32)
    _native.run(
        "energy",
        points.device,
        grouped,
        grouped.sort(exact(radii)),
        embedding.to(compute_dtype(embedding.dtype)),
        grouped.sort(claim_circle),
        blur_taps(kernel_size, sigma, points.device),
        geometry_weight,
        energy_threshold,
        labels,
    )
    return labels


class _People(NamedTuple):
    """The points of one image."""

    points: Tensor  # (n, 2) float64
    radii: Tensor  # (n,) float64
    centers: Tensor  # (n, D)
    threshold: Tensor  # (n,) infinite where the whole circle is claimed


def _tile_labels(tile: Tile, embedding: Tensor, people: _People, geometry_weight: float) -> Tensor:
    """Labels of one tile of one image, from its embedding ``(D, h, w)``."""
    y0, y1, x0, x1 = tile.window
    features = tile.features(embedding)
    # Radius 0 holds only its own pixel, at distance 0; the floor keeps 0 / 0 out.
    shrink = geometry_weight / people.radii.square().clamp(min=torch.finfo(people.radii.dtype).tiny)
    claims = Claims(len(features), like=features[:0])
    for circle, y, x, distance2 in circle_pixels(people.points, people.radii, tile.window):
        place = (y - y0) * tile.width + x - x0
        energy = (pick(features, place) - pick(people.centers, circle)).square_().sum(1).sqrt_()
        energy += (distance2 * pick(shrink, circle)).to(energy.dtype)
        low = (energy < pick(people.threshold, circle)).nonzero().squeeze(1)
        claims.add(pick(place, low), pick(energy, low), pick(circle, low))
    return (claims.owner + 1).view(y1 - y0, x1 - x0)


_op = torch.library.custom_op("crowdseg::energy_labels", energy_labels_torch, mutates_args=())


@_op.register_fake
def _(embedding, points, radii, batch_index, claim_circle, height, width, *settings):
    return embedding.new_empty((len(embedding), height, width), dtype=torch.int32)


_native.attach(_op, energy_labels_torch, energy_labels_native)
