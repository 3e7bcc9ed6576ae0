"""MNIST, and whatever comes in its four files: found on this machine or fetched, never mixed."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from numpy_kd import _checks
from numpy_kd.datasets import idx
from numpy_kd.datasets.download import data_folders, fetch
from numpy_kd.datasets.preparing import Split

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

MNIST_FILES = {  # each name with the SHA-256 of the unpacked content
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_MNIST_LIMIT = 1 << 26  # bytes; the largest of the four files has 47 MB unpacked


def load_mnist(path: str | os.PathLike | None = None, *, download=False, dtype=np.float32) -> Split:
    """MNIST: 60,000 handwritten digits of 28 x 28 pixels to learn from, 10,000 to be judged by.

    Reads the four IDX files, gzipped or not, from the folder `path` if it is given, else from the
    first of `$NUMPY_KD_DATA/mnist` and the user's cache folder that has all four. With
    `download=True` missing files are first fetched into `path`, else into the cache, from a public
    mirror, and kept only if their content has the published SHA-256.

    x has shape (n, 784), pixels row by row, divided by 255 and so in [0, 1], of the given dtype;
    labels are int64, 0 to 9. Other data in the same four files is read as well, with the classes that
    it has (Fashion-MNIST 10, EMNIST up to 62).
    Raises `FileNotFoundError` saying where it looked, `ValueError` naming a file that is not what
    it should be, `OSError` when no mirror could serve.

    Source: LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document
    recognition.

    >>> load_mnist("no-such-folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    FileNotFoundError: MNIST was not found. Looked in:
      no-such-folder: no such folder
    ...
    """
    dtype = _checks.float_dtype("dtype", dtype)
    download = _checks.flag("download", download)
    if path is not None:
        path = _checks.path("path", path)
    folders = data_folders("mnist") if path is None else [path.expanduser()]
    found = [files for folder in folders if len(files := _mnist_files(folder)) == len(MNIST_FILES)]
    if not found and download:
        _download_mnist(folders[-1], MNIST_MIRRORS)
        found = [_mnist_files(folders[-1])]
    if not found:
        raise FileNotFoundError(_mnist_missing(folders))
    train_images, train_labels, test_images, test_labels = (found[0][name] for name in MNIST_FILES)
    x_train, labels_train = _read_pair(train_images, train_labels, dtype)
    x_test, labels_test = _read_pair(test_images, test_labels, dtype)
    if x_train.shape[1] != x_test.shape[1]:
        raise ValueError(
            f"{test_images}: images must have the {x_train.shape[1]} pixels of those in "
            f"{train_images}, got {x_test.shape[1]}"
        )
    return Split(x_train, labels_train, x_test, labels_test)


def _mnist_files(folder: Path) -> dict[str, Path]:
    """Those of the four files that `folder` has, under any of their usual names."""
    files = {}
    for name in MNIST_FILES:
        dotted = name.replace("-idx", ".idx")
        spellings = (folder / (stem + end) for stem in (name, dotted) for end in ("", ".gz"))
        path = next(filter(Path.is_file, spellings), None)
        if path is not None:
            files[name] = path
    return files


def _mnist_missing(folders: Sequence[Path]) -> str:
    """Where the files were looked for, what was missing there, and how to get them."""
    lines = ["MNIST was not found. Looked in:"]
    for folder in folders:
        missing = [name for name in MNIST_FILES if name not in _mnist_files(folder)]
        lacks = "no " + ", ".join(missing) if folder.is_dir() else "no such folder"
        lines.append(f"  {folder}: {lacks}")
    lines.append(
        "Fetch it once with load_mnist(download=True), or set NUMPY_KD_DATA to a folder whose "
        "subfolder mnist holds the four files (gzipped or not)."
    )
    return "\n".join(lines)


def _download_mnist(folder: Path, mirrors: Sequence[str]) -> None:
    """Complete `folder`, which must hold nothing but MNIST under the names of MNIST's files."""
    present = _mnist_files(folder)
    for name, path in present.items():
        with path.open("rb") as file:
            try:
                _check_mnist(name, file)
            except ValueError as error:
                raise ValueError(f"{path}: {error}; move it away to download MNIST here") from None
    for name in (name for name in MNIST_FILES if name not in present):
        fetch(
            [f"{mirror}{name}.gz" for mirror in mirrors],
            folder / f"{name}.gz",
            check=partial(_check_content, name),
            limit=_MNIST_LIMIT,
        )


def _check_content(name: str, content: bytes) -> None:
    """As `_check_mnist`, for what a mirror has sent."""
    _check_mnist(name, io.BytesIO(content))


def _check_mnist(name: str, file: BinaryIO) -> None:
    """Raise `ValueError` unless `file` has, unpacked, the published content."""
    digest = hashlib.sha256(idx.take(idx.unpacked(file), _MNIST_LIMIT)).hexdigest()
    if digest != MNIST_FILES[name]:
        raise ValueError(f"not MNIST's {name}: its content has SHA-256 {digest}")


def _read_pair(images_path: Path, labels_path: Path, dtype) -> tuple[np.ndarray, np.ndarray]:
    """x of shape (n, height * width) in [0, 1] and int64 labels from two files that go together."""
    images, labels = idx.read_images(images_path), idx.read_labels(labels_path)
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: must have one label for each of the {len(images)} images in "
            f"{images_path}, got {len(labels)}"
        )
    x = np.divide(images.reshape(len(images), -1), 255, dtype=dtype)
    return x, labels.astype(np.int64)
