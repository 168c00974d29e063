"""A synthetic crowd with known masks: people of all sizes in perspective, nearer ones over farther ones."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from crowdseg import files
from crowdseg.data.figures import HEAD, draw_person, random_look
from crowdseg.data.scenery import Camera, Picture, draw_background, noise
from crowdseg.errors import UsageError
from crowdseg.structures import LabelMap, Points, Size

_TALLEST = (70.0, 115.0)  # pixels, of a person at the lower border of a scene that is not crowded
_SMALLEST = 5.0
_SPACING = 0.8  # least distance of two heads, in head heights of the nearer: a fifth of a head may be hidden
_SETTINGS_FILE = "synthetic.json"
TEST_SHARE = 0.3

Tick = Callable[[int], object]


@dataclass
class Scene:
    """One drawn scene.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        points: ``(N, 2)`` head centres (x, y), from far to near.
        boxes: ``(N, 4)`` whole heads as (x0, y0, x1, y1), also where a neighbour hides a part.
        labels: ``(H, W)`` what is visible of each person, n + 1 = n-th point.
    """

    image: NDArray[np.uint8]
    points: Points
    boxes: NDArray[np.float64]
    labels: LabelMap


def draw_scene(rng: np.random.Generator, size: Size, people: int) -> Scene:
    """Draw ``people`` persons, every head visible and every point within the person's own visible mask.

    The denser the crowd, the smaller the people, from about 110 px at most to a few pixels.

    Raises:
        UsageError: more people than a quarter of the image's pixels.
    """
    if people * 4 > size[0] * size[1]:
        raise UsageError(f"{people} people do not fit into an image of {size[0]} x {size[1]} pixels.")
    camera, points = _place(rng, size, people)
    picture = draw_background(rng, size, camera)
    labels = np.zeros(size, np.int32)
    light = float(rng.uniform(-1, 1))
    heights = camera.height(points[:, 1])
    for index, (point, height) in enumerate(zip(points, heights, strict=True)):
        draw_person(rng, picture, labels, index + 1, (point[0], point[1]), float(height), random_look(rng, light))
    columns, rows = points.round().astype(int).T  # distinct pixels; of the tiniest heads a neighbour may cover them
    labels[rows, columns] = np.arange(1, people + 1)
    half = heights[:, None] * np.array(HEAD)
    boxes = np.concatenate([points - half, points + half], axis=1)
    return Scene(_develop(rng, picture), points, boxes, labels)


def _place(rng: np.random.Generator, size: Size, people: int) -> tuple[Camera, Points]:
    """A camera, and head centres on distinct pixels from far to near."""
    tallest = min(rng.uniform(*_TALLEST), 9 * np.sqrt(size[0] * size[1] / max(people, 1)))
    horizon = size[0] * rng.uniform(-0.25, 0.12)
    crowding = np.exp(noise(rng, size, max(size) / 4, 1.0))
    while True:
        camera = Camera(horizon, tallest / (size[0] - horizon), min(_SMALLEST, tallest), tallest)
        points = _throw(rng, size, people, camera, crowding)
        if len(points) == people:
            return camera, points
        tallest *= 0.85  # they do not fit: take a step back


def _throw(rng: np.random.Generator, size: Size, people: int, camera: Camera, crowding: NDArray) -> Points:
    """Up to ``people`` points, as many as fit: each keeps a disc around itself free of others."""
    heights = camera.height(np.arange(size[0]))
    weight = (crowding / heights[:, None]).ravel()
    free = np.ones(size, bool)
    free[: camera.edge(size)] = False
    chosen: list[tuple[int, int]] = []
    for _ in range(8):
        share = weight * free.ravel()
        if len(chosen) == people or not share.any():
            break
        tries = rng.choice(share.size, size=3 * (people - len(chosen)) + 8, p=share / share.sum())
        for row, column in zip(*np.divmod(tries, size[1]), strict=True):
            if len(chosen) < people and free[row, column]:
                chosen.append((row, column))
                _occupy(free, row, column, max(1.5, _SPACING * 2 * HEAD[1] * heights[row]))
    cells = np.array(sorted(chosen), np.float64).reshape(-1, 2)
    points = cells[:, ::-1] + rng.uniform(-0.45, 0.45, cells.shape)
    points = np.clip(points, 0, [size[1] - 1, size[0] - 1])
    return points[np.argsort(points[:, 1], kind="stable")].round(2)


def _occupy(free: NDArray[np.bool_], row: int, column: int, radius: float) -> None:
    reach = int(radius)
    top, left = max(0, row - reach), max(0, column - reach)
    rows, columns = np.ogrid[top : row + reach + 1, left : column + reach + 1]
    window = free[top : row + reach + 1, left : column + reach + 1]
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    window[inside[: window.shape[0], : window.shape[1]]] = False


def _develop(rng: np.random.Generator, picture: Picture) -> NDArray[np.uint8]:
    """What a camera adds: a tint, an exposure, a little blur and noise."""
    picture = picture * (rng.uniform(0.85, 1.12) * (1 + rng.normal(0, 0.03, 3))).astype(np.float32)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7))), np.float32)
    grain = rng.normal(0, rng.uniform(1.5, 4), picture.shape[:2]).astype(np.float32)
    return np.clip(blurred + grain[..., None], 0, 255).astype(np.uint8)


def write_synthetic(
    out: Path,
    images: int,
    people: tuple[int, int],
    size: Size,
    seed: int = 0,
    *,
    workers: int = 1,
    progress: Tick | None = None,
) -> Path:
    """Write ``images`` scenes of ``people = (lowest, highest)`` persons as ShanghaiTech part A plus true masks.

    ``part_A/{train,test}_data/images/IMG_n.jpg``, ``ground-truth/GT_IMG_n.mat`` and ``masks/IMG_n.png`` (label maps in
    point order), about 70 : 30. An image depends on the seed and its number alone. What is there already is kept, so a
    stopped run goes on.

    Args:
        workers: processes; more than one needs a main module that is safe to import.
        progress: called with 1 for each finished image.

    Raises:
        UsageError: a request that cannot be met, or ``out`` holds a set drawn with other settings.
    """
    lowest, highest = people
    if images < 1 or not 0 <= lowest <= highest or min(size) < 32:
        raise UsageError(
            f"Cannot draw {images} images of {size[0]} x {size[1]} with {lowest} to {highest} people: give at least "
            "one image, at least 32 pixels a side, and people as lowest-highest."
        )
    out = Path(out)
    _claim(out, images, {"people": [lowest, highest], "size": list(size), "seed": seed, "version": 1})
    draw = partial(_write_scene, out, people=people, size=size, seed=seed)
    if workers > 1 and images > 1:
        # spawn: a fork of a process that has started torch's threads can hang
        with ProcessPoolExecutor(min(workers, images), multiprocessing.get_context("spawn")) as pool:
            for _ in pool.map(draw, range(images)):
                _tell(progress)
    else:
        for index in range(images):
            draw(index)
            _tell(progress)
    return out


def _tell(progress: Tick | None) -> None:
    if progress is not None:
        progress(1)


def _claim(out: Path, images: int, settings: dict) -> None:
    """Note the settings in ``out``; refuse a folder with more or other scenes, or with somebody's data."""
    file = out / _SETTINGS_FILE
    if file.is_file():
        there = files.read_json(file)
        if there.pop("images", 0) > images or there != settings:
            raise UsageError(f"{out} holds a synthetic set with other settings. Delete it or choose another folder.")
    elif (out / "part_A").exists():
        raise UsageError(f"{out} holds a dataset already. Choose another folder.")
    files.write_json(file, {"images": images, **settings})


def _write_scene(out: Path, index: int, *, people: tuple[int, int], size: Size, seed: int) -> None:
    is_test = round((index + 1) * TEST_SHARE) > round(index * TEST_SHARE)
    folder = out / "part_A" / ("test_data" if is_test else "train_data")
    name = f"IMG_{index + 1}"
    photograph = folder / "images" / f"{name}.jpg"
    if photograph.is_file():  # written last
        return
    rng = np.random.default_rng([seed, index])
    scene = draw_scene(rng, size, int(rng.integers(people[0], people[1] + 1)))
    write_points_mat(folder / "ground-truth" / f"GT_{name}.mat", scene.points)
    files.write_label_map(folder / "masks" / f"{name}.png", scene.labels)
    files.write_picture(photograph, scene.image)


def write_points_mat(path: Path, points: Points) -> None:
    """Points in the nested structure of ShanghaiTech's files, ``image_info{1,1}.location`` and ``.number``."""
    from scipy.io import savemat

    info = np.empty((1, 1), [("location", object), ("number", object)])
    info[0, 0] = (np.asarray(points, np.float64), np.array([[len(points)]], np.uint16))
    cell = np.empty((1, 1), object)
    cell[0, 0] = info
    with files.atomic(path) as temporary:
        savemat(temporary, {"image_info": cell}, appendmat=False)
