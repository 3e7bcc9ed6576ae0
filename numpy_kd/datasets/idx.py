"""A strict reader for IDX, the file format of MNIST.

A file that is cut short, too long, or something else altogether is an error that names it, found
before any large allocation, so that no experiment starts on half of its data.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np

from numpy_kd import _checks

MAX_BYTES = 1 << 30  # no file of this kind comes near: MNIST's largest has 47 MB

_CHUNK = 1 << 20
_SMALL = 1 << 26  # bytes that may be unpacked from however few
_MOST_PACKED = 100  # times smaller; images come to about 5, and a gzip bomb to 1,000
_GZIP_MAGIC = b"\x1f\x8b"


def read_images(path: str | PathLike) -> np.ndarray:
    """The images of an IDX file (magic number 0x00000803), plain or gzipped.

    Returns a uint8 array of shape (n, height, width). Raises `ValueError`, naming the file, for a
    wrong magic number, absurd sizes, truncated data, trailing bytes and a corrupt gzip stream.
    Source: the format's description, https://yann.lecun.com/exdb/mnist.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "images"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 7, 255]))
    ...     read_images(path)
    array([[[  7, 255]]], dtype=uint8)
    """
    return _read(path, ndim=3)


def read_labels(path: str | PathLike, num_classes: int | None = None) -> np.ndarray:
    """The labels of an IDX file (magic number 0x00000801), plain or gzipped.

    Returns a uint8 array of shape (n,). Raises `ValueError`, naming the file, as `read_images`
    does, and for a label that is not in 0 .. num_classes - 1, if their number is given.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "labels"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     read_labels(path)
    array([5, 0, 4], dtype=uint8)
    """
    if num_classes is not None:
        num_classes = _checks.count("num_classes", num_classes)
    labels = _read(path, ndim=1)
    if num_classes is not None and labels.max() >= num_classes:
        i = int(labels.argmax())
        raise ValueError(
            f"{path}: labels must be in 0 .. {num_classes - 1}, got {labels[i]} at index {i}"
        )
    return labels


def unpacked(file: BinaryIO) -> BinaryIO | gzip.GzipFile:
    """A stream of what `file` holds: unpacked if it begins as gzip does, else `file` itself.

    >>> import io
    >>> unpacked(io.BytesIO(gzip.compress(b"seven"))).read()
    b'seven'
    """
    start = file.read(len(_GZIP_MAGIC))
    file.seek(0)
    return gzip.GzipFile(fileobj=file, mode="rb") if start == _GZIP_MAGIC else file


def take(stream: BinaryIO | gzip.GzipFile, limit: int) -> bytearray:
    """The bytes of `stream` up to its end, but never more than `limit` of them.

    Read piece by piece: memory is used for what is there, not for what a header promised, and a
    gzip stream that would unpack to far more is left alone. Raises `ValueError` where it is corrupt.

    >>> import io
    >>> take(io.BytesIO(b"0123456789"), 4)
    bytearray(b'0123')
    """
    data = bytearray()
    try:
        while len(data) < limit:
            piece = stream.read(min(_CHUNK, limit - len(data)))
            if not piece:
                break
            data += piece
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"corrupt gzip data: {error}") from None
    return data


def _read(path: str | PathLike, ndim: int) -> np.ndarray:
    """The array in an IDX file of unsigned bytes with `ndim` axes, every byte accounted for."""
    with Path(path).open("rb") as file:
        try:
            stream = unpacked(file)
            shape = _shape(take(stream, 4 + 4 * ndim), ndim)
            size = math.prod(shape)
            packed = os.fstat(file.fileno()).st_size
            if stream is not file and size > max(_SMALL, _MOST_PACKED * packed):
                raise ValueError(
                    f"sizes must be what {packed} bytes can hold, got {_times(shape)}: a gzip bomb?"
                )
            data = take(stream, size + 1)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if len(data) < size:
        raise ValueError(
            f"{path}: truncated data, {_times(shape)} entries are {size} bytes, got {len(data)}"
        )
    if len(data) > size:
        raise ValueError(f"{path}: trailing bytes after the {size} of {_times(shape)} entries")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _shape(header: bytearray, ndim: int) -> tuple[int, ...]:
    """The sizes that a header declares: a magic number, then big-endian 32-bit integers."""
    length = 4 + 4 * ndim
    magic = bytes([0, 0, 8, ndim])  # 8: unsigned bytes
    if header[:4] != magic[: len(header)]:
        raise ValueError(
            f"magic number must be 0x{magic.hex()} (unsigned bytes, {ndim} axes), "
            f"got 0x{header[:4].hex()}"
        )
    if len(header) < length:
        raise ValueError(f"truncated header, it must have {length} bytes, got {len(header)}")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
    if not 0 < math.prod(shape) <= MAX_BYTES:
        raise ValueError(f"sizes must multiply to 1 .. {MAX_BYTES} bytes, got {_times(shape)}")
    return shape


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
