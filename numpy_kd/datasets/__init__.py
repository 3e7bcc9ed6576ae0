"""Bytes to `(x, labels)`, a file a source, and what is done to them before a network sees them.

The 8 x 8 digits and the letters travel with the package, MNIST and spoken digits are read from
their files; beside them stand splitting, scaling, mini-batches and random shifts.
"""

from numpy_kd.datasets.digits import load_digits
from numpy_kd.datasets.download import data_folders
from numpy_kd.datasets.letters import load_letters
from numpy_kd.datasets.mnist import load_mnist
from numpy_kd.datasets.preparing import (
    Split,
    StandardScaler,
    batches,
    jitter,
    rows_in,
    train_test_split,
)
from numpy_kd.datasets.speech import load_spoken_digits, log_mel, spoken_frames, with_context

__all__ = [
    "Split",
    "StandardScaler",
    "batches",
    "data_folders",
    "jitter",
    "load_digits",
    "load_letters",
    "load_mnist",
    "load_spoken_digits",
    "log_mel",
    "rows_in",
    "spoken_frames",
    "train_test_split",
    "with_context",
]
