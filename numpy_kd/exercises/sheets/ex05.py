"""Sheet 5: backpropagation with shapes at each step, and where the weights come from."""

from __future__ import annotations

import numpy as np

from numpy_kd import layers
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.exercises.sheets import ex05_initial_weights


def _linear(rng, batch=None):
    B, D, M = draws.sizes(rng, batch, 3)
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
    shape = draws.sizes(rng, batch)
    return rng.normal(size=shape), np.maximum(rng.normal(size=shape), 0)


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
    B, D, H, N = draws.sizes(rng, batch, 4)
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


SHEET = Sheet(
    key="ex05",
    title="An MLP by hand",
    goal="send a gradient back through a network, layer by layer, and start it at sensible weights",
    notebook="05_an_mlp_by_hand",
    exercises=(linear_backward, relu_backward, mlp_backward, *ex05_initial_weights.EXERCISES),
)
