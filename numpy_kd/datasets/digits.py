"""Handwritten digits of 8 x 8 pixels, which travel with the package."""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources

import numpy as np

from numpy_kd import _checks
from numpy_kd.datasets.preparing import Split, split_rows


def load_digits(*, dtype=np.float32) -> Split:
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
    packed = resources.files(__package__).joinpath("digits.csv.gz").read_bytes()
    text = gzip.decompress(packed).decode("ascii")
    table = np.loadtxt(text.splitlines(), delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :64], table[:, 64].astype(np.int64)
    keys = [hashlib.sha256(row.tobytes()).digest() for row in pixels]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    return split_rows(
        np.divide(pixels, 16, dtype=dtype), labels, order, num_test=500, stratify=True
    )
