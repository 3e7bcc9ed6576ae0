"""A file is fetched whole from a mirror that has the right one, or nothing is written."""

import os
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest

from numpy_kd.datasets import download

CONTENT = bytes(range(256)) * 1000
LIMIT = len(CONTENT) + 100


class Mirror(BaseHTTPRequestHandler):
    """The first part of the address says how the mirror behaves."""

    def do_GET(self):
        self.server.asked.append(self.path)
        getattr(self, self.path.split("/")[1])()

    def send(self, content, promised=None, status=200):
        self.send_response(status)
        if promised != "nothing":
            self.send_header("Content-Length", str(promised or len(content)))
        self.end_headers()
        try:
            self.wfile.write(content)
        except ConnectionError:
            pass  # the client has had enough

    def good(self):
        self.send(CONTENT)

    def unannounced(self):
        self.send(CONTENT, promised="nothing")

    def wrong(self):
        self.send(CONTENT[::-1])

    def short(self):
        self.send(CONTENT[:1000], promised=len(CONTENT))

    def endless(self):
        self.send(b"", promised="nothing")
        try:
            for _ in range(64):
                self.wfile.write(bytes(1 << 20))
        except ConnectionError:
            self.server.hung_up.set()

    def missing(self):
        self.send(b"no such page", status=404)

    def silent(self):
        self.server.done.wait(10)

    def stalling(self):
        self.send(CONTENT[:1000], promised=len(CONTENT))
        self.server.done.wait(10)

    def gibberish(self):
        self.wfile.write(b"good morning\r\n\r\n")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.asked, server.done, server.hung_up = [], threading.Event(), threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def refusing():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/file"


def check(content):
    if content != CONTENT:
        raise ValueError("not the wanted content")


def fetch(urls, path):
    download.fetch(urls, path, check=check, limit=LIMIT, timeout=0.3)


@pytest.mark.parametrize("behaviour", ["good", "unannounced"])
def test_the_file_appears_whole_in_a_new_folder(server, tmp_path, behaviour):
    path = tmp_path / "new" / "folder" / "file"
    fetch([f"{server.url}/{behaviour}/file", f"{server.url}/missing/file"], path)
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["file"]
    assert server.asked == [f"/{behaviour}/file"]


FAILURES = {
    "wrong": "not the wanted content",
    "short": "broke off after 1000 of 256000 bytes",
    "stalling": "timed out",
    "silent": "timed out",
    "endless": f"more than the {LIMIT} bytes it can have",
    "missing": "HTTP status 404, Not Found",
    "gibberish": "good morning",
}


@pytest.mark.parametrize("behaviour", FAILURES)
def test_a_mirror_that_fails_falls_to_the_next(server, tmp_path, behaviour):
    path = tmp_path / "file"
    urls = [f"{server.url}/{behaviour}/file", f"{server.url}/good/file"]
    with pytest.raises(OSError, match=re.escape(f"{urls[0]}: {FAILURES[behaviour]}")):
        fetch(urls[:1], path)
    assert os.listdir(tmp_path) == []
    fetch(urls, path)
    assert path.read_bytes() == CONTENT


def test_a_refused_connection_falls_to_the_next(server, refusing, tmp_path):
    fetch([refusing, f"{server.url}/good/file"], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_no_mirror_left_is_an_error_with_every_reason(server, refusing, tmp_path):
    urls = [refusing, f"{server.url}/wrong/file", "no address"]
    with pytest.raises(OSError, match="^file could not be fetched from any mirror:") as error:
        fetch(urls, tmp_path / "file")
    lines = str(error.value).splitlines()[1:]
    assert [line.split(": ")[0].strip() for line in lines] == urls
    assert "refused" in lines[0] and "not the wanted" in lines[1] and "unknown url" in lines[2]
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_the_old_file(server, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="broke off"):
        fetch([f"{server.url}/short/file"], path)
    assert path.read_bytes() == b"old"
    fetch([f"{server.url}/good/file"], path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("stop", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_stop_while_writing_leaves_the_old_file_alone(server, tmp_path, monkeypatch, step, stop):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def stopped(*args):
        raise stop

    monkeypatch.setattr(os, step, stopped)
    with pytest.raises(type(stop)) as error:
        fetch([f"{server.url}/good/file"], path)
    assert error.value is stop
    assert os.listdir(tmp_path) == ["file"] and path.read_bytes() == b"old"


def test_the_file_has_the_permissions_of_any_new_file(server, tmp_path):
    fetch([f"{server.url}/good/file"], tmp_path / "file")
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_never_ends_is_not_read_to_the_end(server, tmp_path):
    with pytest.raises(OSError, match="more than"):
        fetch([f"{server.url}/endless/file"], tmp_path / "file")
    assert server.hung_up.wait(5)


def test_the_limit_itself_is_allowed(server, tmp_path):
    urls = [f"{server.url}/unannounced/file"]
    download.fetch(urls, tmp_path / "file", check=check, limit=len(CONTENT))
    with pytest.raises(OSError, match="more than the 255999 bytes"):
        download.fetch(urls, tmp_path / "file", check=check, limit=len(CONTENT) - 1)


def test_the_bar_is_for_terminals(server, tmp_path, monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # another test may have it
    fetch([f"{server.url}/good/file"], tmp_path / "file")
    assert capfd.readouterr() == ("", "")
    terminal = StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    fetch([f"{server.url}/good/file"], tmp_path / "file")
    assert "file: 100%" in terminal.getvalue() and "256k/256k" in terminal.getvalue()


def test_data_folders():
    home = Path.home()
    both = {"NUMPY_KD_DATA": "/d", "XDG_CACHE_HOME": "/c", "LOCALAPPDATA": "/local"}

    def folders(platform, **environ):
        return download.data_folders("mnist", environ, platform)

    assert folders("linux") == [home / ".cache/numpy_kd/mnist"]
    assert folders("win32") == [home / "AppData/Local/numpy_kd/mnist"]
    assert folders("linux", **both) == [Path("/d/mnist"), Path("/c/numpy_kd/mnist")]
    assert folders("win32", **both) == [Path("/d/mnist"), Path("/local/numpy_kd/mnist")]
    assert folders("darwin", NUMPY_KD_DATA="", XDG_CACHE_HOME="") == folders("linux")
    assert folders("linux", NUMPY_KD_DATA="~/data")[0] == home / "data/mnist"
