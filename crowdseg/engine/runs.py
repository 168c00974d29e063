"""Runs on disk as people look at them: which there are, what they reached, how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdseg import files
from crowdseg.engine.logs import read_log
from crowdseg.engine.records import read_record
from crowdseg.errors import DataError, UsageError

if TYPE_CHECKING:
    from crowdseg.engine.evaluation import EvaluationResult

RECORDS = ("run.json", "weights.json")  # either makes a folder a run
FIGURES = ("mae", "rmse", "mean_iou_c")


@dataclass(frozen=True)
class Run:
    """A run's folder and what its files tell.

    Attributes:
        record: its ``run.json`` (of weights that came alone, their ``weights.json``).
        changed: when it last wrote something, in seconds since 1970.
        place: (stage, epoch) that an unfinished run has come to, or None.
        val: stage, epoch, step and scores of the present weights on the validation images, or None.
        test: what :func:`save_scores` left of the present weights on the test split, or None.
    """

    folder: Path
    record: dict[str, Any]
    changed: float
    place: tuple[str, int] | None
    val: dict[str, Any] | None
    test: dict[str, Any] | None

    @property
    def settings(self) -> dict[str, Any]:
        return self.record["config"]

    @property
    def data(self) -> dict[str, Any]:
        """What it was trained on; empty for imported weights."""
        return self.record.get("data") or {}

    @property
    def finished(self) -> bool:
        return bool(self.record.get("finished")) or not (self.folder / "run.json").is_file()


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        differing: (setting or circumstance, its value in each run); what all share is left out.
        notes: what a reader of the scores must know, each a sentence.
    """

    runs: list[Run]
    differing: list[tuple[str, list[Any]]]
    notes: list[str]


def find_runs(under: Path) -> tuple[list[Run], list[DataError]]:
    """All runs below a folder, the last changed first, and what is wrong with those that cannot be read.

    Raises:
        UsageError: there is none.
    """
    folders = {file.parent for name in RECORDS for file in under.rglob(name)}
    if not folders:
        raise UsageError(f"There is no run under {under}: `crowdseg train-seg` makes one, --under looks elsewhere.")
    runs, damaged = [], []
    for folder in sorted(folders):
        try:
            runs.append(read_run(folder))
        except DataError as error:
            damaged.append(error)
    return sorted(runs, key=lambda run: run.changed, reverse=True), damaged


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        UsageError: it is not a run. DataError: a file of it is damaged.
    """
    there = [folder / name for name in RECORDS if (folder / name).is_file()]
    if not there:
        raise UsageError(f"{folder} is not a run: `crowdseg runs` lists those under ./runs.")
    record = read_record(there[0], "task", "config.preset", "config.backbone")
    if record.get("data"):  # imported weights have none
        read_record(there[0], "data.root", "data.labelled", "data.val", "data.unlabelled_images", "data.fingerprint")
    weights = read_record(folder / "weights.json") if (folder / "weights.json").is_file() else {}
    val = weights.get("val")
    if val is not None:
        _check(folder / "weights.json", val, "stage", "epoch", *FIGURES)
    written = [*there, folder / "log.csv", folder / "resume.pt"]
    changed = max(file.stat().st_mtime for file in written if file.is_file())
    place = None if record.get("finished") else _place(folder / "log.csv")
    return Run(folder, record, changed, place, val, _scores(_scores_file(folder, "test"), val))


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """What differs between two or more runs.

    Raises:
        UsageError: fewer than two, the same one twice, or one that is not a run. DataError: a damaged one.
    """
    if len(folders) < 2:
        raise UsageError("Name two runs or more to compare.")
    resolved = [folder.resolve() for folder in folders]
    for number, folder in enumerate(folders):
        if resolved[number] in resolved[:number]:
            raise UsageError(f"{folder} is named twice: name different runs to compare.")
    runs = [read_run(folder) for folder in folders]
    described = [dict(_circumstances(run)) | dict(flat(run.settings)) for run in runs]
    names = dict.fromkeys(name for each in described for name in each)
    rows = [(name, [each.get(name) for each in described]) for name in names]
    return Comparison(runs, [(name, values) for name, values in rows if _differ(values)], list(_notes(runs)))


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (``pretrain.lr``, value)."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _circumstances(run: Run) -> Iterator[tuple[str, Any]]:
    """What makes a run beside its settings."""
    yield "task", run.record["task"]
    yield "begun from", run.record.get("from")
    if run.data:
        yield "data", run.data["root"]
        yield "labelled images", len(run.data["labelled"])
        yield "unlabelled images", run.data["unlabelled_images"]
        yield "validation images", len(run.data["val"])
    yield "device", run.record.get("device")
    yield from (run.record.get("versions") or {}).items()


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    trained = [run.data for run in runs if run.data]
    if _differ([data["fingerprint"] for data in trained]):
        yield "The runs were trained on different datasets: their validation figures do not compare."
    elif _differ([sorted(data["val"]) for data in trained]):
        yield "The runs were validated on different images: their validation figures do not compare."
    elif _differ([sorted(data["labelled"]) for data in trained]):
        yield "The runs had different labelled images."
    tested = [run.test["data"] for run in runs if run.test]
    if _differ(tested):
        yield "The runs were tested on different datasets: their test figures do not compare."


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values[1:])


def _place(log: Path) -> tuple[str, int] | None:
    """Stage and epoch of the last line of a log."""
    rows = read_log(log)
    if not rows:
        return None
    try:
        return rows[-1]["stage"], int(rows[-1]["epoch"])
    except ValueError as error:
        raise DataError(f"{log} is damaged: {rows[-1]['epoch']!r} is no epoch. Delete it, or train again.") from error


def save_scores(run: Path, result: EvaluationResult) -> None:
    """Leave the main figures in the run, with the validation that tells its weights from later ones.

    Figures on another dataset than its own are not left, where it has one (imported weights have none).
    """
    record, data = read_record(run / "weights.json"), str(result.data.resolve())
    if record.get("data") and record["data"].get("root") != data:
        return
    counting, masks = result.counting, result.instances
    scores = {
        "data": data,
        "images": counting.images,
        **{name: getattr(counting, name) for name in ("mae", "rmse", "nae")},
        "f1": {within: matches.f1 for within, matches in result.localization.items()},
        "mean_iou_c": masks and masks.mean_iou_c,
        "mask_truth": result.mask_truth,
        "val": record.get("val"),
    }
    files.write_json(_scores_file(run, result.split), scores)


def _scores_file(run: Path, split: str) -> Path:
    return run / f"eval-{split}.json"


def _scores(file: Path, val: dict[str, Any] | None) -> dict[str, Any] | None:
    """What :func:`save_scores` left, unless the weights have changed since."""
    if not file.is_file():
        return None
    scores = files.read_json(file)
    _check(file, scores, "data", "images", "nae", "f1", "mask_truth", "val", *FIGURES)
    return scores if scores["val"] == val else None


def _check(file: Path, content: Any, *keys: str) -> None:
    if not isinstance(content, dict) or not all(key in content for key in keys):
        raise DataError(f"{file} is damaged: expected {', '.join(keys)}. Restore or delete it.")
