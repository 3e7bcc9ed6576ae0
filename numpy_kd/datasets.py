"""Bytes to `(x, labels)`, and what is done to them before a network sees them.

The 8 x 8 digits travel with the package, MNIST is read from its four files; beside them stand
scaling, splitting, mini-batches and random shifts.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from numpy_kd import _checks, idx
from numpy_kd.download import data_folders, fetch

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


class Split(NamedTuple):
    """Examples to learn from and examples to be judged by: x has a row each, labels are integers.

    >>> x_train, labels_train, x_test, labels_test = load_digits()
    >>> load_digits()._fields
    ('x_train', 'labels_train', 'x_test', 'labels_test')
    """

    x_train: np.ndarray
    labels_train: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray


def load_digits(dtype=np.float32) -> Split:
    """1,797 real handwritten digits of 8 x 8 pixels: 1,297 to learn from, 500 to be judged by.

    x has shape (1297, 64) and (500, 64), pixels row by row, divided by 16 and so in [0, 1], of the
    given dtype; labels are int64, 0 to 9. The split is stratified, and it and the order of the rows
    never change: the rows stand in the order of the SHA-256 of their pixels, a shuffle that depends
    on no random generator. The people who wrote the test digits also wrote training digits.
    The arrays are the caller's own. Raises `ValueError` for a dtype that is not a real float.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository (1998), CC BY 4.0.

    >>> digits = load_digits()
    >>> digits.x_train.shape, digits.x_test.shape, digits.x_train.dtype
    ((1297, 64), (500, 64), dtype('float32'))
    >>> np.bincount(digits.labels_test)
    array([50, 51, 49, 51, 50, 51, 50, 50, 48, 50])
    """
    dtype = _checks.float_dtype("dtype", dtype)
    packed = resources.files("numpy_kd").joinpath("data/digits.csv.gz").read_bytes()
    text = gzip.decompress(packed).decode("ascii")
    table = np.loadtxt(text.splitlines(), delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :64], table[:, 64].astype(np.int64)
    keys = [hashlib.sha256(row.tobytes()).digest() for row in pixels]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    return _split(np.divide(pixels, 16, dtype=dtype), labels, order, num_test=500, stratify=True)


def load_mnist(path: str | os.PathLike | None = None, *, download=False, dtype=np.float32) -> Split:
    """MNIST: 60,000 handwritten digits of 28 x 28 pixels to learn from, 10,000 to be judged by.

    Reads the four IDX files, gzipped or not, from the folder `path` if it is given, else from the
    first of `$NUMPY_KD_DATA/mnist` and the user's cache folder that has all four. With
    `download=True` missing files are first fetched into `path`, else into the cache, from a public
    mirror, and kept only if their content has the published SHA-256.

    x has shape (n, 784), pixels row by row, divided by 255 and so in [0, 1], of the given dtype;
    labels are int64, 0 to 9. Other data in the same format (Fashion-MNIST) is read as well.
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
    folders = data_folders("mnist") if path is None else [Path(path).expanduser()]
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
            check=lambda content, name=name: _check_mnist(name, io.BytesIO(content)),
            limit=_MNIST_LIMIT,
        )


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


class StandardScaler:
    """Columns with mean 0 and standard deviation 1, by the mean and deviation of training data.

    `fit(x)` on (n, D) sets `mean` and `scale`, float64 of shape (D,); the deviation is the
    population's (divided by n). A constant column has scale 1: it becomes 0. `transform` and
    `inverse` keep the dtype (integers become float64) and leave their argument as it is.
    Raises `ValueError` for x that is not a finite (n, D) array, and before `fit`.

    >>> x = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> scaler = StandardScaler().fit(x)
    >>> scaler.transform(x)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> scaler.inverse([[0.5, 0.0]])
    array([[2.5, 7. ]])
    """

    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    def fit(self, x) -> StandardScaler:
        """Take mean and deviation from x of shape (n, D); returns the scaler itself.

        >>> StandardScaler().fit([[1.0], [3.0]]).scale
        array([1.])
        """
        x = _checks.batch("x", x)
        self.mean = x.mean(axis=0, dtype=np.float64)
        self.scale = x.std(axis=0, dtype=np.float64)
        constant = (np.ptp(x, axis=0) == 0) | (self.scale < np.finfo(x.dtype).tiny)
        self.scale[constant] = 1
        return self

    def transform(self, x) -> np.ndarray:
        """(x - mean) / scale, for x of shape (n, D).

        >>> StandardScaler().fit([[1.0], [3.0]]).transform([[5.0]])
        array([[3.]])
        """
        x = self._columns(x, "transform")
        return ((x - self.mean) / self.scale).astype(x.dtype)

    def inverse(self, x) -> np.ndarray:
        """x * scale + mean: what `transform` has undone.

        >>> StandardScaler().fit([[1.0], [3.0]]).inverse([[3.0]])
        array([[5.]])
        """
        x = self._columns(x, "inverse")
        return (x * self.scale + self.mean).astype(x.dtype)

    def _columns(self, x, method: str) -> np.ndarray:
        if self.mean is None:
            raise ValueError(f"StandardScaler must be fitted before {method}: call fit(x) first")
        x = _checks.batch("x", x)
        if x.shape[1] != len(self.mean):
            raise ValueError(
                f"x must have the {len(self.mean)} columns the scaler was fitted on, "
                f"got {x.shape[1]}"
            )
        return x


def train_test_split(
    x, labels, *, test_fraction: float, rng: np.random.Generator, stratify: bool = True
) -> Split:
    """Shuffle rows and labels together and set round(test_fraction * n) of them aside for testing.

    x has n rows of any shape, labels are n integers. With `stratify` every class has within one
    of its proportional share in both parts. The parts are copies, of x's dtype. Raises
    `ValueError` for mismatching lengths, labels that are not integers, and a fraction that is not
    in (0, 1) or leaves a part empty.

    >>> x, labels = np.arange(20.0).reshape(10, 2), np.repeat([0, 1], 5)
    >>> parts = train_test_split(x, labels, test_fraction=0.4, rng=np.random.default_rng(0))
    >>> parts.x_train.shape, np.bincount(parts.labels_test)
    ((6, 2), array([2, 2]))
    """
    x, labels = np.asarray(x), _checks.labels("labels", labels)
    if x.ndim == 0:
        raise ValueError("x must have a row for each label, got a single number")
    _checks.same_length("x", x, "labels", labels)
    fraction = _checks.fraction("test_fraction", test_fraction)
    num_test = round(fraction * len(x))
    if not 0 < num_test < len(x):
        raise ValueError(
            f"test_fraction must leave rows on both sides, got {fraction} of {len(x)} rows"
        )
    order = _checks.generator("rng", rng).permutation(len(x))
    return _split(x, labels, order, num_test, stratify)


def _split(x, labels, order, num_test: int, stratify: bool) -> Split:
    """The rows in the given order; the first of each class, or of all, go to the test part."""
    x, labels = x[order], labels[order]
    groups = np.unique(labels, return_inverse=True)[1] if stratify else np.zeros_like(order)
    share, remainder = np.divmod(np.bincount(groups) * num_test, len(order))
    largest = np.argsort(-remainder, kind="stable")[: num_test - share.sum()]
    share[largest] += 1
    is_test = np.zeros(len(order), dtype=bool)
    for group, size in enumerate(share):
        is_test[np.flatnonzero(groups == group)[:size]] = True
    return Split(x[~is_test], labels[~is_test], x[is_test], labels[is_test])


def batches(
    n: int, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[np.ndarray]:
    """Index arrays that cover 0 .. n - 1 once: an epoch, in random order if `rng` is given.

    The order is drawn once, when the function is called; all batches have `batch_size` indices
    but the last, which may have fewer. Raises `ValueError` for counts below 1.

    >>> [list(map(int, rows)) for rows in batches(5, 2)]
    [[0, 1], [2, 3], [4]]
    >>> rng = np.random.default_rng(0)
    >>> sorted(int(i) for rows in batches(5, 2, rng) for i in rows)
    [0, 1, 2, 3, 4]
    """
    n, batch_size = _checks.count("n", n), _checks.count("batch_size", batch_size)
    order = (
        np.arange(n) if rng is None else _checks.generator("rng", rng, required=True).permutation(n)
    )
    return (order[start : start + batch_size] for start in range(0, n, batch_size))


def jitter(
    x, shift: int, rng: np.random.Generator, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Each image moved by its own whole number of pixels, up to `shift` in either direction.

    x has shape (B, H * W), rows of pixels, and the result is a new array like it. What moves in
    from outside is 0; what moves out is lost. `shape` is (H, W); without it the images are taken
    to be square. The paper (Hinton et al. 2015, section 3) moves MNIST's digits by up to 2 pixels.
    Raises `ValueError` for a shift below 0 or as large as the image, or a shape that does not fit.

    >>> x = np.array([[0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0]])
    >>> jitter(x, 1, np.random.default_rng(1)).reshape(3, 3)
    array([[0., 0., 0.],
           [0., 5., 0.],
           [0., 0., 0.]])
    """
    x = _checks.batch("x", x)
    shift = _checks.count("shift", shift, at_least=0)
    height, width = _image_shape(x.shape[1], shape)
    if shift >= min(height, width):
        raise ValueError(
            f"shift must be less than the images' height and width, ({height}, {width}), "
            f"got {shift}"
        )
    padded = np.zeros((len(x), height + 2 * shift, width + 2 * shift), x.dtype)
    padded[:, shift : shift + height, shift : shift + width] = x.reshape(-1, height, width)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = _checks.generator("rng", rng, required=True).integers(
        0, 2 * shift + 1, size=(2, len(x))
    )
    return windows[np.arange(len(x)), down, right].reshape(x.shape)


def _image_shape(pixels: int, shape: tuple[int, int] | None) -> tuple[int, int]:
    if shape is None:
        side = math.isqrt(pixels)
        if side * side != pixels:
            raise ValueError(f"shape must be given, x has {pixels} columns: not a square image")
        return side, side
    if np.shape(shape) != (2,):
        raise ValueError(f"shape must be (height, width), got {shape!r}")
    height, width = (_checks.count("shape", side) for side in shape)
    if height * width != pixels:
        raise ValueError(f"shape must multiply to the {pixels} columns of x, got {shape!r}")
    return height, width
