from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowdseg.data import load_dataset
from crowdseg.errors import UsageError
from crowdseg.masks import MaskStore, Record, review_masks


def record(index: int, source: str = "sam", score: float | None = 1.0, leakage: float = 0.0, area: int = 78) -> Record:
    """A circle of radius 10; 78 px are a quarter of it."""
    return Record(index, (5.0 * index, 5.0), source, score, leakage, area, 10.0)


def write(folder: Path, *images: list[Record], segmenter: str = "sam") -> MaskStore:
    """A dataset of points and a folder of masks with these records; the masks themselves are empty."""
    (folder / "data/images").mkdir(parents=True)
    rows = ["image,x,y"]
    for number, people in enumerate(images):
        Image.new("RGB", (200, 50)).save(folder / f"data/images/{number}.png")
        rows += [f"images/{number}.png,{person.point[0]},{person.point[1]}" for person in people]
    (folder / "data/points.csv").write_text("\n".join(rows) + "\n")
    manifest = {"segmenter": segmenter, "settings": {}, "dataset": {"root": str(folder / "data")}}
    store = MaskStore.create(folder / "masks", manifest)
    for sample, people in zip(load_dataset(folder / "data").samples, images, strict=True):
        store.write(sample, np.zeros(sample.size, np.int32), people)
    return store


def test_the_most_doubtful_come_first_with_the_reason(tmp_path):
    people = [record(0), record(1, score=0.3), record(2, leakage=0.6), record(3, "disc", None), record(4, area=39)]
    write(tmp_path, people)
    worst = review_masks(tmp_path / "masks").worst
    assert [person.record.index for person in worst] == [3, 1, 2, 4]
    assert [person.reason for person in worst] == ["fallback", "score", "leakage", "size"]
    assert [person.doubt for person in worst] == pytest.approx([1.0, 0.7, 0.6, 0.5], abs=1e-9)


def test_masks_twice_and_half_as_large_as_usual_are_equally_odd(tmp_path):
    areas = [100, 100, 100, 50, 200]
    write(tmp_path, [record(index, area=area) for index, area in enumerate(areas)])
    worst = review_masks(tmp_path / "masks").worst
    assert sorted(person.record.area for person in worst) == [50, 200]
    assert [person.doubts["size"] for person in worst] == pytest.approx([0.5, 0.5])
    assert {person.record.area: person.share for person in worst}[200] == pytest.approx(200 / (np.pi * 100))


@pytest.mark.parametrize(
    ("segmenter", "source", "doubted"),
    [("sam", "superpixel", True), ("superpixel", "superpixel", False), ("superpixel", "disc", True),
     ("sam", "sam", False), ("sam", "edited", False)],
)  # fmt: skip
def test_what_is_a_fallback(tmp_path, segmenter, source, doubted):
    write(tmp_path, [record(0, source)], segmenter=segmenter)
    assert [person.reason for person in review_masks(tmp_path / "masks").worst] == ["fallback"] * doubted


def test_a_frequent_reason_hides_no_other(tmp_path):
    people = [record(index, "disc", None) for index in range(30)]
    people += [record(30, score=0.9), record(31, leakage=0.1), record(32, area=60)]
    write(tmp_path, people)
    worst = review_masks(tmp_path / "masks", most=8).worst
    assert Counter(person.reason for person in worst) == {"fallback": 5, "score": 1, "leakage": 1, "size": 1}
    assert len(review_masks(tmp_path / "masks", most=1000).worst) == 33


def test_figures_are_of_everyone(tmp_path):
    told = []
    write(tmp_path, [record(0), record(1, "disc", None, area=10)], [], [record(0, leakage=0.25)])
    review = review_masks(tmp_path / "masks", most=1, progress=lambda *position: told.append(position))
    assert (review.images, review.people, review.sources, len(review.worst)) == (3, 3, {"sam": 2, "disc": 1}, 1)
    np.testing.assert_array_equal(review.values["score"], [1, np.nan, 1])
    np.testing.assert_array_equal(review.values["leakage"], [0, 0, 0.25])
    np.testing.assert_array_equal(review.values["area"], [78, 10, 78])
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_damaged_record_is_named_and_the_others_are_reviewed(tmp_path):
    store = write(tmp_path, [record(0)], [record(0, leakage=0.5)])
    file = store.record_file(load_dataset(tmp_path / "data").samples[0])
    file.write_text("{")
    review = review_masks(tmp_path / "masks")
    assert review.failures == [(file, f"{file} does not hold records of masks; prep-masks makes them anew.")]
    assert (review.images, review.people, len(review.worst)) == (1, 1, 1)


def test_a_dataset_that_has_moved(tmp_path):
    write(tmp_path, [record(0, leakage=0.5)])
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"data, the dataset of the masks in .*, is not there: name it with --data"):
        review_masks(tmp_path / "masks")
    assert review_masks(tmp_path / "masks", tmp_path / "elsewhere").people == 1


def test_folders_without_anything_to_review(tmp_path):
    write(tmp_path, [])
    with pytest.raises(UsageError, match="holds no record of anyone"):
        review_masks(tmp_path / "masks")
    with pytest.raises(UsageError, match="holds no prepared masks"):
        review_masks(tmp_path)
