"""Which training images are labelled, and which of them are kept back for validation.

Every choice depends on the set of samples and the seed alone, not on the order in which the samples come; results come
back in natural order of the keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from crowdseg.data.images import IMAGE_SUFFIXES
from crowdseg.data.layout import natural
from crowdseg.errors import DataError, UsageError
from crowdseg.structures import Sample

_LABELLED, _VALIDATION = 1, 2  # apart, so that one seed does not draw the same images for both purposes
_NAMED = 5  # names that a message lists before "and N more"


def labelled_subset(samples: Sequence[Sample], *, ratio: float, seed: int) -> list[Sample]:
    """``ratio`` of the annotated samples (rounded, at least one), spread evenly over the range of counts.

    Raises:
        UsageError: the ratio is not in (0, 1], or no sample is annotated.
    """
    if not 0 < ratio <= 1:
        raise UsageError(f"The labelled ratio must be above 0 and at most 1, not {ratio}.")
    annotated = _annotated(samples)
    if not annotated:
        raise UsageError("None of the training images is annotated, so none can be labelled. Check with `data check`.")
    return _stratified(annotated, max(1, round(ratio * len(annotated))), [seed, _LABELLED])


def validation_split(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """``(train, val)``: ``fraction`` of the annotated samples (at least one of two or more) kept back as ``val``.

    A single annotated sample stays in ``train``, as do all without annotation.

    Raises:
        UsageError: the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise UsageError(f"The validation fraction must be at least 0 and below 1, not {fraction}.")
    annotated = _annotated(samples)
    number = min(max(1, round(fraction * len(annotated))), len(annotated) - 1) if fraction > 0 else 0
    val = _stratified(annotated, number, [seed, _VALIDATION]) if number > 0 else []
    held = {sample.key for sample in val}
    return [sample for sample in _sorted(samples) if sample.key not in held], val


def protocol_subset(samples: Sequence[Sample], file: Path) -> list[Sample]:
    """The samples that a text file names, one per line.

    A name is an image's file name with or without extension, or as many of the folders above it as make it unique.
    Blank lines, CRLF, a byte order mark and repeated names are fine.

    Raises:
        UsageError: a name is unknown or fits several samples; the message names them.
        DataError: the file cannot be read or names nothing.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not a readable list of image names ({error}).") from error
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise DataError(f"{file} names no image. Give one name per line.")
    known = samples_by_name(samples)
    found = {name: known.get(bare_name(name), []) for name in names}
    if unknown := [name for name in names if not found[name]]:
        raise UsageError(f"{file} names {_listed(unknown)}, not among the {len(samples)} images to choose from.")
    if ambiguous := [name for name in names if len(found[name]) > 1]:
        keys = " and ".join(sample.key for sample in found[ambiguous[0]][:2])
        raise UsageError(
            f"{file} names {_listed(ambiguous)}, which fits more than one image ({keys}): "
            "add the folder to the name, or give one part of the dataset."
        )
    return _sorted({each.key: each for matched in found.values() for each in matched}.values())


def samples_by_name(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Every ending of a sample's key, from the bare name to the whole key -> the samples it fits."""
    known: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        parts = bare_name(sample.key).split("/")
        for start in range(len(parts)):
            known["/".join(parts[start:])].append(sample)
    return known


def bare_name(name: str) -> str:
    """``./images\\IMG_1.JPG`` -> ``images/IMG_1``; only an image's extension goes, other dots are part of the name."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _annotated(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in _sorted(samples) if sample.points is not None]


def _sorted(samples) -> list[Sample]:
    return sorted(samples, key=lambda sample: (natural(sample.key), sample.key))


def _stratified(samples: Sequence[Sample], number: int, seed: list[int]) -> list[Sample]:
    """One random sample out of each of ``number`` equal slices of the samples in order of count."""
    rng = np.random.default_rng(seed)
    by_count = sorted(samples, key=lambda sample: (sample.count, natural(sample.key), sample.key))
    slices = np.array_split(np.arange(len(by_count)), number)
    return _sorted(by_count[rng.choice(indices)] for indices in slices)
