"""Knowledge distillation from scratch in NumPy: every gradient written by hand, and checked.

`import numpy_kd as kd` loads nothing yet: a name, or a module such as `kd.schedules`, is looked up
in the table below when it is first used (PEP 562), so that a short script need not wait for the
tools of a long one.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

_NAMES_OF = {
    "datasets": (
        "Split",
        "StandardScaler",
        "batches",
        "jitter",
        "load_digits",
        "load_letters",
        "load_mnist",
        "load_spoken_digits",
        "train_test_split",
    ),
    "decoupled": (
        "decoupled_loss",
        "normalized_kd_loss",
        "top_k_loss",
    ),
    "distillation": ("Ensemble", "Teacher", "distill", "evaluate"),
    "exercises": ("check", "hint", "predict", "reveal"),
    "f_divergences": (
        "alpha_divergence_loss",
        "jensen_shannon_loss",
        "total_variation_loss",
    ),
    "gradcheck": ("assert_gradient", "check_gradient", "numerical_gradient"),
    "limits": (
        "high_temperature_gradient",
        "logit_gradient",
        "relative_errors",
        "softmax_difference",
    ),
    "losses": (
        "cross_entropy_loss",
        "hinton_loss",
        "kl_loss",
        "logit_matching_loss",
        "noisy_logit_matching_loss",
        "reverse_kl_loss",
        "soft_cross_entropy_loss",
        "soft_target_loss",
    ),
    "metrics": ("paired_difference",),
    "mlp": ("MLP",),
    "network_check": ("check_network",),
    "optimizers": ("SGD", "Adam"),
    "probability": (
        "cross_entropy",
        "entropy",
        "hardmax",
        "kl_divergence",
        "log_softmax",
        "one_hot",
        "smooth_labels",
        "softmax",
    ),
    "relations": (
        "cka_loss",
        "relational_distance_loss",
        "similarity_preserving_loss",
    ),
    "standardized": (
        "correlation_loss",
        "standardized_loss",
    ),
    "training": ("fit",),
    "transfer": ("TransferSet", "munge"),
    # modules that are used by their own name alone
    "experiments": (),
    "initializers": (),
    "layers": (),
    "mistakes": (),
    "notebook": (),
    "plots": (),
    "schedules": (),
    "specialists": (),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = list(_MODULE_OF)

if TYPE_CHECKING:  # the same once more, for those who read the source without running it
    from numpy_kd import datasets as datasets
    from numpy_kd import decoupled as decoupled
    from numpy_kd import distillation as distillation
    from numpy_kd import exercises as exercises
    from numpy_kd import experiments as experiments
    from numpy_kd import f_divergences as f_divergences
    from numpy_kd import gradcheck as gradcheck
    from numpy_kd import initializers as initializers
    from numpy_kd import layers as layers
    from numpy_kd import limits as limits
    from numpy_kd import losses as losses
    from numpy_kd import metrics as metrics
    from numpy_kd import mistakes as mistakes
    from numpy_kd import mlp as mlp
    from numpy_kd import network_check as network_check
    from numpy_kd import notebook as notebook
    from numpy_kd import optimizers as optimizers
    from numpy_kd import plots as plots
    from numpy_kd import probability as probability
    from numpy_kd import relations as relations
    from numpy_kd import schedules as schedules
    from numpy_kd import specialists as specialists
    from numpy_kd import standardized as standardized
    from numpy_kd import training as training
    from numpy_kd import transfer as transfer
    from numpy_kd.datasets import Split as Split
    from numpy_kd.datasets import StandardScaler as StandardScaler
    from numpy_kd.datasets import batches as batches
    from numpy_kd.datasets import jitter as jitter
    from numpy_kd.datasets import load_digits as load_digits
    from numpy_kd.datasets import load_letters as load_letters
    from numpy_kd.datasets import load_mnist as load_mnist
    from numpy_kd.datasets import load_spoken_digits as load_spoken_digits
    from numpy_kd.datasets import train_test_split as train_test_split
    from numpy_kd.decoupled import decoupled_loss as decoupled_loss
    from numpy_kd.decoupled import normalized_kd_loss as normalized_kd_loss
    from numpy_kd.decoupled import top_k_loss as top_k_loss
    from numpy_kd.distillation import Ensemble as Ensemble
    from numpy_kd.distillation import Teacher as Teacher
    from numpy_kd.distillation import distill as distill
    from numpy_kd.distillation import evaluate as evaluate
    from numpy_kd.exercises import check as check
    from numpy_kd.exercises import hint as hint
    from numpy_kd.exercises import predict as predict
    from numpy_kd.exercises import reveal as reveal
    from numpy_kd.f_divergences import alpha_divergence_loss as alpha_divergence_loss
    from numpy_kd.f_divergences import jensen_shannon_loss as jensen_shannon_loss
    from numpy_kd.f_divergences import total_variation_loss as total_variation_loss
    from numpy_kd.gradcheck import assert_gradient as assert_gradient
    from numpy_kd.gradcheck import check_gradient as check_gradient
    from numpy_kd.gradcheck import numerical_gradient as numerical_gradient
    from numpy_kd.limits import high_temperature_gradient as high_temperature_gradient
    from numpy_kd.limits import logit_gradient as logit_gradient
    from numpy_kd.limits import relative_errors as relative_errors
    from numpy_kd.limits import softmax_difference as softmax_difference
    from numpy_kd.losses import cross_entropy_loss as cross_entropy_loss
    from numpy_kd.losses import hinton_loss as hinton_loss
    from numpy_kd.losses import kl_loss as kl_loss
    from numpy_kd.losses import logit_matching_loss as logit_matching_loss
    from numpy_kd.losses import noisy_logit_matching_loss as noisy_logit_matching_loss
    from numpy_kd.losses import reverse_kl_loss as reverse_kl_loss
    from numpy_kd.losses import soft_cross_entropy_loss as soft_cross_entropy_loss
    from numpy_kd.losses import soft_target_loss as soft_target_loss
    from numpy_kd.metrics import paired_difference as paired_difference
    from numpy_kd.mlp import MLP as MLP
    from numpy_kd.network_check import check_network as check_network
    from numpy_kd.optimizers import SGD as SGD
    from numpy_kd.optimizers import Adam as Adam
    from numpy_kd.probability import cross_entropy as cross_entropy
    from numpy_kd.probability import entropy as entropy
    from numpy_kd.probability import hardmax as hardmax
    from numpy_kd.probability import kl_divergence as kl_divergence
    from numpy_kd.probability import log_softmax as log_softmax
    from numpy_kd.probability import one_hot as one_hot
    from numpy_kd.probability import smooth_labels as smooth_labels
    from numpy_kd.probability import softmax as softmax
    from numpy_kd.relations import cka_loss as cka_loss
    from numpy_kd.relations import relational_distance_loss as relational_distance_loss
    from numpy_kd.relations import similarity_preserving_loss as similarity_preserving_loss
    from numpy_kd.standardized import correlation_loss as correlation_loss
    from numpy_kd.standardized import standardized_loss as standardized_loss
    from numpy_kd.training import fit as fit
    from numpy_kd.transfer import TransferSet as TransferSet
    from numpy_kd.transfer import munge as munge

else:

    def __getattr__(name: str):
        if name in _MODULE_OF:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
            globals()[name] = value  # looked up once
            return value
        if name in _NAMES_OF:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_MODULE_OF, *_NAMES_OF})
