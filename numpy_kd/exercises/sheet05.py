"""Sheet 5: backpropagation with shapes at each step, and where the weights come from."""

from __future__ import annotations

import numpy as np

from numpy_kd import initializers, layers
from numpy_kd.exercises import problems
from numpy_kd.exercises.spec import Check, Exercise, Mistake, Question, Sheet, standard_checks

SHAPES = ((5, 4, 3), (7, 3, 5), (5, 6, 4), (4, 3, 7))  # B, D, M: all different


def _sizes(rng, batch=None):
    B, D, M = SHAPES[rng.integers(len(SHAPES))]
    return batch or B, D, M


def _linear(rng, batch=None):
    B, D, M = _sizes(rng, batch)
    return rng.normal(size=(B, M)), rng.normal(size=(B, D)), rng.normal(size=(D, M))


def _linear_backward(dy, x, W):
    return layers.linear_backward(dy, x, W)


linear_backward = Exercise(
    name="linear_backward",
    title="Back through a linear layer",
    signature="dy, x, W",
    summary="(dx, dW, db), the gradients of the cost with respect to x, W and b.",
    statement=r"""
A linear layer computes $y = xW + b$ with shapes $(B, D)\,(D, M) + (M,) \to (B, M)$. From behind comes
$\mathrm{dy} = \partial C/\partial y$, shape $(B, M)$. Start with one number each: $y = xw + b$ gives
$\partial C/\partial x = \mathrm{dy}\, w$, $\partial C/\partial w = x\,\mathrm{dy}$ and
$\partial C/\partial b = \mathrm{dy}$. Then let the shapes lead you: each gradient has the shape of
what it belongs to, and only one product of matrices gives that shape.

Write `linear_backward(dy, x, W)` returning `(dx, dW, db)`. There is **no** mean over the batch here:
the loss has put it into `dy` already.""",
    returns=("dx", "dW", "db"),
    hints=(
        "$(B, D)$ from $(B, M)$ and $(D, M)$: one of them must be transposed.",
        "$W$ acts on every example, so the examples' shares add up: a sum over $B$ hides in the product.",
        "The same for $b$: it is added to every row, so `dy` is summed over the rows.",
    ),
    reference=_linear_backward,
    checks=standard_checks(_linear, ("dx", "dW", "db"), values=4),
    mistakes=(
        Mistake(
            "mean over the batch",
            "dW and db were divided by B = {B}. The loss has done that already; twice makes the "
            "step {B} times too small.",
            lambda dy, x, W: (dy @ W.T, x.T @ dy / len(x), dy.mean(axis=0)),
        ),
        Mistake(
            "bias summed over the wrong axis",
            "db has a number for each example; there is one bias for each of the M = {M} units.",
            lambda dy, x, W: (dy @ W.T, x.T @ dy, dy.sum(axis=1)),
        ),
        Mistake(
            "mean for the bias only",
            "db was divided by B = {B}; dx and dW are right.",
            lambda dy, x, W: (dy @ W.T, x.T @ dy, dy.mean(axis=0)),
        ),
        Mistake(
            "dW transposed",
            "dW has the shape of W transposed: with x (B, D) and dy (B, M), (D, M) is x^T dy.",
            lambda dy, x, W: (dy @ W.T, dy.T @ x, dy.sum(axis=0)),
        ),
        Mistake(
            "one number for every bias",
            "db was summed over everything; each unit has its own bias.",
            lambda dy, x, W: (dy @ W.T, x.T @ dy, np.full(W.shape[1], dy.sum())),
        ),
    ),
    questions=(
        Question(
            "shares",
            "A bias is added to each of 32 rows, and every row sends back the gradient 0.5. "
            "What is the gradient of the bias?",
            16.0,
            "it is in all 32 rows, and its effects add up: 32 times 0.5.",
            ((0.5, "that is one row's share; the bias acts on all of them."),),
        ),
    ),
    quantities=lambda dy, x, W: {"B": x.shape[0], "D": W.shape[0], "M": W.shape[1]},
    context=lambda dy, x, W: {"dy": dy, "x": x, "W": W},
    slope=lambda function, arguments: [
        (lambda x: (arguments[0] * layers.linear(x, arguments[2])).sum(), arguments[1], 0),
        (lambda W: (arguments[0] * layers.linear(arguments[1], W)).sum(), arguments[2], 1),
    ],
)


def _activated(rng, batch=None):
    B, D, M = _sizes(rng, batch)
    return rng.normal(size=(B, M)), np.maximum(rng.normal(size=(B, M)), 0)


relu_backward = Exercise(
    name="relu_backward",
    title="Back through ReLU",
    signature="dy, y",
    summary="The gradient with respect to x, where y = max(x, 0), from y alone.",
    statement=r"""
$y = \max(x, 0)$ lets a number pass or makes it 0; so does its backward pass with the gradient. To know
which, $y$ is enough: nobody has to remember $x$. At $x = 0$ the slope is not defined, and everybody
takes 0.

Write `relu_backward(dy, y)`, given the layer's **output** `y`, returning `dx` of the same shape.""",
    returns=("dx",),
    hints=(
        "Where `y` is positive, $y = x$ there and the slope is 1.",
        "`y > 0` is an array of booleans, and booleans multiply like 1 and 0.",
        "Mask `dy`; do not multiply by `y`.",
    ),
    reference=layers.relu_backward,
    checks=standard_checks(_activated, ("dx",)),
    mistakes=(
        Mistake(
            "mask missing",
            "the whole of dy went through; where the unit was silent (y = 0) nothing should.",
            lambda dy, y: dy.copy(),
        ),
        Mistake(
            "mask inverted",
            "the gradient went through where the unit was silent, and not where it spoke.",
            lambda dy, y: dy * (y == 0),
        ),
        Mistake(
            "multiplied by the output",
            "dy was multiplied by y itself; the slope is 1 or 0, not y.",
            lambda dy, y: dy * y,
        ),
        Mistake(
            "mask from the wrong array",
            "the mask was made from dy (dy > 0); it is the unit's output that decides.",
            lambda dy, y: dy * (dy > 0),
        ),
    ),
    quantities=lambda dy, y: {"B": dy.shape[0]},
    context=lambda dy, y: {"dy": dy, "mask": (y > 0).astype(float)},
    slope=lambda function, arguments: [
        (
            lambda x: (arguments[0] * layers.relu(x)).sum(),
            np.where(arguments[1] > 0, arguments[1], -1.0),
            None,
        )
    ],
)


def _two_layers(rng, batch=None):
    B, D, H, N = batch or 5, 4, 7, 3
    x, W1, b1 = rng.normal(size=(B, D)), rng.normal(size=(D, H)), rng.normal(size=H)
    h = np.maximum(x @ W1 + b1, 0)
    return rng.normal(size=(B, N)) / B, x, h, rng.normal(size=(H, N))


def _mlp_backward(dlogits, x, h, W2):
    dh, dW2, db2 = layers.linear_backward(dlogits, h, W2)
    da = layers.relu_backward(dh, h)
    return (*layers.linear_backward(da, x, np.zeros((x.shape[1], h.shape[1])))[1:], dW2, db2)


def _with_hidden_gradient(make):
    """The backward pass of two layers with another way through the hidden layer."""

    def function(dlogits, x, h, W2):
        dh, dW2, db2 = layers.linear_backward(dlogits, h, W2)
        da = make(dh, h)
        return x.T @ da, da.sum(axis=0), dW2, db2

    return function


def _transposed_first(dlogits, x, h, W2):
    dW1, db1, dW2, db2 = _mlp_backward(dlogits, x, h, W2)
    return dW2, db2, dW1, db1


mlp_backward = Exercise(
    name="mlp_backward",
    title="Back through a whole network",
    signature="dlogits, x, h, W2",
    summary="(dW1, db1, dW2, db2) of a network with one hidden layer of ReLU units.",
    statement=r"""
$$a = x W_1 + b_1, \qquad h = \max(a, 0), \qquad z = h W_2 + b_2$$

The forward pass has remembered $x$ (shape $(B, D)$) and $h$ (shape $(B, H)$); the loss gives
`dlogits`, shape $(B, N)$. Walk back, one layer at a time, and write down the shape at each step:
`mlp_backward(dlogits, x, h, W2)` returns `(dW1, db1, dW2, db2)`. Why is $W_1$ not needed?""",
    returns=("dW1", "db1", "dW2", "db2"),
    hints=(
        "The last layer first: its input is `h`, and what it hands back is `dh`.",
        "Then `relu_backward(dh, h)` gives `da`.",
        "The first layer's `dx` is nobody's business: only `dW1` and `db1` are asked for.",
    ),
    reference=_mlp_backward,
    checks=standard_checks(_two_layers, ("dW1", "db1", "dW2", "db2"), values=4),
    mistakes=(
        Mistake(
            "ReLU forgotten",
            "dW2 and db2 are right, dW1 and db1 are as if the hidden layer had no ReLU.",
            _with_hidden_gradient(lambda dh, h: dh),
        ),
        Mistake(
            "ReLU applied to the gradient",
            "the negative entries of the gradient were cut off (max(dh, 0)); it is h that decides "
            "what passes.",
            _with_hidden_gradient(lambda dh, h: np.maximum(dh, 0)),
        ),
        Mistake(
            "multiplied by h",
            "the gradient was multiplied by h; the slope of ReLU is 1 or 0.",
            _with_hidden_gradient(lambda dh, h: dh * h),
        ),
        Mistake(
            "layers in the wrong order",
            "the results came out as (dW2, db2, dW1, db1).",
            _transposed_first,
        ),
        Mistake(
            "mean over the batch",
            "the gradients were divided by B = {B} again; `dlogits` has the mean in it already.",
            lambda dlogits, x, h, W2: _mlp_backward(dlogits / len(x), x, h, W2),
        ),
    ),
    uses=("linear_backward", "relu_backward"),
    quantities=lambda dlogits, x, h, W2: {"B": len(x)},
)


def _fans(rng):
    return 400, 300, problems.seeded(rng)


def _twice_the_same(rng):
    seed = int(rng.integers(1 << 31))
    return [
        (7, 5, np.random.default_rng(seed)),
        (7, 5, np.random.default_rng(seed)),
        (7, 5, np.random.default_rng(seed + 1)),
    ]


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
    if any(W.shape != (7, 5) or W.dtype.kind != "f" for W in (first, again, other)):
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
        Check("values", 3, lambda rng: [_fans(rng)], _is_spread(uniform)),
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

SHEET = Sheet(
    key="ex05",
    title="An MLP by hand",
    goal="send a gradient back through a network, layer by layer, and start it at sensible weights",
    notebook="05_an_mlp_by_hand",
    exercises=(linear_backward, relu_backward, mlp_backward, he_normal, xavier_uniform),
)
