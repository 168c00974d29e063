"""Weights are downloaded from a server of our own: whole, resumed, refused, wrong."""

import hashlib
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry
from typer.testing import CliRunner

from crowdseg.cli import app
from crowdseg.errors import SetupError
from crowdseg.masks import prep_masks, weights
from crowdseg.masks.weights import OFFICIAL, Weights, fetch

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves ``content``; ``ranges``: whether parts can be asked for; ``cut``: bytes after which it hangs up;
    ``pause``: bytes after which it waits for ``go_on``."""

    content, ranges, cut, pause = CONTENT, True, None, 0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.go_on = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/sam.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.path != "/sam.pth":
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.pause:
            self.wfile.write(body[: self.server.pause])
            self.server.go_on.wait(60)
        with suppress(BrokenPipeError):  # one that was killed
            self.wfile.write(body[self.server.pause : self.server.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def of(url, content=CONTENT):
    return Weights(url, len(content), hashlib.sha256(content).hexdigest())


def names(folder):
    """Without the lock, which some versions of filelock leave there."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def test_a_download_is_kept_and_told_of(server, home):
    told = []
    path = fetch(of(server.url), lambda *each: told.append(each))
    assert path == home / "sam.pth" and path.read_bytes() == CONTENT and names(home) == ["sam.pth"]
    assert told[-1] == ("sam.pth", len(CONTENT), len(CONTENT)) and len(told) == 3
    assert fetch(of(server.url)) == path and server.asked == [None]


def test_a_download_goes_on_where_it_stopped(server, home):
    server.cut = 1_200_000
    with pytest.raises(SetupError, match=r"run again, which goes on where it stopped.*put it there") as caught:
        fetch(of(server.url))
    assert str(home / "sam.pth") in str(caught.value)
    assert names(home) == ["sam.pth.part"]
    server.cut = None
    told = []
    assert fetch(of(server.url), lambda *each: told.append(each[1])).read_bytes() == CONTENT
    assert server.asked[1] == "bytes=1200000-" and told[0] > 1_200_000


def test_a_server_without_ranges_sends_everything_again(server, home):
    home.mkdir()
    (home / "sam.pth.part").write_bytes(b"some other beginning")
    server.ranges = False
    assert fetch(of(server.url)).read_bytes() == CONTENT


def start(server):
    """Another process that fetches, and says what it is told of."""
    code = "from crowdseg.masks.weights import Weights, fetch; "
    code += f"fetch({of(server.url)!r}, lambda *told: print(*told, flush=True))"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def sees_a_beginning(process):
    """Whether the process is told of the first piece, which comes before the server's pause."""
    return any(line == "sam.pth 1048576 3000000\n" for line in process.stdout)


def test_of_two_processes_one_downloads_and_the_other_waits(server, home):
    server.pause = 2_000_000
    with start(server) as one, start(server) as two:
        assert sees_a_beginning(one) and sees_a_beginning(two)
        server.go_on.set()
        one.communicate(timeout=60), two.communicate(timeout=60)
    assert (one.returncode, two.returncode, server.asked) == (0, 0, [None])
    assert (home / "sam.pth").read_bytes() == CONTENT and names(home) == ["sam.pth"]


def test_a_process_that_is_killed_leaves_its_download_to_the_next(server, home):
    server.pause = 2_000_000
    with start(server) as one:
        assert sees_a_beginning(one)
        with start(server) as two:
            assert sees_a_beginning(two)
            one.kill()
            server.go_on.set()
            two.communicate(timeout=60)
    assert two.returncode == 0 and server.asked == [None, "bytes=1048576-"]
    assert (home / "sam.pth").read_bytes() == CONTENT


def test_a_download_that_was_complete_is_only_checked(server, home):
    home.mkdir()
    (home / "sam.pth.part").write_bytes(CONTENT)
    assert fetch(of(server.url)).read_bytes() == CONTENT
    assert server.asked == []


def test_what_is_not_the_file_is_not_kept(server, home):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(SetupError, match=r"SHA-256 differs\) and was deleted.*put it at"):
        fetch(of(server.url))
    assert names(home) == []


def test_a_notice_in_place_of_the_file_does_not_spoil_what_is_there(server, home):
    home.mkdir()
    (home / "sam.pth.part").write_bytes(CONTENT[:1000])
    server.content, server.ranges = b"<html>Please log in</html>", False
    with pytest.raises(SetupError, match="the server offers 26 bytes, not 3,000,000"):
        fetch(of(server.url))
    assert (home / "sam.pth.part").read_bytes() == CONTENT[:1000]


def test_an_error_of_the_server_is_told(server, home):
    with pytest.raises(SetupError, match=r"home/other\.pth \(HTTP Error 404.*put it there"):
        fetch(of(server.url.replace("sam.pth", "other.pth")))
    assert names(home) == []


def test_a_refused_connection_is_told():
    with socket.socket() as nobody:  # has the port and does not listen
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(SetupError, match=r"home/sam\.pth \(.*refused\): run again"):
            fetch(of(f"http://127.0.0.1:{nobody.getsockname()[1]}/sam.pth"))


def test_a_damaged_file_is_noticed(server, home):
    home.mkdir()
    (home / "sam.pth").write_bytes(CONTENT[:100])
    with pytest.raises(SetupError, match=r"sam\.pth is damaged \(100 bytes, not 3,000,000\): delete it"):
        fetch(of(server.url))


def test_a_home_that_cannot_be_written_is_told(server, home):
    home.write_text("a file, no folder")
    with pytest.raises(SetupError, match="Cannot download"):
        fetch(of(server.url))


def test_the_official_files_have_an_address_and_a_sum():
    assert [each.file for each in OFFICIAL.values()] == [
        "sam_vit_b_01ec64.pth", "sam_vit_l_0b3195.pth", "sam_vit_h_4b8939.pth",
    ]  # fmt: skip
    assert all(each.url.startswith("https://dl.fbaipublicfiles.com/") for each in OFFICIAL.values())
    assert all(len(bytes.fromhex(each.sha256)) == 32 for each in OFFICIAL.values())


def test_masks_by_downloaded_weights(server, home, blob_set, tmp_path, monkeypatch, tiny_sam):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sam_model_registry, "vit_l", tiny_sam)
    torch.save(tiny_sam().state_dict(), tmp_path / "tiny.pth")
    server.content = (tmp_path / "tiny.pth").read_bytes()
    monkeypatch.setitem(weights.OFFICIAL, "vit_l", of(server.url, server.content))
    result = CliRunner().invoke(app, ["prep-masks", str(blob_set), "--sam-model", "vit_l"])
    assert result.exit_code == 0, result.output
    assert (home / "sam.pth").read_bytes() == server.content
    again = prep_masks(blob_set, segmenter="sam", sam_model="vit_l")
    assert (again.segmenter, again.kept) == ("sam", 4) and len(server.asked) == 1


def test_the_command_says_where_to_put_the_file(server, home, blob_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(weights.OFFICIAL, "vit_b", of(server.url.replace("sam.pth", "gone.pth")))
    result = CliRunner().invoke(app, ["prep-masks", str(blob_set), "--segmenter", "sam"])
    assert isinstance(result.exception, SetupError) and result.exception.exit_code == 4
    assert str(home / "gone.pth") in str(result.exception)
    assert not (tmp_path / "runs").exists()
