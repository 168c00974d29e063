from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdseg.data import load_dataset
from crowdseg.data.splits import labelled_subset, protocol_subset, validation_split
from crowdseg.errors import DataError, UsageError
from crowdseg.structures import Sample


def sample(key: str, count: int | None = 0) -> Sample:
    points = None if count is None else np.zeros((count, 2))
    return Sample(key, Path(f"{key}.jpg"), (40, 60), points)


def crowd(counts: list[int]) -> list[Sample]:
    return [sample(f"images/IMG_{number}", count) for number, count in enumerate(counts, start=1)]


def keys(samples: list[Sample]) -> list[str]:
    return [each.key for each in samples]


counts = st.lists(st.integers(0, 300), min_size=1, max_size=60)


@given(counts, st.floats(0.01, 1), st.integers(0, 5), st.randoms())
def test_the_choice_depends_on_the_set_and_the_seed_alone(counts, ratio, seed, random):
    samples = crowd(counts)
    chosen = labelled_subset(samples, ratio=ratio, seed=seed)
    assert len(chosen) == max(1, round(ratio * len(samples)))
    train, val = validation_split(samples, ratio * 0.99, seed)
    assert sorted(keys(train) + keys(val)) == sorted(keys(samples)) and train
    random.shuffle(samples)
    assert keys(labelled_subset(samples, ratio=ratio, seed=seed)) == keys(chosen)
    assert tuple(map(keys, validation_split(samples, ratio * 0.99, seed))) == (keys(train), keys(val))


@given(st.permutations(range(100)), st.integers(0, 100))
def test_every_tenth_of_the_range_of_counts_is_labelled(counts, seed):
    chosen = labelled_subset(crowd(list(counts)), ratio=0.1, seed=seed)
    assert sorted(each.count // 10 for each in chosen) == list(range(10))


def test_seeds_differ_and_so_do_the_two_purposes():
    samples = crowd(list(range(100)))
    picks = [tuple(keys(labelled_subset(samples, ratio=0.1, seed=seed))) for seed in range(5)]
    assert len(set(picks)) == 5
    assert tuple(keys(validation_split(samples, 0.1, 0)[1])) != picks[0]


def test_images_without_annotation_are_neither_labelled_nor_held_back():
    samples = [*crowd([5] * 4), sample("images/IMG_9", None)]
    assert "images/IMG_9" not in keys(labelled_subset(samples, ratio=1, seed=0))
    train, val = validation_split(samples, 0.9, 0)
    assert len(val) == 3 and "images/IMG_9" in keys(train)


def test_the_last_image_is_never_held_back():
    assert [len(part) for part in validation_split(crowd([3]), 0.5, 0)] == [1, 0]
    assert [len(part) for part in validation_split(crowd([3, 4]), 0.01, 0)] == [1, 1]
    assert [len(part) for part in validation_split(crowd([3, 4]), 0.0, 0)] == [2, 0]


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1, float("nan")])
def test_impossible_ratios(ratio):
    with pytest.raises(UsageError):
        labelled_subset(crowd([1, 2]), ratio=ratio, seed=0)


def test_nothing_to_label():
    with pytest.raises(UsageError, match="annotated"):
        labelled_subset([sample("a", None)], ratio=0.5, seed=0)


@pytest.mark.parametrize(
    "text", ["IMG_2.jpg\nIMG_10", "\ufeffIMG_10.JPG\r\n\r\n  images/IMG_2.png \r\n", "IMG_10\nIMG_2\nIMG_2.jpg\n\n"]
)
def test_protocol_files_in_all_their_forms(tmp_path, text):
    (tmp_path / "list.txt").write_bytes(text.encode())
    assert keys(protocol_subset(crowd([1] * 12), tmp_path / "list.txt")) == ["images/IMG_2", "images/IMG_10"]


def test_unknown_names_are_refused_by_name(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("IMG_1\n" + "\n".join(f"photo_{n}.jpg" for n in range(7)))
    with pytest.raises(UsageError, match=r"photo_0\.jpg, .*photo_4\.jpg and 2 more") as caught:
        protocol_subset(crowd([1, 2]), file)
    assert "IMG_1" not in str(caught.value)


def test_ambiguous_names_need_their_folder(tmp_path):
    samples = [sample("part_A/IMG_1"), sample("part_B/IMG_1")]
    file = tmp_path / "list.txt"
    file.write_text("IMG_1.jpg")
    with pytest.raises(UsageError, match="part_A/IMG_1 and part_B/IMG_1"):
        protocol_subset(samples, file)
    file.write_text("part_B\\IMG_1.jpg")
    assert keys(protocol_subset(samples, file)) == ["part_B/IMG_1"]


def test_names_with_dots_keep_them(tmp_path):
    (tmp_path / "list.txt").write_text("scene.01\n")
    assert keys(protocol_subset([sample("scene.01"), sample("scene.02")], tmp_path / "list.txt")) == ["scene.01"]


def test_empty_and_missing_protocols(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    for name in ("empty.txt", "absent.txt"):
        with pytest.raises(DataError, match=name):
            protocol_subset(crowd([1]), tmp_path / name)


def test_published_protocols(real_data):
    train = load_dataset(real_data / "ShanghaiTech" / "part_A").split("train")
    for percent, number in ((5, 15), (10, 30), (40, 112)):
        assert len(protocol_subset(train, real_data / "protocols" / f"sha-{percent}.txt")) == number
