"""What students hand in that is wrong in a way no sheet lists: plain NumPy, one slip each.

`true` holds every name that may be given to what was measured (", and 2.3 is T"), `cause` the one
cause that may be named; where they are empty, nothing of the kind may be said. `says` must be
said.
"""

import math
from dataclasses import dataclass

import good_answers as good
import numpy as np
from good_answers import log_softmax, softmax


@dataclass(frozen=True)
class Wrong:
    exercise: str
    what: str
    function: object
    true: tuple = ()
    cause: str = ""
    says: str = ""

    def __str__(self):
        return f"{self.exercise}: {self.what}"


def scaled(name, value=lambda *a: 1.0, gradient=lambda *a: 1.0):
    """A right loss with factors on its value and its gradient, made from its arguments."""

    def function(*arguments):
        v, g = getattr(good, name)(*arguments)
        return v * value(*arguments), g * np.asarray(gradient(*arguments), g.dtype)

    return function


def swapped(name):
    return lambda *arguments: getattr(good, name)(*arguments)[::-1]


def shifted_by_the_batch(z, T=1.0):
    e = np.exp(z / T - (z / T).max())
    return e / e.sum(axis=-1, keepdims=True)


def log_shifted_by_the_batch(z, T=1.0):
    z = z / T
    return z - z.max() - np.log(np.exp(z - z.max()).sum(axis=-1, keepdims=True))


def soft_target_shifted_by_the_batch(z, p, T):
    value = -(p * log_shifted_by_the_batch(z, T)).sum(axis=-1).mean()
    return value, (softmax(z, T) - p) / T / len(z)


def kl_shifted_by_the_batch(z, v, T):
    p, q = shifted_by_the_batch(v, T), shifted_by_the_batch(z, T)
    d = log_shifted_by_the_batch(v, T) - log_shifted_by_the_batch(z, T)
    return (p * d).sum(axis=-1).mean(), (q - p) / T / len(z)


def kl_with(log_p, log_q, gradient):
    def function(z, v, T):
        p, q = softmax(v, T), softmax(z, T)
        return (p * (log_p(p) - log_q(q))).sum(axis=-1).mean(), gradient(z, v, T)

    return function


def right_kl_gradient(z, v, T):
    return (softmax(z, T) - softmax(v, T)) / T / len(z)


def one_hot_like(z, y):
    return np.eye(z.shape[1], dtype=z.dtype)[y]


def cross_entropy_with_epsilon(epsilon):
    def function(z, y):
        q = softmax(z)
        value = -np.log(q[np.arange(len(z)), y] + epsilon).mean()
        return value, (q - one_hot_like(z, y)) / len(z)

    return function


def hinton_with(soft=lambda T: T * T, hard=lambda T: 1.0, hard_temperature=lambda T: 1.0):
    def function(z, v, y, T, a, b):
        value, dlogits = good.kl_loss(z, v, T)
        hv, hd = good.cross_entropy_loss(z / hard_temperature(T), y)
        return (
            a * soft(T) * value + b * hard(T) * hv,
            a * soft(T) * dlogits + b * hard(T) * hd,
        )

    return function


def hinton_reversed_gradient(z, v, y, T, a, b):
    value, dlogits = good.hinton_loss(z, v, y, T, a, b)
    hard = good.cross_entropy_loss(z, y)[1]
    return value, 2 * b * hard - dlogits


def hinton_convex(z, v, y, T, a, b):
    return good.hinton_loss(z, v, y, T, a / (a + b), b / (a + b))


def batch_norm_with(centre=None, spread=None, out=None):
    def function(x, gamma, beta, epsilon=1e-5):
        mean = x.mean(axis=0) if centre is None else centre(x)
        variance = x.var(axis=0) if spread is None else spread(x)
        x_hat = (x - mean) / np.sqrt(variance + epsilon)
        y = gamma * x_hat + beta if out is None else out(x_hat, gamma, beta)
        return y, x_hat, mean, variance

    return function


def batch_norm_backward_with(dx=None, dgamma=None, dbeta=None):
    def function(dy, x_hat, variance, gamma, epsilon=1e-5):
        a, b, c = good.batch_norm_backward(dy, x_hat, variance, gamma, epsilon)
        arguments = dy, x_hat, variance, gamma
        return (
            a if dx is None else dx(*arguments),
            b if dgamma is None else dgamma(*arguments),
            c if dbeta is None else dbeta(*arguments),
        )

    return function


def rows(x):
    return x.mean(axis=-1, keepdims=True)


def covariance_with(p, diagonal):
    covariance = good.confusion_covariance(p)
    for i in range(len(covariance)):
        covariance[i, i] = diagonal(np.delete(covariance[:, i], i))
    return covariance


def farthest_centres(x, c):
    farthest = ((x[:, None] - c) ** 2).sum(-1).argmax(1)
    own = [x[farthest == k] for k in range(len(c))]
    return np.stack([o.mean(axis=0) if len(o) else centre for o, centre in zip(own, c)])


def with_dustbin_logit(z, amount):
    return softmax(z + amount * (np.arange(z.shape[1]) == z.shape[1] - 1).astype(z.dtype))


def scaled_to_the_set(p, specialist, classes):
    """A specialist that says what it says of its set, as often as the generalist finds it."""
    share = p[:, classes].sum(axis=1, keepdims=True)
    inside = specialist[:, :-1] / specialist[:, :-1].sum(axis=1, keepdims=True)
    return np.column_stack([share * inside, 1 - share])


def manhattan(x):
    d = np.abs(x[:, None] - x[None]).sum(axis=-1)
    np.fill_diagonal(d, np.inf)
    return d.argmin(axis=1)


def cosine_neighbours(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = unit @ unit.T
    np.fill_diagonal(s, -np.inf)
    return s.argmax(axis=1)


def largest_coordinate(x):
    d = np.abs(x[:, None] - x[None]).max(axis=-1)
    np.fill_diagonal(d, np.inf)
    return d.argmin(axis=1)


def bias_on_a_grid(step):
    def function(logits, labels, missing):
        others = logits.copy()
        others[:, missing] = -np.inf
        gaps = others.max(axis=-1) - logits[:, missing]
        right_without = others.argmax(axis=-1) == labels
        grid = np.arange(-10, 10, step)
        wins = grid[:, None] > gaps
        errors = (np.where(wins, labels != missing, ~right_without)).sum(axis=1)
        return float(grid[errors.argmin()])

    return function


def training_step_with(dlogits=lambda d, x: d, rate_b=1.0):
    def function(W, b, x, v, y, T, soft, hard, rate):
        d = dlogits(good.hinton_loss(x @ W + b, v, y, T, soft, hard)[1], x)
        return W - rate * x.T @ d, b - rate * rate_b * d.sum(axis=0)

    return function


def cosine_with(share):
    def function(step, rate, total_steps, floor=0.0):
        angle = math.pi * share(step, total_steps)
        return floor + (rate - floor) / 2 * (1 + math.cos(angle))

    return function


def clamped(step, total):
    return min(step / total, 1)


def dropout_with(keep=None, scale=None):
    def function(x, rate, rng):
        kept = rng.random(x.shape) >= rate if keep is None else keep(x, rate, rng)
        return x * kept * (1 / (1 - rate) if scale is None else scale(kept, rate))

    return function


def repaired_step(W, W_teacher, x, T, rate):
    dz = good.kl_loss(x @ W, x @ W_teacher, T)[1]
    return W - rate * x.T @ dz, W_teacher


B_OF = len
LOG10, LOG2 = "1/log(10), as with logarithms to base 10", "1/log(2), as with logarithms to base 2"

WRONG = (
    # sheet 1
    Wrong("hardmax", "one largest for the whole batch", lambda z: (z == z.max()).astype(z.dtype)),
    Wrong(
        "hardmax",
        "columns",
        lambda z: (z == z.max(axis=0)).astype(z.dtype),
        cause="the largest of each column",
    ),
    Wrong("hardmax", "second largest", lambda z: np.eye(z.shape[1])[np.argsort(z)[:, -2]]),
    Wrong("hardmax", "counted from 1", lambda z: np.roll(good.hardmax(z), 1, axis=1)),
    Wrong(
        "hardmax", "positive ones", lambda z: (z > z.mean(axis=-1, keepdims=True)).astype(z.dtype)
    ),
    Wrong("softmax", "the batch's maximum", shifted_by_the_batch),
    Wrong("softmax", "sqrt(T)", lambda z, T=1.0: softmax(z, T**0.5), ("sqrt(T)",)),
    Wrong("softmax", "T squared", lambda z, T=1.0: softmax(z, T * T), ("T^2",)),
    Wrong("softmax", "base 2", lambda z, T=1.0: softmax(z * math.log(2), T)),
    Wrong("softmax", "base 10", lambda z, T=1.0: softmax(z * math.log(10), T)),
    Wrong("softmax", "mean, not sum", lambda z, T=1.0: softmax(z, T) * z.shape[1], ("N",)),
    Wrong("softmax", "over B", lambda z, T=1.0: softmax(z, T) / len(z), ("1/B",)),
    Wrong("softmax", "negative logits", lambda z, T=1.0: softmax(-z, T)),
    Wrong("softmax", "divided by T again", lambda z, T=1.0: softmax(z, T) / T, ("1/T",)),
    Wrong("softmax", "absolute", lambda z, T=1.0: softmax(abs(z), T)),
    Wrong("softmax", "clipped", lambda z, T=1.0: softmax(np.clip(z, -1, 1), T)),
    Wrong("softmax", "an epsilon below", lambda z, T=1.0: softmax(z, T) / (1 + 1e-6)),
    Wrong("log_softmax", "the batch's maximum", log_shifted_by_the_batch),
    Wrong(
        "log_softmax",
        "base 10",
        lambda z, T=1.0: log_softmax(z, T) / np.log(10).astype(z.dtype),
        (LOG10,),
    ),
    Wrong(
        "log_softmax", "base 2", lambda z, T=1.0: np.log2(softmax(z, T)), (LOG2,), says="1.4426950"
    ),
    Wrong("log_softmax", "sign", lambda z, T=1.0: -log_softmax(z, T), says="the sign turned"),
    Wrong("log_softmax", "epsilon 1e-8", lambda z, T=1.0: np.log(softmax(z, T) + 1e-8)),
    Wrong(
        "log_softmax",
        "no exponential",
        lambda z, T=1.0: z / T - np.log(abs(z / T).sum(-1, keepdims=True)),
        says="each row is the right one plus a number of its own",
    ),
    Wrong(
        "log_softmax",
        "sum of logits",
        lambda z, T=1.0: z / T - (z / T).sum(-1, keepdims=True),
        says="each row is the right one plus a number of its own",
    ),
    Wrong("soften", "p T", lambda p, T: softmax(np.log(p) * T), ("1/T",), "sharpened"),
    Wrong("soften", "log base 10", lambda p, T: softmax(np.log10(p), T)),
    Wrong("soften", "sqrt(T)", lambda p, T: softmax(np.log(p), T**0.5), ("sqrt(T)",)),
    Wrong("soften", "log(1 + p)", lambda p, T: softmax(np.log1p(p), T)),
    # sheet 2
    Wrong("one_hot", "of integers", lambda y, n: np.eye(n, dtype=int)[y] * 2, says="2.0000000"),
    Wrong("one_hot", "off by one", lambda y, n: np.eye(n)[(y + 1) % n]),
    Wrong("one_hot", "cumulative", lambda y, n: np.cumsum(np.eye(n)[y], axis=1)),
    Wrong("smooth_labels", "N - 1 in the spread", lambda p, e: (1 - e) * p + e / (p.shape[1] - 1)),
    Wrong("smooth_labels", "B - 1", lambda p, e: (1 - e) * p + e / max(len(p) - 1, 1)),
    Wrong("smooth_labels", "half", lambda p, e: (1 - e / 2) * p + e / 2 / p.shape[1]),
    Wrong(
        "smooth_labels",
        "epsilon twice",
        lambda p, e: good.smooth_labels(good.smooth_labels(p, e), e),
    ),
    Wrong(
        "entropy",
        "log10",
        lambda p: good.entropy(p) / np.log(10).astype(p.dtype),
        (LOG10,),
        says="0.4342945",
    ),
    Wrong("entropy", "p squared", lambda p: -(p * p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)),
    Wrong(
        "entropy", "p log(1 - p)", lambda p: -(p * np.log(np.where(p < 1, 1 - p, 1))).sum(axis=-1)
    ),
    Wrong("entropy", "over log N", lambda p: good.entropy(p) / np.log(p.shape[1])),
    Wrong("entropy", "axis 0", lambda p: -(p * np.log(np.where(p > 0, p, 1))).sum(axis=0)),
    Wrong("entropy", "perplexity", lambda p: np.exp(good.entropy(p))),
    Wrong("entropy", "epsilon 1e-9", lambda p: -(p * np.log(p + 1e-9)).sum(axis=-1)),
    Wrong("entropy", "clipped at 1e-3", lambda p: -(p * np.log(np.clip(p, 0.05, 1))).sum(axis=-1)),
    Wrong(
        "cross_entropy",
        "log2",
        lambda p, q: good.cross_entropy(p, q) / np.log(2).astype(p.dtype),
        (LOG2,),
        says="1.4426950",
    ),
    Wrong(
        "cross_entropy",
        "log10",
        lambda p, q: good.cross_entropy(p, q) / np.log(10).astype(p.dtype),
        (LOG10,),
        says="0.4342945",
    ),
    Wrong(
        "cross_entropy",
        "epsilon 1e-12",
        lambda p, q: -(p * np.log(q + 1e-12)).sum(axis=-1),
        cause="clipped logarithm",
    ),
    Wrong("cross_entropy", "epsilon 1e-8", lambda p, q: -(p * np.log(q + 1e-8)).sum(axis=-1)),
    Wrong("cross_entropy", "sign", lambda p, q: -good.cross_entropy(p, q), says="the sign turned"),
    Wrong(
        "cross_entropy",
        "binary",
        lambda p, q: -(np.where(p > 0, p * np.log(q), 0) + (1 - p) * np.log(1 - q)).sum(axis=-1),
    ),
    Wrong("cross_entropy", "entropy of q", lambda p, q: good.entropy(q)),
    Wrong(
        "kl_divergence",
        "log10",
        lambda p, q: good.kl_divergence(p, q) / np.log(10).astype(p.dtype),
        (LOG10,),
        says="0.4342945",
    ),
    Wrong("kl_divergence", "sign", lambda p, q: -good.kl_divergence(p, q), says="the sign turned"),
    Wrong(
        "kl_divergence",
        "Jensen and Shannon",
        lambda p, q: (good.kl_divergence(p, (p + q) / 2) + good.kl_divergence(q, (p + q) / 2)) / 2,
    ),
    Wrong(
        "kl_divergence",
        "sum of both ways",
        lambda p, q: good.kl_divergence(p, q) + good.kl_divergence(q, p),
    ),
    Wrong("kl_divergence", "absolute terms", lambda p, q: np.abs(p * np.log(p / q)).sum(axis=-1)),
    # sheet 3
    Wrong(
        "cross_entropy_loss",
        "swapped",
        swapped("cross_entropy_loss"),
        says="in the order (dlogits, value)",
    ),
    Wrong(
        "cross_entropy_loss",
        "B - 1",
        scaled(
            "cross_entropy_loss",
            lambda z, y: len(z) / max(len(z) - 1, 1),
            lambda z, y: len(z) / max(len(z) - 1, 1),
        ),
        ("B/(B - 1)",),
    ),
    Wrong(
        "cross_entropy_loss",
        "log10",
        scaled("cross_entropy_loss", lambda z, y: 1 / math.log(10)),
        (LOG10,),
        says="0.4342945",
    ),
    Wrong(
        "cross_entropy_loss",
        "log2",
        scaled("cross_entropy_loss", lambda z, y: 1 / math.log(2)),
        (LOG2,),
        says="1.4426950",
    ),
    Wrong(
        "cross_entropy_loss",
        "gradient over N",
        scaled("cross_entropy_loss", gradient=lambda z, y: 1 / z.shape[1]),
        ("1/N",),
    ),
    Wrong(
        "cross_entropy_loss",
        "summed over B, then N",
        scaled(
            "cross_entropy_loss", lambda z, y: len(z) / z.shape[1], lambda z, y: len(z) / z.shape[1]
        ),
        ("B/N",),
    ),
    Wrong("cross_entropy_loss", "epsilon 1e-7", cross_entropy_with_epsilon(1e-7)),
    Wrong("cross_entropy_loss", "epsilon 1e-12", cross_entropy_with_epsilon(1e-12)),
    Wrong("cross_entropy_loss", "epsilon 1e-15", cross_entropy_with_epsilon(1e-15)),
    Wrong(
        "cross_entropy_loss",
        "mean of all logs",
        lambda z, y: (-log_softmax(z).mean(), good.cross_entropy_loss(z, y)[1]),
    ),
    Wrong(
        "cross_entropy_loss",
        "probability",
        lambda z, y: (
            1 - softmax(z)[np.arange(len(z)), y].mean(),
            good.cross_entropy_loss(z, y)[1],
        ),
    ),
    Wrong(
        "cross_entropy_loss",
        "sign of the value",
        scaled("cross_entropy_loss", lambda z, y: -1.0),
        says="the sign turned",
    ),
    Wrong(
        "cross_entropy_loss",
        "first label for all",
        lambda z, y: good.cross_entropy_loss(z, np.full_like(y, y[0])),
    ),
    Wrong("soft_target_loss", "the batch's maximum", soft_target_shifted_by_the_batch),
    Wrong(
        "soft_target_loss",
        "sqrt(T) in the gradient",
        scaled("soft_target_loss", gradient=lambda z, p, T: math.sqrt(T)),
        ("sqrt(T)",),
    ),
    Wrong(
        "soft_target_loss",
        "T^2 in the gradient",
        scaled("soft_target_loss", gradient=lambda z, p, T: T * T),
        ("T^2",),
    ),
    Wrong(
        "soft_target_loss",
        "T^2 in the value",
        scaled("soft_target_loss", lambda z, p, T: T * T),
        ("T^2",),
    ),
    Wrong(
        "soft_target_loss",
        "swapped",
        swapped("soft_target_loss"),
        says="in the order (dlogits, value)",
    ),
    Wrong(
        "soft_target_loss",
        "targets softened too",
        lambda z, p, T: good.soft_target_loss(
            z, softmax(np.log(np.maximum(p, 1e-300)), T).astype(z.dtype), T
        ),
    ),
    Wrong(
        "soft_target_loss",
        "B - 1",
        scaled(
            "soft_target_loss",
            lambda z, p, T: len(z) / max(len(z) - 1, 1),
            lambda z, p, T: len(z) / max(len(z) - 1, 1),
        ),
        ("B/(B - 1)",),
    ),
    Wrong(
        "soft_target_loss",
        "divergence",
        lambda z, p, T: (
            good.soft_target_loss(z, p, T)[0] - good.entropy(p).mean(),
            good.soft_target_loss(z, p, T)[1],
        ),
    ),
    Wrong("kl_loss", "the batch's maximum", kl_shifted_by_the_batch),
    Wrong(
        "kl_loss",
        "log10",
        kl_with(np.log10, np.log10, right_kl_gradient),
        (LOG10,),
        says="0.4342945",
    ),
    Wrong(
        "kl_loss", "bits", kl_with(np.log2, np.log2, right_kl_gradient), (LOG2,), says="1.4426950"
    ),
    Wrong(
        "kl_loss",
        "epsilon 1e-8",
        kl_with(lambda p: np.log(p + 1e-8), lambda q: np.log(q + 1e-8), right_kl_gradient),
    ),
    Wrong(
        "kl_loss",
        "epsilon 1e-12",
        kl_with(lambda p: np.log(p + 1e-12), lambda q: np.log(q + 1e-12), right_kl_gradient),
    ),
    Wrong("kl_loss", "swapped", swapped("kl_loss"), says="in the order (dlogits, value)"),
    Wrong(
        "kl_loss",
        "gradient of the value times T^2",
        scaled("kl_loss", gradient=lambda z, v, T: T * T),
        ("T^2",),
    ),
    Wrong(
        "kl_loss",
        "N - 1",
        scaled(
            "kl_loss", lambda z, v, T: 1 / (z.shape[1] - 1), lambda z, v, T: 1 / (z.shape[1] - 1)
        ),
        ("1/(N - 1)",),
    ),
    Wrong("kl_loss", "only the student at T", lambda z, v, T: good.kl_loss(z * T, v, T)),
    Wrong("kl_loss", "arguments swapped", lambda z, v, T: good.kl_loss(v, z, T)),
    Wrong(
        "kl_loss",
        "summed over B",
        scaled("kl_loss", lambda z, v, T: len(z), lambda z, v, T: len(z)),
        ("B",),
    ),
    Wrong(
        "kl_loss",
        "doubled gradient",
        scaled("kl_loss", gradient=lambda z, v, T: 2.0),
        says="2.0000000 times",
    ),
    Wrong(
        "kl_loss",
        "squared error",
        lambda z, v, T: (
            ((softmax(z, T) - softmax(v, T)) ** 2).sum(-1).mean(),
            right_kl_gradient(z, v, T),
        ),
    ),
    Wrong(
        "reverse_kl_loss",
        "swapped",
        swapped("reverse_kl_loss"),
        says="in the order (dlogits, value)",
    ),
    Wrong(
        "reverse_kl_loss",
        "T^2",
        scaled("reverse_kl_loss", lambda z, v, T: T * T, lambda z, v, T: T * T),
        ("T^2",),
    ),
    Wrong(
        "reverse_kl_loss",
        "sign of the gradient",
        scaled("reverse_kl_loss", gradient=lambda z, v, T: -1.0),
        says="the sign turned",
    ),
    Wrong(
        "reverse_kl_loss",
        "summed over B",
        scaled("reverse_kl_loss", lambda z, v, T: len(z), lambda z, v, T: len(z)),
        ("B",),
    ),
    Wrong(
        "reverse_kl_loss",
        "p d instead of q d",
        lambda z, v, T: (
            good.reverse_kl_loss(z, v, T)[0],
            softmax(v, T) * good.reverse_kl_loss(z, v, T)[1] / softmax(z, T),
        ),
    ),
    # sheet 4
    Wrong(
        "high_temperature_gradient",
        "sqrt(T)",
        lambda z, v, T: good.high_temperature_gradient(z, v, T) * T**1.5,
        (),
    ),
    Wrong(
        "high_temperature_gradient",
        "T cubed",
        lambda z, v, T: good.high_temperature_gradient(z, v, T) / T,
        ("1/T",),
    ),
    Wrong(
        "high_temperature_gradient",
        "N squared",
        lambda z, v, T: good.high_temperature_gradient(z, v, T) / z.shape[1],
        ("1/N",),
    ),
    Wrong(
        "high_temperature_gradient",
        "N - 1",
        lambda z, v, T: good.high_temperature_gradient(z, v, T) * z.shape[1] / (z.shape[1] - 1),
        ("N/(N - 1)",),
    ),
    Wrong(
        "high_temperature_gradient",
        "columns centred",
        lambda z, v, T: (z - v - (z - v).mean(axis=0)) / z.shape[1] / T**2,
    ),
    Wrong(
        "logit_matching_loss",
        "root",
        lambda z, v: (
            np.sqrt(2 * good.logit_matching_loss(z, v)[0]),
            good.logit_matching_loss(z, v)[1],
        ),
    ),
    Wrong(
        "logit_matching_loss",
        "swapped",
        swapped("logit_matching_loss"),
        says="in the order (dlogits, value)",
    ),
    Wrong(
        "logit_matching_loss",
        "summed",
        scaled("logit_matching_loss", lambda z, v: len(z), lambda z, v: len(z)),
        ("B",),
    ),
    Wrong(
        "logit_matching_loss",
        "N - 1 in the gradient",
        scaled("logit_matching_loss", gradient=lambda z, v: z.shape[1] / (z.shape[1] - 1)),
        ("N/(N - 1)",),
    ),
    Wrong(
        "probability_difference",
        "over T",
        lambda z, v, T: good.probability_difference(z, v, T) / T,
        ("1/T",),
    ),
    Wrong(
        "probability_difference",
        "first order",
        lambda z, v, T: (
            softmax(v, T) * ((z - v) - (softmax(v, T) * (z - v)).sum(-1, keepdims=True)) / T
        ),
    ),
    # sheet 5
    Wrong(
        "linear_backward",
        "B - 1",
        lambda dy, x, W: (dy @ W.T, x.T @ dy / max(len(x) - 1, 1), dy.sum(axis=0)),
        ("1/(B - 1)",),
    ),
    Wrong(
        "linear_backward",
        "db a mean over B and M",
        lambda dy, x, W: (dy @ W.T, x.T @ dy, dy.mean(axis=0) / dy.shape[1]),
        ("1/(B M)",),
    ),
    Wrong(
        "linear_backward",
        "results in another order",
        lambda dy, x, W: (x.T @ dy, dy.sum(axis=0), dy @ W.T),
        says="in the order (dW, db, dx)",
    ),
    Wrong(
        "linear_backward",
        "dW doubled",
        lambda dy, x, W: (dy @ W.T, 2 * x.T @ dy, dy.sum(axis=0)),
        says="2.0000000 times",
    ),
    Wrong(
        "linear_backward",
        "db kept as a row",
        lambda dy, x, W: (dy @ W.T, x.T @ dy, dy.sum(axis=0, keepdims=True)),
    ),
    Wrong("relu_backward", "leaky", lambda dy, y: np.where(y > 0, dy, 0.01 * dy).astype(dy.dtype)),
    Wrong(
        "relu_backward",
        "relu of dy",
        lambda dy, y: np.maximum(dy, 0),
        cause="mask from the wrong array",
    ),
    Wrong("relu_backward", "the mask itself", lambda dy, y: (y > 0).astype(dy.dtype)),
    Wrong("relu_backward", "sign of y", lambda dy, y: dy * np.where(y > 0, 1, -1).astype(dy.dtype)),
    Wrong(
        "mlp_backward",
        "mask from x W1 of the wrong layer",
        lambda d, x, h, W2: (
            x.T @ ((d @ W2.T) * (h > h.mean())),
            ((d @ W2.T) * (h > h.mean())).sum(0),
            h.T @ d,
            d.sum(0),
        ),
    ),
    Wrong(
        "mlp_backward",
        "db1 a mean",
        lambda d, x, h, W2: (
            good.mlp_backward(d, x, h, W2)[0],
            good.mlp_backward(d, x, h, W2)[1] / len(x),
            h.T @ d,
            d.sum(0),
        ),
        ("1/B",),
    ),
    Wrong(
        "mlp_backward",
        "tanh's slope",
        lambda d, x, h, W2: (
            x.T @ ((d @ W2.T) * (1 - h * h)),
            ((d @ W2.T) * (1 - h * h)).sum(0),
            h.T @ d,
            d.sum(0),
        ),
    ),
    Wrong("he_normal", "sqrt(6/fan_in)", lambda m, n, rng: rng.normal(0, math.sqrt(6 / m), (m, n))),
    Wrong("he_normal", "transposed", lambda m, n, rng: rng.normal(0, math.sqrt(2 / m), (n, m))),
    Wrong("he_normal", "0.01", lambda m, n, rng: 0.01 * rng.standard_normal((m, n))),
    Wrong(
        "he_normal",
        "the same each time",
        lambda m, n, rng: np.random.default_rng(0).normal(0, math.sqrt(2 / m), (m, n)),
    ),
    Wrong(
        "xavier_uniform",
        "sqrt(3/fan_in)",
        lambda m, n, rng: rng.uniform(-math.sqrt(3 / m), math.sqrt(3 / m), (m, n)),
    ),
    Wrong(
        "xavier_uniform",
        "sqrt(1/fan_in)",
        lambda m, n, rng: rng.uniform(-1, 1, (m, n)) / math.sqrt(m),
    ),
    # sheet 6
    Wrong("standardise", "scaled to 0..1", lambda a, x: (x - a.min(0)) / (a.max(0) - a.min(0))),
    Wrong("standardise", "only shifted", lambda a, x: x - a.mean(axis=0)),
    Wrong(
        "standardise", "epsilon 1e-8", lambda a, x: (x - a.mean(axis=0)) / (a.std(axis=0) + 1e-8)
    ),
    Wrong(
        "standardise",
        "both sets together",
        lambda a, x: good.standardise(np.concatenate([a, x]), x),
    ),
    Wrong(
        "batch_norm", "epsilon 1e-8", lambda x, g, b, epsilon=1e-5: good.batch_norm(x, g, b, 1e-8)
    ),
    Wrong(
        "batch_norm", "epsilon 1e-3", lambda x, g, b, epsilon=1e-5: good.batch_norm(x, g, b, 1e-3)
    ),
    Wrong(
        "batch_norm",
        "standard deviation returned",
        lambda x, g, b, epsilon=1e-5: (*good.batch_norm(x, g, b)[:3], x.std(axis=0)),
    ),
    Wrong("batch_norm", "beta subtracted", batch_norm_with(out=lambda x_hat, g, b: g * x_hat - b)),
    Wrong(
        "batch_norm",
        "gamma on everything",
        batch_norm_with(out=lambda x_hat, g, b: g * (x_hat + b)),
    ),
    Wrong(
        "batch_norm",
        "one variance",
        batch_norm_with(spread=lambda x: np.full(x.shape[1], x.var(), x.dtype)),
    ),
    Wrong(
        "batch_norm_backward",
        "no variance in dgamma",
        batch_norm_backward_with(dgamma=lambda dy, x_hat, v, g: dy.sum(axis=0)),
    ),
    Wrong(
        "batch_norm_backward",
        "gamma in dgamma",
        batch_norm_backward_with(dgamma=lambda dy, x_hat, v, g: (g * dy * x_hat).sum(axis=0)),
    ),
    Wrong(
        "batch_norm_backward",
        "B - 1",
        batch_norm_backward_with(
            dx=lambda dy, x_hat, v, g: (
                (
                    g * dy
                    - (g * dy).sum(0) / max(len(dy) - 1, 1)
                    - x_hat * (g * dy * x_hat).sum(0) / max(len(dy) - 1, 1)
                )
                / np.sqrt(v + 1e-5)
            )
        ),
    ),
    Wrong(
        "batch_norm_backward",
        "epsilon forgotten",
        batch_norm_backward_with(
            dx=lambda dy, x_hat, v, g: (
                (g * dy - (g * dy).mean(0) - x_hat * (g * dy * x_hat).mean(0)) / np.sqrt(v)
            )
        ),
    ),
    Wrong(
        "dropout",
        "scaled by the share seen",
        dropout_with(scale=lambda kept, rate: 1 / kept.mean()),
    ),
    Wrong(
        "dropout",
        "whole rows",
        dropout_with(keep=lambda x, rate, rng: rng.random((len(x), 1)) >= rate),
    ),
    Wrong("dropout", "scaled by 1 / rate", dropout_with(scale=lambda kept, rate: 1 + rate)),
    Wrong(
        "momentum_step",
        "exponential average in the step",
        lambda p, v, g, rate, mu: (p - rate * (1 - mu) * (mu * v + g), mu * v + g),
    ),
    Wrong(
        "momentum_step", "minus", lambda p, v, g, rate, mu: (p - rate * (mu * v - g), mu * v - g)
    ),
    Wrong(
        "momentum_step",
        "mu and 1 swapped",
        lambda p, v, g, rate, mu: (p - rate * (v + mu * g), v + mu * g),
    ),
    Wrong(
        "momentum_step",
        "swapped",
        lambda p, v, g, rate, mu: good.momentum_step(p, v, g, rate, mu)[::-1],
        says="in the order (velocity, parameters)",
    ),
    Wrong(
        "momentum_step",
        "(1 - mu) only on the gradient of the velocity kept",
        lambda p, v, g, rate, mu: (p - rate * (mu * v + g), mu * v + (1 - mu) * g),
    ),
    Wrong("cosine_decay", "total - 1", cosine_with(lambda s, n: min(s / (n - 1), 1))),
    Wrong("cosine_decay", "from step 1", cosine_with(lambda s, n: min((s + 1) / n, 1))),
    Wrong(
        "cosine_decay",
        "0 after the end",
        lambda s, r, n, floor=0.0: good.cosine_decay(s, r, n, floor) if s < n else 0.0,
    ),
    Wrong(
        "cosine_decay",
        "floor after the end only",
        lambda s, r, n, floor=0.0: max(floor, good.cosine_decay(s, r, n)),
    ),
    Wrong(
        "cosine_decay",
        "exponential",
        lambda s, r, n, floor=0.01: r * (max(floor, 1e-3) / r) ** clamped(s, n),
    ),
    Wrong("cosine_decay", "degrees", cosine_with(lambda s, n: clamped(s, n) * 180 / math.pi)),
    # sheet 7
    Wrong("hinton_loss", "T cubed", hinton_with(soft=lambda T: T**3)),
    Wrong("hinton_loss", "over T^2", hinton_with(soft=lambda T: 1 / T**2)),
    Wrong("hinton_loss", "sqrt(T)", hinton_with(soft=lambda T: math.sqrt(T))),
    Wrong("hinton_loss", "weights made to sum to 1", hinton_convex),
    Wrong(
        "hinton_loss",
        "hard term at T with its gradient not",
        hinton_with(hard_temperature=lambda T: T),
    ),
    Wrong("hinton_loss", "T on the hard term", hinton_with(hard=lambda T: T)),
    Wrong("hinton_loss", "soft gradient turned", hinton_reversed_gradient, cause="p and q swapped"),
    Wrong("hinton_loss", "swapped", swapped("hinton_loss"), says="in the order (dlogits, value)"),
    Wrong(
        "hinton_loss",
        "half of it",
        scaled("hinton_loss", lambda *a: 0.5, lambda *a: 0.5),
        says="0.5000000 times",
    ),
    Wrong(
        "hinton_loss",
        "summed over B",
        scaled("hinton_loss", lambda z, *a: len(z), lambda z, *a: len(z)),
        ("B",),
    ),
    Wrong(
        "hinton_loss",
        "soft cross-entropy",
        lambda z, v, y, T, a, b: (
            good.hinton_loss(z, v, y, T, a, b)[0] + a * T * T * good.entropy(softmax(v, T)).mean(),
            good.hinton_loss(z, v, y, T, a, b)[1],
        ),
    ),
    Wrong("training_step", "dW only over B", training_step_with(dlogits=lambda d, x: d * len(x))),
    Wrong("training_step", "bias at half the rate", training_step_with(rate_b=0.5)),
    Wrong(
        "training_step",
        "no rate",
        lambda W, b, x, v, y, T, s, h, rate: good.training_step(W, b, x, v, y, T, s, h, 1.0),
    ),
    Wrong("pseudo_labels", "second best", lambda v: np.argsort(v, axis=-1)[:, -2]),
    Wrong(
        "pseudo_labels",
        "as floats off by one half",
        lambda v: v.argmax(axis=-1) + 0.5,
        says="plus 0.5",
    ),
    Wrong("pseudo_labels", "one for the batch", lambda v: np.full(len(v), v.argmax() % v.shape[1])),
    Wrong("missing_class_bias", "a grid of halves", bias_on_a_grid(0.5)),
    Wrong("missing_class_bias", "a grid of hundredths", bias_on_a_grid(0.01)),
    Wrong(
        "missing_class_bias",
        "median gap",
        lambda z, y, k: float(np.median(np.delete(z, k, 1).max(-1) - z[:, k])),
    ),
    # sheet 8
    Wrong("arithmetic_mean", "median", lambda v, T: np.median(softmax(v, T), axis=0)),
    Wrong(
        "arithmetic_mean",
        "K - 1",
        lambda v, T: softmax(v, T).sum(axis=0) / (len(v) - 1),
        ("K/(K - 1)",),
    ),
    Wrong("arithmetic_mean", "sqrt(T)", lambda v, T: softmax(v, T**0.5).mean(axis=0)),
    Wrong(
        "arithmetic_mean",
        "the batch's maximum",
        lambda v, T: shifted_by_the_batch(v, T).mean(axis=0),
    ),
    Wrong(
        "geometric_mean",
        "mean of log base 2",
        lambda v, T: softmax(np.log2(softmax(v, T)).mean(axis=0)),
    ),
    Wrong(
        "geometric_mean",
        "softmax of the mean probabilities",
        lambda v, T: softmax(softmax(v, T).mean(axis=0)),
    ),
    Wrong("geometric_mean", "harmonic mean", lambda v, T: 1 / (1 / softmax(v, T)).mean(axis=0)),
    Wrong("nearest_neighbours", "Manhattan", manhattan),
    Wrong("nearest_neighbours", "cosine", cosine_neighbours),
    Wrong("nearest_neighbours", "largest coordinate", largest_coordinate),
    Wrong(
        "nearest_neighbours",
        "itself included",
        lambda x: ((x[:, None] - x[None]) ** 2).sum(-1).argmin(1),
        cause="itself",
    ),
    Wrong(
        "nearest_neighbours",
        "second nearest",
        lambda x: np.argsort(((x[:, None] - x[None]) ** 2).sum(-1), axis=1)[
            :, 2 if len(x) > 2 else 1
        ],
    ),
    Wrong(
        "munge",
        "noise of one size",
        lambda x, p, s, rng: np.where(
            rng.random(x.shape) < p,
            x[good.nearest_neighbours(x)] + rng.standard_normal(x.shape) / s,
            x,
        ),
    ),
    Wrong(
        "munge",
        "half way to the neighbour",
        lambda x, p, s, rng: np.where(
            rng.random(x.shape) < p, (x + x[good.nearest_neighbours(x)]) / 2, x
        ),
    ),
    # sheets 10 and 12
    Wrong(
        "overfitting",
        "the largest value's epoch",
        lambda c: (c.argmax(axis=1), good.overfitting(c)[1]),
    ),
    Wrong(
        "overfitting",
        "two epochs late",
        lambda c: (good.overfitting(c)[0] + 2, good.overfitting(c)[1]),
        says="plus 2",
    ),
    Wrong(
        "overfitting",
        "the rise downwards",
        lambda c: (good.overfitting(c)[0], -good.overfitting(c)[1]),
        says="the sign turned",
    ),
    Wrong("overfitting", "swapped", swapped("overfitting"), says="in the order (rise, best_epoch)"),
    Wrong(
        "overfitting",
        "the minimum of the second half",
        lambda c: (
            c[:, c.shape[1] // 2 :].argmin(axis=1) + c.shape[1] // 2,
            c[:, -1] - c[:, c.shape[1] // 2 :].min(axis=1),
        ),
    ),
    Wrong(
        "recovered_share",
        "in percent",
        lambda h, s, f: tuple(100 * x for x in good.recovered_share(h, s, f)),
        says="100.0000000 times",
    ),
    Wrong(
        "recovered_share",
        "median",
        lambda h, s, f: (np.median((s - h) / (f - h)), good.recovered_share(h, s, f)[1]),
    ),
    Wrong(
        "recovered_share",
        "against the best of all",
        lambda h, s, f: good.recovered_share(h, s, np.full(len(f), f.max())),
    ),
    Wrong(
        "recovered_share",
        "two standard errors",
        lambda h, s, f: (good.recovered_share(h, s, f)[0], 2 * good.recovered_share(h, s, f)[1]),
        says="2.0000000 times",
    ),
    Wrong(
        "distance_from_labels",
        "T squared",
        lambda v, y, T: good.distance_from_labels(v, y, T * T),
    ),
    Wrong(
        "distance_from_labels",
        "in nats",
        lambda v, y, T: -log_softmax(v, T)[np.arange(len(y)), y].mean(),
    ),
    Wrong(
        "distance_from_labels",
        "row by row",
        lambda v, y, T: 1 - softmax(v, T)[np.arange(len(y)), y],
        says="needed is a number",
    ),
    Wrong(
        "distance_from_labels",
        "L2",
        lambda v, y, T: np.linalg.norm(softmax(v, T) - one_hot_like(v, y), axis=1).mean(),
    ),
    Wrong(
        "confusion_covariance",
        "correlation",
        lambda p: np.corrcoef(p, rowvar=False).astype(p.dtype),
    ),
    Wrong(
        "confusion_covariance",
        "the mean of the others on the diagonal",
        lambda p: covariance_with(p, lambda others: others.mean()),
    ),
    Wrong(
        "confusion_covariance",
        "the largest in size on the diagonal",
        lambda p: covariance_with(p, lambda others: others[np.abs(others).argmax()]),
    ),
    Wrong("confusion_covariance", "of the rows", lambda p: good.confusion_covariance(p.T)),
    Wrong(
        "k_means_step",
        "the farthest",
        farthest_centres,
    ),
    Wrong("k_means_step", "the old centres", lambda x, c: c.copy()),
    Wrong(
        "k_means_step",
        "too far",
        lambda x, c: 2 * good.k_means_step(x, c) - c,
    ),
    Wrong(
        "k_means_step",
        "which centre, for each point",
        lambda x, c: ((x[:, None] - c) ** 2).sum(-1).argmin(1),
    ),
    Wrong(
        "dustbin_correction",
        "base 10",
        lambda z, s: with_dustbin_logit(z, math.log10((1 - s) / s)),
    ),
    Wrong(
        "dustbin_correction",
        "the odds squared",
        lambda z, s: with_dustbin_logit(z, 2 * math.log((1 - s) / s)),
    ),
    Wrong(
        "dustbin_correction",
        "the logits",
        lambda z, s: np.column_stack([z[:, :-1], z[:, -1] + z.dtype.type(math.log((1 - s) / s))]),
    ),
    Wrong(
        "dustbin_correction",
        "the set's odds multiplied",
        lambda z, s: with_dustbin_logit(z, math.log(s / (1 - s))),
        cause="the other way round",
    ),
    Wrong(
        "combined_with_one",
        "a third for the specialist",
        lambda p, a, s: (p + 2 * good.combined_with_one(p, a, s)) / 3,
    ),
    Wrong(
        "combined_with_one",
        "the specialist's share scaled to the generalist's",
        lambda p, a, s: good.combined_with_one(p, scaled_to_the_set(p, a, s), s),
    ),
    Wrong(
        "combined_with_one",
        "first classes",
        lambda p, a, s: good.combined_with_one(p, a, np.arange(len(s)) + 1),
    ),
    Wrong("one_round", "q for p", lambda q, p, a, d, o: good.one_round(q, q, a, d, o)),
    Wrong(
        "one_round",
        "twice",
        lambda q, p, a, d, o: good.one_round(good.one_round(q, p, a, d, o), p, a, d, o),
    ),
    Wrong(
        "one_round",
        "without p",
        lambda q, p, a, d, o: good.one_round(q, 0 * p, a, d, o),
    ),
    Wrong(
        "one_round",
        "sum over all models",
        lambda q, p, a, d, o: good.one_round(q, p, a, d, o) * (1 + len(o)),
    ),
    # sheets 13 and 14
    Wrong(
        "through_softmax",
        "sqrt(T)",
        lambda q, u, T: good.through_softmax(q, u, T) * T**0.5,
        ("sqrt(T)",),
    ),
    Wrong(
        "through_softmax",
        "sign",
        lambda q, u, T: -good.through_softmax(q, u, T),
        says="the sign turned",
    ),
    Wrong(
        "through_softmax",
        "q forgotten outside",
        lambda q, u, T: (u - (q * u).sum(-1, keepdims=True)) / T,
    ),
    Wrong(
        "through_softmax", "the batch's mean", lambda q, u, T: q * (u - (q * u).sum(-1).mean()) / T
    ),
    Wrong(
        "jensen_shannon", "swapped", swapped("jensen_shannon"), says="in the order (dlogits, value)"
    ),
    Wrong(
        "jensen_shannon",
        "bits",
        scaled("jensen_shannon", lambda *a: 1 / math.log(2)),
        (LOG2,),
        says="1.4426950",
    ),
    Wrong("jensen_shannon", "equal parts", lambda z, v, b, T: good.jensen_shannon(z, v, 0.5, T)),
    Wrong("top_k", "one class more", lambda z, v, k, T: good.top_k(z, v, k + 1, T)),
    Wrong("top_k", "swapped", swapped("top_k"), says="in the order (dlogits, value)"),
    Wrong("top_k", "the smallest", lambda z, v, k, T: good.top_k(-z, -v, k, T)),
    Wrong(
        "standardized_backward",
        "sign",
        lambda z, g: -good.standardized_backward(z, g),
        says="the sign turned",
    ),
    Wrong(
        "standardized_backward",
        "doubled",
        lambda z, g: 2 * good.standardized_backward(z, g),
        says="2.0000000 times",
    ),
    Wrong(
        "temperature_slope",
        "T cubed",
        lambda z, v, T: good.temperature_slope(z, v, T) / T,
        ("1/T",),
    ),
    Wrong(
        "temperature_slope",
        "bits",
        lambda z, v, T: good.temperature_slope(z, v, T) / math.log(2),
        (LOG2,),
    ),
    Wrong(
        "paired_gap",
        "deviation with K",
        lambda a, b: (good.paired_gap(a, b)[0], (a - b).std() / math.sqrt(len(a))),
        cause="divided by K",
    ),
    Wrong(
        "paired_gap",
        "swapped",
        lambda a, b: good.paired_gap(a, b)[::-1],
        says="in the order (standard_error, mean)",
    ),
    Wrong("paired_gap", "median", lambda a, b: (float(np.median(a - b)), good.paired_gap(a, b)[1])),
    # the gallery
    Wrong(
        "repaired_01",
        "T instead of T^2",
        scaled("repaired_01", lambda z, v, T: 1 / T, lambda z, v, T: 1 / T),
        ("1/T",),
    ),
    Wrong(
        "repaired_02",
        "sum over everything",
        scaled("repaired_02", lambda z, v, T: len(z), lambda z, v, T: len(z)),
        ("B",),
    ),
    Wrong("repaired_05", "without T^2", repaired_step),
    Wrong(
        "repaired_06",
        "epsilon forgotten",
        lambda x, g, b, m, v, W, T: softmax((g * (x - m) / np.sqrt(v) + b) @ W, T),
    ),
    Wrong("repaired_10", "one half each", lambda z, v, w, s, T: good.repaired_10(z, v, w, 0.5, T)),
)
