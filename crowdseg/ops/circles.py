"""The pixels inside circles, as lists: work follows the circles' areas, memory a fixed budget."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from crowdseg.ops.checks import require
from crowdseg.ops.precision import exact

# A neighbour's head lies exactly on the rim; the slack makes every precision count it as inside (paper section 2).
RIM_SLACK = 1e-6
# Pixels looked at in one go. Bounds every temporary; larger chunks are not faster on a CPU.
CHUNK = 1 << 18


def check_radii(radii: Tensor) -> None:
    """Radii ``(N,)`` must not be negative or NaN."""
    require(bool((radii >= 0).all()), "radii holds negative or NaN values; they must be pixels, 0 or more")


def pick(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]`` for an ``(M,)`` index; on a CPU eight times faster."""
    return table.index_select(0, index)


class Pixels(NamedTuple):
    """Pixels inside circles, one entry per pair of a circle and a pixel; circles ascend."""

    circle: Tensor  # (P,) int64, index of the circle
    y: Tensor  # (P,) int64
    x: Tensor  # (P,) int64
    distance2: Tensor  # (P,) float64, squared distance to the circle's point, px^2


def circle_pixels(points: Tensor, radii: Tensor, window: tuple[int, int, int, int]) -> Iterator[Pixels]:
    """The pixels of a window inside each circle, in chunks of bounded size.

    Args:
        points: ``(N, 2)`` as (x, y), pixels; may lie outside the window.
        radii: ``(N,)`` pixels, infinity allowed.
        window: ``(y0, y1, x0, x1)``, half open.
    """
    check_radii(radii)
    y0, y1, x0, x1 = window
    points, radii = exact(points), exact(radii)
    reach2 = radii**2 * (1 + RIM_SLACK)
    # Circles' bounding boxes cut to the window; the 1e-5 keeps rims that the slack lets in.
    reach = (radii * (1 + RIM_SLACK) + 1e-5)[:, None]
    origin = points.new_tensor([x0, y0])
    limit = points.new_tensor([x1, y1])
    first = torch.maximum((points - reach).ceil(), origin)
    extent = (torch.minimum((points + reach).floor() + 1, limit) - first).clamp(min=0).to(torch.int64)
    area = extent[:, 0] * extent[:, 1]
    seen = area.nonzero().squeeze(1)
    left, top = first[seen].to(torch.int64).unbind(1)
    width, ends, centre_x, centre_y = extent[seen, 0], area[seen].cumsum(0), points[seen, 0], points[seen, 1]
    starts, reach2 = ends - area[seen], reach2[seen]
    # All boxes laid end to end form one line of pixels; walk along it.
    total = int(ends[-1]) if len(seen) else 0
    for start in range(0, total, CHUNK):
        stop = min(start + CHUNK, total)
        lengths = ends.clamp(start, stop).diff(prepend=ends.new_tensor([start]))
        box = torch.repeat_interleave(lengths, output_size=stop - start)
        step = torch.arange(start, stop, device=box.device) - pick(starts, box)
        box_width = pick(width, box)
        row = step // box_width
        y, x = pick(top, box) + row, pick(left, box) + step - row * box_width
        distance2 = (x - pick(centre_x, box)).square_() + (y - pick(centre_y, box)).square_()
        inside = (distance2 <= pick(reach2, box)).nonzero().squeeze(1)
        yield Pixels(pick(seen, pick(box, inside)), pick(y, inside), pick(x, inside), pick(distance2, inside))


class Claims:
    """Who gets each place: the least value, ties to the smaller index. Claims arrive in chunks, in any order of value
    but with the indices of a later chunk not below those of an earlier one."""

    def __init__(self, places: int, like: Tensor) -> None:
        self.best = torch.full((places,), torch.inf, dtype=like.dtype, device=like.device)
        self.owner = torch.full((places,), -1, dtype=torch.int64, device=like.device)

    def add(self, place: Tensor, value: Tensor, index: Tensor) -> None:
        """Claims ``index`` (P,) on ``place`` (P,) at ``value`` (P,), finite."""
        better = (value < pick(self.best, place)).nonzero().squeeze(1)  # a tie stays with the earlier, smaller index
        place, value, index = pick(place, better), pick(value, better), pick(index, better)
        self.best.scatter_reduce_(0, place, value, "amin")
        won = (value == pick(self.best, place)).nonzero().squeeze(1)
        place, index = pick(place, won), pick(index, won)
        self.owner[place] = torch.iinfo(torch.int64).max
        self.owner.scatter_reduce_(0, place, index, "amin")
