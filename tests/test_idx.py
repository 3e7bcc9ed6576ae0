"""The IDX reader takes whole, well-formed files, and names every other one."""

import gzip
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from numpy_kd.datasets import idx


def encoded(array, *, type_code=8, sizes=None):
    sizes = array.shape if sizes is None else sizes
    header = bytes([0, 0, type_code, len(sizes)]) + np.array(sizes, ">u4").tobytes()
    return header + array.tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "some-file"


def assert_error(path, content, message, read=idx.read_images):
    """An error that names the file first, and then says this."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: {message}"):
        read(path)


IMAGES = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
LABELS = np.array([3, 0, 9, 1], dtype=np.uint8)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@given(array=arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_images_come_back_as_they_were_written(path, pack, array):
    path.write_bytes(pack(encoded(array)))
    found = idx.read_images(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array, strict=True)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@given(array=arrays(np.uint8, st.integers(1, 20), elements=st.integers(0, 6)))
def test_labels_come_back_as_they_were_written(path, pack, array):
    path.write_bytes(pack(encoded(array)))
    np.testing.assert_array_equal(idx.read_labels(path, num_classes=7), array, strict=True)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "read, array", [(idx.read_images, IMAGES), (idx.read_labels, LABELS)], ids=["images", "labels"]
)
def test_truncation_at_every_length_is_an_error(path, pack, read, array):
    content = pack(encoded(array))
    for length in range(len(content)):
        assert_error(path, content[:length], "(truncated|corrupt gzip data|magic number)", read)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path), array)


def test_truncation_says_what_is_missing(path):
    content = encoded(IMAGES)
    assert_error(path, content[:7], "truncated header, it must have 16 bytes, got 7")
    assert_error(path, content[:-1], "truncated data, 2 x 3 x 5 entries are 30 bytes, got 29")
    assert_error(path, gzip.compress(content)[:-1], "corrupt gzip data: Compressed file ended")


def test_a_corrupted_gzip_is_an_error_or_the_same_images(path):
    content = gzip.compress(encoded(IMAGES), mtime=0)
    harmless = 0  # such as the time and the operating system in gzip's own header
    for i in range(len(content)):
        changed = bytearray(content)
        changed[i] ^= 0x15
        path.write_bytes(changed)
        try:
            np.testing.assert_array_equal(idx.read_images(path), IMAGES)
            harmless += 1
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
    assert harmless <= 8
    assert_error(path, content + b"more", "corrupt gzip data")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_trailing_bytes(path, pack):
    assert_error(
        path, pack(encoded(IMAGES) + b"\0"), "trailing bytes after the 30 of 2 x 3 x 5 entries"
    )


def test_wrong_magic_number(path):
    needed = r"magic number must be 0x00000803 \(unsigned bytes, 3 axes\), got "
    assert_error(path, encoded(LABELS), needed + "0x00000801")
    assert_error(path, encoded(IMAGES, type_code=0x0D), needed + "0x00000d03")
    assert_error(path, b"\x89PNG\r\n\x1a\n", needed + "0x89504e47")
    assert_error(path, encoded(IMAGES), "magic number must be 0x00000801", idx.read_labels)


@pytest.mark.parametrize(
    "sizes", [(2**32 - 1,) * 3, (2**31, 2**31, 4), (2**20 + 1, 32, 32), (0, 28, 28), (5, 0, 3)]
)
def test_absurd_sizes(path, sizes):
    times = " x ".join(map(str, sizes))
    message = f"sizes must multiply to 1 .. {2**30} bytes, got {times}$"
    assert_error(path, encoded(IMAGES, sizes=sizes), message)


@pytest.mark.parametrize("pack, n", [(bytes, 2**20), (gzip.compress, 2**16)], ids=["plain", "gzip"])
def test_memory_is_used_for_what_is_there_and_not_for_what_is_promised(path, pack, n):
    content = pack(encoded(IMAGES, sizes=(n, 32, 32)))
    tracemalloc.start()
    try:
        assert_error(path, content, f"truncated data, .* are {n * 2**10} bytes, got 30$")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_not_unpacked(path):
    content = gzip.compress(encoded(IMAGES) + bytes(2**25), compresslevel=1)
    assert len(content) < 2**18
    tracemalloc.start()
    try:
        assert_error(path, content, "trailing bytes after the 30")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_with_an_honest_header_is_not_unpacked_either(path):
    """100 MB of nothing in 100 kB: the header says so, and the file is too small to mean it."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(bytes([0, 0, 8, 3]) + np.array([100, 1024, 1024], ">u4").tobytes())
        for _ in range(100):
            file.write(bytes(2**20))
    packed = path.stat().st_size
    assert packed < 2**17
    message = f"sizes must be what {packed} bytes can hold, got 100 x 1024 x 1024: a gzip bomb"
    tracemalloc.start()
    try:
        assert_error(path, path.read_bytes(), message)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_label_out_of_range(path):
    content = encoded(np.array([3, 9, 10, 9], np.uint8))
    message = r"labels must be in 0 \.\. 9, got 10 at index 2$"
    assert_error(path, content, message, lambda path: idx.read_labels(path, num_classes=10))
    assert idx.read_labels(path, num_classes=11).max() == idx.read_labels(path).max() == 10
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 1, got 0"):
        idx.read_labels(path, num_classes=0)


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        idx.read_images(tmp_path / "nowhere")
