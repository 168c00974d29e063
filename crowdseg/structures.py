"""The shapes that travel between the parts of crowdseg.

Points are ``(x, y)`` in pixels of the full-resolution, upright image, 0-based, pixel centres on integers. Sizes are
``(H, W)``. Boxes are ``(x0, y0, x1, y1)`` in pixel edges of the same frame. An :data:`RLE` is a mask in pycocotools'
compressed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crowdseg.errors import SetupError

if TYPE_CHECKING:
    from supervision import Detections

Size = tuple[int, int]  # (H, W)
RLE = dict[str, Any]  # {"size": [H, W], "counts": bytes}
Points = NDArray[np.float64]  # (N, 2) as (x, y)
LabelMap = NDArray[np.int32]  # (H, W): 0 background, n + 1 the n-th person


@dataclass
class Sample:
    """One image of a dataset with what is known of it.

    Attributes:
        key: path of the image below the dataset's root without extension, with ``/``; unique within the dataset.
        image: the image file.
        size: ``(H, W)`` of the upright image (after EXIF orientation).
        points: ``(N, 2)`` float64, or None where the image has no annotation.
        split: ``"train"``, ``"val"`` or ``"test"``.
        boxes: ``(N, 4)`` float64 in point order, or None.
        masks: N masks in point order, or None.
        ignore: regions left out of scoring (COCO ``iscrowd``).
        annotation: the file the points came from, for messages.
    """

    key: str
    image: Path
    size: Size
    points: Points | None
    split: str = "train"
    boxes: NDArray[np.float64] | None = None
    masks: list[RLE] | None = None
    ignore: list[RLE] = field(default_factory=list)
    annotation: Path | None = None

    @property
    def count(self) -> int:
        """Number of annotated people (0 where there is no annotation)."""
        return 0 if self.points is None else len(self.points)


class _Labels:
    """The field ``labels``: the map that was given, or painted from exclusive masks at the first question for it."""

    def __get__(self, prediction: Prediction | None, owner: type[Prediction]) -> LabelMap | None:
        if prediction is None:  # asked for the field's default
            return None
        if prediction._labels is None and prediction.exclusive and prediction.rles is not None:
            from crowdseg import rle

            prediction._labels = rle.to_label_map(prediction.rles, prediction.size)
        return prediction._labels

    def __set__(self, prediction: Prediction, labels: LabelMap | None) -> None:
        prediction._labels, prediction._masks = labels, None


@dataclass
class Prediction:
    """What a model (or another tool) says of one image.

    Attributes:
        size: ``(H, W)``.
        points: ``(N, 2)`` float64, the person's location.
        scores: ``(N,)`` float32 in [0, 1].
        labels: ``(H, W)`` int32 exclusive label map, n + 1 = n-th point, or None; of exclusive ``rles`` made on demand.
        rles: N masks, or None. At most one of ``labels`` and ``rles`` is given.
        key, image: as in :class:`Sample`, where known.
        total: a count that is not the number of points (a density map's sum), or None.
        exclusive: ``rles`` do not overlap; those of other tools may.
    """

    size: Size
    points: Points
    scores: NDArray[np.float32]
    labels: _Labels = _Labels()
    rles: list[RLE] | None = None
    key: str | None = None
    image: Path | None = None
    total: float | None = None
    exclusive: bool = False
    _labels: LabelMap | None = field(default=None, init=False, repr=False, compare=False)  # what is there of `labels`
    _masks: list[RLE] | None = field(default=None, init=False, repr=False, compare=False)  # made of `_labels`

    @property
    def count(self) -> float:
        """The predicted number of people."""
        return len(self.points) if self.total is None else self.total

    @property
    def has_masks(self) -> bool:
        return self._labels is not None or self.rles is not None

    def masks(self) -> list[RLE]:
        """One mask per person, in point order; empty masks where a person owns no pixel."""
        from crowdseg import rle

        if self.rles is not None:
            return self.rles
        if self._labels is None:
            raise ValueError("this prediction has no masks")
        if self._masks is None:
            self._masks = rle.from_label_map(self._labels, len(self.points))
        return self._masks

    def boxes(self) -> NDArray[np.float64]:
        """Boxes of the masks, ``(N, 4)`` pixel edges; where there is no pixel, or are no masks, the point alone."""
        from crowdseg import rle

        boxes = rle.boxes(self.masks()) if self.has_masks else np.zeros((len(self.points), 4))
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
        boxes[empty] = np.concatenate([self.points, self.points], axis=1)[empty]
        return boxes

    def to_numpy(self) -> dict[str, NDArray]:
        """Everything as arrays: ``points``, ``scores``, ``boxes``, and with exclusive masks the label map ``labels``.

        >>> prediction = Prediction((4, 6), np.array([[1.0, 2.0]]), np.array([0.9], np.float32))
        >>> {name: array.shape for name, array in prediction.to_numpy().items()}
        {'points': (1, 2), 'scores': (1,), 'boxes': (1, 4)}
        """
        arrays: dict[str, NDArray] = {"points": self.points, "scores": self.scores, "boxes": self.boxes()}
        return arrays if self.labels is None else arrays | {"labels": self.labels}

    def to_coco(self, image_id: int | str = 1, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO results, as ``pycocotools.COCO.loadRes`` takes them, with each person's ``point`` besides.

        >>> labels = np.zeros((4, 6), np.int32)
        >>> labels[1:3, 2:5] = 1
        >>> prediction = Prediction((4, 6), np.array([[3.0, 1.0]]), np.array([0.5], np.float32), labels)
        >>> prediction.to_coco(image_id=7)[0]["bbox"]
        [2.0, 1.0, 3.0, 2.0]
        """
        ids = {"image_id": image_id, "category_id": category_id}
        return [{**ids, **person} for person in self.people()]

    def people(self) -> list[dict[str, Any]]:
        """Each person as COCO tells of one, but for the ids.

        ``score``, ``point`` (x, y) to a thousandth of a pixel and, with masks, ``bbox`` (x, y, width, height),
        ``area``, ``iscrowd`` and ``segmentation`` (compressed RLE).
        """
        from crowdseg import rle

        people: list[dict[str, Any]] = [
            {"score": float(f"{score:.9g}"), "point": [round(float(x), 3), round(float(y), 3)]}
            for (x, y), score in zip(self.points, self.scores, strict=True)
        ]
        if not self.has_masks:
            return people
        masks = self.masks()
        corners, areas = rle.boxes(masks).tolist(), rle.area(masks).tolist()
        for person, mask, (x0, y0, x1, y1), area in zip(people, masks, corners, areas, strict=True):
            person |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": 0}
            person["segmentation"] = rle.to_json(mask)
        return people

    def to_supervision(self) -> Detections:
        """``supervision.Detections`` for its annotators, trackers and zones; masks stay run lengths, points are in
        ``data["point"]``.

        Raises:
            SetupError: supervision is not installed.
        """
        try:
            import supervision
            from supervision.detection.compact_mask import CompactMask
        except ImportError as error:
            raise SetupError(
                "supervision.Detections needs supervision 0.31 or newer: pip install 'crowdseg[supervision]'."
            ) from error
        boxes, mask = self.boxes(), None
        if self.has_masks:
            inclusive = boxes - [0, 0, 1, 1]  # as its cropped masks want them; without a pixel nothing is cropped
            mask = CompactMask.from_coco_rle(self.masks(), inclusive, self.size)
        return supervision.Detections(
            xyxy=boxes.astype(np.float32),
            mask=mask,
            confidence=self.scores.astype(np.float32),
            class_id=np.zeros(len(boxes), int),
            data={"point": self.points},
        )

    def above(self, min_score: float) -> Prediction:
        """The same prediction with only the people scored above ``min_score``, relabelled in order."""
        kept = np.flatnonzero(self.scores > min_score)
        if len(kept) == len(self.scores):
            return self
        labels = None
        if self._labels is not None and self.rles is None:
            renumber = np.zeros(len(self.points) + 1, np.int32)
            renumber[kept + 1] = np.arange(1, len(kept) + 1, dtype=np.int32)
            labels = renumber[self._labels]
        rles = None if self.rles is None else [self.rles[i] for i in kept]
        chosen = {"points": self.points[kept], "scores": self.scores[kept], "labels": labels, "rles": rles}
        return replace(self, **chosen)  # type: ignore[arg-type]
