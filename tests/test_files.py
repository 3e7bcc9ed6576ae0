"""Files are the old ones or the new ones; what a killed writer left goes; nothing unpacks to more."""

import io
import os
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from numpy_kd import _files, _progress

KIND = "some kind"


def write(path, content=b"new"):
    with _files.written_aside(path) as file:
        file.write(content)


def test_a_link_is_written_through(tmp_path):
    target = tmp_path / "there" / "results"
    target.parent.mkdir()
    target.write_bytes(b"old")
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / "link"
    link.symlink_to(target)
    write(link)
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert os.listdir(link.parent) == ["link"] and os.listdir(target.parent) == ["results"]
    target.unlink()
    write(link, b"newer")
    assert link.is_symlink() and target.read_bytes() == b"newer"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    write(path)
    assert path.stat().st_mode & 0o777 == mode and path.read_bytes() == b"new"


def test_what_is_not_a_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="is there, and not a file that could be replaced"):
            write(path)
    assert os.listdir(tmp_path) == ["pipe"]


WRITER = """
import sys
from numpy_kd import _files
with _files.written_aside(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing `tmp_path / "fi*le"`."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "fi*le")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=os.path.dirname(os.path.dirname(__file__)), **pipes) as run:
        assert run.stdout.readline() == b"writing\n"
        yield run
        run.kill()


def test_the_part_of_a_killed_writer_is_removed_by_the_next(tmp_path, writer):
    path = tmp_path / "fi*le"
    others = [tmp_path / ".file.1234.part", tmp_path / ".fi*le.part", tmp_path / "fi*le.1234.part"]
    for other in others:
        other.touch()
    parts = set(tmp_path.iterdir()) - set(others)
    assert len(parts) == 1
    write(path)
    assert parts < set(tmp_path.iterdir())  # it lives, and is left alone
    writer.kill()
    writer.wait()
    write(path, b"newer")
    assert set(tmp_path.iterdir()) == {path, *others}
    assert path.read_bytes() == b"newer"


def test_two_writers_do_not_disturb_each_other(tmp_path, writer):
    write(tmp_path / "fi*le")
    writer.communicate()
    assert (tmp_path / "fi*le").read_bytes() == b"half"
    assert len(os.listdir(tmp_path)) == 1


def test_a_part_that_is_taken_for_an_orphan_before_its_lock_is_made_again(tmp_path, monkeypatch):
    lock, taken = _files._lock, []

    def too_late(file, **how):
        if not taken:
            taken.append(file.name)
            os.unlink(file.name)
        lock(file, **how)

    monkeypatch.setattr(_files, "_lock", too_late)
    write(tmp_path / "file")
    assert taken and os.listdir(tmp_path) == ["file"]


ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "nothing": np.zeros((0, 3)),
    "number": np.array(3),
    "complex": np.array([1j, 2]),
    "flags": np.array([True, False]),
    "words": np.array(["a", "bc"]),
}


def test_arrays_come_back_as_they_were_and_can_be_written_to(tmp_path):
    _files.write_npz(tmp_path / "file", {"kind": KIND, "n": 3}, ARRAYS)
    header, arrays = _files.read_npz(tmp_path / "file", KIND)
    assert header == {"kind": KIND, "n": 3}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
        assert arrays[name].flags.writeable
        assert arrays[name].flags.f_contiguous == array.flags.f_contiguous


def assert_refused(path, limit=2**22):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"file is not a whole {KIND} file"):
            _files.read_npz(path, KIND)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        np.savez_compressed(file, header=np.zeros(2**26, np.uint8))
    assert path.stat().st_size < 2**17
    assert_refused(path)


def member(shape, content, dtype="<f8"):
    stream = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


@pytest.mark.parametrize(
    "content",
    [
        member((2**40,), bytes(8)),
        member((2**26,), bytes(8)),
        member((3,), bytes(32)),
        member((3,), bytes(25)),
        member((1,), bytes(8), "|O"),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_a_header_that_promises_something_else_is_refused(tmp_path, content):
    path = tmp_path / "file"
    _files.write_npz(path, {"kind": KIND}, {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weights.npy", content)
    assert_refused(path)


def test_many_members_over_the_same_bytes_are_refused(tmp_path):
    """A directory of a thousand names for one megabyte."""
    path = tmp_path / "file"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", member((2**17,), bytes(2**20)))
        info = archive.infolist()[0]
        archive.filelist += [info] * 1000
        archive._didModify = True
    assert path.stat().st_size < 2**21
    assert_refused(path)


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["none", "closed"])
def test_without_a_standard_error_stream_there_is_no_bar(monkeypatch, stream):
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    for shown in (None, False, True):
        with _progress.bar(3, shown=shown) as bar:
            bar.update()


def test_a_bar_shows_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for shown, seen in ((None, False), (False, False), (True, True)):
        with _progress.bar(3, shown=shown, leave=True) as bar:
            bar.update(3)
        assert ("3/3" in sys.stderr.getvalue()) == seen
