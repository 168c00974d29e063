"""Batches for training. Every item is a function of (seed, stage, index), so a run can go on from any step."""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from crowdseg.config import TrainConfig
from crowdseg.data.images import read_image
from crowdseg.data.transforms import Crop, cut_out, random_crop, strong_augment
from crowdseg.errors import CrowdsegError
from crowdseg.methods import Batch, Labelled, Unlabelled
from crowdseg.models import normalise
from crowdseg.structures import LabelMap, Sample

CACHE_BYTES = 1 << 30  # of decoded images and label maps, of a process and all its workers together


class _Cache:
    """Least recently used arrays within a bound of bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self.arrays: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    def get(self, key: tuple[str, str], make: Callable[[], np.ndarray]) -> np.ndarray:
        if key in self.arrays:
            self.arrays.move_to_end(key)
            return self.arrays[key]
        array = make()
        self.arrays[key] = array
        self.used += array.nbytes
        while self.used > self.limit and len(self.arrays) > 1:
            self.used -= self.arrays.popitem(last=False)[1].nbytes
        return array

    def would_hold(self, number: int) -> bool:
        """Whether ``number`` arrays like those that are here would all stay."""
        return self.used / max(len(self.arrays), 1) * number <= self.limit


@dataclass
class _Item:
    labelled: Crop
    weak: Tensor | None = None
    strong: Tensor | None = None
    keep: Tensor | None = None


class CropPairs(Dataset[_Item | CrowdsegError]):
    """Item ``index`` of a stage: a random labelled crop and, behind the warm-up, one unlabelled crop.

    An epoch goes once through the training split's size; the unlabelled images come in a new order each epoch.
    """

    def __init__(
        self,
        config: TrainConfig,
        stage_number: int,
        labelled: list[Sample],
        unlabelled: list[Sample],
        labels: Callable[[Sample], LabelMap] | None,
        epoch_items: int,
        warmup_items: int = 0,
    ) -> None:
        self.config, self.stage_number = config, stage_number
        self.epoch_items, self.warmup_items = epoch_items, warmup_items
        self.labelled, self.unlabelled, self.labels = labelled, unlabelled, labels
        self.cache = _Cache(CACHE_BYTES // max(1, config.workers))

    def __getitem__(self, index: int) -> _Item | CrowdsegError:
        try:
            return self._item(index)
        except CrowdsegError as error:
            return error  # raised by a worker its one sentence would come out as a traceback

    def _item(self, index: int) -> _Item:
        seed = (self.config.seed, self.stage_number)
        rng = np.random.default_rng((*seed, 1, index))
        item = _Item(self._crop(rng, self.labelled[rng.integers(len(self.labelled))], annotated=True))
        if self.unlabelled and index >= self.warmup_items:
            epoch, position = divmod(index, self.epoch_items)
            order = np.random.default_rng((*seed, 0, epoch)).permutation(len(self.unlabelled))
            crop = self._crop(rng, self.unlabelled[order[position % len(order)]], annotated=False)
            item.weak = torch.from_numpy(crop.image).permute(2, 0, 1)
            item.strong, item.keep = cut_out(rng, strong_augment(rng, item.weak))
        return item

    def _crop(self, rng: np.random.Generator, sample: Sample, annotated: bool) -> Crop:
        image = self.cache.get(("image", sample.key), lambda: read_image(sample.image))
        labels, read_labels = None, self.labels
        if annotated and read_labels is not None:
            labels = self.cache.get(("labels", sample.key), lambda: read_labels(sample))
        points = sample.points if annotated and sample.points is not None else np.zeros((0, 2))
        return random_crop(rng, image, points, labels, side=self.config.crop, scale=self.config.scale)


class _Steps(Sampler[list[int]]):
    """Indices of every step from ``start`` on, this process's share of each."""

    def __init__(self, start: int, end: int, batch_size: int, rank: int, world: int) -> None:
        self.steps, self.batch_size, self.rank, self.world = range(start, end), batch_size, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch_size
            yield list(range(first + self.rank, first + self.batch_size, self.world))

    def __len__(self) -> int:
        return len(self.steps)


def make_loader(pairs: CropPairs, start: int, end: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """Batches of steps ``start`` to ``end`` - 1, their images still 8-bit: see :func:`to_device`.

    Raises:
        DataError: an image or its masks cannot be read.
    """
    config = pairs.config
    loader: Iterable[Batch | CrowdsegError] = DataLoader(
        pairs,
        batch_sampler=_Steps(start, end, config.batch_size, rank, world),
        collate_fn=_collate,
        num_workers=config.workers,
        worker_init_fn=_leave_interrupts,
        generator=torch.Generator(),  # torch's own is the run's, and a resumed run has to find it as it was
    )
    for batch in loader:
        if isinstance(batch, CrowdsegError):
            raise batch
        yield batch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device, its images normalised there: a quarter of the bytes travels."""
    labelled, unlabelled = _moved(batch.labelled, device), batch.unlabelled
    labelled.images = _for_network(labelled.images)
    if unlabelled is not None:
        unlabelled = _moved(unlabelled, device)
        unlabelled.weak, unlabelled.strong = _for_network(unlabelled.weak), _for_network(unlabelled.strong)
    return Batch(labelled, unlabelled)


Part = TypeVar("Part", Labelled, Unlabelled)


def _moved(part: Part, device: torch.device) -> Part:
    return type(part)(**{name: value.to(device, non_blocking=True) for name, value in vars(part).items()})


def _for_network(images: Tensor) -> Tensor:
    return normalise(images).contiguous(memory_format=torch.channels_last)


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches workers too; it is for the main process to end the step in hand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collate(found: list[_Item | CrowdsegError]) -> Batch | CrowdsegError:
    items = [item for item in found if isinstance(item, _Item)]
    if len(items) < len(found):
        return next(item for item in found if isinstance(item, CrowdsegError))
    crops = [item.labelled for item in items]
    images = torch.from_numpy(np.stack([crop.image for crop in crops])).permute(0, 3, 1, 2)
    points = torch.from_numpy(np.concatenate([crop.points for crop in crops])).float()
    counts = torch.tensor([len(crop.points) for crop in crops])
    blank = np.zeros(images.shape[-2:], np.int32)
    labels = torch.from_numpy(np.stack([blank if crop.labels is None else crop.labels for crop in crops]))
    labelled = Labelled(images, points, torch.arange(len(crops)).repeat_interleave(counts), labels)
    if items[0].weak is None:
        return Batch(labelled, None)
    weak, strong, keep = (torch.stack([getattr(item, name) for item in items]) for name in ("weak", "strong", "keep"))
    return Batch(labelled, Unlabelled(weak, strong, keep))
