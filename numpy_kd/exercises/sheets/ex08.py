"""Sheet 8: several teachers as one, and examples that nobody has collected."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from numpy_kd import probability, transfer
from numpy_kd.exercises.exercise import Check, Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.gallery import exhibits_6_to_10
from numpy_kd.exercises.judging import differences, draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.probability import softmax


def _members(rng, batch=None):
    B, N, K = draws.sizes(rng, batch, 3)
    return draws.logits(rng, (K, B, N)), draws.temperature(rng)


def _far_apart(rng):
    """Rows far from each other, and members that are each certain of another class."""
    B, N, K = draws.sizes(rng, count=3)
    v = draws.far_rows(rng, (K, B, N)) - draws.FAR
    for member, classes in zip(v, rng.permutation(max(K, N))[:K] % N, strict=True):
        member[:, classes] += draws.FAR
    return [(v, draws.temperature(rng))]


def _ensemble_quantities(member_logits, temperature):
    K, B, N = member_logits.shape
    return {"K": K, "B": B, "N": N, "T": temperature}


def _arithmetic(member_logits, temperature):
    return probability.softmax(member_logits, temperature).mean(axis=0)


def _geometric(member_logits, temperature):
    return probability.softmax(member_logits.mean(axis=0), temperature)


def _geometric_by_hand(p):
    product = np.exp(np.log(p).mean(axis=0))
    return product / product.sum(axis=-1, keepdims=True)


arithmetic_mean = Exercise(
    name="arithmetic_mean",
    title="An ensemble that votes",
    signature="member_logits, temperature",
    summary="The mean over the members of their probabilities at this temperature, shape (B, N).",
    statement=r"""
$K$ teachers answer; their logits come stacked, shape $(K, B, N)$. The arithmetic mean of their opinions is

$$p = \frac1K \sum_k \mathrm{softmax}(v_k/T)$$

One teacher who is sure of a class carries it a share of $1/K$, whatever the others say. Write
`arithmetic_mean(member_logits, temperature)`, returning probabilities of shape $(B, N)$.""",
    returns=("p",),
    hints=(
        "The softmax runs along the classes, the last axis; the mean along the members, the first.",
        "First the softmax, then the mean: they do not commute.",
        "Your `softmax` with `axis=-1` takes the stack of shape $(K, B, N)$ as it is.",
    ),
    reference=_arithmetic,
    checks=standard_checks(_members, ("p",), values=3, extremes=_far_apart),
    mistakes=(
        Mistake(
            "mean of the logits",
            "the logits were averaged before the softmax: that is the geometric mean.",
            _geometric,
        ),
        Mistake(
            "sum of the members",
            "the rows sum to K = {K}: the sum was not divided by the number of members.",
            lambda v, T: softmax(v, T).sum(axis=0),
        ),
        Mistake(
            "temperature ignored",
            "the members were asked at T = 1; here T = {T}.",
            lambda v, T: _arithmetic(v, 1.0),
        ),
        Mistake(
            "mean over the batch",
            "the mean was taken over the examples (axis 1); over the members (axis 0).",
            lambda v, T: softmax(v, T).mean(axis=1),
        ),
        Mistake(
            "the most confident member",
            "each entry is the largest among the members; their mean is asked for.",
            lambda v, T: softmax(v, T).max(axis=0),
        ),
    ),
    uses=("softmax",),
    quantities=_ensemble_quantities,
)

geometric_mean = Exercise(
    name="geometric_mean",
    title="An ensemble that must agree",
    signature="member_logits, temperature",
    summary="The normalised geometric mean of the members' probabilities, shape (B, N).",
    statement=r"""
The geometric mean multiplies the opinions and takes the $K$-th root, and then has to be normalised:

$$p \;\propto\; \prod_k \mathrm{softmax}(v_k/T)^{1/K}$$

Here one teacher who excludes a class excludes it for all. Take the logarithm of the right-hand side,
and look what is left of the softmax's denominators, which are constants in each row. Then write
`geometric_mean(member_logits, temperature)` so that no product ever underflows.""",
    returns=("p",),
    hints=(
        "$\\log$: the mean of the log-probabilities, plus a constant for each row.",
        "The log-probabilities are $v_k/T$ plus a constant for each row and member.",
        "So: the softmax, at $T$, of the mean of the members' logits.",
    ),
    reference=_geometric,
    checks=standard_checks(_members, ("p",), values=2, extremes=_far_apart),
    mistakes=(
        Mistake(
            "arithmetic mean",
            "this is the arithmetic mean.",
            _arithmetic,
        ),
        Mistake(
            "not normalised",
            "the root of the product is right, but the rows do not sum to 1.",
            lambda v, T: np.exp(probability.log_softmax(v, T).mean(axis=0)),
        ),
        Mistake(
            "underflow",
            "the product of probabilities underflowed to 0, and 0/0 is NaN: average logits instead.",
            lambda v, T: _geometric_by_hand(softmax(v, T)),
        ),
        Mistake(
            "product without the root",
            "the K-th root is missing: the probabilities are as sharp as at T/K.",
            lambda v, T: softmax(v.sum(axis=0), T),
        ),
        Mistake(
            "temperature ignored",
            "this is at T = 1; here T = {T}.",
            lambda v, T: _geometric(v, 1.0),
        ),
    ),
    uses=("softmax", "log_softmax", "arithmetic_mean"),
    questions=(
        Question(
            "veto",
            "Two teachers: one gives a class the probability 0.9, the other 0. What does the "
            "geometric mean give it?",
            0.0,
            "$\\sqrt{0.9 \\cdot 0} = 0$: in a geometric mean every member has a veto.",
            ((0.45, "that is the arithmetic mean."),),
        ),
    ),
    quantities=_ensemble_quantities,
)


def _points(rng, batch=None):
    """So many that another measure of distance has other neighbours somewhere."""
    n, D = batch or 5 * draws.sizes(rng)[0], int(rng.integers(3, 6))
    return (rng.normal(size=(n, D)) * rng.uniform(0.5, 2, D),)


def _distances(x):
    d = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(d, np.inf)
    return d


def _nearest(x):
    """By a tree, as the library finds them: it is also handed out as a helper, for any x."""
    return cKDTree(x).query(x, k=2)[1][:, 1]


nearest_neighbours = Exercise(
    name="nearest_neighbours",
    title="Who is nearest",
    signature="x",
    summary="For each row of x the index of the nearest other row, integers of shape (n,).",
    statement=r"""
MUNGE makes new examples between old ones, so it has to know who lives next door.

Write `nearest_neighbours(x)` for $n$ rows of $D$ numbers: for each row the index of the **other** row at
the smallest Euclidean distance, as integers of shape $(n,)$. No loop is needed for small $n$: all
distances fit into one $n \times n$ array.""",
    returns=("neighbours",),
    hints=(
        "`x[:, None] - x[None]` has shape $(n, n, D)$.",
        "Square it and sum over the last axis. The root changes no order.",
        "Each row is nearest to itself: put infinity on the diagonal first (`np.fill_diagonal`).",
    ),
    reference=_nearest,
    checks=standard_checks(
        lambda rng, batch=None: _points(rng, 2 if batch else None), ("neighbours",), float32=False
    ),
    mistakes=(
        Mistake(
            "itself",
            "every row found itself, at distance 0.",
            lambda x: np.arange(len(x)),
        ),
        Mistake(
            "the farthest",
            "these are the farthest rows.",
            lambda x: np.where(np.isinf(_distances(x)), -1, _distances(x)).argmax(axis=1),
        ),
        Mistake(
            "largest product",
            "similarity was measured by the product x . y, not by the distance.",
            lambda x: (x @ x.T - np.diag(np.full(len(x), np.inf))).argmax(axis=1),
        ),
        Mistake(
            "one coordinate",
            "only the first coordinate was compared.",
            lambda x: _nearest(x[:, :1]),
        ),
    ),
    quantities=lambda x: {"n": len(x)},
)


def _munge(x, swap_probability, local_variance, rng):
    return transfer.munge(
        x, 1, swap_probability=swap_probability, local_variance=local_variance, rng=rng
    )


def _to_munge(rng):
    x = rng.normal(size=(500, 8)) * rng.uniform(0.5, 2, 8)
    p, s = ((0.4, 2.5), (0.35, 1.5), (0.6, 3.0))[rng.integers(3)]
    return [(x, p, s, draws.seeded(rng))]


def _is_munged(seen) -> str:
    """The share that changed, and how the changed entries lie about the neighbour's."""
    for call in seen:
        x, p, s, _ = call.arguments
        y = np.asarray(call.value)
        if not isinstance(call.value, np.ndarray) or y.shape != x.shape:
            return f"an array of shape {x.shape} is needed"
        if not np.isfinite(y).all():
            return "there is NaN or infinity in the result"
        neighbour = x[_nearest(x)]
        changed = y != x
        share = changed.mean()
        if abs(share - p) > 0.05:
            return f"{share:.1%} of the attributes changed; the probability is {p:.0%}"
        per_row = changed.sum(axis=1).std() / np.sqrt(8 * p * (1 - p))
        if not 0.7 < per_row < 1.4:
            return "the attributes of a row do not change independently of each other"
        unit = (y - neighbour)[changed] / (np.abs(x - neighbour) / s)[changed]
        if abs(unit.mean()) > 0.15:
            return (
                "the changed attributes are not centred at the neighbour's: they are off by "
                f"{unit.mean():.2f} deviations"
            )
        if abs(unit.std() - 1) > 0.1:
            return (
                "the spread about the neighbour's attribute is "
                f"{unit.std():.3f} times |x_a - x'_a| / s"
            )
        beyond = (np.abs(unit) > 2).mean()
        if not 0.025 < beyond < 0.07:
            return (
                f"{beyond:.1%} of the changed attributes lie more than two deviations from the "
                "neighbour's; of a normal distribution 4.6% do"
            )
    return ""


def _munged_twice(rng):
    x, seed = rng.normal(size=(12, 4)), int(rng.integers(1 << 31))
    calls = [(x, 0.5, 2.0, np.random.default_rng(s)) for s in (seed, seed, seed + 1)]
    return [*calls, (x, 0.0, 2.0, np.random.default_rng(seed))]


def _munges_from_rng(seen) -> str:
    x, *_ = seen[0].arguments
    first, again, other, nothing = (np.asarray(call.value) for call in seen)
    if any(y.shape != x.shape for y in (first, again, other, nothing)):
        return f"the result must have the shape of x, {x.shape}"
    if not np.array_equal(first, again):
        return "two generators with the same seed gave different examples: draw from `rng`"
    if np.array_equal(first, other):
        return "generators with different seeds gave the same examples: draw from `rng`"
    if not np.array_equal(nothing, x):
        return "with probability 0 nothing changes"
    return differences.change(seen[0])


def _munge_with(neighbour=None, spread=None, keep=None, centre=None, coin=None):
    """MUNGE with one part done in another way."""

    def function(x, p, s, rng):
        e = x[(neighbour or _nearest)(x)]
        deviation = (spread or (lambda x, e, s: np.abs(x - e) / s))(x, e, s)
        drawn = (centre or (lambda x, e: e))(x, e) + deviation * rng.standard_normal(x.shape)
        changes = (coin or (lambda rng, x, p: rng.random(x.shape) < p))(rng, x, p)
        return np.where(changes, drawn, x)

    return function


munge = Exercise(
    name="munge",
    title="Examples that nobody has collected",
    signature="x, swap_probability, local_variance, rng",
    summary="One synthetic example near each row of x, by MUNGE, shape (n, D).",
    statement=r"""
A big model can label any number of examples, if only there were that many. MUNGE (Bucila, Caruana and
Niculescu-Mizil 2006) makes them up. Let $e'$ be the nearest neighbour of the row $e$. Each attribute $a$,
independently and with probability $p$, is replaced by a draw from

$$\mathcal N\big(e'_a,\; \mathrm{sd} = |e_a - e'_a| / s\big)$$

and otherwise kept. Write `munge(x, swap_probability, local_variance, rng)` with $p$ = `swap_probability`
and $s$ = `local_variance` (a *larger* $s$ gives *less* noise), one new row for each row of `x`.""",
    returns=("synthetic",),
    hints=(
        "`x[nearest_neighbours(x)]` has the neighbour of each row, in place.",
        "Draw all attributes anew, `neighbour + deviation * rng.standard_normal(x.shape)`.",
        "Then `np.where(rng.random(x.shape) < swap_probability, drawn, x)`.",
    ),
    reference=_munge,
    checks=(
        Check("values", 4, _to_munge, _is_munged),
        Check("contract", 1, _munged_twice, _munges_from_rng, main=False),
    ),
    mistakes=(
        Mistake(
            "centred at itself",
            "the draws are centred at the row's own attribute; at the neighbour's.",
            _munge_with(centre=lambda x, e: x),
        ),
        Mistake(
            "multiplied by s",
            "the deviation was multiplied by s = {s}; it is divided by it.",
            _munge_with(spread=lambda x, e, s: np.abs(x - e) * s),
        ),
        Mistake(
            "variance for deviation",
            "|e - e'| / s went in as a variance (its root was taken); it is the deviation.",
            _munge_with(spread=lambda x, e, s: np.sqrt(np.abs(x - e) / s)),
        ),
        Mistake(
            "no noise",
            "attributes are swapped as they are: the noise is missing.",
            _munge_with(spread=lambda x, e, s: np.zeros_like(x)),
        ),
        Mistake(
            "probability of keeping",
            "attributes are kept with probability {p}; with that probability they change.",
            _munge_with(coin=lambda rng, x, p: rng.random(x.shape) >= p),
        ),
        Mistake(
            "one coin for a row",
            "one coin was tossed for each row; each attribute has its own.",
            _munge_with(coin=lambda rng, x, p: rng.random((len(x), 1)) < p),
        ),
        Mistake(
            "neighbour is the row itself",
            "each row was taken for its own neighbour, so nothing changes at all.",
            _munge_with(neighbour=lambda x: np.arange(len(x))),
        ),
    ),
    uses=("nearest_neighbours",),
    quantities=lambda x, p, s, rng: {"p": p, "s": s},
)

SHEET = Sheet(
    key="ex08",
    title="Ensembles and compression",
    goal="average teachers in two ways, make up examples for them, and repair five more distillers",
    notebook="08_ensembles_and_compression",
    exercises=(
        arithmetic_mean,
        geometric_mean,
        nearest_neighbours,
        munge,
        *exhibits_6_to_10.EXHIBITS,
    ),
)
