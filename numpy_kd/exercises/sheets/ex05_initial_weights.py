"""Sheet 5, continued: where the weights come from."""

from __future__ import annotations

import numpy as np

from numpy_kd import initializers
from numpy_kd.exercises.exercise import Check, Exercise, Mistake, Question
from numpy_kd.exercises.judging import draws


def _fans(rng):
    """A layer that narrows and one that widens; fan-in, fan-out and their mean are far apart."""
    few, many = rng.integers(100, 130, 2).tolist(), rng.integers(250, 290, 2).tolist()
    return [(many[0], few[0], draws.seeded(rng)), (few[1], many[1], draws.seeded(rng))]


def _twice_the_same(rng):
    seed, fans = int(rng.integers(1 << 31)), draws.sizes(rng)
    return [(*fans, np.random.default_rng(s)) for s in (seed, seed, seed + 1)]


def _is_spread(uniform: bool):
    """A judge of random weights: shape, mean 0, the right spread, the right kind of tail."""

    def judge(seen) -> str:
        for call in seen:
            W, right = np.asarray(call.value), np.asarray(call.expected)
            if not isinstance(call.value, np.ndarray) or W.shape != right.shape:
                return f"W must be an array of shape {right.shape}"
            if not np.isfinite(W).all():
                return "W has NaN or infinity"
            spread, wanted = W.std(), right.std()
            if abs(spread / wanted - 1) > 0.03:
                return (
                    f"the standard deviation of W is {spread:.4g}; needed is about {wanted:.4g}: "
                    f"it is {spread / wanted:.3f} times the right one"
                )
            if abs(W.mean()) > 0.05 * wanted:
                return f"the mean of W is {W.mean():.3g}, not 0"
            tail = np.abs(W).max() / spread
            if uniform and tail > 1.8:
                return f"the largest entry is {tail:.2f} standard deviations: that is not uniform"
            if not uniform and tail < 2.5:
                return f"the largest entry is {tail:.2f} standard deviations: that is not normal"
        return ""

    return judge


def _is_drawn(seen) -> str:
    """The numbers come from the generator that is passed in, each one on its own."""
    first, again, other = (np.asarray(call.value) for call in seen)
    fans = seen[0].arguments[:2]
    if any(W.shape != fans or W.dtype.kind != "f" for W in (first, again, other)):
        return "W must be floats of shape (fan_in, fan_out), also for a small layer"
    if not np.array_equal(first, again):
        return "two generators with the same seed gave different weights: draw from `rng`"
    if np.array_equal(first, other):
        return "generators with different seeds gave the same weights: draw from `rng`"
    if len(np.unique(first)) < first.size:
        return "some weights are equal: units that start equal stay equal"
    return ""


def _initializer_checks(uniform: bool):
    return (
        Check("values", 3, _fans, _is_spread(uniform)),
        Check("contract", 1, _twice_the_same, _is_drawn, main=False),
    )


def _he(fan_in, fan_out, rng):
    return initializers.he_normal((fan_in, fan_out), rng)


def _normal(scale):
    return lambda fan_in, fan_out, rng: rng.normal(0, scale(fan_in, fan_out), (fan_in, fan_out))


def _uniform(limit):
    def function(fan_in, fan_out, rng):
        a = limit(fan_in, fan_out)
        return rng.uniform(-a, a, (fan_in, fan_out))

    return function


he_normal = Exercise(
    name="he_normal",
    title="He initialisation",
    signature="fan_in, fan_out, rng",
    summary="Normal weights of shape (fan_in, fan_out) with variance 2 / fan_in, drawn from rng.",
    statement=r"""
A unit adds up $D$ = `fan_in` products $x_i w_i$. If the weights have variance $\sigma^2$, its
pre-activation has variance $D \sigma^2\, \mathrm{E}[x^2]$, and ReLU then halves the mean square. To
keep $\mathrm{E}[x^2]$ the same from layer to layer, which $\sigma^2$ is needed?

Write `he_normal(fan_in, fan_out, rng)`: normal, mean 0, shape `(fan_in, fan_out)`, all drawn from the
generator `rng` that you are given.""",
    returns=("W",),
    hints=(
        "$D\\sigma^2 / 2 = 1$.",
        "`rng.normal(mean, standard_deviation, shape)` takes the standard deviation, a square root.",
        "`rng` is a `numpy.random.Generator`; do not make one of your own.",
    ),
    reference=_he,
    checks=_initializer_checks(uniform=False),
    mistakes=(
        Mistake(
            "variance for standard deviation",
            "2 / fan_in went in as the standard deviation; it is the variance.",
            _normal(lambda a, b: 2 / a),
        ),
        Mistake(
            "fan-out for fan-in",
            "the variance is 2 / fan_out = 2/{out}; a unit adds up fan_in = {in} products.",
            _normal(lambda a, b: (2 / b) ** 0.5),
        ),
        Mistake(
            "no factor 2",
            "the variance is 1 / fan_in: the half that ReLU takes away is not made good.",
            _normal(lambda a, b: (1 / a) ** 0.5),
        ),
        Mistake(
            "Xavier",
            "this is 2 / (fan_in + fan_out), Xavier's variance, meant for tanh.",
            _normal(lambda a, b: (2 / (a + b)) ** 0.5),
        ),
        Mistake(
            "uniform",
            "the spread is right, but the distribution is uniform.",
            _uniform(lambda a, b: (6 / a) ** 0.5),
        ),
        Mistake(
            "not centred",
            "the weights are all positive: their absolute values were taken.",
            lambda a, b, rng: np.abs(_he(a, b, rng)),
        ),
    ),
    quantities=lambda fan_in, fan_out, rng: {"in": fan_in, "out": fan_out},
)


def _xavier(fan_in, fan_out, rng):
    return initializers.xavier_uniform((fan_in, fan_out), rng)


xavier_uniform = Exercise(
    name="xavier_uniform",
    title="Xavier initialisation",
    signature="fan_in, fan_out, rng",
    summary="Uniform weights with variance 2 / (fan_in + fan_out), drawn from rng.",
    statement=r"""
With tanh, which is close to the identity around 0, nothing is halved. Forward the variance asks for
$\sigma^2 = 1/D_\text{in}$, backward (the gradient adds up over the outputs) for $1/D_\text{out}$; Glorot
and Bengio take $\sigma^2 = 2/(D_\text{in} + D_\text{out})$, between the two, and draw **uniformly** from
$[-a, a]$. A uniform distribution on $[-a, a]$ has variance $a^2/3$. Which $a$ is that?

Write `xavier_uniform(fan_in, fan_out, rng)`, shape `(fan_in, fan_out)`.""",
    returns=("W",),
    hints=(
        "$a^2/3 = 2/(D_\\text{in} + D_\\text{out})$.",
        "So $a = \\sqrt{6/(D_\\text{in} + D_\\text{out})}$.",
        "`rng.uniform(low, high, shape)`.",
    ),
    reference=_xavier,
    checks=_initializer_checks(uniform=True),
    mistakes=(
        Mistake(
            "variance for width",
            "the half-width a is the standard deviation: a^2 = 2/(in + out). The variance of a "
            "uniform distribution is a^2/3.",
            _uniform(lambda a, b: (2 / (a + b)) ** 0.5),
        ),
        Mistake(
            "half the width",
            "the whole width is a; it goes from -a to a.",
            _uniform(lambda a, b: (6 / (a + b)) ** 0.5 / 2),
        ),
        Mistake(
            "only positive",
            "the weights lie between 0 and 2a: the mean is not 0.",
            lambda a, b, rng: _xavier(a, b, rng) + (6 / (a + b)) ** 0.5,
        ),
        Mistake(
            "He",
            "this is He's width, sqrt(6 / fan_in), meant for ReLU.",
            _uniform(lambda a, b: (6 / a) ** 0.5),
        ),
        Mistake(
            "square root forgotten",
            "a = 6/(in + out) without the square root.",
            _uniform(lambda a, b: 6 / (a + b)),
        ),
        Mistake(
            "normal",
            "the spread is right, but the distribution is normal.",
            _normal(lambda a, b: (2 / (a + b)) ** 0.5),
        ),
    ),
    questions=(
        Question(
            "zeros",
            "All weights of a hidden layer with 50 ReLU units start at the same constant. After "
            "1,000 steps of gradient descent, how many different units are there?",
            1.0,
            "one, 50 times over: equal units get equal gradients, and stay equal.",
            ((50.0, "what would make the first two differ? Their gradients are the same."),),
        ),
    ),
    quantities=lambda fan_in, fan_out, rng: {"in": fan_in, "out": fan_out},
)

EXERCISES = (he_normal, xavier_uniform)
