"""What `crowdseg predict VIDEO` writes, by a model that finds as many people as a frame is numbered."""

import csv
import errno
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from crowdseg.engine.video import Frame, PredictedVideo, open_video, predict_video
from crowdseg.errors import DataError, WriteError
from crowdseg.report import video as report
from crowdseg.report.video import VideoWriter, _Encoder
from crowdseg.structures import Prediction

av = pytest.importorskip("av")

HEIGHT, WIDTH, RATE = 48, 64, 10


@pytest.fixture
def clip(tmp_path):
    """Twelve frames, the n-th of grey 20 n."""
    encoder = _Encoder(tmp_path / "clip.mp4", RATE)
    for number in range(12):
        encoder.add(np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8), number / RATE)
    encoder.close()
    return tmp_path / "clip.mp4"


class GreyModel:
    """Finds as many people as the frame is numbered, all in one row, with masks; stops at ``stop``."""

    def __init__(self, stop: int | None = None) -> None:
        self.asked, self._stop = [], stop

    def predict(self, pixels):
        number = round(pixels[-1, -1, 0] / 20)
        if number == self._stop:
            raise KeyboardInterrupt
        self.asked.append(number)
        labels = np.zeros(pixels.shape[:2], np.int32)
        for person in range(number):
            labels[4:8, 4 * person : 4 * person + 3] = person + 1
        points = np.array([(4.0 * person + 1, 5.0) for person in range(number)]).reshape(-1, 2)
        return Prediction(pixels.shape[:2], points, np.full(number, 0.75, np.float32), labels)


def predict(clip, model, *, every=1, layers=("points", "masks"), **options) -> PredictedVideo:
    with open_video(str(clip)) as video, VideoWriter.open(clip.parent / "out", video, layers, **options) as writer:
        return predict_video(model, video, writer.add, every=every, known=writer.known)


def frames(file) -> list[tuple[float, np.ndarray]]:
    with av.open(str(file)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_table_plot_people_and_overlay(clip):
    result = predict(clip, GreyModel(), every=3)
    out = clip.parent / "out"
    assert {path.name for path in out.iterdir()} == {"counts.csv", "counts.png", "people.jsonl", "overlay.mp4"}
    rows = list(csv.reader((out / "counts.csv").open()))
    assert rows == [["frame", "seconds", "count"], *([str(n), f"{n / 10:.3f}", str(n)] for n in (0, 3, 6, 9))]
    assert result.counts == [(n, n / 10, n) for n in (0, 3, 6, 9)]
    assert np.asarray(Image.open(out / "counts.png").convert("L")).std() > 5
    lines = [json.loads(line) for line in (out / "people.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["seconds"], line["count"]) for line in lines] == [(n, n / 10, n) for n in (0, 3, 6, 9)]
    assert lines[1]["people"][2]["point"] == [9, 5] and lines[1]["people"][2]["area"] == 12
    shown = frames(out / "overlay.mp4")
    assert [time for time, _ in shown] == pytest.approx([0, 0.3, 0.6, 0.9], abs=1e-3)
    zoom = shown[0][1].shape[0] // HEIGHT
    for number, (_, picture) in zip((0, 3, 6, 9), shown, strict=True):
        colours = np.ptp(picture[5 * zoom : 7 * zoom].astype(int), axis=-1).max(axis=0)  # grey has none
        tinted = colours[zoom :: 4 * zoom] > 25
        assert tinted.sum() == number and tinted[:number].all()


def test_a_rerun_asks_the_model_for_nothing_and_draws_the_same(clip):
    predict(clip, GreyModel(), settings={"min_score": 0.5})
    first = {path.name: path.read_bytes() for path in (clip.parent / "out").iterdir()}
    model = GreyModel()
    result = predict(clip, model, settings={"min_score": 0.5})
    assert model.asked == [] and result.counts[-1] == (11, 1.1, 11)
    again = {path.name: path.read_bytes() for path in (clip.parent / "out").iterdir()}
    assert [name for name in first if again[name] != first[name]] == []
    for options in ({"settings": {"min_score": 0.4}}, {"settings": {"min_score": 0.4}, "overwrite": True}):
        predict(clip, model, layers=(), **options)
        assert model.asked == list(range(12))
        model.asked.clear()


def test_stopped_the_files_are_whole_and_it_goes_on(clip):
    with pytest.raises(KeyboardInterrupt):
        predict(clip, GreyModel(stop=7))
    out = clip.parent / "out"
    assert (out / "counts.csv").read_text().count("\n") == 8 and len(frames(out / "overlay.mp4")) == 7
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    model = GreyModel()
    predict(clip, model)
    assert model.asked == list(range(7, 12)) and len(frames(out / "overlay.mp4")) == 12


@pytest.mark.parametrize("stop", [0, None])
def test_without_a_frame_nothing_is_written(clip, monkeypatch, stop):
    if stop is None:
        monkeypatch.setattr("crowdseg.engine.video.Video.frames", lambda *_: iter(()))
    with pytest.raises(DataError if stop is None else KeyboardInterrupt):
        predict(clip, GreyModel(stop=stop))
    assert not (clip.parent / "out").exists()
    (clip.parent / "out").mkdir()
    with pytest.raises(DataError if stop is None else KeyboardInterrupt):
        predict(clip, GreyModel(stop=stop))
    assert list((clip.parent / "out").iterdir()) == []  # the user's own folder stays


def test_a_second_interrupt_spoils_nothing(clip, monkeypatch):
    def impatient(write):
        def interrupted(*arguments):
            os.kill(os.getpid(), signal.SIGINT)
            write(*arguments)

        return interrupted

    for owner, name in ((_Encoder, "close"), (report, "write_counts"), (report, "draw_counts")):
        monkeypatch.setattr(owner, name, impatient(getattr(owner, name)))
    with pytest.raises(KeyboardInterrupt):
        predict(clip, GreyModel(stop=7))
    out = clip.parent / "out"
    assert {path.name for path in out.iterdir()} == {"counts.csv", "counts.png", "people.jsonl", "overlay.mp4"}
    assert (out / "counts.csv").read_text().count("\n") == 8 and len(frames(out / "overlay.mp4")) == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_killed_writer_left_goes(clip):
    out = clip.parent / "out"
    out.mkdir()
    for name in (".overlay-a_b3c4d5.mp4", ".overlay-mine.mp4"):
        (out / name).write_bytes(b"half")
    predict(clip, GreyModel())
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".overlay-mine.mp4"]


@pytest.mark.parametrize("of_overlay", [True, False])
def test_what_cannot_be_written_is_told_of_and_not_mistaken(clip, monkeypatch, of_overlay):
    def fail(*_):
        raise OSError(errno.EIO, "the cable was pulled")

    broken = (_Encoder, "add") if of_overlay else (GreyModel, "predict")
    monkeypatch.setattr(*broken, fail)
    with pytest.raises(WriteError if of_overlay else OSError, match="the cable was pulled") as error:
        predict(clip, GreyModel())
    assert ("overlay.mp4" in str(error.value)) == of_overlay
    assert not (clip.parent / "out/overlay.mp4").exists()


@pytest.mark.parametrize("h264", [True, False])
def test_odd_sizes_and_sizes_that_change(tmp_path, monkeypatch, h264):
    if not h264:
        monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    encoder = _Encoder(tmp_path / "a.mp4", RATE)
    for number, size in enumerate([(35, 47), (35, 47), (70, 94)]):
        encoder.add(np.full((*size, 3), 100, np.uint8), number / 10)
    encoder.close()
    shown = frames(tmp_path / "a.mp4")
    assert [picture.shape for _, picture in shown] == [(36, 48, 3)] * 3
    assert [time for time, _ in shown] == pytest.approx([0, 0.1, 0.2], abs=1e-3)
    assert all(abs(picture[:30, :40].mean() - 100) < 4 for _, picture in shown)


def test_of_a_stream_nothing_is_kept(tmp_path):
    class Stream:
        source, file, rate = "rtsp://camera/live", None, RATE

    frame = Frame(0, 0.0, np.full((HEIGHT, WIDTH, 3), 40, np.uint8))
    for _ in range(2):
        with VideoWriter.open(tmp_path, Stream, ()) as writer:
            assert writer.known(frame) is None
            writer.add(GreyModel().predict(frame.pixels), frame)
    assert (tmp_path / "people.jsonl").read_text().count("\n") == 1


def test_texts_for_people_and_programs():
    result = PredictedVideo([(0, 0.0, 3), (5, 0.5, 12.5), (10, 1.0, 1)], 0)
    assert report.lines(result) == "0\t0.000\t3\n5\t0.500\t12.50\n10\t1.000\t1\n"
    assert report.document(result, "a.mp4")["frames"][1] == {"frame": 5, "seconds": 0.5, "count": 12.5}
    cells = [list(column.cells) for column in report.table(result).columns]
    assert cells[1] == ["3", "5.5", "12.50 at 0.5 s", "1 at 1.0 s"]
