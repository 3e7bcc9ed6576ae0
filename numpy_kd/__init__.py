"""Knowledge distillation from scratch in NumPy: every gradient written by hand, and checked."""

from numpy_kd.datasets import StandardScaler, jitter, load_digits, load_mnist, train_test_split
from numpy_kd.distillation import Ensemble, Teacher, distill, evaluate
from numpy_kd.gradcheck import assert_gradient, check_gradient, numerical_gradient
from numpy_kd.limits import high_temperature_gradient, logit_gradient, relative_errors
from numpy_kd.losses import (
    cross_entropy_loss,
    hinton_loss,
    kl_loss,
    logit_matching_loss,
    noisy_logit_matching_loss,
    reverse_kl_loss,
    soft_cross_entropy_loss,
    soft_target_loss,
)
from numpy_kd.mlp import MLP
from numpy_kd.network_check import check_network
from numpy_kd.optimizers import SGD, Adam
from numpy_kd.probability import (
    cross_entropy,
    entropy,
    hardmax,
    kl_divergence,
    log_softmax,
    one_hot,
    smooth_labels,
    softmax,
    softmax_difference,
)
from numpy_kd.training import fit
from numpy_kd.transfer import TransferSet, munge

__version__ = "0.1.0"
__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Ensemble",
    "StandardScaler",
    "Teacher",
    "TransferSet",
    "assert_gradient",
    "check_gradient",
    "check_network",
    "cross_entropy",
    "cross_entropy_loss",
    "distill",
    "entropy",
    "evaluate",
    "fit",
    "hardmax",
    "high_temperature_gradient",
    "hinton_loss",
    "jitter",
    "kl_divergence",
    "kl_loss",
    "load_digits",
    "load_mnist",
    "log_softmax",
    "logit_gradient",
    "logit_matching_loss",
    "munge",
    "noisy_logit_matching_loss",
    "numerical_gradient",
    "one_hot",
    "relative_errors",
    "reverse_kl_loss",
    "smooth_labels",
    "soft_cross_entropy_loss",
    "soft_target_loss",
    "softmax",
    "softmax_difference",
    "train_test_split",
]


def __getattr__(name: str):
    """The classroom's `check`, `hint`, `predict` and `reveal`, loaded when first asked for."""
    if name in ("check", "hint", "predict", "reveal"):
        from numpy_kd import exercises

        return getattr(exercises, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
