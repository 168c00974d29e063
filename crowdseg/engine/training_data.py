"""What a run trains on: a dataset with prepared masks, cut into labelled, unlabelled and validation images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdseg import files
from crowdseg.config import TrainConfig
from crowdseg.data import Dataset, load_dataset
from crowdseg.data.splits import labelled_subset, protocol_subset, validation_split
from crowdseg.engine.checkpoint import read_last
from crowdseg.errors import UsageError
from crowdseg.masks.store import MaskStore
from crowdseg.structures import Sample


@dataclass
class TrainingData:
    """``labelled`` and ``unlabelled`` make up the training images; ``val`` chooses the best checkpoint."""

    dataset: Dataset
    masks: MaskStore
    labelled: list[Sample]
    unlabelled: list[Sample]
    val: list[Sample]

    @property
    def train_images(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def describe(self) -> dict[str, Any]:
        """For the record beside the weights: enough to know, and to check, what a run has seen."""
        return {
            "root": str(self.dataset.root.resolve()),
            "masks": str(self.masks.folder.resolve()),
            "format": self.dataset.format,
            "fingerprint": self.dataset.fingerprint(),
            "labelled": [sample.key for sample in self.labelled],
            "unlabelled_images": len(self.unlabelled),
            "val": [sample.key for sample in self.val],
        }


def training_data(data: Path | str | None, masks: Path | str | None, config: TrainConfig) -> TrainingData:
    """Read the dataset and its prepared masks, and split them as ``config`` says.

    Args:
        data: a dataset, or None for the one of the last prep-masks in this folder.
        masks: a prep-masks folder; default the last one of this dataset.

    Raises:
        UsageError: nothing was prepared, or the labelled images cannot be chosen as asked.
    """
    root, store = _locate(data, masks)
    dataset = load_dataset(root)
    train = dataset.split("train")
    annotated = [sample for sample in train if sample.points is not None]
    if not annotated:
        raise UsageError(f"{dataset.root} has no annotated training images: check it with `crowdseg data check`.")
    if config.protocol is not None:
        labelled = protocol_subset(annotated, Path(config.protocol))
    else:
        labelled = labelled_subset(annotated, ratio=config.ratio or 1.0, seed=config.seed)
    labelled, unlabelled, val = _validation(labelled, train, dataset.split("val"), config)
    lacking = [sample.key for sample in labelled if not store.is_current(sample)]
    if lacking:
        raise UsageError(
            f"{store.folder} has no masks of the present points of {lacking[0]} ({len(lacking)} missing): "
            f"run `crowdseg prep-masks {root}`."
        )
    return TrainingData(dataset, store, labelled, unlabelled, val)


def _validation(
    labelled: list[Sample], train: list[Sample], val: list[Sample], config: TrainConfig
) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """The dataset's own validation split, else a part of the training images: not of the labelled ones if others do."""
    names = {sample.key for sample in labelled}
    unlabelled = [sample for sample in train if sample.key not in names]
    val = [sample for sample in val if sample.points is not None]
    if val or config.val_fraction == 0:
        return labelled, unlabelled, val
    spare = [sample for sample in unlabelled if sample.points is not None]
    wanted = max(round(config.val_fraction * (len(labelled) + len(spare))), 1)
    if len(spare) > wanted:
        _, val = validation_split(spare, wanted / len(spare), config.seed)
    else:
        labelled, val = validation_split(labelled, config.val_fraction, config.seed)
    kept = {sample.key for sample in val}
    return labelled, [sample for sample in unlabelled if sample.key not in kept], val


def _locate(data: Path | str | None, masks: Path | str | None) -> tuple[Path, MaskStore]:
    last = read_last()
    if data is None and masks is None:
        if not last:
            raise UsageError(
                "No dataset is named and none was prepared in this folder: run `crowdseg prep-masks DATA`."
            )
        data, masks = last["data"], last["masks"]
    if masks is None:
        assert data is not None
        is_last = bool(last) and Path(last["data"]).resolve() == Path(data).resolve()
        masks = last["masks"] if is_last else files.RUNS / "masks" / Path(data).resolve().name
        if not (Path(masks) / "manifest.json").is_file():
            raise UsageError(
                f"{data} has no prepared masks in {masks}: run `crowdseg prep-masks {data}` or pass --masks."
            )
    store = MaskStore.open(Path(masks))
    return Path(data) if data is not None else store.dataset_root, store
