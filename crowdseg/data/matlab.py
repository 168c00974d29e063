"""Head points from MATLAB files and NumPy arrays, in the forms that the crowd datasets use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdseg.data.base import Annotation
from crowdseg.errors import DataError
from crowdseg.structures import Size


def read_points_file(path: Path, size: Size | None = None) -> Annotation:
    """Points (and NWPU's boxes) of a ``.mat`` file, or the first two columns of a ``.npy`` array.

    Raises:
        DataError: the file is unreadable or holds no points in a known form.
    """
    if path.suffix.lower() == ".npy":
        return Annotation(_read_npy(path))
    content = _load_mat(path)
    if "image_info" in content:  # ShanghaiTech: cell arrays and structs around `location`
        points = _unwrap(content["image_info"], "location")
    elif "annPoints" in content:  # UCF_CC_50, UCF-QNRF, NWPU-Crowd
        points = content["annPoints"]
    else:
        names = sorted(name for name in content if not name.startswith("__"))
        raise DataError(f"{path} holds {', '.join(names) or 'nothing'}, expected image_info or annPoints.")
    if not np.issubdtype(points.dtype, np.number):
        raise DataError(f"{path} does not hold (x, y) points where they are expected.")
    boxes = content.get("annBoxes")
    return Annotation(points, boxes if boxes is not None and len(boxes) == len(points) else None)


def _load_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return loadmat(path)
    except NotImplementedError as error:
        raise DataError(f"{path} is a MATLAB 7.3 file; save it again with `save -v7`.") from error
    except Exception as error:  # scipy raises ValueError, TypeError, struct.error and more on damaged files
        reason = "empty file" if path.stat().st_size == 0 else error
        raise DataError(f"{path} is not a readable MATLAB file ({reason}). Restore it.") from error


def _unwrap(value: NDArray, name: str) -> NDArray:
    while True:
        if value.dtype.names and name in value.dtype.names:
            value = value[name]
        elif value.dtype == object and value.size == 1:
            value = value.flat[0]
        else:
            return value


def _read_npy(path: Path) -> NDArray:
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a readable NumPy array ({error}). Restore it.") from error
    if points.size and (points.ndim != 2 or points.shape[1] < 2):
        raise DataError(f"{path} holds an array of shape {points.shape}, expected (N, 2) points.")
    return points if points.size else points.reshape(0, 2)
