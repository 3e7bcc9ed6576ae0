"""Capital letters of twenty fonts, described by sixteen numbers each; they travel with the package."""

from __future__ import annotations

import gzip
from importlib import resources

import numpy as np

from numpy_kd import _checks
from numpy_kd.datasets.preparing import Split, rows_in

_TRAIN = 16_000


def load_letters(*, dtype=np.float32, without_copies: bool = False) -> Split:
    """20,000 distorted capital letters: the first 16,000 to learn from, the last 4,000 to be judged by.

    x has shape (n, 16), of the given dtype: whole numbers from 0 to 15 (position, size, moments and
    edges of the letter's image), divided by 15 and so in [0, 1]; labels are int64, 0 for A to 25
    for Z. Order and split are the data set's own.

    380 of the test rows are copies of training rows, label and all, since the numbers are coarse:
    a network that has learnt by heart knows them. `rows_in(x_test, x_train)` finds them;
    `without_copies=True` leaves them out, and 3,620 test rows remain.
    The arrays are the caller's own. Raises `ValueError` for a dtype that is not a real float.

    Source: D. J. Slate, Letter Recognition, UCI Machine Learning Repository (1991), CC BY 4.0;
    P. W. Frey, D. J. Slate (1991), Letter recognition using Holland-style adaptive classifiers.

    >>> letters = load_letters()
    >>> letters.x_train.shape, letters.x_test.shape, "".join(chr(65 + y) for y in letters[1][:9])
    ((16000, 16), (4000, 16), 'TIDNGSBAJ')
    >>> int(rows_in(letters.x_test, letters.x_train).sum())
    380
    >>> load_letters(without_copies=True).x_test.shape
    (3620, 16)
    """
    dtype = _checks.float_dtype("dtype", dtype)
    without_copies = _checks.flag("without_copies", without_copies)
    packed = resources.files(__package__).joinpath("letters.csv.gz").read_bytes()
    lines = gzip.decompress(packed).decode("ascii").split()
    labels = np.array([ord(line[0]) - ord("A") for line in lines], np.int64)
    numbers = np.loadtxt([line[2:] for line in lines], delimiter=",", dtype=np.uint8)
    x = np.divide(numbers, 15, dtype=dtype)
    rows = np.arange(len(x))
    train, test = rows[:_TRAIN], rows[_TRAIN:]
    if without_copies:
        test = test[~rows_in(numbers[test], numbers[train])]
    return Split(x[train], labels[train], x[test], labels[test])
