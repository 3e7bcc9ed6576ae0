"""Sheet 12: specialists, from who is confused with whom to one answer out of many."""

from __future__ import annotations

import numpy as np

from numpy_kd import specialists
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.probability import softmax

SHARES = (0.15, 0.22, 0.3, 0.36)  # of a set in the data


# --- who is confused with whom ------------------------------------------------------------------


def _predictions(rng, batch=None):
    n, N = draws.sizes(rng, batch)
    return (draws.probabilities(rng, (max(n, 2), N)),)


def _covariance(p, *, axis=0, centre=True, over=0):
    apart = p - p.mean(axis=axis, keepdims=True) if centre else p
    return apart.T @ apart / (len(p) - over)


def _with_diagonal(c, diagonal=lambda others: others.max(axis=0)):
    """A covariance with its diagonal replaced by what is made of the other entries."""
    others = np.where(np.eye(len(c), dtype=bool), -np.inf, c)
    return np.where(np.eye(len(c), dtype=bool), diagonal(others), c)


confusion_covariance = Exercise(
    name="confusion_covariance",
    title="Who is confused with whom",
    signature="p",
    summary="Covariance (N, N) of the columns of p, its diagonal replaced column by column.",
    statement=r"""
Two classes that are confused get their probability for the same examples. The rows of `p`, shape $(n, N)$, are a
generalist's predictions. With $\bar p_i$ the mean of column $i$,

$$c_{ij} = \frac1n \sum_{\text{rows}} (p_i - \bar p_i)(p_j - \bar p_j).$$

The diagonal is the variance of a class by itself. It says nothing about pairs, and is so large that it would
decide every comparison of two columns. So replace each entry of the diagonal by the largest **other** entry of
its column.

Write `confusion_covariance(p)`, which returns the matrix of shape $(N, N)$.""",
    returns=("covariance",),
    hints=(
        "Take the column means off; one product of matrices has all pairs.",
        "The diagonal must not take part in the search for the largest: set it to minus infinity first.",
        "`np.fill_diagonal(c, -np.inf)`, then `np.fill_diagonal(c, c.max(axis=0))`.",
    ),
    reference=lambda p: specialists.prediction_covariance(p),
    checks=standard_checks(_predictions, ("covariance",), values=4),
    mistakes=(
        Mistake(
            "diagonal kept",
            "the diagonal still holds the variances.",
            _covariance,
        ),
        Mistake(
            "diagonal of zeros",
            "the diagonal was set to 0; the largest other entry of each column is asked for.",
            lambda p: _with_diagonal(_covariance(p), lambda others: 0.0),
        ),
        Mistake(
            "one number for the diagonal",
            "the largest entry of the whole matrix is on the diagonal; each column has its own.",
            lambda p: _with_diagonal(_covariance(p), lambda others: others.max()),
        ),
        Mistake(
            "n - 1",
            "the sum was divided by n - 1 = {n1}; the statement has n = {n}.",
            lambda p: _with_diagonal(_covariance(p, over=1)),
        ),
        Mistake(
            "means not taken off",
            "the means were not taken off: this is the mean of the products.",
            lambda p: _with_diagonal(_covariance(p, centre=False)),
        ),
        Mistake(
            "means of the rows",
            "the mean of each row was taken off; a class is a column.",
            lambda p: _with_diagonal(_covariance(p, axis=1)),
        ),
        Mistake(
            "summed",
            "the products were summed over the n = {n} rows; their mean is asked for.",
            lambda p: _with_diagonal(_covariance(p) * len(p)),
        ),
    ),
    quantities=lambda p: {"n": len(p), "N": p.shape[1]},
    questions=(
        Question(
            "never_together",
            "Two classes: half of the rows are certain of the first, $(1, 0)$, the others of the second, "
            "$(0, 1)$. What is $c_{12}$?",
            -0.25,
            "Both means are $\\frac12$, and each row has $\\frac12 \\cdot (-\\frac12)$.",
            (
                (0.0, "that is the mean of $p_1 p_2$; the product of the means comes off."),
                (0.25, "that is the variance; what one class has the other has not."),
                (-0.5, "that is the sum over n - 1 = 1 of two rows; here it is divided by n."),
            ),
        ),
    ),
)


def _points_and_centres(rng, batch=None):
    """Points of which each has one nearest centre, clearly, and each centre has points."""
    if batch == 1:
        D = int(rng.integers(3, 8))
        return rng.normal(0, 2, (1, D)), rng.normal(0, 2, (1, D))
    while True:
        n, D, k = (int(rng.integers(*span)) for span in ((30, 60), (2, 6), (3, 7)))
        points, centres = rng.normal(0, 2, (n, D)), rng.normal(0, 1.5, (k, D))
        squared, by_axes = (_distances(points, centres, power) for power in (2, 1))
        margin = np.diff(np.sort(squared, axis=1)[:, :2], axis=1).min()
        nearest, other = squared.argmin(axis=1), by_axes.argmin(axis=1)
        counts = np.bincount(nearest, minlength=k), np.bincount(other, minlength=k)
        if margin > 1e-3 and min(map(np.min, counts)) > 2 and (nearest != other).any():
            return points, centres


def _distances(points, centres, power=2):
    return (np.abs(points[:, None] - centres) ** power).sum(axis=-1)


def _moved(points, centres, power=2, place=lambda own, centre: own.mean(axis=0)):
    nearest = _distances(points, centres, power).argmin(axis=1)
    new = [place(points[nearest == k], centre) for k, centre in enumerate(centres)]
    return np.stack(new).astype(points.dtype)


k_means_step = Exercise(
    name="k_means_step",
    title="One step of k-means",
    signature="points, centres",
    summary="Where the centres (k, D) go: each to the mean of the points that are nearest to it.",
    statement=r"""
The columns of the covariance are points; those of classes that are confused lie together. k-means finds such
groups: each point belongs to the centre from which its squared distance is smallest, and then each centre moves
to the mean of its own points. Both halves make the sum of the squared distances smaller, or leave it.

Write `k_means_step(points, centres)` for points of shape $(n, D)$ and centres of shape $(k, D)$: the centres after
one step, in the same order. Every centre has at least one point.""",
    returns=("centres",),
    hints=(
        "`points[:, None] - centres` has shape $(n, k, D)$.",
        "The squared distances are $(n, k)$; `argmin(axis=1)` is the centre of each point.",
        "`points[nearest == j].mean(axis=0)` for each centre j.",
    ),
    reference=_moved,
    checks=standard_checks(_points_and_centres, ("centres",), values=4),
    mistakes=(
        Mistake(
            "distance along the axes",
            "the distance is the sum of the sizes of the differences; their squares are asked for.",
            lambda x, c: _moved(x, c, power=1),
        ),
        Mistake(
            "median",
            "each centre went to the median of its points; the mean makes the squares smallest.",
            lambda x, c: _moved(x, c, place=lambda own, centre: np.median(own, axis=0)),
        ),
        Mistake(
            "divided by all points",
            "the sum of a centre's points was divided by all n = {n}; only its own points count.",
            lambda x, c: _moved(x, c, place=lambda own, centre: own.sum(axis=0) / len(x)),
        ),
        Mistake(
            "summed",
            "the points of each centre were summed; their mean is asked for.",
            lambda x, c: _moved(x, c, place=lambda own, centre: own.sum(axis=0)),
        ),
        Mistake(
            "half way",
            "each centre went half way to the mean of its points; here it goes all the way.",
            lambda x, c: _moved(x, c, place=lambda own, centre: (own.mean(axis=0) + centre) / 2),
        ),
        Mistake(
            "a point among the points",
            "the old centre was counted as one of its points.",
            lambda x, c: _moved(x, c, place=lambda own, centre: np.vstack([own, centre]).mean(0)),
        ),
    ),
    quantities=lambda x, c: {"n": len(x), "k": len(c), "D": x.shape[1]},
    questions=(
        Question(
            "at_rest",
            "Points on a line, 0, 1, 3 and 11, with centres at 0 and 4. Where does the second centre come "
            "to rest?",
            11.0,
            "It goes to $(3 + 11)/2 = 7$, the first to 0.5. Then 3 is nearer to the first, and 11 is alone.",
            ((7.0, "that is where it is after one step; 3 is then nearer to the first, at 0.5."),),
        ),
    ),
)


# --- one specialist -----------------------------------------------------------------------------


def _specialist_logits(rng, batch=None):
    share = SHARES[rng.integers(len(SHARES))]
    return draws.logits(rng, draws.sizes(rng, batch)), share


def _shifted(z, amount, column=-1):
    moved = z.copy()
    moved[:, column] += amount
    return softmax(moved)


def _not_renormalised(z, s):
    p = softmax(z)
    p[:, -1] *= (1 - s) / s
    return p


dustbin_correction = Exercise(
    name="dustbin_correction",
    title="The dustbin's due",
    signature="logits, share",
    summary="Probabilities (B, n + 1) in the data, of a specialist that was trained on halves.",
    statement=r"""
A specialist has one output for each of the $n$ classes of its set, and a last one, the *dustbin*, for all others.
Half of the examples that it learned from belong to the set; in the data only a share $s$ does. Its
probabilities are therefore those of a world of halves, in which the set is seen too often. Going over to the
data multiplies the odds: by Bayes' rule, in every row,

$$\frac{p(\text{dustbin})}{p(i)} = \frac{1 - s}{s} \cdot \frac{p_{\text{halves}}(\text{dustbin})}{p_{\text{halves}}(i)}
\qquad \text{for each } i \text{ of the set.}$$

Write `dustbin_correction(logits, share)`: the probabilities in the data, from the logits of the specialist, shape
$(B, n + 1)$, dustbin last. They sum to 1.""",
    returns=("p",),
    hints=(
        "Odds are the exponential of a difference of logits: multiplying them adds to a logit.",
        "Add the logarithm of the factor to the last column, in a copy, then take the softmax.",
        "`moved[:, -1] += np.log((1 - share) / share)`.",
    ),
    reference=lambda z, s: _shifted(z, np.log((1 - s) / s)),
    checks=standard_checks(_specialist_logits, ("p",), values=4),
    mistakes=(
        Mistake(
            "the other way round",
            "the dustbin was made rarer; the set was seen too often, so the dustbin is to gain.",
            lambda z, s: _shifted(z, np.log(s / (1 - s))),
        ),
        Mistake(
            "not corrected",
            "these are the probabilities in a world of halves: nothing was corrected.",
            lambda z, s: softmax(z),
        ),
        Mistake(
            "no logarithm",
            "the factor itself was added to the dustbin's logit; its logarithm multiplies the odds.",
            lambda z, s: _shifted(z, (1 - s) / s),
        ),
        Mistake(
            "1/s",
            "the dustbin's odds were multiplied by 1/s; the factor is (1 - s)/s.",
            lambda z, s: _shifted(z, -np.log(s)),
        ),
        Mistake(
            "does not sum to 1",
            "the dustbin's probability was multiplied, and the row no longer sums to 1.",
            _not_renormalised,
        ),
        Mistake(
            "the first column",
            "the first column was corrected; the dustbin is the last.",
            lambda z, s: _shifted(z, np.log((1 - s) / s), column=0),
        ),
        Mistake(
            "1 - s",
            "the odds were multiplied by 1 - s = {rest}; the set, seen too often, is divided by s too.",
            lambda z, s: _shifted(z, np.log(1 - s)),
        ),
    ),
    uses=("softmax",),
    quantities=lambda z, s: {"B": len(z), "s": s, "rest": 1 - s},
    questions=(
        Question(
            "even_odds",
            "A fifth of the data belongs to the set. A specialist, trained on halves, gives its dustbin "
            "0.5. What is the dustbin's probability in the data?",
            0.8,
            "The odds are 1, then 4, and $4/(4 + 1) = 0.8$: where a specialist cannot tell, the data's "
            "own shares remain.",
            (
                (0.2, "that is the other way round; the set was seen too often."),
                (2.0, "that is 0.5 times 4; it is the odds that are multiplied."),
            ),
        ),
    ),
)


# --- one answer out of all ----------------------------------------------------------------------


def _generalist_and_specialist(rng, batch=None):
    B, N = draws.sizes(rng, batch)
    k = int(rng.integers(2, N - 1))
    classes = np.sort(rng.permutation(N)[:k])
    return draws.probabilities(rng, (B, N)), draws.probabilities(rng, (B, k + 1)), classes


def _outside(p, classes):
    return ~np.isin(np.arange(p.shape[1]), classes)


def _combined(p, specialist, classes, inside=lambda a, b: (a + b) / 2, rest=None):
    """Some mean of two answers inside the set, and outside some share of what is left."""
    outside = _outside(p, classes)
    q, P, d = p.copy(), p[:, outside].sum(axis=1, keepdims=True), specialist[:, -1:]
    q[:, classes] = inside(p[:, classes], specialist[:, :-1])
    q[:, outside] = (p[:, outside] * (P + d) / (2 * P)) if rest is None else rest(q, outside, P, d)
    return q


def _normalised(q):
    return q / q.sum(axis=1, keepdims=True)


combined_with_one = Exercise(
    name="combined_with_one",
    title="One specialist",
    signature="p, specialist, classes",
    summary="The q (B, N) that is nearest to a generalist and one specialist, equation 5.",
    statement=r"""
A generalist gives $p$, shape $(B, N)$; one specialist for the set $S$ (`classes`, in rising order) gives $p^1$, shape
$(B, n + 1)$, its last entry $p^1_d$ for the dustbin. Equation 5 of the paper asks for the $q$ that makes
$\mathrm{KL}(p\,\|\,q) + \mathrm{KL}(p^1\,\|\,q^1)$ smallest, where $q^1$ is $q$ as the specialist sees it: its own
classes one by one, and $Q = \sum_{j \notin S} q_j$ for the dustbin. With the sum of a row held at 1 the minimum obeys

$$2 q_i = p_i + p^1_i \quad (i \in S), \qquad\qquad 2 q_j = p_j + p^1_d\,\frac{q_j}{Q} \quad (j \notin S).$$

The second says that $q_j$ is proportional to $p_j$. Sum it over $j$ to find $Q$, and write
`combined_with_one(p, specialist, classes)`, which returns $q$.""",
    returns=("q",),
    hints=(
        "With $P$ the sum of $p_j$ outside the set, $2Q = P + p^1_d$.",
        "Outside, $q_j = p_j\\,Q/P$.",
        "A boolean array that is True outside the set makes both sums short.",
    ),
    reference=lambda p, specialist, classes: specialists.combined_with_one(p, specialist, classes),
    checks=standard_checks(_generalist_and_specialist, ("q",), values=4),
    mistakes=(
        Mistake(
            "dustbin in equal parts",
            "the dustbin was divided into equal parts; it is spread in the proportion of the p_j.",
            lambda p, a, s: _combined(
                p, a, s, rest=lambda q, out, P, d: (q[:, out] + d / out.sum()) / 2
            ),
        ),
        Mistake(
            "whole dustbin for each",
            "each class outside the set got the whole dustbin: the row sums to more than 1.",
            lambda p, a, s: _combined(p, a, s, rest=lambda q, out, P, d: (q[:, out] + d) / 2),
        ),
        Mistake(
            "dustbin left out",
            "outside the set p was halved, and the dustbin is missing: the row sums to less than 1.",
            lambda p, a, s: _combined(p, a, s, rest=lambda q, out, P, d: q[:, out] / 2),
        ),
        Mistake(
            "the others left alone",
            "outside the set q is p; the specialist's dustbin has a say there.",
            lambda p, a, s: _combined(p, a, s, rest=lambda q, out, P, d: q[:, out]),
        ),
        Mistake(
            "specialist alone",
            "inside the set this is the specialist alone; the generalist counts as much.",
            lambda p, a, s: _combined(
                p, a, s, lambda a, b: b, lambda q, out, P, d: q[:, out] * d / P
            ),
        ),
        Mistake(
            "geometric mean",
            "the answers were multiplied, and each row made to sum to 1; equation 5 has their mean.",
            lambda p, a, s: _normalised(
                _combined(
                    p,
                    a,
                    s,
                    lambda a, b: np.sqrt(a * b),
                    lambda q, out, P, d: q[:, out] * np.sqrt(d / P),
                )
            ),
        ),
        Mistake(
            "not halved",
            "q is twice what it should be: the sum of two answers, not their mean.",
            lambda p, a, s: 2 * _combined(p, a, s),
        ),
    ),
    quantities=lambda p, a, s: {"B": len(p), "N": p.shape[1], "n": len(s)},
    questions=(
        Question(
            "what_is_left_outside",
            "A generalist leaves 0.2 to all classes outside of $S$ together, and the specialist's dustbin "
            "has 0.4. What do these classes have together in $q$?",
            0.3,
            "$Q = (P + p^1_d)/2$, the mean of what both say.",
            (
                (0.4, "that is the specialist's alone."),
                (0.6, "that is the sum; two answers were given, and q is their mean."),
            ),
        ),
    ),
)


def _generalist_and_many(rng, batch=None):
    B, N, M = draws.sizes(rng, batch, 3)
    named, dustbins, outside = np.zeros((B, N)), np.zeros((B, M)), np.ones((M, N))
    for m in range(M):
        k = int(rng.integers(2, N - 1))
        classes, answers = rng.permutation(N)[:k], draws.probabilities(rng, (B, k + 1))
        outside[m, classes] = 0
        named[:, classes] += answers[:, :-1]
        dustbins[:, m] = answers[:, -1]
    q, p = draws.probabilities(rng, (B, N)), draws.probabilities(rng, (B, N))
    return q, p, named, dustbins, outside


def _by_q(q, dustbins, outside):
    return q * ((dustbins / (q @ outside.T)) @ outside)


def _round(q, p, named, dustbins, outside, spread=_by_q, models=1):
    return (p + named + spread(q, dustbins, outside)) / (models + dustbins.shape[1])


one_round = Exercise(
    name="one_round",
    title="Many specialists, one round",
    signature="q, p, named, dustbins, outside",
    summary="The next q (B, N) of the fixed point of equation 5, for M specialists.",
    statement=r"""
With $M$ specialists equation 5 has no closed form, but its minimum still obeys

$$q_i = \frac{1}{1 + M}\Big(p_i + \sum_{m:\, i \in S^m} p^m_i + \sum_{m:\, i \notin S^m} p^m_d\,\frac{q_i}{Q_m}\Big),
\qquad Q_m = \sum_{j \notin S^m} q_j ,$$

the mean of all answers, each dustbin spread over its classes as $q$ spreads itself there. Put in on the right, $q$
gives the next $q$ on the left, and round after round it comes to rest. All that the specialists say is in three arrays:

| array | shape | what it holds |
|---|---|---|
| `named` | $(B, N)$ | the first sum: what a class is given by name |
| `dustbins` | $(B, M)$ | the $p^m_d$ |
| `outside` | $(M, N)$ | 1 where class $i$ is in the dustbin of $m$, and 0 where it is in $S^m$ |

Write one round, `one_round(q, p, named, dustbins, outside)`. It needs no loop.""",
    returns=("q",),
    hints=(
        "All $Q_m$ at once are `q @ outside.T`, shape $(B, M)$.",
        "Divide the dustbins by them; `@ outside` brings them back to the classes.",
        "That, times q, is the second sum; p, named and it are divided by 1 + M.",
    ),
    reference=_round,
    checks=standard_checks(_generalist_and_many, ("q",), values=4),
    mistakes=(
        Mistake(
            "spread in equal parts",
            "each dustbin was divided into equal parts; it is spread in the proportion of q.",
            lambda q, p, a, d, o: _round(q, p, a, d, o, lambda q, d, o: (d / o.sum(axis=1)) @ o),
        ),
        Mistake(
            "spread as p is",
            "the dustbins were spread in the proportion of p; it is that of q.",
            lambda q, p, a, d, o: _round(q, p, a, d, o, lambda q, d, o: _by_q(p, d, o)),
        ),
        Mistake(
            "not divided by Q",
            "q_i was not divided by Q_m: only a part of each dustbin is given out.",
            lambda q, p, a, d, o: _round(q, p, a, d, o, lambda q, d, o: q * (d @ o)),
        ),
        Mistake(
            "whole dustbin for each",
            "each class of a dustbin was given all of it.",
            lambda q, p, a, d, o: _round(q, p, a, d, o, lambda q, d, o: d @ o),
        ),
        Mistake(
            "dustbins left out",
            "the dustbins are missing; only what is said by name was counted.",
            lambda q, p, a, d, o: _round(q, p, a, d, o, lambda q, d, o: 0),
        ),
        Mistake(
            "divided by M",
            "the sum was divided by M = {M}; the generalist counts too, so it is 1 + M.",
            lambda q, p, a, d, o: _round(q, p, a, d, o, models=0),
        ),
        Mistake(
            "spread inside the sets",
            "the dustbins were spread over the classes of the sets, where `outside` is 0.",
            lambda q, p, a, d, o: _round(q, p, a, d, o, lambda q, d, o: _by_q(q, d, 1 - o)),
        ),
    ),
    quantities=lambda q, p, a, d, o: {"B": len(q), "N": q.shape[1], "M": d.shape[1]},
    questions=(
        Question(
            "in_two_dustbins",
            "Two specialists are asked, and class $i$ is in neither set. $p_i = 0.06$, both dustbins have "
            "0.3, and $q_i$ is a tenth of each $Q_m$. What is $q_i$ after this round?",
            0.04,
            "$(0.06 + 0.03 + 0.03)/3$: the mean of three answers.",
            (
                (0.06, "that is the sum over two; the generalist is a third answer."),
                (0.12, "that is the sum of three answers; their mean is asked for."),
                (0.22, "a class gets its part of a dustbin, $q_i/Q_m$, not all of it."),
            ),
            tolerance=0.001,
        ),
    ),
)


SHEET = Sheet(
    key="ex12",
    title="Specialists",
    goal="find the classes that are confused, correct a specialist, and make one answer out of many",
    notebook="12_specialists",
    exercises=(
        confusion_covariance,
        k_means_step,
        dustbin_correction,
        combined_with_one,
        one_round,
    ),
)
