import json
import sys
from pathlib import Path

import numpy as np
import pytest

import crowdseg.engine
from crowdseg import files
from crowdseg.cli import predict_video
from crowdseg.engine.video import public_name
from crowdseg.report.video import _Encoder
from crowdseg.structures import Prediction

av = pytest.importorskip("av")


class FakeModel:
    """Finds one person in every frame."""

    name, run, draws_masks = "fake", Path("runs/count/newest"), True

    def predict(self, pixels, *, min_score, masks):
        assert masks and min_score == 0.5
        labels = np.ones(pixels.shape[:2], np.int32)
        return Prediction(pixels.shape[:2], np.array([(3.0, 4.0)]), np.ones(1, np.float32), labels)


@pytest.fixture
def clip(monkeypatch, tmp_path) -> Path:
    """Six frames in ``clip.mp4`` of the current folder, beside the image ``a.jpg``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crowdseg.engine, "load", lambda run=None, device="auto": FakeModel())
    for name in ("weights.safetensors", "config.yaml"):
        files.write_text(FakeModel.run / name, "something")
    encoder = _Encoder(Path("clip.mp4"), 10)
    for number in range(6):
        encoder.add(np.zeros((32, 48, 3), np.uint8), number / 10)
    encoder.close()
    files.write_picture(Path("a.jpg"), np.zeros((32, 48, 3), np.uint8))
    return Path("clip.mp4")


def test_counts_of_a_video(run, clip):
    code, out, err = run("predict", clip, "--every", 2)
    assert code == 0 and out == "0\t0.000\t1\n2\t0.200\t1\n4\t0.400\t1\n"
    assert {path.name for path in Path("runs/predict/clip").iterdir()} == {
        "counts.csv", "counts.png", "overlay.mp4", "people.jsonl",
    }  # fmt: skip
    code, out, err = run("predict", clip, "--json", "--overlay", "none")
    assert code == 0 and len(json.loads(out)["frames"]) == 6 and "3 of 6 frames were done before" in err


def test_a_broken_part_is_told(run, monkeypatch, clip):
    decoded = crowdseg.engine.video.Video._decoded

    def with_a_gap(self):
        yield from decoded(self)
        self.broken += 1

    monkeypatch.setattr(crowdseg.engine.video.Video, "_decoded", with_a_gap)
    code, out, err = run("predict", clip)
    assert code == 3 and out.count("\n") == 6 and "1 part of clip.mp4 could not be decoded" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4", "a.jpg"], "2 sources are named, a video among them"),
        (["clip.mp4", "--save-masks"], "--save-masks is for images"),
        (["clip.mp4", "--format", "nwpu"], "--format is for images"),
        (["a.jpg", "--every", "5"], "--every is for videos"),
        (["*.mp4"], "*.mp4 is a pattern: videos are named one at a time. Name one, as clip.mp4."),
        (["rtsp://me:secret@[abc"], "rtsp://[abc is not an address (Invalid IPv6 URL). Name it as in rtsp://"),
        (["nowhere.mp4"], "nowhere.mp4 is not there. Name a video file"),
        (["/dev/video99"], "/dev/video99 is not there. Plug the camera in"),
        (["https://example.org/clip.mp4"], "https://example.org/clip.mp4 is a URL"),
    ],
)
def test_requests_that_make_no_sense(run, clip, arguments, message):
    code, out, err = run("predict", *arguments)
    assert code == 2 and message in err and "secret" not in err and out == "" and not Path("runs/predict").exists()


def test_without_the_extra(run, monkeypatch, clip):
    monkeypatch.setitem(sys.modules, "av", None)  # its import fails
    code, out, err = run("predict", clip)
    assert code == 4 and "pip install 'crowdseg[video]'" in err and out == "" and not Path("runs/predict").exists()


@pytest.mark.parametrize(
    ("source", "folder"),
    [("a/clip.mp4", "clip"), ("rtsp://me:secret@10.0.0.7:554/live", "10.0.0.7"), ("/dev/video0", "video0")],
)
def test_results_are_named_by_the_video_or_the_camera(source, folder):
    assert predict_video.name(source) == folder
    assert predict_video.frames_of(source)(f"{public_name(source)}#7") == (":" in source or source.startswith("/dev"))


def test_a_folder_named_like_a_video(run, clip):
    files.write_picture(Path("frames.mp4/b.jpg"), np.zeros((32, 48, 3), np.uint8))
    code, _, err = run("predict", "frames.mp4", "--every", 2)
    assert code == 2 and "--every is for videos" in err
