import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress
from rich.text import Text

import crowdseg.engine
from crowdseg import rle
from crowdseg.data import Dataset
from crowdseg.engine.comparison import compare_results
from crowdseg.engine.evaluation import evaluate
from crowdseg.engine.figures import statistics
from crowdseg.engine.memory import OutOfMemory
from crowdseg.errors import DataError, UsageError
from crowdseg.masks.store import MaskStore
from crowdseg.structures import Prediction, Sample

SIZE = (40, 60)


def people(points) -> np.ndarray:
    """Label map of squares of 5 px around the points."""
    labels = np.zeros(SIZE, np.int32)
    for index, (x, y) in enumerate(np.asarray(points, int)):
        labels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = index + 1
    return labels


def sample(name: str, points, split: str = "test", masks: bool = True) -> Sample:
    points = None if points is None else np.array(points, float).reshape(-1, 2)
    masks_ = rle.from_label_map(people(points), len(points)) if masks and points is not None else None
    return Sample(f"{split}/{name}", Path(f"{name}.jpg"), SIZE, points, split, masks=masks_)


@dataclass
class FakeModel:
    """Answers what it was given; remembers what it was asked."""

    answers: dict[str, Prediction]
    record: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    name: str = "fake"
    run: Path = Path("runs/count/fake")

    def predict(self, image, **options):
        self.asked.append((Path(image).stem, options))
        return self.answers[Path(image).stem].above(options["min_score"])


def answer(points, scores=None, masks=True) -> Prediction:
    points = np.array(points, float).reshape(-1, 2)
    scores = np.ones(len(points), np.float32) if scores is None else np.array(scores, np.float32)
    return Prediction(SIZE, points, scores, labels=people(points) if masks else None)


@pytest.fixture
def with_model(monkeypatch):
    def install(model):
        monkeypatch.setattr(crowdseg.engine, "load", lambda run=None, device="auto": model, raising=False)
        return model

    return install


@pytest.fixture
def crowd() -> Dataset:
    samples = [
        sample("a", [[10, 10], [30, 10], [50, 10]]),
        sample("b", [[20, 20]]),
        sample("c", []),
        sample("d", [[5, 5]], split="train"),
    ]
    return Dataset(Path("data"), "labelmaps", samples)


def test_a_model_is_scored_as_it_predicts(with_model, crowd):
    model = with_model(
        FakeModel(
            {
                "a": answer([[10, 10], [33, 10], [50, 30]], [0.9, 0.8, 0.3]),
                "b": answer([[20, 20], [40, 30]], [0.2, 0.7]),
                "c": answer([]),
            }
        )
    )
    result = evaluate("run", crowd, tile=512)
    assert model.asked == [(name, {"min_score": 0.5, "masks": True, "tile": 512}) for name in "abc"]
    assert [(image.true, image.predicted, image.error) for image in result.images] == [(3, 2, -1), (1, 1, 0), (0, 0, 0)]
    assert result.counting.mae == pytest.approx(1 / 3) and result.counting.game[0] == pytest.approx(1 / 3)
    found = result.localization["4 px"]
    assert (found.matched, found.predictions, found.targets) == (2, 3, 4)
    # One mask is right, one shifted by 3 of 5 columns; the right one of image b scored too low.
    assert result.instances.mean_iou_c == pytest.approx((1 + 10 / 40) / 4)
    assert result.images[0].mean_iou_c.value == pytest.approx((1 + 10 / 40) / 3) and result.mask_truth == "annotated"
    # By score: right, wrong, wrong. COCO reads precision at 101 recalls, 26 of them up to 1/4.
    assert result.instances.ap50 == pytest.approx(26 / 101)
    assert result.name == "fake" and result.notes == []


def test_split_of_the_dataset_and_what_it_has(with_model, crowd):
    with_model(FakeModel({"d": answer([[5, 5]])}))
    assert [image.key for image in evaluate("run", crowd, split="train").images] == ["train/d"]
    with pytest.raises(UsageError, match=r"no annotated images in its val split \(annotated: train 1, test 3\)"):
        evaluate("run", crowd, split="val")


def test_validation_images_that_the_run_split_off(with_model, crowd):
    with_model(FakeModel({"d": answer([[5, 5]])}, record={"data": {"root": "x", "val": ["train/d"]}}))
    result = evaluate("run", crowd, split="val")
    assert [image.key for image in result.images] == ["train/d"] and "split off" in result.notes[0]


def test_labels_that_the_run_has_seen_are_told(with_model, crowd):
    trained = {"root": str(crowd.root.resolve()), "labelled": ["train/d", "train/x"]}
    with_model(FakeModel({name: answer([]) for name in "abcd"}, record={"data": trained}))
    assert evaluate("run", crowd, split="train").notes == [
        "The run was trained with the labels of 1 of these 1 images."
    ]
    assert evaluate("run", crowd).notes == []


def test_the_function_is_public_and_stays_so():
    import crowdseg

    assert crowdseg.evaluate is crowdseg.evaluate is evaluate


def test_images_without_annotation_are_left_out_and_told(with_model, crowd):
    crowd.samples.append(sample("e", None))
    with_model(FakeModel({name: answer([]) for name in "abc"}))
    result = evaluate("run", crowd)
    assert result.counting.images == 3 and result.notes == ["1 of 4 images have no annotation and are left out."]


def test_people_in_ignored_regions_are_left_out_on_both_sides(with_model, crowd):
    region = np.zeros(SIZE, bool)
    region[:, 40:] = True
    crowd.samples[:] = [replace(crowd.samples[0], ignore=[rle.from_mask(region)])]
    with_model(FakeModel({"a": answer([[10, 10], [30, 10], [45, 30], [55, 30]])}))
    result = evaluate("run", crowd)
    assert (result.images[0].true, result.images[0].predicted) == (2, 2)
    assert result.localization["4 px"].f1 == 1
    assert result.instances.matches.precision == 1 and result.instances.matches.targets == 3


def test_boxes_decide_the_distances_only_where_all_have_them(with_model, crowd):
    boxes = np.array([[8, 6, 12, 14], [28, 6, 32, 14], [48, 6, 52, 14]], float)
    crowd.samples[:] = [replace(crowd.samples[0], boxes=boxes), crowd.samples[2]]
    with_model(FakeModel({"a": answer([[13, 10], [31, 10]]), "c": answer([])}))
    found = evaluate("run", crowd).localization
    # 1 px and 3 px away: both are within 98 of the distances 1 to 100, one within the other two.
    matched = {name: matches.matched for name, matches in found.items()}
    assert matched == {"sigma_s": 1, "sigma_l": 2, "1-100 px": pytest.approx(1.98)}
    crowd.samples.append(sample("b", [[20, 20]]))
    with_model(FakeModel({"a": answer([]), "b": answer([]), "c": answer([])}))
    assert list(evaluate("run", crowd).localization) == ["4 px", "8 px", "1-100 px"]


def test_a_counter_without_masks(with_model, crowd):
    with_model(FakeModel({name: answer([[10, 10]], masks=False) for name in "abc"}))
    result = evaluate("run", crowd)
    assert result.instances is None and result.mask_truth is None and result.images[0].masks is None


def test_sums_over_images_give_the_very_figures(with_model, crowd):
    crowd.samples.append(sample("e", [[30, 30], [40, 30]]))
    answers = {"a": answer([[10, 10], [33, 10], [50, 30]]), "b": answer([[20, 20], [40, 30]]), "c": answer([[1, 1]])}
    with_model(FakeModel(answers | {"e": answer([[31, 31]])}))
    result = evaluate("run", crowd, resamples=200)
    masks, counting = result.instances, result.counting
    expected = {
        **{name: getattr(counting, name) for name in ("mae", "rmse", "nae", "bias")},
        **{f"game_{level}": counting.game[level] for level in (1, 2, 3)},
        **{f"f1_within_{name.replace(' ', '_')}": matches.f1 for name, matches in result.localization.items()},
        **{"mean_iou_c": masks.mean_iou_c, "boundary_f": masks.boundary_f, "f1_at_iou_0.5": masks.matches.f1},
        **{name: getattr(masks.panoptic, name) for name in ("pq", "sq", "rq")},
    }
    found = {name: statistic.value for name, statistic in statistics(result.images).items()}
    assert found == pytest.approx(expected) and len(set(found.values())) > 8
    assert result.intervals.keys() == expected.keys()
    for name, value in expected.items():
        assert result.intervals[name].low <= value <= result.intervals[name].high
    assert evaluate("run", crowd, resamples=200) == result
    assert evaluate("run", crowd, resamples=0).intervals == {}


def test_density_bins_are_those_of_the_dataset(with_model, crowd):
    with_model(FakeModel({name: answer([[10, 10]]) for name in "abc"}))
    assert [each.most for each in evaluate("run", crowd).counting.by_density] == [0, 100, 500, 5000, None]
    crowd.format = "jhu"
    assert [each.most for each in evaluate("run", crowd).counting.by_density] == [50, 500, None]


def test_prepared_masks_stand_in_where_there_are_none(with_model, crowd, tmp_path):
    store = MaskStore.create(tmp_path / "masks", {"settings": {}, "dataset": {"root": "data"}})
    for each in (crowd.samples[0], crowd.samples[2]):  # a and c; b was not prepared
        store.write(each, people(each.points), [])
    with_model(FakeModel({name: answer([[10, 10]]) for name in "abc"}))
    crowd.samples[:] = [replace(s, masks=None) for s in crowd.samples]
    assert evaluate("run", crowd).mask_truth is None
    result = evaluate("run", crowd, masks=store.folder)
    assert result.mask_truth == "prepared" and result.instances.mean_iou_c == pytest.approx(1 / 3)
    assert result.notes == ["Masks are scored on the 2 of 3 images that have true ones."]
    with pytest.raises(UsageError, match="has no masks of these images, such as train/d"):
        evaluate("run", crowd, masks=store.folder, split="train")


def test_predictions_of_another_tool(tmp_path, crowd):
    file = tmp_path / "tool.csv"
    file.write_text("image,x,y\na.jpg,10,10\na.jpg,31,10\na.jpg,50,10\n")
    result = evaluate(predictions=file, data=crowd)
    assert result.name == f"{tmp_path.name}-tool" and result.source == file and result.instances is None
    assert result.localization["4 px"].recall == 3 / 4 and result.counting.mae == pytest.approx(1 / 3)
    assert result.notes == ["2 of 3 images are not in tool.csv and count as nobody found."]


@pytest.mark.parametrize(
    ("file", "name"), [("tool.csv", "tool"), ("p1/tool.csv", "p1-tool"), ("../p2/b/../tool.csv", "p2-tool")]
)
def test_a_file_is_named_with_its_folder(tmp_path, monkeypatch, crowd, file, name):
    for folder in ("here/p1", "p2/b"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path(file).write_text("a,3\nb,1\nc,0\n")
    assert evaluate(predictions=file, data=crowd).name == name


def test_progress_names_the_source_as_it_is(with_model, crowd, monkeypatch):
    told = []

    def track(self, samples, description):
        told.append(Text.from_markup(description).plain)
        return samples

    monkeypatch.setattr(Progress, "track", track)
    with_model(FakeModel({name: answer([]) for name in "abc"}, name="crowd[bold][/x]"))
    evaluate("run", crowd)
    assert told == ["Evaluating crowd[bold][/x]"]


def test_an_image_that_memory_does_not_do_for_is_named(with_model, crowd, monkeypatch):
    model = with_model(FakeModel({name: answer([]) for name in "abc"}))
    evaluate("run", crowd, max_memory=2**30)
    assert model.asked[0] == ("a", {"min_score": 0.5, "masks": True, "max_memory": 2**30})
    monkeypatch.setattr(FakeModel, "predict", lambda *_, **__: (_ for _ in ()).throw(OutOfMemory("Too large.")))
    with pytest.raises(OutOfMemory, match=r"^a\.jpg: Too large\."):
        evaluate("run", crowd)


def test_average_precision_of_a_file_is_over_all_it_holds(tmp_path, crowd):
    file = tmp_path / "tool.json"
    records = [
        {"image_id": "a", "segmentation": rle.to_json(mask), "score": score}
        for mask, score in zip(crowd.samples[0].masks, (0.9, 0.3, 0.2), strict=True)
    ]
    file.write_text(json.dumps(records))
    result = evaluate(predictions=file, data=crowd)
    assert result.instances.matches.matched == 1 and result.images[0].predicted == 1
    assert result.instances.ap50 == pytest.approx(76 / 101)  # three of four, all right


def test_counts_alone_are_scored_as_counts_alone(tmp_path, crowd):
    file = tmp_path / "counts.csv"
    file.write_text("a,5\nb,1\nc,0\n")
    result = evaluate(predictions=file, data=crowd)
    assert result.counting.bias == pytest.approx(2 / 3) and result.counting.game == (None,) * 4
    assert result.localization == {} and "without positions" in result.notes[0]


@pytest.fixture
def two_results(tmp_path, crowd):
    """Evaluations of two files on the same images: one shifts everybody by 2 px, one is right but for one person."""
    results = []
    for name, shift, people_of_a in (("shifted", 2, 3), ("right", 0, 2)):
        lines = [f"a,{x + shift},10" for x in (10, 30, 50)[:people_of_a]] + [f"b,{20 + shift},20", "c,,"]
        file = tmp_path / f"{name}.csv"
        file.write_text("image,x,y\n" + "\n".join(lines) + "\n")
        results.append(evaluate(predictions=file, data=crowd))
    return results


def test_two_evaluations_are_compared_figure_by_figure(two_results):
    result = compare_results(*two_results)
    mae, near = result.figures["mae"], result.figures["f1_within_1-100_px"]
    assert (mae.first, mae.second) == (0, pytest.approx(1 / 3)) and result.closer == (1, 0, 2)
    assert (near.first, near.second) == (pytest.approx(0.99), pytest.approx(6 / 7))
    assert near.difference == pytest.approx(6 / 7 - 0.99) and near.interval.low <= near.difference <= near.interval.high
    # With one of the two images that differ swapped: (2 * 2.97 + 2) / 8 - (2 * 2 + 2 * 0.99) / 7 = 0.138, even more.
    assert near.p == 1 and result.notes == []
    assert "mean_iou_c" not in result.figures


def test_comparisons_that_make_no_sense(two_results):
    first, second = two_results
    with pytest.raises(UsageError, match=r"scored on data, .*-right on elsewhere\. Name one dataset"):
        compare_results(first, replace(second, data=Path("elsewhere")))
    with pytest.raises(UsageError, match=r"different test images \(2 of 3 in common\)"):
        compare_results(first, replace(second, images=second.images[1:]))


def test_images_are_compared_with_themselves_in_any_order(two_results):
    first, second = two_results
    turned = compare_results(first, replace(second, images=second.images[::-1]))
    assert turned == compare_results(first, second)


def test_other_least_scores_are_told(two_results):
    first, second = two_results
    notes = compare_results(first, replace(second, min_score=0.3)).notes
    assert notes == ["Of A people scored above 0.5 count, of B those above 0.3."]


def test_masks_that_only_one_has_need_no_note(with_model, crowd):
    with_model(FakeModel({name: answer([[12, 10]]) for name in "abc"}))
    first = replace(evaluate("run", crowd), masks=Path("prepared"))
    with_model(FakeModel({name: answer([[12, 10]], masks=False) for name in "abc"}))
    result = compare_results(first, evaluate("run", crowd))
    assert result.notes == [] and "mae" in result.figures and "pq" not in result.figures


def test_masks_are_compared_with_the_same_truth_only(with_model, crowd):
    with_model(FakeModel({"a": answer([[12, 10]]), "b": answer([[20, 20]]), "c": answer([])}))
    first = evaluate("run", crowd)
    second = replace(first, name="other", notes=["Something."])
    assert compare_results(first, second).figures["mean_iou_c"].difference == 0
    result = compare_results(first, replace(second, masks=Path("prepared")))
    assert "mae" in result.figures and not set(result.figures) & {"mean_iou_c", "pq", "boundary_f"}
    assert result.notes[0] == "B: Something." and result.notes[1].startswith(
        "Masks are not compared: the true ones of the first are from data, those of the second from prepared. Name one"
    )


def test_contradictions_and_misfits_are_refused(with_model, crowd, tmp_path):
    with pytest.raises(UsageError, match=r"file\.csv is to be scored, and so is run"):
        evaluate("run", crowd, predictions="file.csv")
    with pytest.raises(UsageError, match="--data DATA"):
        evaluate(predictions="file.csv")
    with_model(FakeModel({"a": replace(answer([]), size=(20, 30))}))
    with pytest.raises(UsageError, match="does not say what it was trained on"):
        evaluate("run")
    with pytest.raises(DataError, match=r"test/a is 30×20 px, but a\.jpg is 60×40 px"):
        evaluate("run", crowd)
