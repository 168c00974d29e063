"""UCF-QNRF (``Train/`` and ``Test/``) and UCF_CC_50 (one flat folder): ``NAME.jpg`` with ``NAME_ann.mat``.

UCF_CC_50 has no official split (papers cross-validate), so all of it is training data.
"""

from __future__ import annotations

from pathlib import Path

from crowdseg.data.base import Collector, Dataset, Reader
from crowdseg.data.layout import files_of, images_of, parts_of
from crowdseg.data.matlab import read_points_file

_SUFFIX = "_ann"


def matches(root: Path) -> bool:
    return bool(parts_of(root, _is_part))


def read(root: Path) -> Dataset:
    collector = Collector(root)
    for folder, split in parts_of(root, _is_part):
        collector.add_pairs(images_of(folder), split, _annotations(folder), read_points_file)
    is_qnrf = any(sample.image.stem.startswith("img_") for sample in collector.samples)
    return collector.dataset("UCF-QNRF" if is_qnrf else "UCF_CC_50")


def _is_part(folder: Path) -> bool:
    return bool(_annotations(folder))


def _annotations(folder: Path) -> dict[str, Path]:
    """Image stem -> annotation file."""
    found = (path for path in files_of(folder, {".mat"}) if path.stem.endswith(_SUFFIX))
    return {path.stem.removesuffix(_SUFFIX): path for path in found}


READER = Reader("UCF-QNRF or UCF_CC_50: Train/ and Test/, or one folder, of NAME.jpg and NAME_ann.mat", matches, read)
