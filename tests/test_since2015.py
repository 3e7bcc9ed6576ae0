"""The comparison of the costs on small settings, and the pure functions it is made of."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

import numpy_kd as kd
from numpy_kd import plots
from numpy_kd.experiments import since2015
from numpy_kd.experiments import since2015_parts as parts
from numpy_kd.experiments.jobs import Workers
from numpy_kd.gradcheck import numerical_gradient

TINY = replace(
    since2015.Settings().quick(),
    images=40,
    teacher_hidden=(12,),
    student_hidden=(8,),
    assistant_hidden=(8,),
    epochs=2,
    temperatures=(1, 4),
    bayes_rows=(10,),
)
RNG = np.random.default_rng(5)
Z, V = RNG.normal(scale=2, size=(2, 6, 7)) + 0.3
Y = np.array([0, 1, 1, 4, 6, 3])


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("since2015")
    with Workers(folder, processes=1, progress=False) as workers:
        found = since2015.compare(TINY, workers)
    with Workers(folder, processes=1, progress=False) as workers:  # all read from the folder
        again = since2015.compare(TINY, workers)
    assert found == again
    return found


def test_every_row_has_its_seeds_and_a_point_of_its_grid(result):
    assert list(result["costs"]) == list(since2015.COSTS)
    sections = ("costs", "views", "dark", "top_k", "teachers")
    for title, row in (pair for name in sections for pair in result[name].items()):
        assert len(row["errors"]) == TINY.seeds, title
        assert row["rate"] in TINY.rates
        assert row["temperature"] in (None, *TINY.temperatures)
    trials = sum(len(point["errors"]) for points in result["searched"].values() for point in points)
    rows = sum(len(row["errors"]) for name in sections for row in result[name].values())
    assert result["fits"] == trials + rows + len(result["teacher"])


def test_the_point_with_the_fewest_held_out_errors_is_chosen(result):
    for title, points in result["searched"].items():
        best = min(sum(p["errors"]) for p in points if None not in p["errors"])
        row = next(
            result[name][title]
            for name in ("costs", "views", "dark", "top_k")
            if title in result[name]
        )
        first = next(p for p in points if None not in p["errors"] and sum(p["errors"]) == best)
        assert (row["rate"], row["temperature"]) == (first["rate"], first["temperature"])


def test_the_table_and_the_picture(result):
    text = "\n".join(since2015.table(result | {"mnist": result}))
    assert all(title in text for title in since2015.COSTS)
    assert "MNIST is not there" in "\n".join(since2015.table(result))
    assert len(plots.since2015(result).axes) == 2
    assert len(plots.since2015(result | {"mnist": result}).axes) == 3


def test_three_parts_have_nothing_in_common():
    choosing, testing = parts.digits_for_choosing(), parts.digits_for_testing()
    np.testing.assert_array_equal(choosing.x_train, testing.x_train)
    rows = [
        {row.tobytes() for row in x} for x in (choosing.x_train, choosing.x_test, testing.x_test)
    ]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_gradients_of_the_costs_that_are_only_shown(T):
    for loss in (
        lambda z: parts.truncated_top_k_loss(z, V, k=3, temperature=T),
        lambda z: parts.weighted_labels_loss(z, T * V, labels=Y),
    ):
        _, dlogits = loss(Z)
        numerical = numerical_gradient(lambda z, loss=loss: loss(z)[0], Z, method="central")
        np.testing.assert_allclose(dlogits, numerical, rtol=0, atol=1e-7 * np.abs(numerical).max())


def test_scaled_costs_have_one_size_at_all_high_temperatures():
    for title, row in since2015.COSTS.items():
        if not row.cost or row.power is None or title.startswith("NKD"):
            continue
        how = {"cost": row.cost, "power": row.power} | row.settings
        sizes = [
            np.abs(parts.scaled_loss(Z, V, Y, temperature=T, **how)[1]).max() for T in (200, 2000)
        ]
        assert sizes[1] == pytest.approx(sizes[0], rel=0.1), title


def test_changed_answers_keep_the_target():
    rows = np.arange(6)
    flat = parts.flattened(V, Y, temperature=3.0)
    p, changed = kd.softmax(V, 3.0), kd.softmax(flat, 3.0)
    np.testing.assert_allclose(changed[rows, Y], p[rows, Y], rtol=1e-12)
    others = changed[np.arange(7) != Y[:, None]].reshape(6, -1)
    np.testing.assert_allclose(np.ptp(others, axis=1), 0, atol=1e-15)
    for change in (parts.permuted, parts.relabelled):
        changed = change(V, Y, np.random.default_rng(1))
        np.testing.assert_array_equal(changed[rows, Y], V[rows, Y])
        np.testing.assert_array_equal(np.sort(changed), np.sort(V))
        assert (changed != V).any()


def test_relabelling_is_one_order_for_all_rows_of_a_label():
    v = np.tile(np.arange(7.0), (6, 1))
    changed = parts.relabelled(v, Y, np.random.default_rng(2))
    np.testing.assert_array_equal(changed[1], changed[2])  # both have the label 1
    order = np.random.default_rng(2).permutation(7)
    kept = (np.arange(7) != Y[:, None]) & (order != Y[:, None])
    np.testing.assert_array_equal(changed[kept], np.tile(order, (6, 1))[kept])


def test_nobody_beats_bayes_and_true_probabilities_come_near():
    assert parts.BAYES_ERROR == pytest.approx(ndtr(-parts.DISTANCE), rel=1e-12)
    hard, soft = (
        [parts.error_with_bayes_targets(30, seed, soft=soft) for seed in range(4)]
        for soft in (False, True)
    )
    assert min(hard + soft) >= parts.BAYES_ERROR - 1e-12
    assert np.mean(soft) < np.mean(hard) - 0.03
    assert np.mean(soft) < parts.BAYES_ERROR + 0.005


def test_self_distillation_of_ridge_is_a_fit_of_its_own_answers():
    """The closed form against ridge regressions one after the other."""
    rng = np.random.default_rng([16, 3])
    data = parts.digits_for_testing()
    rows = rng.permutation(len(data.x_train))[:300]
    x, labels = data.x_train[rows].astype(float), data.labels_train[rows]
    kernel, y = parts._kernel(x, x), kd.one_hot(labels, 10) - 0.1
    errors = []
    for _ in range(3):
        coefficients = np.linalg.solve(kernel + 0.3 * np.eye(300), y)
        answers = parts._kernel(data.x_test.astype(float), x) @ coefficients
        errors.append(int((answers.argmax(-1) != data.labels_test).sum()))
        y = kernel @ coefficients
    found = parts.self_distilled_ridge(3, noise=0.0, ridges=(0.3,), rounds=3)
    assert found["test"]["0.3"] == errors
