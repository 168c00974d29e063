"""Instances of a batch of label maps, summed up in tables."""

import torch
from torch import Tensor

from crowdseg.ops.batching import group_by_image, nearest_pixel
from crowdseg.ops.checks import check_map, check_points, require


def check_label_map(labels: Tensor, logits: Tensor) -> None:
    """Labels must be ``(B, H, W)`` integers with the batch of ``logits``."""
    check_map("labels", labels, "B, H, W", logits)
    require(not labels.is_floating_point(), f"labels must be integers, got {labels.dtype}")
    require(len(labels) == len(logits), f"labels holds {len(labels)} images, logits {len(logits)}")


class Instances:
    """Sums over the instances of a batch of label maps: tables ``(B, highest label + 1)``, column 0 the background."""

    def __init__(self, labels: Tensor, columns: int | None = None) -> None:
        """``labels`` ``(B, H, W)`` integers, not negative; ``columns`` for more columns than they need."""
        self.labels = labels
        columns = int(labels.max()) + 1 if columns is None else columns
        image = torch.arange(len(labels), device=labels.device)[:, None, None]
        self.place = (image * columns + labels).flatten()
        self.present = torch.bincount(self.place, minlength=len(labels) * columns).view(len(labels), -1) > 0
        self.present[:, 0] = False

    def sum(self, values: Tensor) -> Tensor:
        """``(B, H, W)`` -> the sum over each instance."""
        return self._empty(values).index_add(0, self.place, values.flatten()).view(self.present.shape)

    def max(self, values: Tensor) -> Tensor:
        """``(B, H, W)``, not negative -> the maximum over each instance, 0 where it has no pixel."""
        table = self._empty(values).scatter_reduce(0, self.place, values.flatten(), "amax")
        return table.view(self.present.shape)

    def holding(self, points: Tensor, batch_index: Tensor | None) -> Tensor:
        """Which instances hold one of the ``points`` ``(N, 2)``."""
        batch_index = check_points(points, batch_index)
        group_by_image(points, batch_index, len(self.labels))
        column, row = nearest_pixel(points, (self.labels.shape[1], self.labels.shape[2])).unbind(1)
        holding = torch.zeros_like(self.present)
        holding[batch_index, self.labels[batch_index, row, column].to(torch.int64)] = True
        return holding

    def _empty(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.present.numel())
