"""Knowledge distillation from scratch in NumPy: every gradient written by hand, and checked."""

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

__version__ = "0.1.0"
__all__ = [
    "cross_entropy",
    "cross_entropy_loss",
    "entropy",
    "hardmax",
    "high_temperature_gradient",
    "hinton_loss",
    "kl_divergence",
    "kl_loss",
    "log_softmax",
    "logit_gradient",
    "logit_matching_loss",
    "noisy_logit_matching_loss",
    "one_hot",
    "relative_errors",
    "reverse_kl_loss",
    "smooth_labels",
    "soft_cross_entropy_loss",
    "soft_target_loss",
    "softmax",
    "softmax_difference",
]
