"""Section 5: sets that hold confusions, specialists with a dustbin, and equation 5 three ways."""

import functools
from itertools import pairwise

import numpy as np
import pytest
from scipy import special

import numpy_kd as kd
from numpy_kd import specialists as sp

N = 7
SETS = [np.array([0, 1, 4]), np.array([1, 2, 3, 6]), np.array([4, 5])]
RNG = np.random.default_rng(5)
P = special.softmax(RNG.normal(scale=2, size=(6, N)), axis=-1)
ANSWERS = [special.softmax(RNG.normal(scale=2, size=(6, len(s) + 1)), axis=-1) for s in SETS]
ACTIVE = RNG.random((6, 3)) < 0.6
ACTIVE[:2] = [[True, True, True], [False, False, False]]


# --- which classes belong together ----------------------------------------------------------------


def test_covariance_is_numpys_but_for_its_diagonal():
    ours, numpys = sp.prediction_covariance(P), np.cov(P.T, bias=True)
    off = ~np.eye(N, dtype=bool)
    np.testing.assert_allclose(ours[off], numpys[off], atol=1e-16)
    np.testing.assert_array_equal(ours.diagonal(), np.where(off, ours, -1).max(axis=0))
    np.testing.assert_allclose(sp.prediction_covariance(P, diagonal=True), numpys, atol=1e-16)
    assert sp.prediction_covariance(P.astype(np.float32)).dtype == np.float32


def confused_in_pairs(rows=4000):
    """Predictions for ten classes of unequal frequency: each is taken for its neighbour at times."""
    rng = np.random.default_rng(0)
    labels = rng.choice(10, size=rows, p=np.arange(3, 13) / 75)
    doubt = np.where(rng.random(rows) < 0.1, rng.uniform(0.2, 0.8, rows), 0.02)
    p = np.full((rows, 10), 1e-3)
    p[np.arange(rows), labels] += 1 - doubt
    p[np.arange(rows), labels ^ 1] += doubt
    return p / p.sum(axis=1, keepdims=True)


def test_the_diagonal_hides_who_is_confused_with_whom():
    def pairs_found(diagonal, seed):
        covariance = sp.prediction_covariance(confused_in_pairs(), diagonal=diagonal)
        cluster, _ = sp.k_means(covariance.T, 5, rng=seed)
        return (cluster[0::2] == cluster[1::2]).sum()

    assert [pairs_found(False, seed) for seed in range(5)] == [5] * 5
    assert max(pairs_found(True, seed) for seed in range(5)) <= 3


@pytest.mark.parametrize("seed", range(5))
def test_k_means_comes_to_rest(seed):
    points = np.random.default_rng(seed).normal(size=(60, 3))
    before = points.copy()
    cluster, centres = sp.k_means(points, 7, rng=seed)
    assert sorted(set(cluster)) == list(range(7))
    for k in range(7):
        np.testing.assert_allclose(centres[k], points[cluster == k].mean(axis=0), atol=1e-12)
    distances = ((points[:, None] - centres) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(cluster, distances.argmin(axis=1))
    np.testing.assert_array_equal(sp.k_means(points, 7, rng=seed)[0], cluster)
    np.testing.assert_array_equal(points, before)


@pytest.mark.parametrize("clusters", [1, 4, 12])
def test_k_means_fills_every_cluster_whatever_repeats(clusters):
    points = np.repeat(np.eye(12), [20, 1, 1, 1, 1, 1, 1, 9, 1, 1, 1, 3], axis=0)
    for seed in range(5):
        cluster, _ = sp.k_means(points, clusters, rng=seed)
        assert sorted(set(cluster)) == list(range(clusters))
    with pytest.raises(
        ValueError, match="clusters must be at most the 12 different points, got 13"
    ):
        sp.k_means(points, 13)


def test_sets_have_their_size_and_hold_the_confusions():
    covariance = sp.prediction_covariance(confused_in_pairs())
    for count, size in ((5, 2), (3, 4), (8, 3), (2, 9), (10, 1)):
        sets = sp.confusable_sets(covariance, count, size, rng=0)
        assert [len(chosen) for chosen in sets] == [size] * count
        assert all((np.diff(chosen) > 0).all() for chosen in sets)
    fives = {tuple(chosen.tolist()) for chosen in sp.confusable_sets(covariance, 5, 2, rng=1)}
    assert fives == {(i, i + 1) for i in range(0, 10, 2)}


def test_a_small_cluster_is_filled_up_by_its_closest_and_a_large_one_cut():
    together = np.kron(np.eye(3), np.full((2, 2), 9.0))  # the pairs 0 1, 2 3, 4 5
    together[[0, 1, 5, 5], [5, 5, 0, 1]] = 2  # and 5 beside 0 and 1
    filled = [chosen.tolist() for chosen in sp.confusable_sets(together, 3, 3, rng=0)]
    assert [0, 1, 5] in filled
    assert len({tuple(chosen) for chosen in filled}) == 3
    assert sum(map(len, filled)) > len(np.unique(filled))  # so they overlap
    pairs = sorted(chosen.tolist() for chosen in sp.confusable_sets(together, 3, 1, rng=0))
    assert [min(p) // 2 for p in pairs] == [0, 1, 2]  # one of each pair


# --- a specialist ---------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [2, 7, 64, 1001])
def test_half_of_the_examples_belong_to_the_set(examples):
    labels = np.random.default_rng(0).integers(N, size=300)
    rows, share = sp.half_of_set(labels, SETS[1], examples, rng=0)
    inside = np.isin(labels[rows], SETS[1])
    assert len(rows) == examples
    assert inside.sum() == examples // 2
    assert share == np.isin(labels, SETS[1]).mean()
    for half in (rows[inside], rows[~inside]):
        times = np.bincount(half, minlength=300)
        able = np.isin(labels, SETS[1]) == np.isin(labels[half[0]], SETS[1])
        assert np.ptp(times[able]) <= 1  # none a second time before all had their first


def test_labels_as_a_specialist_counts_them():
    every = np.arange(N)
    np.testing.assert_array_equal(sp.dustbin_labels(every, [6, 1, 2]), [3, 0, 1, 3, 3, 3, 2])


@pytest.mark.parametrize("more", [{}, {"batch_norm": True}, {"dropout": 0.3, "dtype": np.float64}])
def test_a_specialist_begins_as_the_generalist(more):
    generalist = kd.MLP((5, 9, 8, N), seed=0, **more)
    x = RNG.normal(size=(20, 5))
    generalist.forward(x.astype(generalist.dtype), training=True)  # moves what a state holds
    before = generalist.parameters.copy()
    network = sp.with_dustbin(generalist, SETS[1])
    assert network.sizes == (5, 9, 8, 5)
    assert network.dtype == generalist.dtype
    assert not np.shares_memory(network.parameters, generalist.parameters)
    z, ours = generalist.logits(x), network.logits(x)
    np.testing.assert_allclose(ours[:, :4], z[:, SETS[1]], atol=1e-5)
    others = np.setdiff1d(np.arange(N), SETS[1])
    np.testing.assert_allclose(ours[:, 4], np.log(3) + z[:, others].mean(axis=1), atol=1e-5)
    assert (ours[:, 4] <= special.logsumexp(z[:, others], axis=1) + 1e-5).all()  # Jensen
    np.testing.assert_array_equal(generalist.parameters, before)


def test_the_correction_is_bayes_rule():
    """Three classes of known densities: exact logits under the mixture become exact posteriors."""
    x = np.linspace(-3, 3, 25)
    density = np.stack([np.exp(-((x - mean) ** 2)) for mean in (-1, 0, 2)], axis=1)
    frequency = np.array([0.05, 0.1, 0.85])
    share = frequency[:2].sum()
    in_mixture = frequency / np.where([1, 1, 0], 2 * share, 2 * (1 - share))
    z = np.log(density * in_mixture)  # what a perfect specialist for 0 and 1 says
    z[:, -1] += np.log((1 - share) / share)
    posterior = density * frequency / (density * frequency).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(kd.softmax(z), posterior, rtol=1e-12)


X = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
LABELS = np.abs(X).argmax(axis=1)  # six classes
HOW = {"epochs": 2, "batch_size": 16, "schedule": 0.05, "progress": False}


@functools.cache
def generalist():
    mlp = kd.MLP((6, 16, 6), seed=0)
    kd.fit(mlp, X, LABELS, loss=kd.cross_entropy_loss, epochs=5, rng=0, progress=False)
    return mlp


@functools.cache
def team(top=1):
    sets = ([0, 1], [1, 2, 3], [4, 5])
    train = functools.partial(sp.train_specialist, generalist(), x=X, labels=LABELS, examples=600)
    return sp.Specialists(generalist(), [train(s, rng=0, **HOW) for s in sets], top=top)


def test_a_specialist_is_trained_on_a_copy_and_knows_its_set_better():
    before = generalist().parameters.copy()
    classes = np.array([1, 2, 3])
    specialist = team().specialists[1]
    np.testing.assert_array_equal(generalist().parameters, before)
    inside = np.isin(LABELS, classes)
    assert specialist.dustbin_shift == pytest.approx(np.log((~inside).sum() / inside.sum()))
    begins = sp.Specialist(sp.with_dustbin(generalist(), classes), classes)
    targets = sp.dustbin_labels(LABELS, classes)
    errors = [(s.logits(X).argmax(axis=1) != targets).sum() for s in (begins, specialist)]
    assert errors[1] < 0.7 * errors[0]
    again = sp.train_specialist(generalist(), classes, X, LABELS, examples=600, rng=0, **HOW)
    np.testing.assert_array_equal(again.network.parameters, specialist.network.parameters)


# --- one answer out of all ------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 2, N])
def test_active_are_those_whose_set_holds_a_likely_class(top):
    active = sp.active_specialists(P, SETS, top=top)
    for row, answers in zip(active, P, strict=True):
        likely = set(np.argsort(-answers)[:top].tolist())
        assert row.tolist() == [bool(likely & set(s.tolist())) for s in SETS]


def cost(q, active=ACTIVE):
    """Equation 5 as it stands, in SciPy's words, a value a row."""
    total = special.rel_entr(P, q).sum(axis=1)
    for m, classes in enumerate(SETS):
        outside = np.setdiff1d(np.arange(N), classes)
        theirs = np.column_stack([q[:, classes], q[:, outside].sum(axis=1)])
        total += active[:, m] * special.rel_entr(ANSWERS[m], theirs).sum(axis=1)
    return total


def test_the_loss_is_equation_5_and_its_gradient_is_right():
    z = RNG.normal(size=P.shape)
    loss = functools.partial(
        sp.combination_loss, p=P, specialists=ANSWERS, sets=SETS, active=ACTIVE
    )
    value, dlogits = loss(z)
    assert value == pytest.approx(cost(special.softmax(z, axis=1)).mean(), rel=1e-13)
    for i, j in np.ndindex(z.shape):
        moved = z.astype(complex)
        moved[i, j] += 1e-30j
        assert dlogits[i, j] == pytest.approx(loss(moved)[0].imag / 1e-30, rel=1e-12, abs=1e-15)
    central = kd.numerical_gradient(lambda z: loss(z)[0], z, method="central")
    np.testing.assert_allclose(dlogits, central, atol=1e-9)


def test_the_fixed_point_is_where_the_gradient_is_zero():
    q = sp.combined(P, ANSWERS, SETS, active=ACTIVE, tolerance=1e-15)
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-13)
    _, dlogits = sp.combination_loss(np.log(q), P, ANSWERS, SETS, active=ACTIVE)
    assert np.abs(dlogits).max() < 1e-14


def test_gradient_descent_over_z_goes_to_the_fixed_point():
    """The paper's way: q = softmax(z), T = 1, for each example."""
    p, *answers = [special.softmax(np.log(a) / 8, axis=1) for a in (P, *ANSWERS)]
    z = np.zeros_like(p)
    for _ in range(300):
        _, dlogits = sp.combination_loss(z, p, answers, SETS, active=ACTIVE)
        z -= 0.7 * len(p) * dlogits  # as each row is an example of its own
    q = sp.combined(p, answers, SETS, active=ACTIVE)
    np.testing.assert_allclose(special.softmax(z, axis=1), q, atol=1e-9)


def test_nothing_near_the_fixed_point_is_better():
    q = sp.combined(P, ANSWERS, SETS, active=ACTIVE)
    for size in (1e-3, 0.1, 2.0):
        for _ in range(50):
            other = special.softmax(np.log(q) + size * RNG.normal(size=q.shape), axis=1)
            assert (cost(other) > cost(q)).all()


def test_the_cost_falls_from_step_to_step(monkeypatch):
    costs = []
    for steps in range(1, 12):
        monkeypatch.setattr(sp, "MAX_STEPS", steps)
        costs.append(cost(sp.combined(P, ANSWERS, SETS, active=ACTIVE)))
    for before, after in pairwise(costs):
        assert (after <= before + 1e-15).all()
    assert (costs[0] > costs[-1] + 1e-4).any()


@pytest.mark.parametrize("m", range(3))
def test_one_specialist_has_a_closed_form(m):
    q = sp.combined_with_one(P, ANSWERS[m], SETS[m])
    fixed = sp.combined(P, [ANSWERS[m]], [SETS[m]], tolerance=1e-16)
    np.testing.assert_allclose(q, fixed, atol=4e-16)
    only = np.zeros_like(ACTIVE)
    only[:, m] = True
    np.testing.assert_allclose(sp.combined(P, ANSWERS, SETS, active=only), q, atol=1e-11)


def test_without_a_specialist_the_generalist_answers():
    q = sp.combined(P, ANSWERS, SETS, active=np.zeros_like(ACTIVE))
    np.testing.assert_allclose(q, P, rtol=1e-15)


def test_who_agrees_changes_nothing():
    agreeing = [
        np.column_stack([P[:, s], P[:, np.setdiff1d(np.arange(N), s)].sum(axis=1)]) for s in SETS
    ]
    np.testing.assert_allclose(sp.combined(P, agreeing, SETS), P, atol=1e-10)
    value, dlogits = sp.combination_loss(np.log(P), P, agreeing, SETS)
    assert abs(value) < 1e-15
    assert np.abs(dlogits).max() < 1e-15


def test_certainty_is_no_error():
    """Exact zeros, contradictions, all weight in the dustbins: numbers that sum to 1, no warning."""
    sure = [kd.one_hot(RNG.integers(len(s) + 1, size=6), len(s) + 1) for s in SETS]
    dustbins = [kd.one_hot(np.full(6, len(s)), len(s) + 1) for s in SETS]
    p = kd.one_hot(RNG.integers(N, size=6), N)
    for answers in (sure, dustbins):
        q = sp.combined(p, answers, SETS)
        np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-12)
        assert q.min() >= 0
        for s, answer in zip(SETS, answers, strict=True):
            assert np.isfinite(sp.combined_with_one(p, answer, s)).all()
        value, dlogits = sp.combination_loss(np.log(q + 1e-9), p, answers, SETS)
        assert np.isfinite([value, *dlogits.flat]).all()


def test_single_precision_stays():
    p, answers = P.astype(np.float32), [a.astype(np.float32) for a in ANSWERS]
    q = sp.combined(p, answers, SETS)
    assert q.dtype == sp.combined_with_one(p, answers[0], SETS[0]).dtype == np.float32
    np.testing.assert_allclose(q, sp.combined(P, ANSWERS, SETS), atol=1e-6)
    assert sp.combination_loss(np.log(q), p, answers, SETS)[1].dtype == np.float32


def test_the_team_answers_by_equation_5():
    z = generalist().logits(X).astype(np.float64)
    answers = [kd.softmax(s.logits(X).astype(np.float64)) for s in team().specialists]
    active = sp.active_specialists(z, team().sets)
    q = sp.combined(kd.softmax(z), answers, team().sets, active=active)
    np.testing.assert_allclose(kd.softmax(team().logits(X)), q, atol=1e-6)
    alone = sp.Specialists(generalist(), [])
    np.testing.assert_array_equal(alone.logits(X), generalist().logits(X))


def test_the_team_is_a_teacher():
    assert team().sizes == (6, 6)
    assert team().num_parameters == generalist().num_parameters + sum(
        s.network.num_parameters for s in team().specialists
    )
    with team().locked(), pytest.raises(ValueError, match="read-only"):
        team().specialists[2].network.parameters[0] = 1
    student = kd.MLP((6, 32, 6), seed=3)
    result = kd.distill(
        student, team(), X, temperature=2, soft_weight=1, hard_weight=0, epochs=30, rng=0
    )
    assert result.report["agreement"] > 0.8
    with pytest.raises(ValueError, match="student and teacher must be different"):
        specialist_like = team().members[0]
        kd.distill(
            specialist_like, team(), X, temperature=2, soft_weight=1, hard_weight=0, epochs=1
        )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sp.prediction_covariance(P[:1]), "p must have at least two rows"),
        (lambda: sp.prediction_covariance(2 * P), "p must sum to 1"),
        (lambda: sp.prediction_covariance(P[0]), r"p must have shape \(B, N\)"),
        (lambda: sp.prediction_covariance(P, diagonal=1), "diagonal must be True or False"),
        (lambda: sp.k_means([[1.0], [np.nan]], 1), "points must be finite"),
        (lambda: sp.k_means([[1.0], [2.0]], 0), "clusters must be an integer of at least 1"),
        (lambda: sp.confusable_sets(P, 2, 2), r"covariance must have shape \(N, N\)"),
        (lambda: sp.confusable_sets(np.eye(3), 2, 3), "size must be less than the 3 classes"),
        (lambda: sp.half_of_set([0, 1], [2], 4), "got no label's"),
        (lambda: sp.half_of_set([0, 1], [0, 1], 4), "got every label's"),
        (lambda: sp.half_of_set([0, 1], [1], 1), "examples must be an integer of at least 2"),
        (lambda: sp.dustbin_labels([0, 1], [1, 1]), "classes must be different classes"),
        (lambda: sp.with_dustbin(generalist(), [0, 6]), r"classes must be in 0 .. 5, got 6"),
        (lambda: sp.with_dustbin(generalist(), range(6)), "classes must leave a class"),
        (lambda: sp.with_dustbin("net", [0]), "generalist must be an MLP"),
        (lambda: sp.Specialist(kd.MLP((2, 3)), [0]), "an output for each of the 1 classes"),
        (lambda: sp.active_specialists(P, []), "sets must be at least one set"),
        (lambda: sp.active_specialists(P, SETS, top=8), "top must be at most the 7 classes"),
        (lambda: sp.active_specialists(P, [[0, 7]]), r"sets must be in 0 .. 6, got 7"),
        (lambda: sp.combined(P, ANSWERS[:2], SETS), "specialists must be one array for each"),
        (lambda: sp.combined(P, ANSWERS[::-1], SETS), r"shape \(6, 4\) for set 0"),
        (lambda: sp.combined(P, ANSWERS, SETS, active=ACTIVE[:2]), "active must be booleans"),
        (lambda: sp.combined(P, ANSWERS, SETS, active=ACTIVE.astype(int)), "active must be bool"),
        (lambda: sp.combined(P, ANSWERS, SETS, tolerance=0), "tolerance must be a positive"),
        (lambda: sp.combined_with_one(P, ANSWERS[1], SETS[0]), r"shape \(6, 4\)"),
        (lambda: sp.combination_loss(P[:, :3], P, ANSWERS, SETS), "p must have the shape of"),
        (lambda: sp.Specialists(generalist(), [generalist()]), "each a Specialist"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_arguments_of_training_are_named_before_any_work():
    train = functools.partial(sp.train_specialist, generalist(), rng=0, **HOW)
    with pytest.raises(ValueError, match="labels must have one row for each of the 400 rows of x"):
        train([0, 1], X, LABELS[:-1], examples=10)
    with pytest.raises(ValueError, match="classes must leave a class to the dustbin"):
        train(range(6), X, LABELS, examples=10)
    narrow = sp.Specialist(kd.MLP((5, 3), seed=0), [0, 1])
    with pytest.raises(ValueError, match="specialists must take the generalist's 6 inputs, got 5"):
        sp.Specialists(generalist(), [narrow])
    foreign = sp.Specialist(kd.MLP((6, 3), seed=0), [0, 9])
    with pytest.raises(ValueError, match=r"specialists must be in 0 .. 5, got 9"):
        sp.Specialists(generalist(), [foreign])
