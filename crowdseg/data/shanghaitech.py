"""ShanghaiTech A and B as released, in any of its usual folder spellings; also what ``data synth`` writes.

``part_A[_final]/{train,test}_data/images/IMG_n.jpg`` with ``ground-truth|ground_truth/GT_IMG_n.mat`` or
``new-anno/[GT_]IMG_n.npy`` beside ``images``. True masks, label maps ``masks/IMG_n.png`` in point order, are taken too.
"""

from __future__ import annotations

from pathlib import Path

from crowdseg import files, rle
from crowdseg.data.base import Annotation, Collector, Dataset, Reader
from crowdseg.data.layout import files_of, folders_of, images_of, parts_of
from crowdseg.data.matlab import read_points_file
from crowdseg.errors import DataError
from crowdseg.structures import Size

_ANNOTATION_FOLDERS = ("ground-truth", "ground_truth", "new-anno", "new_anno")


def matches(root: Path) -> bool:
    return bool(_units(root))


def read(root: Path) -> Dataset:
    collector = Collector(root)
    for unit, split in _units(root):
        collector.add_pairs(images_of(unit / "images"), split, _annotations(unit), _read)
    return collector.dataset("ShanghaiTech")


def _units(root: Path) -> list[tuple[Path, str]]:
    """Folders with ``images`` and their annotation, and their split: of root and of any ``part_*`` folders in it."""
    units = parts_of(root, _is_unit)
    for part in folders_of(root):
        if part.name.lower().startswith("part_"):
            units += _units(part)
    return units


def _is_unit(folder: Path) -> bool:
    return (folder / "images").is_dir() and bool(_annotations(folder))


def _annotations(unit: Path) -> dict[str, Path]:
    """Image stem -> annotation file; the released ``.mat`` goes before a converted ``.npy``."""
    found: dict[str, Path] = {}
    for name in _ANNOTATION_FOLDERS:
        for path in files_of(unit / name, {".mat", ".npy"}):
            found.setdefault(path.stem.removeprefix("GT_"), path)
    return found


def _read(path: Path, size: Size) -> Annotation:
    annotation = read_points_file(path)
    mask = path.parent.parent / "masks" / f"{path.stem.removeprefix('GT_')}.png"
    if mask.is_file():
        labels = files.read_label_map(mask)
        if labels.shape != size or labels.max(initial=0) > len(annotation.points):
            raise DataError(f"{mask} does not fit the image and the points of {path.name}; remove or rebuild it.")
        annotation.masks = rle.from_label_map(labels, len(annotation.points))
    return annotation


READER = Reader("ShanghaiTech: part_A/train_data with images/ and ground-truth/GT_*.mat", matches, read)
