"""Sheet 6: what makes training go well: scaling, batch normalisation, dropout, momentum, decay."""

from __future__ import annotations

import math

import numpy as np

from numpy_kd import datasets, layers, optimizers, schedules
from numpy_kd.exercises.exercise import Check, Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import differences, draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.exercises.sheets import ex06_batch_normalisation


def _two_sets(rng, batch=None):
    n, m, D = draws.sizes(rng, batch, 3)
    return ex06_batch_normalisation.columns(rng, (m, D)), rng.normal(1, 2, (n, D))


def _with_a_constant_column(rng):
    """One column of whole numbers, so that its mean is exact, does not vary in the training data."""
    train, x = _two_sets(rng)
    train[:, rng.integers(train.shape[1])] = rng.integers(2, 9)
    return [(train, x)]


def _standardise(x_train, x):
    return datasets.StandardScaler().fit(x_train).transform(x)


standardise = Exercise(
    name="standardise",
    title="Inputs of one size",
    signature="x_train, x",
    summary="x with each column shifted and scaled by the mean and deviation of x_train's column.",
    statement=r"""
A cost is long and narrow where one input counts in thousands and another in thousandths. So each
column is shifted by its mean and divided by its standard deviation, both taken from the **training**
data; the test data are scaled with the same numbers, or the network would see another world.

Write `standardise(x_train, x)`: the columns of `x`, shape $(n, D)$, scaled by the statistics of
`x_train`, shape $(m, D)$. The deviation is that of `np.std` (divided by $m$). A column that is constant
in the training data (a pixel that is always off) is only shifted: do not divide by 0.""",
    returns=("scaled",),
    hints=(
        "Columns: `axis=0`. Two rows of numbers describe the training data: means and deviations.",
        "Neither of them may come from `x`.",
        "`np.where(deviation == 0, 1, deviation)` leaves constant columns alone.",
    ),
    reference=_standardise,
    checks=standard_checks(
        _two_sets,
        ("scaled",),
        extremes=_with_a_constant_column,
    ),
    mistakes=(
        Mistake(
            "own statistics",
            "x was scaled with its own mean and deviation; those of the training data are meant.",
            lambda a, x: _standardise(x, x),
        ),
        Mistake(
            "along the rows",
            "every example was scaled by its own mean and deviation (axis 1); columns are meant.",
            lambda a, x: (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True),
        ),
        Mistake(
            "one mean for all columns",
            "one mean and one deviation of the whole array were taken; each column has its own.",
            lambda a, x: (x - a.mean()) / a.std(),
        ),
        Mistake(
            "deviation with m - 1",
            "the deviation was divided by m - 1 = {m1} instead of m (ddof=1).",
            lambda a, x: (x - a.mean(axis=0)) / a.std(axis=0, ddof=1),
        ),
        Mistake(
            "constant columns",
            "a column without spread was divided by 0.",
            lambda a, x: (x - a.mean(axis=0)) / a.std(axis=0),
        ),
        Mistake(
            "divided by the variance",
            "the columns were divided by their variance; the standard deviation is its root.",
            lambda a, x: (x - a.mean(axis=0)) / a.var(axis=0),
        ),
    ),
    quantities=lambda a, x: {"m": len(a), "n": len(x), "D": x.shape[1]},
)


def _dropout(x, rate, rng):
    return layers.dropout(x, rng.random(x.shape) >= rate, rate)


def _dropped(rng):
    rates = (0.2, 0.35)[rng.integers(2)], 0.6
    return [(rng.uniform(0.5, 2, (120, 90)), rate, draws.seeded(rng)) for rate in rates]


def _drops(seen) -> str:
    """Every entry is 0 or x/(1 - rate), and the share of zeros is the rate, row by row."""
    for call in seen:
        x, rate, _ = call.arguments
        y = np.asarray(call.value)
        if not isinstance(call.value, np.ndarray) or y.shape != x.shape:
            return f"y must be an array of shape {x.shape}"
        zero, scaled = y == 0, np.isclose(y, x / (1 - rate), rtol=1e-6, atol=0)
        if not (zero | scaled).all():
            kept = np.median((y / x)[~zero]) if (~zero).any() else np.nan
            return (
                "the entries that are kept are not x / (1 - rate): they are "
                f"{kept:.4g} times x, and 1 / (1 - rate) = {1 / (1 - rate):.4g}"
            )
        share = zero.mean()
        if abs(share - rate) > 0.025:
            return f"{share:.1%} of the entries were dropped; rate = {rate:g} asks for {rate:.0%}"
        alike = min(len(np.unique(zero, axis=0)), len(np.unique(zero, axis=1).T))
        if alike < 60:
            return "rows or columns are dropped as a whole: each entry is drawn on its own"
    return ""


def _drawn_twice(rng):
    x, seed = rng.uniform(0.5, 2, (5, 7)), int(rng.integers(1 << 31))
    rates = (0.5, 0.5, 0.5, 0.0)
    seeds = (seed, seed, seed + 1, seed)
    return [(x, r, np.random.default_rng(s)) for r, s in zip(rates, seeds, strict=True)]


def _draws_from_rng(seen) -> str:
    x, *_ = seen[0].arguments
    first, again, other, whole = (np.asarray(call.value) for call in seen)
    if any(y.shape != x.shape for y in (first, again, other, whole)):
        return f"y must have the shape of x, {x.shape}"
    if not np.array_equal(first, again):
        return "two generators with the same seed dropped different entries: draw from `rng`"
    if np.array_equal(first, other):
        return "generators with different seeds dropped the same entries: draw from `rng`"
    if not np.allclose(whole, x, rtol=1e-12):
        return "at rate 0 nothing is dropped, and y is x"
    return differences.change(seen[0])


dropout = Exercise(
    name="dropout",
    title="Inverted dropout",
    signature="x, rate, rng",
    summary="x with each entry dropped with probability rate, and the rest scaled up.",
    statement=r"""
In training each entry is set to 0 with probability `rate`, independently. The others are divided by
$1 - \text{rate}$, so that the **expected** value of each entry stays what it was, and inference has
nothing to do at all: that is what *inverted* means.

Write `dropout(x, rate, rng)`; all randomness comes from the generator `rng`. Mind which probability is
which: `rate` is that of being **dropped**.""",
    returns=("y",),
    hints=(
        "`rng.random(x.shape)` draws numbers in [0, 1), one for each entry.",
        "An entry is kept where its number is at least `rate`.",
        "Kept entries, times `x`, divided by `1 - rate`.",
    ),
    reference=_dropout,
    checks=(
        Check("values", 3, _dropped, _drops),
        Check("contract", 1, _drawn_twice, _draws_from_rng, main=False),
    ),
    mistakes=(
        Mistake(
            "not scaled",
            "the kept entries were not divided by 1 - rate = {keep}: in training the next layer "
            "gets {keep} of what it gets in inference.",
            lambda x, rate, rng: x * (rng.random(x.shape) >= rate),
        ),
        Mistake(
            "rate taken for the share that is kept",
            "the share {rate} was kept; it is the share to be dropped.",
            lambda x, rate, rng: x * (rng.random(x.shape) < rate) / max(rate, 1e-300),
        ),
        Mistake(
            "dropped at the rate, scaled by it",
            "the kept entries were divided by the rate {rate}; by 1 - rate = {keep}.",
            lambda x, rate, rng: x * (rng.random(x.shape) >= rate) / max(rate, 1e-300),
        ),
        Mistake(
            "multiplied by the share that is kept",
            "the kept entries were multiplied by 1 - rate; they are to be divided by it.",
            lambda x, rate, rng: x * (rng.random(x.shape) >= rate) * (1 - rate),
        ),
        Mistake(
            "whole columns",
            "one number was drawn for each column, so that a unit is dropped for the whole batch.",
            lambda x, rate, rng: x * (rng.random(x.shape[1]) >= rate) / (1 - rate),
        ),
        Mistake(
            "nothing dropped",
            "y is x: that is right in inference; this is training.",
            lambda x, rate, rng: x.copy(),
        ),
    ),
    questions=(
        Question(
            "kept",
            "At `rate = 0.2`, by what are the kept entries multiplied?",
            1.25,
            "by $1/(1 - 0.2) = 1.25$: four fifths of them, each five fourths as large.",
            (
                (0.8, "that is the share that is kept; dividing by it keeps the mean."),
                (5.0, "0.2 is the share that is dropped."),
            ),
        ),
    ),
    quantities=lambda x, rate, rng: {"rate": rate, "keep": 1 - rate},
)


def _moving(rng, batch=None):
    (n,) = draws.sizes(rng, batch, 1)
    rate, momentum = ((0.15, 0.9), (0.05, 0.8), (0.25, 0.7))[rng.integers(3)]
    return (*rng.normal(size=(3, n)), rate, momentum)


def _momentum_step(parameters, velocity, gradient, learning_rate, momentum):
    optimizer, theta = optimizers.SGD(momentum=momentum), parameters.copy()
    optimizer.state = {"steps": 1, "velocity": velocity}
    optimizer.step(theta, gradient, learning_rate)
    return theta, optimizer.state["velocity"]


momentum_step = Exercise(
    name="momentum_step",
    title="A step with momentum",
    signature="parameters, velocity, gradient, learning_rate, momentum",
    summary="(parameters, velocity) after one step of gradient descent with momentum, as new arrays.",
    statement=r"""
A ball that rolls remembers where it was going. With momentum $\mu$ and learning rate $\eta$:

$$v \leftarrow \mu v + g, \qquad \theta \leftarrow \theta - \eta v$$

Write `momentum_step(parameters, velocity, gradient, learning_rate, momentum)` for vectors, returning
the **new** `(parameters, velocity)`; the arrays that came in stay as they are. (Some books write
$v \leftarrow \mu v - \eta g$. The path is the same while $\eta$ is constant; here the form above counts.)""",
    returns=("parameters", "velocity"),
    hints=(
        "The velocity first; the parameters move by the *new* velocity.",
        "The learning rate stands in the second line only.",
        "`velocity *= momentum` would write into the caller's array; `momentum * velocity` does not.",
    ),
    reference=_momentum_step,
    checks=standard_checks(_moving, ("parameters", "velocity")),
    mistakes=(
        Mistake(
            "moved by the old velocity",
            "the parameters moved by the velocity from before this step.",
            lambda p, v, g, rate, mu: (p - rate * v, mu * v + g),
        ),
        Mistake(
            "an average of gradients",
            "the velocity is the average mu v + (1 - mu) g with mu = {mu}; here g counts fully.",
            lambda p, v, g, rate, mu: (p - rate * (mu * v + (1 - mu) * g), mu * v + (1 - mu) * g),
        ),
        Mistake(
            "learning rate inside the velocity",
            "the velocity holds rate times the gradient (the other book's form); here the "
            "learning rate is in the step only.",
            lambda p, v, g, rate, mu: (p - (mu * v + rate * g), mu * v + rate * g),
        ),
        Mistake(
            "uphill",
            "the parameters moved along the gradient; the cost goes down against it.",
            lambda p, v, g, rate, mu: (p + rate * (mu * v + g), mu * v + g),
        ),
        Mistake(
            "Nesterov",
            "the parameters moved by g + mu v with the new velocity v: that is Nesterov's "
            "momentum; here they move by v itself.",
            lambda p, v, g, rate, mu: (p - rate * (g + mu * (mu * v + g)), mu * v + g),
        ),
        Mistake(
            "velocity not kept",
            "the velocity that came back is the old one: the next step would know nothing of this.",
            lambda p, v, g, rate, mu: (p - rate * (mu * v + g), v.copy()),
        ),
        Mistake(
            "no momentum",
            "this is plain gradient descent: the old velocity was not used.",
            lambda p, v, g, rate, mu: (p - rate * g, g.copy()),
        ),
    ),
    questions=(
        Question(
            "terminal",
            "The gradient is constant. With momentum 0.9, to how many times the gradient does the "
            "velocity grow?",
            10.0,
            "$1 + 0.9 + 0.81 + \\dots = 1/(1 - 0.9) = 10$: momentum 0.9 multiplies the step by ten.",
            ((0.9, "every step adds a whole gradient."), (1.9, "that is after two steps.")),
        ),
    ),
    quantities=lambda p, v, g, rate, mu: {"mu": mu, "rate": rate},
)


def _schedule(rng, early=True):
    """A step before or after the middle, where cosines and lines meet, with what goes with it."""
    rate, floor = rng.uniform(0.3, 0.9), rng.uniform(0.02, 0.1)
    total = int(rng.integers(60, 90) if early else rng.integers(100, 140))
    step = int(total * (rng.uniform(0.15, 0.4) if early else rng.uniform(0.6, 0.85)))
    return step, round(rate, 3), total, round(floor, 3)


def _both_ends(rng):
    """The first step, the last, one long after it, and one without a floor."""
    step, rate, total, floor = _schedule(rng)
    ends = [(s, rate, total, floor) for s in (0, total, total + step)]
    return [*ends, _schedule(rng, early=False)[:3]]


def _cosine(step, rate, total_steps, floor=0.0):
    return schedules.cosine(rate, total_steps, floor)(step)


def _cosine_of(angle):
    def function(step, rate, total, floor=0.0):
        return floor + (rate - floor) / 2 * (1 + math.cos(angle(min(step / total, 1))))

    return function


cosine_decay = Exercise(
    name="cosine_decay",
    title="A learning rate that comes down gently",
    signature="step, rate, total_steps, floor=0.0",
    summary="The learning rate at a step: half a cosine from rate down to floor, a Python float.",
    statement=r"""
Half a cosine leads from `rate` at step 0 to `floor` at step $S$ = `total_steps`, slowly at both ends:

$$\eta(t) = f + \tfrac12 (\eta_0 - f)\Big(1 + \cos \frac{\pi t}{S}\Big)$$

After $S$ it **stays** at the floor. Write `cosine_decay(step, rate, total_steps, floor=0.0)`; it returns
one number.""",
    returns=("rate",),
    hints=(
        "`math.cos` and `math.pi`.",
        "At $t = 0$ the cosine is 1, at $t = S$ it is -1; check both ends by hand.",
        "`min(step / total_steps, 1)` keeps it down after the end.",
    ),
    reference=_cosine,
    checks=(
        Check(
            "values",
            3,
            lambda rng: [_schedule(rng), _schedule(rng, early=False)],
            differences.results(("rate",)),
        ),
        Check("extremes", 1, _both_ends, differences.results(("rate",)), main=False),
    ),
    mistakes=(
        Mistake(
            "comes up again",
            "after the last step the rate rises again, as a cosine does; it should stay.",
            lambda step, rate, total, floor=0.0: (
                floor + (rate - floor) / 2 * (1 + math.cos(math.pi * step / total))
            ),
        ),
        Mistake(
            "a whole cosine",
            "the angle goes to 2 pi: the rate is down in the middle and up again at the end.",
            _cosine_of(lambda share: 2 * math.pi * share),
        ),
        Mistake(
            "a quarter of a cosine",
            "the angle goes to pi/2: the rate stops half way.",
            _cosine_of(lambda share: math.pi / 2 * share),
        ),
        Mistake(
            "floor added",
            "the whole rate was scaled and the floor added: it starts at rate + floor.",
            lambda step, rate, total, floor=0.0: floor + _cosine(step, rate, total),
        ),
        Mistake(
            "floor ignored",
            "the floor {floor} was not used.",
            lambda step, rate, total, floor=0.0: _cosine(step, rate, total),
        ),
        Mistake(
            "a straight line",
            "this is a straight line from rate to floor.",
            lambda step, rate, total, floor=0.0: rate + (floor - rate) * min(step / total, 1),
        ),
    ),
    quantities=lambda step, rate, total_steps, floor=0.0: {"floor": floor},
)

SHEET = Sheet(
    key="ex06",
    title="Training well",
    goal="write the six small things that make the difference between training and waiting",
    notebook="06_training_well",
    exercises=(
        standardise,
        *ex06_batch_normalisation.EXERCISES,
        dropout,
        momentum_step,
        cosine_decay,
    ),
)
