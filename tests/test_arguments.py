"""Odd arguments to every public function: a clear error or a clean result, and nothing else.

The table below has one call that is right for each public name. Every argument of every call is
replaced, one at a time, by each of some hundred odd values. What may come of it is a `ValueError`
that names the argument, before any work, or, where the value will do, a result without NaN. Never
another exception, a warning, or a change to anything that was passed in.
"""

import contextlib
import functools
import inspect
import re
import warnings

import numpy as np
import pytest
from odd_values import MAY_ACCEPT, NOT_TRIED, POOL, Is, kind_of

import numpy_kd as kd
from numpy_kd import (
    datasets,
    initializers,
    layers,
    limits,
    losses,
    metrics,
    probability,
    schedules,
    specialists,
    transfer,
)
from numpy_kd.datasets import mnist, speech

Z = np.array([[1.5, -0.5, 0.25, 2.0], [0.0, 3.0, -1.0, 0.5], [-2.0, 0.125, 1.0, 0.75]])
V = np.array([[2.0, 0.5, -0.25, 1.0], [1.0, 2.5, 0.0, -0.5], [-1.0, 1.0, 3.0, 0.25]])
P = kd.softmax(V, 2.0)
X = np.array([[0.5, -1.0, 2.0, 0.25, 1.0], [1.5, 0.0, -0.5, 1.0, 0.0], [0.25, 1.0, 1.0, -2.0, 0.5]])
Y = np.array([0, 3, 1])
T = 2.5
WEIGHTS = {"temperature": T, "soft_weight": 0.75, "hard_weight": 0.5}


def network(seed=1, **settings):
    return kd.MLP((5, 6, 4), seed=seed, **{"dtype": np.float64, **settings})


def pending():
    """A network between forward and backward."""
    mlp = network()
    mlp.forward(X, training=True)
    return mlp


def layer(kind, *arguments, ready=False, **named):
    made = kind(*arguments, **named)
    if ready:
        made.forward(Z, training=True)
    return made


def transfer_set():
    return kd.TransferSet(X, V, Y)


def half_of_squares(x):
    return (x * x).sum() / 2


def one_specialist():
    return specialists.Specialist(network(), [0, 2, 3])


def maybe(array):
    return Is(array, "array", "nothing")


def maybe_rng():
    return Is(RNG(), "seed", "nothing")


RECORDINGS = speech.Recordings(
    [np.sin(np.arange(800.0)), np.cos(np.arange(900.0))],
    np.array([1, 3]),
    np.array(["theo", "theo"]),
    np.array([0, 0]),
)
RNG = functools.partial(np.random.default_rng, 3)
PATH = Is("no-such-file", "path")
NO_PATH = Is("no-such-file", "path", "nothing")
NAMES = Is("arithmetic", "choice")
SOFT = {"temperature": T}

CALLS = {
    # name: () -> (what is called, its arguments)
    "probability.softmax": lambda: (
        kd.softmax,
        {"logits": Z, "temperature": T, "axis": Is(1, "count")},
    ),
    "probability.log_softmax": lambda: (kd.log_softmax, {"logits": Z, "temperature": T, "axis": 1}),
    "probability.softmax_backward": lambda: (
        probability.softmax_backward,
        {"q": P, "dq": Z, "temperature": T},
    ),
    "probability.hardmax": lambda: (kd.hardmax, {"logits": Z, "axis": 1}),
    "probability.one_hot": lambda: (
        kd.one_hot,
        {"labels": Y, "num_classes": 4, "dtype": np.float64},
    ),
    "probability.smooth_labels": lambda: (kd.smooth_labels, {"targets": P, "epsilon": 0.25}),
    "probability.entropy": lambda: (kd.entropy, {"p": P}),
    "probability.cross_entropy": lambda: (kd.cross_entropy, {"p": P, "q": P[::-1]}),
    "probability.kl_divergence": lambda: (kd.kl_divergence, {"p": P, "q": P[::-1]}),
    "losses.cross_entropy_loss": lambda: (
        kd.cross_entropy_loss,
        {"logits": Z, "labels": Y, **SOFT},
    ),
    "losses.soft_target_loss": lambda: (kd.soft_target_loss, {"logits": Z, "targets": P, **SOFT}),
    **{
        f"losses.{name}": lambda name=name: (
            getattr(losses, name),
            {"logits": Z, "teacher_logits": V, **SOFT},
        )
        for name in ("kl_loss", "reverse_kl_loss", "soft_cross_entropy_loss")
    },
    "losses.hinton_loss": lambda: (
        kd.hinton_loss,
        {"logits": Z, "teacher_logits": V, "labels": Y, "scale_by_t2": True, **WEIGHTS}
        | {"parts": True}
        | {"labelled": maybe(np.array([True, False, True]))},
    ),
    "losses.logit_matching_loss": lambda: (
        kd.logit_matching_loss,
        {"logits": Z, "teacher_logits": V, "center": True},
    ),
    "losses.noisy_logit_matching_loss": lambda: (
        kd.noisy_logit_matching_loss,
        {
            "logits": Z,
            "teacher_logits": V,
            "sigma": 0.5,
            "fraction": 0.5,
            "rng": maybe_rng(),
            "center": True,
        },
    ),
    "f_divergences.alpha_divergence_loss": lambda: (
        kd.f_divergences.alpha_divergence_loss,
        {"logits": Z, "teacher_logits": V, "alpha": 0.5, **SOFT},
    ),
    "f_divergences.jensen_shannon_loss": lambda: (
        kd.f_divergences.jensen_shannon_loss,
        {"logits": Z, "teacher_logits": V, "beta": 0.5, "scaled": True, **SOFT},
    ),
    "f_divergences.total_variation_loss": lambda: (
        kd.f_divergences.total_variation_loss,
        {"logits": Z, "teacher_logits": V, **SOFT},
    ),
    "decoupled.decoupled_loss": lambda: (
        kd.decoupled.decoupled_loss,
        {"logits": Z, "teacher_logits": V, "labels": Y, **SOFT}
        | {"target_weight": 0.5, "other_weight": 1.5},
    ),
    "decoupled.normalized_kd_loss": lambda: (
        kd.decoupled.normalized_kd_loss,
        {"logits": Z, "teacher_logits": V, "labels": Y, "other_weight": 1.5, **SOFT},
    ),
    "decoupled.top_k_loss": lambda: (
        kd.decoupled.top_k_loss,
        {"logits": Z, "teacher_logits": V, "k": 2, "renormalized": True, **SOFT},
    ),
    "standardized.standardized_loss": lambda: (
        kd.standardized.standardized_loss,
        {"logits": Z, "teacher_logits": V, "labels": maybe(Y)}
        | {"loss": functools.partial(kd.hinton_loss, **WEIGHTS)},
    ),
    "standardized.correlation_loss": lambda: (
        kd.standardized.correlation_loss,
        {"logits": Z, "teacher_logits": V, "row_weight": 0.5, "column_weight": 1.5, **SOFT},
    ),
    **{
        f"relations.{name}": lambda name=name: (
            getattr(kd.relations, name),
            {"logits": Z, "teacher_logits": V},
        )
        for name in ("similarity_preserving_loss", "relational_distance_loss", "cka_loss")
    },
    "limits.logit_gradient": lambda: (
        kd.logit_gradient,
        {"logits": Z, "teacher_logits": V, "temperature": T},
    ),
    "limits.second_order_gradient": lambda: (
        limits.second_order_gradient,
        {"logits": Z, "teacher_logits": V, "temperature": T},
    ),
    "limits.softmax_difference": lambda: (
        kd.softmax_difference,
        {"logits": Z, "teacher_logits": V, "temperature": T},
    ),
    "limits.high_temperature_gradient": lambda: (
        kd.high_temperature_gradient,
        {"logits": Z, "teacher_logits": V, "temperature": T, "center": True},
    ),
    "limits.relative_errors": lambda: (
        kd.relative_errors,
        {
            "logits": Z,
            "teacher_logits": V,
            "temperatures": Is([1.0, 10.0], "numbers"),
            "center": True,
            "order": 1,
        },
    ),
    "metrics.accuracy": lambda: (metrics.accuracy, {"logits": Z, "labels": Y}),
    "metrics.agreement": lambda: (metrics.agreement, {"logits": Z, "teacher_logits": V}),
    "metrics.mean_cross_entropy": lambda: (metrics.mean_cross_entropy, {"logits": Z, "labels": Y}),
    "metrics.mean_kl": lambda: (metrics.mean_kl, {"logits": Z, "teacher_logits": V, **SOFT}),
    "metrics.expected_calibration_error": lambda: (
        metrics.expected_calibration_error,
        {"logits": Z, "labels": Y, "bins": 5},
    ),
    "metrics.report": lambda: (
        metrics.report,
        {"logits": Z, "labels": maybe(Y)} | {"teacher_logits": maybe(V)},
    ),
    "metrics.paired_difference": lambda: (
        metrics.paired_difference,
        {"errors": [20, 21, 24], "other_errors": [22, 25, 24], "confidence": 0.75},
    ),
    **{
        f"initializers.{name}": lambda name=name: (
            getattr(initializers, name),
            {"shape": (3, 4), "rng": RNG(), "dtype": np.float64},
        )
        for name in ("xavier_normal", "xavier_uniform", "he_normal", "he_uniform")
    },
    **{
        f"initializers.{name}": lambda name=name: (
            getattr(initializers, name),
            {"shape": (3, 4), "rng": RNG(), "dtype": np.float64, "scale": 0.5},
        )
        for name in ("normal", "uniform")
    },
    "initializers.zeros": lambda: (
        initializers.zeros,
        {"shape": (3, 4), "rng": Is(None, "seed", "nothing"), "dtype": np.float64},
    ),
    "initializers.constant": lambda: (
        initializers.constant,
        {"shape": (3, 4), "rng": Is(None, "seed", "nothing"), "dtype": np.float64, "value": 0.5},
    ),
    "initializers.get": lambda: (initializers.get, {"initializer": Is("normal", "function")}),
    "schedules.constant": lambda: (schedules.constant, {"rate": 0.1}),
    "schedules.step_decay": lambda: (
        schedules.step_decay,
        {"rate": 0.1, "every": 10, "gamma": 0.5},
    ),
    "schedules.exponential": lambda: (schedules.exponential, {"rate": 0.1, "gamma": 0.5}),
    "schedules.cosine": lambda: (
        schedules.cosine,
        {"rate": 0.1, "total_steps": 10, "floor": 0.01},
    ),
    "schedules.cyclic": lambda: (schedules.cyclic, {"low": 0.1, "high": 0.5, "half_period": 5}),
    "schedules.warm_up": lambda: (
        schedules.warm_up,
        {"schedule": Is(0.5, "rate"), "steps": 10},
    ),
    "optimizers.SGD": lambda: (
        kd.SGD,
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1}
        | {"max_norm": Is(2.0, "number", "nothing")},
    ),
    "optimizers.Adam": lambda: (
        kd.Adam,
        {"beta1": 0.5, "beta2": 0.75, "epsilon": 1e-8, "weight_decay": 0.1}
        | {"max_norm": Is(2.0, "number", "nothing")},
    ),
    **{
        f"optimizers.{kind.__name__}.step": lambda kind=kind: (
            kind(max_norm=2.0).step,
            {"parameters": Z.ravel().copy(), "gradient": V.ravel(), "learning_rate": 0.1}
            | {
                "weights": Is((), "object", "empty", "no rows", "an empty string", "an empty tuple")
            },
        )
        for kind in (kd.SGD, kd.Adam)
    },
    "datasets.load_digits": lambda: (kd.load_digits, {"dtype": np.float64}),
    "datasets.load_letters": lambda: (
        kd.load_letters,
        {"dtype": np.float64, "without_copies": False},
    ),
    "datasets.load_mnist": lambda: (
        kd.load_mnist,
        {"path": NO_PATH, "download": False, "dtype": np.float64},
    ),
    "datasets.data_folders": lambda: (datasets.data_folders, {"name": Is("mnist", "path")}),
    "datasets.StandardScaler.fit": lambda: (kd.StandardScaler().fit, {"x": X}),
    "datasets.StandardScaler.transform": lambda: (kd.StandardScaler().fit(X).transform, {"x": X}),
    "datasets.StandardScaler.inverse": lambda: (kd.StandardScaler().fit(X).inverse, {"x": X}),
    "datasets.train_test_split": lambda: (
        kd.train_test_split,
        {"x": Is(X, "anything"), "labels": Y, "test_fraction": 0.3, "rng": RNG(), "stratify": True},
    ),
    "datasets.batches": lambda: (
        kd.batches,
        {"n": 10, "batch_size": 3, "rng": maybe_rng()},
    ),
    "datasets.jitter": lambda: (
        kd.jitter,
        {"x": Z, "shift": 1, "rng": RNG(), "shape": Is((2, 2), "sizes", "nothing")},
    ),
    "datasets.rows_in": lambda: (datasets.rows_in, {"x": Z, "others": V}),
    "mlp.MLP": lambda: (
        kd.MLP,
        {"sizes": (5, 6, 4), "activation": "tanh", "initializer": Is("normal", "function")}
        | {"dropout": 0.25, "input_dropout": 0.25, "batch_norm": True, "dtype": np.float64}
        | {"seed": maybe_rng(), "bias": 0.5},
    ),
    "mlp.MLP.forward": lambda: (network().forward, {"x": X, "training": True}),
    "mlp.MLP.backward": lambda: (
        pending().backward,
        {"dlogits": Is(Z, "gradient"), "need_dx": True},
    ),
    "mlp.MLP.logits": lambda: (network().logits, {"x": X, "batch_size": 2}),
    "mlp.MLP.predict": lambda: (network().predict, {"x": X}),
    "mlp.MLP.astype": lambda: (network().astype, {"dtype": np.float64}),
    "mlp.MLP.save": lambda: (network().save, {"path": PATH}),
    "mlp.MLP.load": lambda: (kd.MLP.load, {"path": PATH}),
    "training.fit": lambda: (
        kd.fit,
        {"mlp": network(), "x": X, "targets": Is(Y, "targets"), "epochs": 1}
        | {
            "loss": kd.cross_entropy_loss,
            "batch_size": 2,
            "optimizer": Is(kd.SGD(), "object", "nothing"),
        }
        | {"schedule": Is(0.1, "rate")}
        | {"validation": Is((X, Y), "object", "nothing"), "patience": Is(1, "count", "nothing")}
        | {"rng": maybe_rng(), "augment": Is(None, "function", "nothing")}
        | {"progress": Is(False, "flag", "nothing"), "checkpoint": Is(None, "path", "nothing")},
    ),
    "distillation.distill": lambda: (
        kd.distill,
        {"student": network(), "teacher": Is(network(2), "array"), "x": X, "labels": Y, "epochs": 1}
        | {
            "loss": kd.hinton_loss,
            "scale_by_t2": Is(True, "flag", "nothing"),
            **WEIGHTS,
            "rng": maybe_rng(),
        }
        | {"labelled": maybe(np.array([True, True, False]))}
        | {"augment": Is(None, "function", "nothing"), "teaching": "consistent"}
        | {
            "validation": Is((X, Y), "object", "nothing"),
            "batch_size": 2,
            "schedule": Is(0.1, "rate"),
        },
    ),
    "distillation.evaluate": lambda: (
        kd.evaluate,
        {"network": network(), "x": X, "labels": maybe(Y)} | {"teacher": maybe(network(2))},
    ),
    "distillation.Teacher": lambda: (kd.Teacher, {"network": network()}),
    "distillation.Teacher.logits": lambda: (kd.Teacher(network()).logits, {"x": X, **SOFT}),
    "distillation.Teacher.predict": lambda: (kd.Teacher(network()).predict, {"x": X}),
    "distillation.Ensemble": lambda: (
        kd.Ensemble,
        {"members": Is([network(), network(2)], "object"), "average": "arithmetic"},
    ),
    "distillation.Ensemble.logits": lambda: (
        kd.Ensemble([network(), network(2)]).logits,
        {"x": X, **SOFT},
    ),
    "transfer.TransferSet": lambda: (
        kd.TransferSet,
        {"x": X, "teacher_logits": V, "labels": maybe(Y)}
        | {"labelled": maybe(np.array([True, False, True]))},
    ),
    "transfer.TransferSet.take": lambda: (transfer_set().take, {"rows": np.array([2, 0])}),
    "transfer.TransferSet.mixed_with": lambda: (
        transfer_set().mixed_with,
        {"other": transfer_set()},
    ),
    "transfer.rows_of_classes": lambda: (
        transfer.rows_of_classes,
        {"labels": Y, "classes": [0, 1]},
    ),
    "transfer.pseudo_labels": lambda: (transfer.pseudo_labels, {"teacher_logits": V}),
    "transfer.munge": lambda: (
        kd.munge,
        {"x": X, "copies": 2, "swap_probability": 0.5, "local_variance": 1.5}
        | {"rng": maybe_rng()},
    ),
    "transfer.best_bias": lambda: (
        transfer.best_bias,
        {"logits": Z, "labels": Y, "classes": [0, 1]},
    ),
    "transfer.frequency_bias": lambda: (
        transfer.frequency_bias,
        {"logits": Z, "frequency": 0.25, "classes": [0, 1]},
    ),
    "exercises.check": lambda: (
        kd.check,
        {"function": Is(half_of_squares, "anything"), "name": "hardmax"}
        | {"points": Is(2.0, "number", "nothing")},
    ),
    "exercises.hint": lambda: (kd.hint, {"exercise": Is("softmax", "choice"), "number": 1}),
    "exercises.predict": lambda: (
        kd.predict,
        {"key": "fair", "answer": Is(0.5, "number", "nothing")},
    ),
    "exercises.reveal": lambda: (kd.reveal, {"exercise": Is("repaired_07", "choice")}),
    "specialists.prediction_covariance": lambda: (
        specialists.prediction_covariance,
        {"p": P, "diagonal": True},
    ),
    "specialists.k_means": lambda: (
        specialists.k_means,
        {"points": X, "clusters": 2, "rng": maybe_rng(), "starts": 2},
    ),
    "specialists.confusable_sets": lambda: (
        specialists.confusable_sets,
        {"covariance": Z[:, :3] + Z[:, :3].T, "count": 2, "size": 2, "rng": maybe_rng()},
    ),
    "specialists.Specialist": lambda: (
        specialists.Specialist,
        {"network": network(), "classes": [0, 2, 3], "dustbin_shift": 0.5},
    ),
    "specialists.Specialist.logits": lambda: (
        specialists.Specialist(network(), [0, 2, 3]).logits,
        {"x": X},
    ),
    "specialists.Specialists": lambda: (
        specialists.Specialists,
        {"generalist": network(), "top": 1}
        | {"specialists": Is([one_specialist()], "object", "empty", "no rows", "an empty tuple")},
    ),
    "specialists.train_specialist": lambda: (
        specialists.train_specialist,
        {"generalist": network(), "classes": [0, 1], "x": X, "labels": Y, "examples": 4}
        | {"rng": maybe_rng(), "epochs": 1, "batch_size": 4},
    ),
    "specialists.with_dustbin": lambda: (
        specialists.with_dustbin,
        {"generalist": network(), "classes": [0, 1]},
    ),
    "specialists.dustbin_labels": lambda: (
        specialists.dustbin_labels,
        {"labels": Y, "classes": [0, 1]},
    ),
    "specialists.half_of_set": lambda: (
        specialists.half_of_set,
        {"labels": Y, "classes": [0, 1], "examples": 4, "rng": maybe_rng()},
    ),
    "specialists.active_specialists": lambda: (
        specialists.active_specialists,
        {"p": P, "sets": Is([[0, 1], [1, 2]], "object", "pairs"), "top": 2},
    ),
    "specialists.combined": lambda: (
        specialists.combined,
        {"p": P, "specialists": Is([P[:, :3] / P[:, :3].sum(1, keepdims=True)], "object")}
        | {"sets": Is([[0, 1]], "object"), "active": maybe(None)}
        | {"tolerance": 1e-6},
    ),
    "specialists.combined_with_one": lambda: (
        specialists.combined_with_one,
        {"p": P, "specialist": P[:, :3] / P[:, :3].sum(1, keepdims=True), "classes": [0, 1]},
    ),
    "specialists.combination_loss": lambda: (
        specialists.combination_loss,
        {"logits": Z, "p": P}
        | {"specialists": Is([P[:, :3] / P[:, :3].sum(1, keepdims=True)], "object")}
        | {"sets": Is([[0, 1]], "object"), "active": maybe(None)},
    ),
    "datasets.load_spoken_digits": lambda: (
        datasets.load_spoken_digits,
        {"path": NO_PATH, "download": False},
    ),
    "datasets.log_mel": lambda: (
        datasets.log_mel,
        {"sound": np.sin(np.arange(800.0)), "coefficients": 20},
    ),
    "datasets.with_context": lambda: (
        datasets.with_context,
        {"features": Z, "before": 2, "after": 1, "every": 1},
    ),
    "datasets.spoken_frames": lambda: (
        datasets.spoken_frames,
        {"recordings": Is(RECORDINGS, "object"), "every": 2, "per_digit": 3, "centred": True},
    ),
    "gradcheck.numerical_gradient": lambda: (
        kd.numerical_gradient,
        {"f": np.sum, "x": Is(Z, "point"), "method": "richardson"}
        | {"scale": Is(1.5, "scale", "nothing")},
    ),
    "gradcheck.differentiate": lambda: (
        kd.gradcheck.differentiate,
        {"f": np.sum, "x": Is(Z, "point"), "method": "richardson"}
        | {"scale": Is(1.5, "scale", "nothing")},
    ),
    "gradcheck.check_gradient": lambda: (
        kd.check_gradient,
        {"f": np.sum, "x": Is(Z, "point"), "level": "full"}
        | {"gradient": Is(np.ones_like, "judged")}
        | {"method": "richardson", "order": 1, "tolerance": Is(1e-6, "number", "nothing")}
        | {"scale": Is(1.5, "scale", "nothing"), "rng": maybe_rng(), "name": Is("x", "name")},
    ),
    "network_check.check_network": lambda: (
        kd.check_network,
        {"mlp": network(), "x": X, "loss": lambda z: kd.cross_entropy_loss(z, Y)}
        | {"training": True, "level": "quick", "rng": maybe_rng()},
    ),
    "layers.Linear": lambda: (
        layers.Linear,
        {"W": V, "b": maybe(np.ones(4))},
    ),
    "layers.Dropout": lambda: (layers.Dropout, {"rate": 0.5, "rng": maybe_rng()}),
    "layers.BatchNorm": lambda: (
        layers.BatchNorm,
        {"gamma": np.ones(4), "beta": np.ones(4), "momentum": 0.5, "epsilon": 1e-5},
    ),
}


def frozen(value, parts=None, seen=None) -> list:
    """What a value, and all that it is made of, looks like: a list to compare with a later one."""
    parts, seen = ([], set()) if parts is None else (parts, seen)
    while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
        value = value.base  # of which many views need one look
    if id(value) in seen:
        return parts
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        parts.append((value.shape, value.dtype, value.tobytes()))
    elif isinstance(value, np.random.Generator):
        parts.append(value.bit_generator.state)
    elif isinstance(value, (list, tuple)):
        for item in value:
            frozen(item, parts, seen)
    elif isinstance(value, dict):
        for item in value.values():
            frozen(item, parts, seen)
    elif inspect.ismethod(value):
        frozen(value.__self__, parts, seen)
    elif type(value).__module__.startswith("numpy_kd"):
        frozen(vars(value), parts, seen)
    elif isinstance(value, (float, int, str, type(None))):
        parts.append(value)
    return parts


def but_for_draws(parts: list) -> list:
    """The same where a generator may have moved on."""
    return [part for part in parts if not isinstance(part, dict)]


def one_of_its_kind(value):
    """A value of the pool that may be used up or written to."""
    if inspect.isfunction(value):
        return value()
    return value.copy(order="K") if type(value) is np.ndarray else value


def has_nan(value) -> bool:
    if isinstance(value, (np.ndarray, np.number, float)):
        value = np.asarray(value)
        return value.dtype.kind in "fc" and bool(np.isnan(value).any())
    return isinstance(value, (list, tuple)) and any(map(has_nan, value))


# The mathematics between the doors: what calls it has checked what it hands on.
NOT_DOORS = [
    r"layers\.[a-z_]+",  # functions of arrays that the classes below call, once a layer and step
    r"layers\.[A-Z]\w+\.(forward|backward)",  # and which an MLP calls
    r"plots\..*",  # pictures of results that the library itself has made
    r"notebook\..*",
    r"gradcheck\.(Case|Cause|Factor|Diagnosis|Derivative|GradientReport)(\..*)?",
    r"gradcheck\.(check_backward|assert_gradient)",  # check_gradient, before and after
    r"mistakes\..*",  # the table of what a diagnosis says
    r"gradcheck\.diagnose",  # of what was measured
    r"network_check\.assert_network",  # check_network, and then an assertion
    r"distillation\.Distillation",  # a result
    r"mistakes\..*",  # of gradients that the check has measured
]
# Of these each argument gets a third of the values, the next argument another third.
SLOW = {
    "datasets.log_mel",
    "distillation.distill",
    "exercises.check",
    "specialists.train_specialist",
}
SLOW |= {"training.fit", "network_check.check_network", "gradcheck.check_gradient"}
SLOW |= {"gradcheck.differentiate"}
# What draws the examples, and then asks `fit`, which looks at the rest.
DRAWS_FIRST = {"specialists.train_specialist"}
# What an argument is called by those it is handed on to.
ALSO_CALLED = {"teacher": ["teacher_logits"], "targets": ["labels"], "name": ["function"]}
# Views into a network's vectors, and what stands for the machine in tests.
LEFT_OUT = {
    "layers.Linear": {"dW", "db"},
    "layers.BatchNorm": {"dgamma", "dbeta"},
    "datasets.data_folders": {"environ", "platform"},
    "gradcheck.check_gradient": {"context", "causes", "blocks"},
    "network_check.check_network": {"context", "causes"},
}

WRITES = {"check_network", "step", "backward", "forward", "fit", "distill", "save"}  # and say so


def outcome(name, argument, odd) -> str:
    """What is wrong with how `name` takes the odd value for one of its arguments; empty if nothing."""
    call, arguments = CALLS[name]()
    right = arguments[argument]
    kind = right.kind if isinstance(right, Is) else kind_of(right)
    if odd in NOT_TRIED.get(kind, ()):
        return ""
    acceptable = odd in MAY_ACCEPT.get(kind, POOL) or (isinstance(right, Is) and odd in right.more)
    arguments = {k: v.value if isinstance(v, Is) else v for k, v in arguments.items()}
    arguments[argument] = one_of_its_kind(POOL[odd])
    everything = [call, arguments]
    before = frozen(everything)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = call(**arguments)
    except ValueError as error:
        names = [argument, *ALSO_CALLED.get(argument, ())]
        to_blame = [*arguments, *names] if acceptable else names  # it may not go with another one
        if not re.search(rf"\b({'|'.join(to_blame)})\b", str(error)):
            return f"does not name it: {str(error)[:100]!r}"
        now = frozen(everything)
        if name in DRAWS_FIRST:
            now, before = but_for_draws(now), but_for_draws(before)
        same = now == before or kind == "targets"  # which the loss looks at, not fit
        return "" if same else f"changed something, then said {str(error)[:100]!r}"
    except FloatingPointError as error:
        return "" if acceptable and "schedule" in arguments else f"FloatingPointError: {error}"
    except OSError as error:
        right = acceptable and "path" in arguments
        return "" if right else f"{type(error).__name__}: {str(error)[:100]}"
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {str(error)[:100]}"
    if not acceptable:
        return f"accepted for a {kind}"
    if has_nan(result) and kind != "anything":
        return "gives NaN"
    if name.split(".")[-1] in WRITES or but_for_draws(frozen(everything)) == but_for_draws(before):
        return ""
    return "changed what it was given"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Files that a call may write go to an empty folder, and no data is fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist, "MNIST_MIRRORS", ())
    monkeypatch.setattr(speech, "SPEECH_MIRRORS", ())


@pytest.mark.parametrize("name", CALLS)
def test_odd_arguments(name):
    _, arguments = CALLS[name]()
    wrong = {
        f"{argument} = {odd}: {what}"
        for i, argument in enumerate(arguments)
        for odd in (list(POOL)[i % 3 :: 3] if name in SLOW else POOL)
        if (what := outcome(name, argument, odd))
    }
    assert not wrong, "\n" + "\n".join(sorted(wrong))


@pytest.mark.parametrize("name", CALLS)
def test_the_right_call_is_right_and_has_every_argument(name):
    call, arguments = CALLS[name]()
    parameters = inspect.signature(call).parameters.values()
    needed = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    assert needed - LEFT_OUT.get(name, set()) <= set(arguments)
    with contextlib.suppress(FileNotFoundError):
        call(**{k: v.value if isinstance(v, Is) else v for k, v in arguments.items()})


def public_names():
    """What can be called after `import numpy_kd as kd`, and checks what it is given."""
    for module in sorted(kd._NAMES_OF):
        for name, found in vars(getattr(kd, module)).items():
            if name.startswith("_") or not callable(found) or name in kd._NAMES_OF:
                continue
            if not getattr(found, "__module__", "").startswith(f"numpy_kd.{module}"):
                continue
            if not inspect.isclass(found) or "__init__" in vars(found) or module == "mlp":
                yield f"{module}.{name}"
            if inspect.isclass(found):
                for method, function in vars(found).items():
                    arguments = (
                        inspect.isfunction(function) and inspect.signature(function).parameters
                    )
                    if not method.startswith("_") and len(arguments or ()) > 1:
                        yield f"{module}.{name}.{method}"


def test_every_public_name_stands_in_the_table():
    missing = set(public_names()) - set(CALLS)
    missing -= {name for name in missing for rule in NOT_DOORS if re.fullmatch(rule, name)}
    assert not missing, sorted(missing)


def raw(x):
    return x + 1.0


def nameless(x):
    raise ValueError("something is not right")


def warning(x):
    return np.log(np.zeros(1))


def not_a_number(x):
    return np.full(2, np.nan)


def writing(x):
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        x *= 2


def too_late(x, rng):
    rng.random()
    raise ValueError("x must be another one")


@pytest.mark.parametrize(
    "function, odd, what",
    [
        (raw, "nothing", "TypeError: unsupported operand"),
        (raw, "extended", "accepted for a array"),
        (raw, "zeros", ""),
        (nameless, "nothing", "does not name it: 'something is not right'"),
        (warning, "zeros", "RuntimeWarning: divide by zero"),
        (not_a_number, "zeros", "gives NaN"),
        (writing, "float64", "changed what it was given"),
        (too_late, "nothing", "changed something, then said 'x must be another one'"),
    ],
)
def test_what_breaks_the_rule_is_seen(monkeypatch, function, odd, what):
    more = {"rng": RNG()} if function is too_late else {}
    monkeypatch.setitem(CALLS, "a.b", lambda: (function, {"x": Z, **more}))
    found = outcome("a.b", "x", odd)
    assert found.startswith(what) and bool(found) == bool(what)
