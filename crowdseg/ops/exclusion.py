"""Exclusive label map: every pixel to the nearest of the points whose circles hold it."""

import torch
from torch import Tensor

from crowdseg import _native
from crowdseg.ops.batching import Grouped, group_by_image, index_within_image
from crowdseg.ops.checks import check_per_point, check_points, check_size, require
from crowdseg.ops.circles import Claims, check_radii, circle_pixels
from crowdseg.ops.precision import exact


def exclusion_labels(
    points: Tensor, radii: Tensor, size: tuple[int, int], batch_index: Tensor | None = None, batch_size: int = 1
) -> Tensor:
    """Give each pixel to the nearest point whose circle contains it (xmask section 2).

    A pixel q is inside a circle if ``|q - p|^2 <= r^2 (1 + 1e-6)``. Equally near points: the smaller index wins. A
    farther point with a larger circle may own a pixel that the nearest point's circle does not reach.

    Args:
        points: ``(N, 2)`` floats as (x, y), pixels; may lie outside the image.
        radii: ``(N,)`` pixels, not negative; infinity reaches the whole image.
        size: ``(H, W)``.
        batch_index: ``(N,)`` the image of each point; None for one image.
        batch_size: B, the number of images.

    Returns:
        ``(B, H, W)`` int32: 0 where no circle is, else 1 + the point's index within its image.

    Raises:
        UsageError: wrong shapes or types, infinite coordinates, negative radii, an image index outside the batch.
    """
    batch_index = check_points(points, batch_index)
    check_per_point("radii", radii, points)
    check_size(size)
    require(batch_size >= 0, f"batch_size must not be negative, got {batch_size}")
    return _op(points.detach(), radii.detach(), batch_index, size[0], size[1], batch_size)


def exclusion_labels_torch(
    points: Tensor, radii: Tensor, batch_index: Tensor, height: int, width: int, batch_size: int
) -> Tensor:
    """Reference: claims of all pixels inside circles; work follows the circles' areas."""
    rank = index_within_image(group_by_image(points, batch_index, batch_size), points)
    claims = Claims(batch_size * height * width, like=exact(points[:0]))
    for circle, y, x, distance2 in circle_pixels(points, radii, (0, height, 0, width)):
        claims.add((batch_index[circle] * height + y) * width + x, distance2, circle)
    # Nobody, owner -1, finds the table's last entry.
    label = torch.cat([rank + 1, rank.new_zeros(1)]).to(torch.int32)
    return label[claims.owner].view(batch_size, height, width)


def exclusion_labels_native(
    points: Tensor, radii: Tensor, batch_index: Tensor, height: int, width: int, batch_size: int
) -> Tensor:
    """The kernel: circles compete tile by tile."""
    grouped = Grouped.of(points, batch_index, batch_size)
    check_radii(radii)
    labels = points.new_empty((batch_size, height, width), dtype=torch.int32)
    _native.run("exclusion", points.device, grouped, grouped.sort(exact(radii)), labels)
    return labels


_op = torch.library.custom_op("crowdseg::exclusion_labels", exclusion_labels_torch, mutates_args=())


@_op.register_fake
def _(points, radii, batch_index, height, width, batch_size):
    return points.new_empty((batch_size, height, width), dtype=torch.int32)


_native.attach(_op, exclusion_labels_torch, exclusion_labels_native)
