"""Videos as the tests make them: frames of one grey each, so that each tells its number."""

import socket
import sys
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from crowdseg import rle
from crowdseg.engine.video import is_video, open_video, predict_video, public_name
from crowdseg.errors import DataError, SetupError, UsageError
from crowdseg.structures import Prediction

av = pytest.importorskip("av")

HEIGHT, WIDTH, RATE = 48, 64, 10


def write_video(
    target: str | Path, frames: int = 12, *, format: str = "mp4", codec: str = "mpeg4", begin: int = 0
) -> None:
    """The n-th frame is all of grey 20 n, with a white square at the upper left; the first is shown at ``begin``
    seconds."""
    with av.open(str(target), "w", format=format) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = 4
        for number in range(frames):
            pixels = np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)
            pixels[:16, :16] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = begin * RATE + number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class GreyModel:
    """Finds as many people as the frame is numbered."""

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, pixels, **options):
        self.asked += 1
        people = round(pixels[-1, -1, 0] / 20)
        return Prediction(pixels.shape[:2], np.zeros((people, 2)), np.ones(people, np.float32))


@pytest.mark.parametrize(("every", "numbers"), [(1, range(12)), (5, [0, 5, 10]), (50, [0])])
def test_one_of_so_many_frames_with_its_time(tmp_path, every, numbers):
    write_video(tmp_path / "a.mp4")
    with open_video(str(tmp_path / "a.mp4")) as video:
        assert (video.rate, video.length, video.file) == (RATE, 12, tmp_path / "a.mp4")
        frames = list(video.frames(every))
    assert [frame.number for frame in frames] == list(numbers)
    assert [frame.seconds for frame in frames] == pytest.approx([number / RATE for number in numbers])
    for frame in frames:
        assert frame.pixels.shape == (HEIGHT, WIDTH, 3) and frame.pixels.dtype == np.uint8
        assert abs(frame.pixels[30:, 30:].mean() - 20 * frame.number) < 4


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))])
def test_frames_are_turned_upright(tmp_path, monkeypatch, degrees, corner):
    write_video(tmp_path / "a.mp4", 1)

    class Turned:
        """A frame as telephones store it: on its side, and how far it is to be turned counter-clockwise."""

        time, rotation = 0.0, degrees

        def __init__(self, frame):
            self.to_ndarray = frame.to_ndarray

    with open_video(str(tmp_path / "a.mp4")) as video:
        decoded = video._decoded
        monkeypatch.setattr(video, "_decoded", lambda: map(Turned, decoded()))
        (frame,) = video.frames()
    assert frame.pixels.shape[:2] == ((WIDTH, HEIGHT) if abs(degrees) == 90 else (HEIGHT, WIDTH))
    assert frame.pixels[corner].min() > 200 and frame.pixels.mean() < 60


def test_counts_over_time_and_frames_that_are_known(tmp_path):
    write_video(tmp_path / "a.mp4")
    model, received = GreyModel(), []
    known = GreyModel().predict(np.full((HEIGHT, WIDTH, 3), 180, np.uint8))  # nine people
    with open_video(str(tmp_path / "a.mp4")) as video:
        result = predict_video(
            model,
            video,
            lambda prediction, frame: received.append((prediction.key, frame.number)),
            every=4,
            known=lambda frame: known if frame.number == 4 else None,
        )
    assert result.counts == [(0, 0.0, 0), (4, 0.4, 9), (8, 0.8, 8)] and result.broken == 0
    assert model.asked == 2 and received == [("0", 0), ("4", 4), ("8", 8)]


def test_parts_that_cannot_be_decoded_are_passed_over(tmp_path):
    file = tmp_path / "a.avi"
    write_video(file, format="avi")
    content = bytearray(file.read_bytes())
    with av.open(str(file)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    start, size = packets[4]  # a whole picture; what follows it is told by its difference to it
    content[start : start + size] = bytes(size)
    file.write_bytes(content)
    with open_video(str(file)) as video:
        result = predict_video(GreyModel(), video, lambda *_: None)
    assert result.broken >= 1 and {0, 1, 2} <= {number for number, _, _ in result.counts}


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_files_that_are_no_videos(tmp_path, content):
    file = tmp_path / "a.mp4"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError if content is None else DataError, match=str(file)), open_video(str(file)):
        pass


def test_sound_alone(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="holds no pictures"), open_video(str(tmp_path / "a.mp4")):
        pass


def test_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # its import fails
    with pytest.raises(SetupError, match=r"pip install 'crowdseg\[video\]'"), open_video(str(tmp_path / "a.mp4")):
        pass


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.MP4", True),
        ("x/b.mov", True),
        ("rtsp://host/live", True),
        ("/dev/video0", True),
        ("camera", True),
        ("https://host/a.mp4", False),
        ("a.jpg", False),
        ("frames.mp4", False),
        ("/dev/null", False),
        ("dev/video0", False),
    ],
)
def test_what_is_a_video(tmp_path, monkeypatch, source, expected):
    monkeypatch.chdir(tmp_path)
    Path("frames.mp4").mkdir()  # of images
    Path("camera").symlink_to("/dev/video7")  # as /dev/v4l/by-id/* are
    assert is_video(source) == expected


def test_passwords_of_cameras_are_not_shown():
    assert public_name("rtsp://me:secret@10.0.0.7:554/live?x=1") == "rtsp://10.0.0.7:554/live?x=1"
    assert public_name("a@b.mp4") == "a@b.mp4"


def test_a_stream_is_read_to_its_end(tmp_path):
    write_video(tmp_path / "a.ts", format="mpegts")

    def camera() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall((tmp_path / "a.ts").read_bytes())

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=camera, daemon=True).start()
        with open_video(f"tcp://127.0.0.1:{server.getsockname()[1]}") as video:
            assert video.file is None
            result = predict_video(GreyModel(), video, lambda *_: None)
    assert [number for number, _, _ in result.counts] == list(range(12))
    assert [people for _, _, people in result.counts] == list(range(12))


def test_a_camera_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(DataError, match="Check the address"), open_video(address):
        pass


def test_a_camera_of_this_machine(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mkv", format="matroska", begin=1000)  # its clock began when the machine was started
    opened = []

    def plug_in(file: str, **options: object):
        opened.append((file, options))
        return open_file(tmp_path / "a.mkv")

    open_file = av.open
    monkeypatch.setattr(av, "open", plug_in)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    with open_video("/dev/video0") as video:
        assert (video.source, video.file) == ("/dev/video0", None)
        result = predict_video(GreyModel(), video, lambda *_: None, every=5)
    ((file, options),) = opened
    assert (file, options["format"]) == ("/dev/video0", "v4l2")
    assert result.counts == [(0, 0.0, 0), (5, 0.5, 5), (10, 1.0, 10)]


def test_a_camera_that_is_not_plugged_in():
    with pytest.raises(UsageError, match=r"/dev/video99 is not there\. Plug the camera in"), open_video("/dev/video99"):
        pass


def test_a_camera_that_cannot_be_opened(tmp_path):
    (tmp_path / "camera").write_bytes(b"no device")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError, match="no other program uses it"):
        patch.setattr("crowdseg.engine.video.is_device", lambda source: True)
        with open_video(str(tmp_path / "camera")):
            pass


def test_masks_of_frames_stay_runs(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", 1)
    masks = rle.from_label_map(np.ones((HEIGHT, WIDTH), np.int32), 1)
    found = Prediction((HEIGHT, WIDTH), np.zeros((1, 2)), np.ones(1, np.float32), rles=masks, exclusive=True)
    monkeypatch.setattr(rle, "to_label_map", lambda *_: pytest.fail("a label map was painted"))
    received = []
    with open_video(str(tmp_path / "a.mp4")) as video:
        predict_video(GreyModel(), video, lambda prediction, _: received.append(prediction), known=lambda _: found)
    assert received[0].key == "0" and received[0].masks() == masks
