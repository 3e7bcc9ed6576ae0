"""MNIST is found, read, and fetched: whole, checked, and never mixed with other data."""

import gzip
import hashlib
import os
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from numpy_kd.datasets import idx, load_mnist, mnist


def encoded(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def small():
    """What a small MNIST would hold, by file name."""
    rng = np.random.default_rng(7)
    sizes = {"train": 7, "t10k": 4}
    files = {}
    for part, n in sizes.items():
        images = rng.integers(0, 256, (n, 3, 5), dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte"] = encoded(images)
        files[f"{part}-labels-idx1-ubyte"] = encoded(rng.integers(0, 10, n, dtype=np.uint8))
    assert set(files) == set(mnist.MNIST_FILES)
    return files


def lay_out(folder, files, ending="", pack=bytes, dot=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        name = name.replace("-idx", ".idx") if dot else name
        (folder / (name + ending)).write_bytes(pack(content))
    return folder


def assert_small(found, files):
    for i, part in enumerate(["train", "t10k"]):
        pixels = np.frombuffer(files[f"{part}-images-idx3-ubyte"][16:], np.uint8).reshape(-1, 15)
        labels = np.frombuffer(files[f"{part}-labels-idx1-ubyte"][8:], np.uint8)
        np.testing.assert_allclose(found[2 * i], pixels / 255, rtol=1e-7)
        np.testing.assert_array_equal(found[2 * i + 1], labels)
        assert found[2 * i].min() >= 0 and found[2 * i].max() <= 1


@pytest.fixture(autouse=True)
def no_data_of_the_users(monkeypatch, tmp_path):
    """The real folders are out of sight, but in `REAL`."""
    monkeypatch.delenv("NUMPY_KD_DATA", raising=False)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))


REAL = Path(os.environ.get("NUMPY_KD_DATA", "")) / "mnist"


class TestMnist:
    @pytest.mark.parametrize("ending, pack", [("", bytes), (".gz", gzip.compress), (".gz", bytes)])
    @pytest.mark.parametrize("dot", [False, True])
    def test_spellings(self, tmp_path, small, ending, pack, dot):
        folder = lay_out(tmp_path / "here", small, ending, pack, dot)
        found = load_mnist(folder)
        assert_small(found, small)
        assert [a.dtype for a in found] == [np.float32, np.int64] * 2
        assert load_mnist(str(folder), dtype=np.float64).x_test.dtype == np.float64

    def test_the_users_folder_comes_first_and_then_the_cache(self, tmp_path, small, monkeypatch):
        other = {name: content[::-1][:8][::-1] for name, content in small.items()}
        lay_out(tmp_path / "cache" / "numpy_kd" / "mnist", small)
        assert_small(load_mnist(), small)
        monkeypatch.setenv("NUMPY_KD_DATA", str(tmp_path / "data"))
        assert_small(load_mnist(), small)  # the folder is not there
        lay_out(tmp_path / "data" / "mnist", dict(list(other.items())[:3]))
        assert_small(load_mnist(), small)  # one of the four is missing
        lay_out(tmp_path / "data" / "mnist", other)
        with pytest.raises(ValueError, match="magic number"):
            load_mnist()

    def test_a_missing_file_says_where_it_was_looked_for(self, tmp_path, small, monkeypatch):
        monkeypatch.setenv("NUMPY_KD_DATA", str(tmp_path / "data"))
        folder = lay_out(tmp_path / "data" / "mnist", small)
        (folder / "train-labels-idx1-ubyte").unlink()
        (folder / "t10k-images-idx3-ubyte").unlink()
        with pytest.raises(FileNotFoundError) as error:
            load_mnist()
        lines = str(error.value).splitlines()
        assert lines[1:3] == [
            f"  {folder}: no train-labels-idx1-ubyte, t10k-images-idx3-ubyte",
            f"  {tmp_path / 'cache' / 'numpy_kd' / 'mnist'}: no such folder",
        ]
        assert "load_mnist(download=True)" in lines[3] and "NUMPY_KD_DATA" in lines[3]
        with pytest.raises(FileNotFoundError) as error:
            load_mnist(tmp_path)  # a path that is given is the only one
        assert str(folder) not in str(error.value)

    def test_images_and_labels_must_go_together(self, tmp_path, small):
        small["train-labels-idx1-ubyte"] = encoded(np.zeros(6, np.uint8))
        folder = lay_out(tmp_path, small)
        message = "must have one label for each of the 7 images in .*train-images.*, got 6"
        with pytest.raises(ValueError, match=f"train-labels-idx1-ubyte: {message}"):
            load_mnist(folder)

    def test_training_and_test_images_must_be_alike(self, tmp_path, small):
        small["t10k-images-idx3-ubyte"] = encoded(np.zeros((4, 3, 4), np.uint8))
        folder = lay_out(tmp_path, small)
        message = "t10k-images-idx3-ubyte: images must have the 15 pixels of those in .*, got 12"
        with pytest.raises(ValueError, match=message):
            load_mnist(folder)

    @pytest.mark.parametrize("name", mnist.MNIST_FILES)
    def test_a_broken_file_is_named(self, tmp_path, small, name):
        small[name] = small[name][:-1]
        with pytest.raises(ValueError, match=f"{name}: truncated data"):
            load_mnist(lay_out(tmp_path, small))

    def test_other_data_may_have_more_classes(self, tmp_path, small):
        small["train-labels-idx1-ubyte"] = encoded(np.arange(40, 47, dtype=np.uint8))
        _, labels_train, _, _ = load_mnist(lay_out(tmp_path, small))
        assert labels_train.tolist() == list(range(40, 47))

    def test_dtype_must_be_real(self, tmp_path):
        with pytest.raises(ValueError, match="^dtype must be a real floating-point type"):
            load_mnist(tmp_path, dtype=int)


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.server.half:  # and then nothing more
            self.send_response(200)
            self.send_header("Content-Length", "2000")
            self.end_headers()
            self.wfile.write(bytes(1000))
            self.server.half.wait(10)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Folders served on this machine: the only mirrors that `load_mnist` knows in these tests."""
    monkeypatch.setenv("no_proxy", "*")
    served = tmp_path / "served"
    served.mkdir()
    handler = partial(Handler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.folder, server.asked, server.half = served, [], None
        server.url = f"http://127.0.0.1:{server.server_port}"
        mirrors = (f"{server.url}/first/", f"{server.url}/second/")
        monkeypatch.setattr(mnist, "MNIST_MIRRORS", mirrors)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        if server.half:
            server.half.set()
        server.shutdown()
        thread.join()


class TestDownload:
    @pytest.fixture(autouse=True)
    def small_mnist(self, small, monkeypatch):
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
        monkeypatch.setattr(mnist, "MNIST_FILES", hashes)

    def test_into_the_cache_and_only_once(self, tmp_path, small, mirror, monkeypatch):
        monkeypatch.setenv("NUMPY_KD_DATA", str(tmp_path / "data"))  # theirs: not written to
        lay_out(mirror.folder / "second", small, ".gz", gzip.compress)
        assert_small(load_mnist(download=True), small)
        cache = tmp_path / "cache" / "numpy_kd" / "mnist"
        assert sorted(os.listdir(cache)) == sorted(f"{name}.gz" for name in small)
        assert not (tmp_path / "data").exists()
        expected = [f"/{m}/{name}.gz" for name in small for m in ("first", "second")]
        assert mirror.asked == expected
        assert_small(load_mnist(download=True), small)
        assert_small(load_mnist(), small)
        assert mirror.asked == expected

    def test_not_when_the_users_folder_has_it(self, tmp_path, small, mirror, monkeypatch):
        monkeypatch.setenv("NUMPY_KD_DATA", str(tmp_path / "data"))
        lay_out(tmp_path / "data" / "mnist", small)
        assert_small(load_mnist(download=True), small)
        assert mirror.asked == [] and not (tmp_path / "cache").exists()

    def test_into_the_given_folder_only_what_is_missing(self, tmp_path, small, mirror):
        lay_out(mirror.folder / "first", small, ".gz", gzip.compress)
        folder = lay_out(tmp_path / "here", dict(list(small.items())[:3]), dot=True)
        assert_small(load_mnist(folder, download=True), small)
        assert mirror.asked == [f"/first/{list(small)[3]}.gz"]

    def test_nothing_is_mixed_with_the_files_of_other_data(self, tmp_path, small, mirror):
        lay_out(mirror.folder / "first", small, ".gz", gzip.compress)
        name = "t10k-labels-idx1-ubyte"
        folder = lay_out(tmp_path / "here", {name: encoded(np.zeros(4, np.uint8))})
        with pytest.raises(ValueError, match=f"here.{name}: not MNIST's {name}: .* move it away"):
            load_mnist(folder, download=True)
        assert mirror.asked == [] and os.listdir(folder) == [name]

    def test_content_is_checked_unpacked(self, tmp_path, small, mirror):
        changed = {name: content[:-1] + b"\x07" for name, content in small.items()}
        lay_out(mirror.folder / "first", changed, ".gz", gzip.compress)
        lay_out(mirror.folder / "second", small, ".gz", lambda c: gzip.compress(c)[:-1])
        with pytest.raises(OSError, match="content has SHA-256(.|\n)*corrupt gzip data"):
            load_mnist(tmp_path / "here", download=True)
        assert not (tmp_path / "here").exists()
        lay_out(mirror.folder / "second", small, ".gz", partial(gzip.compress, compresslevel=1))
        assert_small(load_mnist(tmp_path / "here", download=True), small)

    def test_a_bomb_is_not_unpacked(self, tmp_path, small, mirror, monkeypatch):
        sizes, take = [], idx.take

        def counted(*args):
            data = take(*args)
            sizes.append(len(data))
            return data

        monkeypatch.setattr(idx, "take", counted)
        monkeypatch.setattr(mnist, "_MNIST_LIMIT", 2**16)
        lay_out(mirror.folder / "first", small, ".gz", lambda c: gzip.compress(c + bytes(2**20)))
        with pytest.raises(OSError, match="content has SHA-256"):
            load_mnist(tmp_path / "here", download=True)
        assert max(sizes) == 2**16

    def test_killed_half_way(self, tmp_path, small, mirror):
        mirror.half = threading.Event()
        folder = tmp_path / "here"
        program = (
            "import sys; from numpy_kd.datasets import mnist; mnist.MNIST_MIRRORS = sys.argv[1:2]\n"
            "mnist.load_mnist(sys.argv[2], download=True)"
        )
        command = [sys.executable, "-c", program, f"{mirror.url}/first/", str(folder)]
        root = Path(mnist.__file__).parents[2]
        process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE)
        with process:
            for _ in range(1000):
                if mirror.asked or process.poll() is not None:
                    break
                time.sleep(0.01)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)  # it has the first half, and waits for the second
            process.kill()
        assert mirror.asked and not folder.exists()
        mirror.half = mirror.half.set()
        lay_out(mirror.folder / "first", small, ".gz", gzip.compress)
        assert_small(load_mnist(folder, download=True), small)


@pytest.mark.skipif(
    len(mnist._mnist_files(REAL)) < 4,
    reason="needs MNIST: set NUMPY_KD_DATA to a folder whose subfolder mnist has the four files",
)
class TestRealMnist:
    def test_the_published_content(self, mirror, tmp_path):
        for name, path in mnist._mnist_files(REAL).items():
            with path.open("rb") as file:
                content = idx.unpacked(file).read()
            pack = partial(gzip.compress, compresslevel=1)
            lay_out(mirror.folder / "second", {name: content}, ".gz", pack)
        x_train, labels_train, x_test, labels_test = load_mnist(tmp_path / "new", download=True)
        assert x_train.shape == (60_000, 784) and x_test.shape == (10_000, 784)
        assert x_train.dtype == np.float32 and x_train.min() == 0 and x_train.max() == 1
        assert labels_train[:5].tolist() == [5, 0, 4, 1, 9]
        assert np.bincount(labels_test)[3] == 1010  # the paper's section 3 counts as many
        assert x_train.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)

    @pytest.mark.parametrize("name", mnist.MNIST_FILES)
    def test_the_files_have_the_published_hash(self, name):
        with mnist._mnist_files(REAL)[name].open("rb") as file:
            mnist._check_mnist(name, file)
