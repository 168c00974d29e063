"""The full-resolution feature map F: the embedding upsampled bilinearly, then blurred (xmask section 3).

Both steps are linear and separable, so F at any position is a short weighted sum of embedding cells along each axis
("band"). Nothing here needs more of F than one tile.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

TILE = 256  # pixels; F of one tile of 16 channels takes 4 MB
GATHER = 1 << 22  # numbers gathered at once for the centres


class Blur(NamedTuple):
    """Separable Gaussian of ``kernel_size`` taps (odd) and standard deviation ``sigma`` pixels."""

    kernel_size: int
    sigma: float

    def taps(self) -> Tensor:
        offset = torch.arange(self.kernel_size, dtype=torch.float64) - self.kernel_size // 2
        weight = torch.exp(-0.5 * (offset / self.sigma) ** 2)
        return weight / weight.sum()


@functools.lru_cache
def blur_taps(kernel_size: int, sigma: float, device: torch.device) -> Tensor:
    """``(kernel_size,)`` float64, as the kernels take them."""
    return Blur(kernel_size, sigma).taps().to(device)


def axis_bands(position: Tensor, pixels: int, cells: int, blur: Blur) -> tuple[Tensor, Tensor]:
    """F along one axis as weighted sums of cells.

    The blur pads with zeros after upsampling; upsampling and the bilinear reading between pixels clamp to the edge.

    Args:
        position: ``(M,)`` float64, in pixels; clamped into the image.
        pixels, cells: length of the axis in the image and in the embedding.

    Returns:
        Cells ``(M, K)`` int64 and their weights ``(M, K)`` float64; row m sums to F at ``position[m]``.
    """
    position = position.clamp(0, pixels - 1)
    base = position.floor()
    fraction = (position - base)[:, None]
    reach = blur.kernel_size // 2
    pixel = base[:, None] + torch.arange(-reach, reach + 2, device=position.device)
    # Reading between two pixels mixes two blurs that are one pixel apart.
    taps = torch.nn.functional.pad(blur.taps(), (1, 1)).to(position)
    weight = (1 - fraction) * taps[1:] + fraction * taps[:-1]
    weight = weight * ((pixel >= 0) & (pixel < pixels))
    source = ((pixel + 0.5) * cells / pixels - 0.5).clamp(0, cells - 1)
    low = source.floor()
    cell = torch.cat([low, (low + 1).clamp(max=cells - 1)], 1).to(torch.int64)
    weight = torch.cat([weight * (1 - (source - low)), weight * (source - low)], 1)
    # Most of these 2 (kernel_size + 1) entries meet in the same few cells.
    length = min(cells, int(blur.kernel_size * cells / pixels) + 3)
    first = cell[:, :1].clamp(max=cells - length)
    band = torch.zeros(len(position), length, dtype=weight.dtype, device=weight.device)
    band.scatter_add_(1, cell - first, weight)
    return first + torch.arange(length, device=first.device), band


class CenterFeatures:
    """F at given positions: the bands of both axes, ready to read an embedding and to give a gradient back to it."""

    def __init__(
        self, points: Tensor, batch_index: Tensor, size: tuple[int, int], embedding: Tensor, blur: Blur
    ) -> None:
        """``points`` ``(N, 2)`` as (x, y), float64; ``embedding`` ``(B, D, h, w)`` gives shape and type."""
        self.batch, self.depth, self.height, self.width = embedding.shape
        self.dtype = embedding.dtype
        self.image = batch_index
        self.x = axis_bands(points[:, 0], size[1], self.width, blur)
        self.y = axis_bands(points[:, 1], size[0], self.height, blur)

    def read(self, embedding: Tensor) -> Tensor:
        """``(B, D, h, w)`` -> ``(N, D)``."""
        cells = embedding.permute(0, 2, 3, 1).reshape(-1, self.depth)
        parts = [torch.einsum("nk,nkd->nd", weight, cells[index]) for index, weight, _ in self._chunks()]
        return torch.cat(parts) if parts else cells.new_zeros(0, self.depth)

    def spread(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`read`: ``(N, D)`` -> ``(B, D, h, w)``."""
        cells = grad.new_zeros(self.batch * self.height * self.width, self.depth)
        for index, weight, part in self._chunks():
            cells.index_add_(0, index.flatten(), (weight[:, :, None] * grad[part, None]).flatten(0, 1))
        return cells.view(self.batch, self.height, self.width, self.depth).permute(0, 3, 1, 2).contiguous()

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Per part of the points: the cells each reads ``(n, K)``, in the flattened embedding, and their weights."""
        per_point = self.x[0].shape[1] * self.y[0].shape[1] * self.depth
        step = max(1, GATHER // max(1, per_point))
        for start in range(0, len(self.image), step):
            part = slice(start, start + step)
            row = self.image[part, None] * self.height + self.y[0][part]
            index = row[:, :, None] * self.width + self.x[0][part][:, None, :]
            weight = self.y[1][part][:, :, None] * self.x[1][part][:, None, :]
            yield index.flatten(1), weight.flatten(1).to(self.dtype), part


class Tile(NamedTuple):
    """A rectangle of the image and the two matrices that make F on it from a patch of the embedding."""

    window: tuple[int, int, int, int]  # y0, y1, x0, x1 in pixels, half open
    patch: tuple[slice, slice]  # rows and columns of embedding cells
    rows: Tensor  # (y1 - y0, rows of the patch)
    columns: Tensor  # (x1 - x0, columns of the patch)

    @property
    def width(self) -> int:
        return self.window[3] - self.window[2]

    def features(self, embedding: Tensor) -> Tensor:
        """``(D, h, w)`` -> ``(pixels of the tile, D)``, row by row."""
        patch = embedding[:, self.patch[0], self.patch[1]]
        return (self.rows @ (patch @ self.columns.T)).flatten(1).T.contiguous()

    def spread(self, grad: Tensor, out: Tensor) -> None:
        """Adds the transpose of :meth:`features` of ``grad`` (pixels, D) to ``out`` (D, h, w)."""
        grad = grad.T.reshape(-1, len(self.rows), len(self.columns))
        out[:, self.patch[0], self.patch[1]] += (self.rows.T @ grad) @ self.columns


def tiles(size: tuple[int, int], embedding: Tensor, blur: Blur) -> Iterator[Tile]:
    """The image cut into tiles of at most ``TILE`` x ``TILE`` pixels, for embeddings like ``embedding`` (..., h, w)."""
    cells = embedding.shape[-2:]
    rows, columns = ([_axis_tile(size[a], cells[a], start, blur) for start in range(0, size[a], TILE)] for a in (0, 1))
    for y0, row_patch, row in rows:
        for x0, column_patch, column in columns:
            window = (y0, y0 + len(row), x0, x0 + len(column))
            yield Tile(window, (row_patch, column_patch), row.to(embedding), column.to(embedding))


def _axis_tile(pixels: int, cells: int, start: int, blur: Blur) -> tuple[int, slice, Tensor]:
    """Start pixel, cells of the patch and the dense matrix of one tile along one axis."""
    position = torch.arange(start, min(start + TILE, pixels), dtype=torch.float64)
    cell, weight = axis_bands(position, pixels, cells, blur)
    low, high = int(cell[0, 0]), int(cell[-1, -1]) + 1
    matrix = torch.zeros(len(position), high - low, dtype=torch.float64)
    return start, slice(low, high), matrix.scatter_(1, cell - low, weight)
