"""A generalist, specialists for the classes that it confuses, and one answer out of all of theirs.

Section 5 of Hinton, Vinyals, Dean 2015. A specialist knows the few classes of its set; all others
are its last class, the dustbin. In the formulas `p` are the generalist's probabilities, `p^m` those
of specialist m, whose set is `S^m`, and `q` the answer that agrees best with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from numpy_kd import _checks
from numpy_kd.distillation import Teacher
from numpy_kd.losses import cross_entropy_loss
from numpy_kd.mlp import MLP
from numpy_kd.probability import _quietly, _softmax_and_log, entropy, softmax
from numpy_kd.training import fit

MAX_STEPS = 10_000

# --- which classes belong together (sec. 5.3) -----------------------------------------------------


def prediction_covariance(p, *, diagonal: bool = False) -> np.ndarray:
    """How the probabilities of two classes rise and fall together: `c_ij = cov(p_i, p_j)`.

        c_ij = mean_B p_i p_j - (mean_B p_i) (mean_B p_j)

    The first term is what counts: it is large where i and j are given probability for the same
    example. So a column says with whom a class is confused.

    The diagonal, a class's own variance, says nothing about pairs, and is much larger than the
    rest (on letters 25 times). With it two columns are as far apart as their classes' variances
    are large, whoever is confused with whom. So it is replaced by the largest other entry of its
    column: two classes that are confused with each other alone then have the same column.

    Parameters: `p` (n, N) rows of probabilities, n >= 2, N >= 2; `diagonal` keeps the variances.
    Returns: (N, N), symmetric, dtype of `p`; no labels are needed.
    Raises `ValueError` for rows that do not sum to 1, a single row or a single class.

    >>> p = [[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    >>> prediction_covariance(p).round(4)
    array([[ 0.0575,  0.0575, -0.125 ],
           [ 0.0575,  0.0575, -0.125 ],
           [-0.125 , -0.125 , -0.125 ]])
    >>> prediction_covariance(p, diagonal=True).diagonal()
    array([0.0675, 0.0675, 0.25  ])
    """
    p = _rows_of_probabilities("p", p)
    if min(p.shape) < 2:
        raise ValueError(f"p must have at least two rows and two classes, got shape {p.shape}")
    apart = p - p.mean(axis=0)
    covariance = apart.T @ apart / len(p)
    if not _checks.flag("diagonal", diagonal):
        np.fill_diagonal(covariance, -np.inf)
        np.fill_diagonal(covariance, covariance.max(axis=0))
    return covariance


def k_means(
    points, clusters: int, *, rng: np.random.Generator | int | None = None, starts: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's k-means: each point to its nearest centre, each centre to the mean of its points.

    Both steps make the sum of squared distances smaller or leave it, so it comes to rest; where
    depends on the first centres. They are points drawn one after another, each with probability
    proportional to its squared distance from those before (k-means++: Arthur, Vassilvitskii 2007);
    of `starts` such runs the one with the smallest sum is kept. (The paper's is an on-line version.)

    Parameters: `points` (n, D); `clusters` k, at most the number of different points; `rng` a
    generator or seed. Returns: the cluster of each point (n,), every cluster with at least one,
    and the centres (k, D). Raises `ValueError` for other arguments.

    >>> cluster, centres = k_means([[0.0], [0.2], [9.0], [9.2]], 2, rng=0)
    >>> bool(cluster[0] == cluster[1] != cluster[2] == cluster[3]), np.sort(centres, axis=0).T
    (True, array([[0.1, 9.1]]))
    """
    points = _checks.real_batch("points", points)
    clusters, starts = _checks.count("clusters", clusters), _checks.count("starts", starts)
    different = len(np.unique(points, axis=0))
    if clusters > different:
        raise ValueError(
            f"clusters must be at most the {different} different points, got {clusters}"
        )
    rng = _checks.generator("rng", rng)
    exponent = np.frexp(np.abs(points).max())[1]  # of a power of two that takes them to [-1, 1]
    points = np.ldexp(points, -exponent)
    runs = [_at_rest(points, _first_centres(points, clusters, rng)) for _ in range(starts)]
    sums = [((points - centres[cluster]) ** 2).sum() for cluster, centres in runs]
    cluster, centres = runs[int(np.argmin(sums))]
    return cluster, np.ldexp(centres, exponent)


def _first_centres(points, clusters: int, rng):
    centres = points[rng.integers(len(points), size=1)]
    while len(centres) < clusters:
        weights = _squared_distances(points, centres).min(axis=1)
        centres = np.vstack([centres, points[rng.choice(len(points), p=weights / weights.sum())]])
    return centres


def _at_rest(points, centres):
    cluster = None
    while True:
        distances = _squared_distances(points, centres)
        before, cluster = cluster, distances.argmin(axis=1)
        for empty in np.setdiff1d(np.arange(len(centres)), cluster):  # gets the worst placed point
            shared = np.bincount(cluster, minlength=len(centres))[cluster] > 1
            own = distances[np.arange(len(points)), cluster]
            cluster[np.where(shared, own, -1).argmax()] = empty
        if before is not None and (cluster == before).all():
            return cluster, centres
        centres = np.stack([points[cluster == k].mean(axis=0) for k in range(len(centres))])


def _squared_distances(points, centres):
    return np.stack([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=1)


def confusable_sets(
    covariance, count: int, size: int, *, rng: np.random.Generator | int | None = None
) -> list[np.ndarray]:
    """Sets of classes that are often predicted together, one for each specialist; they overlap.

    k-means on the columns of the covariance gives clusters that do not overlap, of any size.
    Each is then brought to `size`: its own classes first, then the others, from the largest mean
    covariance with them downwards. (The paper does not say how its sets come to overlap.)

    Parameters: `covariance` (N, N) from `prediction_covariance`; `count` of sets, at most N;
    `size` of each, less than N; `rng` a generator or seed.
    Returns: `count` sorted arrays of `size` classes. Raises `ValueError` for other arguments.

    >>> together = np.array([[9, 9, 1, 1], [9, 9, 1, 1], [1, 1, 8, 8], [1, 1, 8, 8]])
    >>> sorted(chosen.tolist() for chosen in confusable_sets(together, 2, 2, rng=0))
    [[0, 1], [2, 3]]
    """
    covariance = _checks.real_batch("covariance", covariance)
    if covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"covariance must have shape (N, N), got {covariance.shape}")
    count, size = _checks.count("count", count), _checks.count("size", size)
    if count > len(covariance):
        raise ValueError(f"count must be at most the {len(covariance)} classes, got {count}")
    if size >= len(covariance):
        raise ValueError(f"size must be less than the {len(covariance)} classes, got {size}")
    cluster, _ = k_means(covariance.T, count, rng=rng)
    sets = []
    for k in range(count):
        own = cluster == k
        together = covariance[:, own].mean(axis=1)
        sets.append(np.sort(np.lexsort((-together, ~own))[:size]))
    return sets


# --- a specialist (sec. 5.2, 5.4) -----------------------------------------------------------------


@dataclass(frozen=True)
class Specialist:
    """A network that tells apart the classes of its set, and them from all others.

    `network` has one output for each of `classes` and a last one for the dustbin, and was trained
    on as many examples of the set as of all others. So its odds are those of that mixture; in the
    data a share `s` of the examples belongs to the set. By Bayes' rule the odds in the data are

        p(dustbin) / p(i)  =  (1 - s) / s  *  the same in the mixture       for every i of the set,

    so that `log((1 - s) / s)`, the log of the proportion by which the set was oversampled, is added
    to the dustbin's logit: `dustbin_shift`.

    >>> specialist = Specialist(MLP([2, 3], seed=0), np.array([4, 7]), dustbin_shift=1.5)
    >>> x = np.ones((1, 2))
    >>> (specialist.logits(x) - specialist.network.logits(x)).tolist()
    [[0.0, 0.0, 1.5]]
    """

    network: MLP
    classes: np.ndarray
    dustbin_shift: float = 0.0

    def __post_init__(self):
        _checks.instance("network", self.network, MLP, "an MLP")
        classes = _set("classes", self.classes)
        if self.network.sizes[-1] != len(classes) + 1:
            raise ValueError(
                f"network must have an output for each of the {len(classes)} classes and one for "
                f"the dustbin, got {self.network.sizes[-1]}"
            )
        object.__setattr__(self, "classes", classes)
        shift = _checks.number("dustbin_shift", self.dustbin_shift)
        object.__setattr__(self, "dustbin_shift", shift)

    def logits(self, x) -> np.ndarray:
        """Logits (n, |S| + 1), the dustbin's corrected, last."""
        z = self.network.logits(x)
        z[:, -1] += self.dustbin_shift
        return z


def train_specialist(
    generalist: MLP,
    classes,
    x,
    labels,
    *,
    examples: int,
    rng: np.random.Generator | int | None = None,
    **training,
) -> Specialist:
    """A specialist for `classes`: it begins as the generalist, and half of its examples are theirs.

    Parameters: `generalist` a trained `MLP`, which stays as it is; `classes` its set S, some but
    not all of the generalist's; `x` (n, D), `labels` (n,) the generalist's training data;
    `examples` how many of them are drawn, half from S; `rng` draws them and the order of training;
    `training` what else `fit` takes (epochs over the examples drawn, optimizer, schedule, ...).
    Returns: a `Specialist`. Raises `ValueError` for a set without examples, or of all; and as `fit`.

    >>> x, labels = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.arange(4)
    >>> generalist = MLP([1, 8, 4], seed=0)
    >>> specialist = train_specialist(generalist, [2, 3], x, labels, examples=400, rng=0, epochs=5)
    >>> specialist.logits(x).argmax(axis=1), specialist.dustbin_shift
    (array([2, 2, 0, 1]), 0.0)
    """
    _checks.instance("generalist", generalist, MLP, "an MLP")
    classes = _set("classes", classes, generalist.sizes[-1])
    x, labels = _checks.rows("x", x), _checks.labels("labels", labels, generalist.sizes[-1])
    if x.shape[1] != generalist.sizes[0]:
        raise ValueError(f"x must have shape (n, {generalist.sizes[0]}), got {x.shape}")
    _checks.same_length("labels", labels, "x", x)
    rng = _checks.generator("rng", rng)
    rows, share = half_of_set(labels, classes, examples, rng=rng)
    network = with_dustbin(generalist, classes)
    targets = dustbin_labels(labels[rows], classes)
    fit(network, x[rows], targets, loss=cross_entropy_loss, rng=rng, **training)
    return Specialist(network, classes, float(np.log((1 - share) / share)))


def with_dustbin(generalist: MLP, classes) -> MLP:
    """The generalist's copy with an output for each of `classes` and one for all others together.

    The classes keep their columns of the last layer. The dustbin's probability is the sum of
    the others', so its logit should be `log sum_j exp(z_j)`, which is no linear function of the
    hidden units. `log n + mean_j z_j` over the n others is the nearest linear one from below
    (Jensen), equal where they are equal. (The paper does not say how the dustbin begins.)

    Parameters: `generalist` an `MLP`, which stays as it is; `classes` some but not all of its
    classes. Returns: an `MLP` of its dtype. Raises `ValueError` for other arguments.

    >>> generalist, x = MLP([2, 8, 5], seed=0), np.ones((1, 2))
    >>> z, ours = generalist.logits(x)[0], with_dustbin(generalist, [1, 3]).logits(x)[0]
    >>> bool(np.allclose(ours, [z[1], z[3], np.log(3) + z[[0, 2, 4]].mean()], atol=1e-5))
    True
    """
    _checks.instance("generalist", generalist, MLP, "an MLP")
    classes = _set("classes", classes, generalist.sizes[-1])
    others = np.setdiff1d(np.arange(generalist.sizes[-1]), classes)
    sizes = (*generalist.sizes[:-1], len(classes) + 1)
    network = MLP(**generalist._architecture | {"sizes": sizes}, dtype=generalist.dtype, seed=0)
    network.state = generalist.state
    before, after = generalist.layers[-1], network.layers[-1]
    body = network.num_parameters - after.W.size - after.b.size  # the last layer comes last
    network.parameters[:body] = generalist.parameters[:body]
    after.W[...] = np.column_stack([before.W[:, classes], before.W[:, others].mean(axis=1)])
    after.b[...] = [*before.b[classes], before.b[others].mean() + np.log(len(others))]
    return network


def dustbin_labels(labels, classes) -> np.ndarray:
    """Labels as a specialist counts them: the place in its set, or |S| for the dustbin.

    Parameters: `labels` (n,) integers; `classes` the set. Returns: (n,) int64.
    Raises `ValueError` for labels that are no integers, or classes named twice.

    >>> dustbin_labels(np.array([0, 7, 4, 7]), [4, 7])
    array([2, 1, 0, 1])
    """
    labels, classes = _checks.labels("labels", labels), _set("classes", classes)
    place = np.searchsorted(classes, labels)
    found = np.isin(labels, classes)
    return np.where(found, place, len(classes))


def half_of_set(
    labels, classes, examples: int, *, rng: np.random.Generator | int | None = None
) -> tuple[np.ndarray, float]:
    """Which rows a specialist learns from: half from its set, half at random from the rest.

    Each half goes through its rows in random order, all of them before any comes again.

    Parameters: `labels` (n,) integers; `classes` the set; `examples` how many rows are drawn, at
    least 2; `rng` a generator or seed.
    Returns: indices (examples,), and the share of the set in `labels`, a fraction in (0, 1).
    Raises `ValueError` where no row, or every row, belongs to the set.

    >>> rows, share = half_of_set(np.array([0, 0, 0, 1]), [1], 6, rng=0)
    >>> sorted(rows.tolist()), share
    ([0, 1, 2, 3, 3, 3], 0.25)
    """
    labels, classes = _checks.labels("labels", labels), _set("classes", classes)
    examples = _checks.count("examples", examples, at_least=2)
    rng = _checks.generator("rng", rng)
    inside = np.isin(labels, classes)
    if inside.all() or not inside.any():
        how_many = "every" if inside.all() else "no"
        raise ValueError(
            f"classes must be those of some but not all labels, got {how_many} label's"
        )
    halves = [
        _passes(np.flatnonzero(inside), examples // 2, rng),
        _passes(np.flatnonzero(~inside), examples - examples // 2, rng),
    ]
    return rng.permutation(np.concatenate(halves)), float(inside.mean())


def _passes(rows, n: int, rng):
    """`n` of the rows, pass after pass, each in a new order."""
    passes = [rng.permutation(rows) for _ in range(-(-n // len(rows)))]
    return np.concatenate(passes)[:n]


# --- one answer out of all (sec. 5.5) -------------------------------------------------------------


def active_specialists(p, sets: Sequence, *, top: int = 1) -> np.ndarray:
    """Whom to ask: the specialists whose set holds one of the `top` most probable classes.

    Parameters: `p` (B, N) the generalist's probabilities, or its logits; `sets` M sets of classes;
    `top` n, in the paper 1. Returns: (B, M) booleans; a row may have none.
    Raises `ValueError` for sets with classes that do not exist, n above N.

    >>> active_specialists([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], [[0, 1], [1, 2]])
    array([[ True, False],
           [False,  True]])
    """
    p = _checks.real_batch("p", p)
    outside = _outside(sets, p.shape[1])
    top = _checks.count("top", top)
    if top > p.shape[1]:
        raise ValueError(f"top must be at most the {p.shape[1]} classes, got {top}")
    likely = np.argsort(-p, axis=1, kind="stable")[:, :top]
    return np.logical_or.reduce(~outside[:, likely], axis=-1).T


def combined(
    p, specialists: Sequence, sets: Sequence, *, active=None, tolerance: float = 1e-12
) -> np.ndarray:
    """The probabilities `q` that are nearest to generalist and active specialists (eq. 5).

        C(q) = KL(p || q) + sum_m KL(p^m || q^m),    q^m_d = Q_m = sum of q_j over j not in S^m

    is least, with `sum_i q_i = 1`, where `q_i dC/dq_i` is the same for all i. With `M` active,

        q_i = (p_i + sum_m r^m_i) / (1 + M),     r^m_i = p^m_i            for i in S^m
                                                       = p^m_d q_i / Q_m  else:

    the mean of all answers, each dustbin spread over its classes as q spreads it. Put in again
    and again, this is the EM algorithm, the dustbins' classes being what is not observed: C falls
    at each step, and as C is convex in q, to its minimum. No learning rate is needed. It begins
    at p: two classes that lie in the same dustbins then have the right proportion from the start.

    Parameters: `p` (B, N); `specialists` M arrays (B, |S^m| + 1) of probabilities, the dustbin
    last; `sets` M sets of classes; `active` (B, M) booleans from `active_specialists` (None: all);
    `tolerance` where to stop: when no entry of q, put in once more, changes by more (or after
    10,000 steps, which only exact zeros among the probabilities can need).
    Returns: q (B, N), dtype of `p`, calculated in float64. A row without a specialist is p.
    Raises `ValueError` for shapes that do not go together, rows that do not sum to 1.

    >>> p, of_classes_0_and_1 = [[0.4, 0.4, 0.2]], [[0.8, 0.1, 0.1]]
    >>> combined(p, [of_classes_0_and_1], [[0, 1]]).round(4)
    array([[0.6 , 0.25, 0.15]])
    """
    p = _rows_of_probabilities("p", p)
    said = _evidence(p, specialists, sets, active)
    models = said.models
    tolerance = max(_checks.positive("tolerance", tolerance), np.finfo(np.float64).eps)
    q = np.maximum(p, np.finfo(p.dtype).tiny).astype(np.float64)  # nothing is ruled out
    changing = np.arange(len(p))
    for _ in range(MAX_STEPS):
        now, dustbins = q[changing], said.dustbins[changing]
        new = (said.known[changing] + _spread(dustbins, now, said.outside)) / models[changing]
        q[changing] = new
        changing = changing[np.abs(new - now).max(axis=1) > tolerance]
        if len(changing) == 0:
            break
    return q.astype(p.dtype)


def combined_with_one(p, specialist, classes) -> np.ndarray:
    """`combined` for one specialist, where the equation can be solved.

        q_i = (p_i + p^1_i) / 2                    for i in S: the mean
        q_j = p_j * (P + p^1_d) / (2 P)            else, P = sum of p_j over j not in S:

    as there q_j = (p_j + p^1_d q_j / Q) / 2 says that q_j is proportional to p_j, and summed up,
    that Q = (P + p^1_d) / 2.

    Parameters: `p` (B, N); `specialist` (B, |S| + 1), the dustbin last; `classes` S.
    Returns: q (B, N), dtype of `p`. Raises `ValueError` as `combined`.

    >>> combined_with_one([[0.4, 0.4, 0.2]], [[0.8, 0.1, 0.1]], [0, 1]).round(4)
    array([[0.6 , 0.25, 0.15]])
    """
    p = _rows_of_probabilities("p", p)
    specialist = _rows_of_probabilities("specialist", specialist)
    classes = _set("classes", classes, p.shape[1])
    needed = (len(p), len(classes) + 1)
    if specialist.shape != needed:
        raise ValueError(f"specialist must have shape {needed}, got {specialist.shape}")
    said = _evidence(p, [specialist], [classes], None)
    rest = p * said.outside
    total = rest.sum(axis=1, keepdims=True)
    even = said.outside / said.outside.sum()  # where the generalist leaves nothing to the others
    shares = np.where(total > 0, rest / np.where(total > 0, total, 1), even)
    return ((said.known - rest + shares * (total + said.dustbins)) / 2).astype(p.dtype)


@_quietly
def combination_loss(
    logits, p, specialists: Sequence, sets: Sequence, *, active=None
) -> tuple[float, np.ndarray]:
    """Equation 5 as a cost of the logits of `q = softmax(z)`, as the paper minimises it.

        C = KL(p || q) + sum_m KL(p^m || q^m)
        -dC/dq_i = p_i / q_i + sum_m r^m_i / q_i                      (r^m as in `combined`)
        dC/dz_i  = (1 + M) q_i - p_i - sum_m r^m_i        by dq_j/dz_i = q_i ([i = j] - q_j)

    It is 0 where q is the fixed point of `combined`. Each row has a q of its own: this is no
    network's loss, but a descent for each example.

    Parameters: `logits` z (B, N); the others as in `combined`.
    Returns: mean of C in nats, and dC/dz (B, N) over B. Raises `ValueError` as `combined`.

    >>> p, of_classes_0_and_1 = [[0.4, 0.4, 0.2]], [[0.8, 0.1, 0.1]]
    >>> at_minimum = np.log([[0.6, 0.25, 0.15]])
    >>> _, dlogits = combination_loss(at_minimum, p, [of_classes_0_and_1], [[0, 1]])
    >>> bool(np.abs(dlogits).max() < 1e-15)
    True
    """
    z, p = _checks.batch("logits", logits), _rows_of_probabilities("p", p)
    _checks.same_shape("p", p, "logits", z)
    said = _evidence(p, specialists, sets, active)
    q, log_q = _softmax_and_log(z, 1.0)
    log_dustbins = np.log(np.where(said.dustbins > 0, q @ said.outside.T, 1))
    entropies = [entropy(p), *(entropy(answers) for answers in specialists)]
    asked = np.column_stack([np.ones(len(p), bool), said.active])
    value = -(said.known * log_q).sum() - (said.dustbins * log_dustbins).sum()
    value -= (np.stack(entropies, axis=1) * asked).sum()
    dlogits = said.models * q - said.known - _spread(said.dustbins, q, said.outside)
    return value.item() / len(z), (dlogits / len(z)).astype(z.dtype)


class _Evidence(NamedTuple):
    """What the models that are asked say about each row."""

    known: np.ndarray  # (B, N): the sum of the probabilities that they give to a class by name
    dustbins: np.ndarray  # (B, M): those given to dustbins, 0 where a specialist is not asked
    outside: np.ndarray  # (M, N): 1 for the classes in a dustbin, 0 for those of the set
    active: np.ndarray  # (B, M): who is asked

    @property
    def models(self) -> np.ndarray:
        """How many they are, the generalist with them, (B, 1)."""
        return 1 + self.active.sum(axis=1, keepdims=True)


def _evidence(p, specialists, sets, active) -> _Evidence:
    outside = _outside(sets, p.shape[1])
    specialists = _checks.several("specialists", specialists, "an array for each set")
    if len(specialists) != len(outside):
        raise ValueError(
            f"specialists must be one array for each of the {len(outside)} sets, "
            f"got {len(specialists)}"
        )
    shape = (len(p), len(outside))
    active = np.ones(shape, bool) if active is None else _checks.array("active", active)
    if active.dtype != bool or active.shape != shape:
        got = f"{active.dtype} {active.shape}"
        raise ValueError(f"active must be booleans of shape {shape}, got {got}")
    known, dustbins = p.astype(np.float64), np.zeros(shape)
    for m, (answers, others) in enumerate(zip(specialists, outside, strict=True)):
        answers = _rows_of_probabilities("specialists", answers)
        needed = (len(p), int((~others).sum()) + 1)
        if answers.shape != needed:
            raise ValueError(
                f"specialists must have shape {needed} for set {m}, the dustbin last, "
                f"got {answers.shape}"
            )
        answers = answers * active[:, m : m + 1]
        known[:, ~others] += answers[:, :-1]
        dustbins[:, m] = answers[:, -1]
    return _Evidence(known, dustbins, outside.astype(np.float64), active)


def _spread(dustbins, q, outside):
    """`sum_m p^m_d q_i / Q_m` over the specialists that have i in their dustbin, (B, N)."""
    inside_q = q @ outside.T
    return q * ((dustbins / np.where(dustbins > 0, inside_q, 1)) @ outside)


class Specialists(Teacher):
    """A generalist and its specialists as one teacher, which `distill` and `evaluate` can ask.

    For each example the specialists whose set holds one of the generalist's `top` classes are
    asked, and all answers combined by `combined`, at T = 1. Its logits are log q: at another
    temperature they are softened as any network's are.

    Parameters: `generalist` an `MLP`; `specialists` a list of `Specialist`; `top` as in
    `active_specialists`. Raises `ValueError` for specialists of other inputs or classes.

    >>> generalist, x = MLP([2, 8, 4], seed=0), np.ones((1, 2))
    >>> sets = [[0, 1], [2, 3]]
    >>> team = Specialists(generalist, [Specialist(with_dustbin(generalist, s), s) for s in sets])
    >>> team.logits(x).shape, round(float(np.exp(team.logits(x)).sum()), 6)
    ((1, 4), 1.0)
    """

    def __init__(self, generalist: MLP, specialists: Sequence[Specialist], *, top: int = 1):
        super().__init__(_checks.instance("generalist", generalist, MLP, "an MLP"))
        each = "several, each a Specialist"
        self.specialists = tuple(_checks.several("specialists", specialists, each, at_least=0))
        self.top = _checks.count("top", top)
        for specialist in self.specialists:
            _checks.instance("specialists", specialist, Specialist, each)
            _set("specialists", specialist.classes, generalist.sizes[-1])
            if specialist.network.sizes[0] != generalist.sizes[0]:
                raise ValueError(
                    f"specialists must take the generalist's {generalist.sizes[0]} inputs, "
                    f"got {specialist.network.sizes[0]}"
                )
        self.members = (generalist, *(specialist.network for specialist in self.specialists))

    @property
    def sets(self) -> list[np.ndarray]:
        """The classes of each specialist."""
        return [specialist.classes for specialist in self.specialists]

    def _answers(self, x, T: float) -> np.ndarray:
        z = self.members[0].logits(x)
        if not self.specialists:
            return z
        p = softmax(z.astype(np.float64))
        answers = [softmax(s.logits(x).astype(np.float64)) for s in self.specialists]
        active = active_specialists(p, self.sets, top=self.top)
        q = combined(p, answers, self.sets, active=active, tolerance=1e-9)
        return np.log(np.maximum(q, np.finfo(np.float64).tiny)).astype(z.dtype)


# --- arguments at the door ------------------------------------------------------------------------


def _rows_of_probabilities(name: str, p) -> np.ndarray:
    return _checks.real_batch(name, _checks.probabilities(name, p))


def _set(name: str, classes, num_classes: int | None = None) -> np.ndarray:
    """Different classes in rising order; some but not all of `num_classes`."""
    classes = np.sort(_checks.labels(name, classes, num_classes))
    if (np.diff(classes) == 0).any():
        raise ValueError(f"{name} must be different classes, got {classes.tolist()}")
    if num_classes is not None and len(classes) == num_classes:
        raise ValueError(f"{name} must leave a class to the dustbin, got all {num_classes}")
    return classes


def _outside(sets, num_classes: int) -> np.ndarray:
    """(M, N) booleans: which classes are in the dustbin of each specialist."""
    sets = _checks.several("sets", sets, "at least one set of classes")
    outside = np.ones((len(sets), num_classes), bool)
    for row, classes in zip(outside, sets, strict=True):
        row[_set("sets", classes, num_classes)] = False
    return outside
