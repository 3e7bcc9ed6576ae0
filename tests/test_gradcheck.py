"""The gradient check is itself checked: by what it must catch, name, and let pass."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd import layers
from numpy_kd.experiments import gradient_check
from numpy_kd.experiments.gradient_mistakes import LOSS_MISTAKES, Broken, Problem, network
from numpy_kd.gradcheck import (
    Slopes,
    assert_gradient,
    assert_network,
    check_backward,
    check_gradient,
    check_network,
    differentiate,
    fixture,
    numerical_gradient,
)
from numpy_kd.mlp import MLP

GIVEN = fixture(5)
Z, V, Y = GIVEN["logits"], GIVEN["teacher_logits"], GIVEN["labels"]
NUMBERS = {name: GIVEN[name] for name in ("temperature", "soft_weight", "hard_weight")}
SMOOTH = np.array([0.3, -1.2, 2.0])


def hinton(z, **more):
    return kd.hinton_loss(z, V, Y, **NUMBERS | more)


def smooth(x):
    return (np.exp(x / 2) * np.roll(x, 1)).sum()


def smooth_gradient(x):
    return np.exp(x / 2) * np.roll(x, 1) / 2 + np.exp(np.roll(x, -1) / 2)


# --- numerical gradients ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, error", [("auto", 1e-15), ("complex", 1e-15), ("central", 1e-9), ("richardson", 1e-11)]
)
def test_each_method_reaches_its_precision(method, error):
    right = smooth_gradient(SMOOTH)
    found = numerical_gradient(smooth, SMOOTH, method)
    assert np.abs(found - right).max() <= 2 * error * np.abs(right).max()
    assert found.shape == SMOOTH.shape
    assert found.dtype == np.float64


@pytest.mark.parametrize("method", ["complex", "central", "richardson"])
def test_the_error_estimate_covers_the_error(method):
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = rng.normal(size=4) * 10 ** rng.uniform(-2, 1)
        result = differentiate(lambda x: np.sin(x).sum() + x[0] * x[1] ** 2, x, method)
        right = np.cos(x) + np.array([x[1] ** 2, 2 * x[0] * x[1], 0, 0])
        assert (np.abs(result.gradient - right) <= 10 * result.error + 1e-16).all()
        assert result.error.max() < 1e-6 * np.abs(right).max()


def test_shapes_dtypes_and_counts():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = differentiate(lambda x: (x * x).sum(), x)
    assert np.array_equal(result.gradient, 2.0 * x)
    assert result.method == "complex"
    assert result.evaluations == 6 + 1 + 3  # entries, the value, and the cross-check's three
    assert numerical_gradient(lambda x: x**2, 3.0) == 6.0
    assert numerical_gradient(lambda x: float(x.real @ x.real), np.array([1, 2])).round(8).tolist()


@pytest.mark.parametrize(
    "f, why",
    [
        (lambda x: np.abs(x).sum(), "abs"),
        (lambda x: np.linalg.norm(x), "norm"),
        (lambda x: np.var(x), "var"),
        (lambda x: np.vdot(x, x), "drops an imaginary part"),
        (lambda x: (x * x.conj()).sum(), "drops an imaginary part"),
        (lambda x: (x.real**2).sum(), "real for a complex argument"),
        (lambda x: x.sum() ** 2 + np.abs(x[1]), "drops an imaginary part"),
        (lambda x: (x.astype(float) ** 2).sum(), "ComplexWarning"),
        (lambda x: float(x[0]) ** 2 + x[1], "ComplexWarning|TypeError"),
        (lambda x: np.logaddexp(x[0], x[1]) + x[2], "TypeError"),
        (lambda x: (x**2).sum() if x.dtype == float else (x**3).sum(), "for the same x as complex"),
    ],
)
def test_auto_falls_back_where_the_complex_step_is_wrong(f, why):
    result = differentiate(f, SMOOTH)
    central = numerical_gradient(f, SMOOTH, "central")
    assert result.method == "richardson"
    assert any(word in result.why for word in why.split("|")), result.why
    assert np.abs(result.gradient - central).max() < 1e-7 * np.abs(central).max()


def test_a_buffer_of_real_numbers_is_seen():
    def f(x):
        buffer = np.zeros(3)
        buffer[...] = x
        return (buffer**2).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a user's session, where it is but a warning
        result = differentiate(f, SMOOTH)
    assert result.method == "richardson"
    assert "ComplexWarning" in result.why
    assert np.allclose(result.gradient, 2 * SMOOTH, rtol=1e-9)


def test_auto_keeps_the_complex_step_where_only_the_differences_are_poor():
    """A gradient of 1e-12 beside a value of 1 drowns in the rounding of any difference."""
    T = 1e6
    result = differentiate(lambda z: kd.soft_cross_entropy_loss(z, V, T)[0], Z)
    right = kd.soft_cross_entropy_loss(Z, V, T)[1]
    assert result.method == "complex"
    assert np.abs(result.gradient - right).max() < 1e-12 * np.abs(right).max()


@pytest.mark.parametrize(
    "f, x, message",
    [
        (lambda x: x, SMOOTH, "f must return one number, got shape"),
        (lambda x: np.nan * x.sum(), SMOOTH, "f must be finite"),
        (lambda x: x.sum(), np.array([]), "x must not be empty"),
        (lambda x: x.sum(), np.array([np.inf]), "x must be finite"),
        (lambda x: x.sum(), "abc", "x must be an array of numbers"),
    ],
)
def test_bad_arguments(f, x, message):
    with pytest.raises(ValueError, match=message):
        numerical_gradient(f, x)


def test_unknown_words():
    with pytest.raises(ValueError, match="method must be one of 'auto', 'complex'"):
        numerical_gradient(smooth, SMOOTH, "forward")
    with pytest.raises(ValueError, match="level must be one of 'full', 'quick'"):
        check_gradient(smooth, SMOOTH, SMOOTH, level="slow")
    with pytest.raises(ValueError, match="method must be one of"):
        check_gradient(smooth, SMOOTH, SMOOTH, method="central")


def test_jumps_are_kinks_and_nothing_else():
    u = np.array([0.6, 0.8])
    assert Slopes(lambda x: (x * (x.real > 0)).sum(), np.array([0.0, 1.0])).jump(u) == (
        pytest.approx(0.6)
    )
    assert Slopes(lambda x: (x**2).sum(), np.zeros(2)).jump(u) == 0  # flat, but smooth
    assert Slopes(lambda x: np.exp(9 * x).sum(), np.ones(2)).jump(u) == 0  # steep, but smooth
    assert Slopes(lambda x: (x * (x.real > 0)).sum(), np.array([1e-6, 1.0])).jump(u) == 0  # near


# --- verdicts ---------------------------------------------------------------------------------

LEVELS = pytest.mark.parametrize("level", ["full", "quick"])


@LEVELS
def test_a_right_gradient_is_ok(level):
    report = check_gradient(lambda z: hinton(z)[0], Z, lambda z: hinton(z)[1], level=level)
    assert report
    assert report.verdict == "ok"
    assert report.error < 1e-13
    assert report.causes == []


@LEVELS
@pytest.mark.parametrize("T", [0.5, 50.0, 1e3, 1e6])
def test_zeros_never_pass(level, T):
    """Where the gradient is 1e-6 and below, an absolute tolerance would let zeros pass."""
    loss = lambda z: kd.soft_cross_entropy_loss(z, V, T)
    right = loss(Z)[1]
    assert check_gradient(lambda z: loss(z)[0], Z, right, level=level)
    report = check_gradient(lambda z: loss(z)[0], Z, 0 * right, level=level)
    assert report.verdict == "wrong"
    assert report.cause == "times 0"


@LEVELS
@pytest.mark.parametrize("error", [1e-2, 1e-6, 1e-8])
def test_one_wrong_entry_is_found_and_not_taken_for_rounding(level, error):
    wrong = hinton(Z)[1].copy()
    wrong[2, 3] *= 1 + error
    report = check_gradient(lambda z: hinton(z)[0], Z, wrong, level=level, context=GIVEN)
    assert report.verdict == "wrong"
    assert report.worst[0].where == "x[2, 3]"
    assert report.worst[0].ratio == pytest.approx(1 + error, rel=1e-12)
    assert report.causes == []


@LEVELS
def test_dead_is_not_a_pass(level):
    report = check_gradient(lambda z: kd.softmax(z).sum(), Z, 0 * Z, level=level)
    assert report.verdict == "dead"
    assert not report
    assert "nothing was checked" in str(report)


@LEVELS
def test_the_bias_before_a_batch_normalisation_is_dead_up_to_rounding(level):
    x, W, dy, b = (GIVEN[name] for name in ("x", "W", "dy", "b"))
    one, zero = np.ones(len(b)), np.zeros(len(b))

    def f(b):
        return (layers.batch_norm(layers.linear(x, W, b), one, zero)[0] * dy).sum()

    _, x_hat, _, variance = layers.batch_norm(layers.linear(x, W, b), one, zero)
    db = layers.batch_norm_backward(dy, x_hat, variance, one)[0].sum(axis=0)
    assert check_gradient(f, b, db, level=level).verdict == "dead"
    assert check_gradient(f, b, db + 1e-6, level=level).verdict == "wrong"


@LEVELS
@pytest.mark.parametrize("seed", range(5))
def test_some_array_is_float32(level, seed):
    given = fixture(seed)
    x, W, dy = (given[name] for name in ("x", "W", "dy"))
    dW = (x.astype(np.float32).T @ dy.astype(np.float32)).astype(np.float64)
    report = check_gradient(lambda W: (layers.linear(x, W) * dy).sum(), W, dW, level=level)
    assert report.verdict == "inconclusive"
    assert "some array is float32" in str(report)


@LEVELS
def test_kinks_are_listed_and_decide_nothing(level):
    x = np.array([1.0, -2.0, 0.0, 3.0])
    both = [(x > 0) * 1.0, (x >= 0) * 1.0]
    for f in (lambda x: np.maximum(x, 0).sum(), lambda x: (x * (x.real > 0)).sum()):
        reports = [check_gradient(f, x, gradient, level=level) for gradient in both]
        assert {report.verdict for report in reports} == {"ok", "inconclusive"}
        assert all(report.kinks for report in reports)
        assert all("no derivative at" in str(report) for report in reports)
        if level == "full":
            assert reports[0].kinks == ("x[2]",)
            assert check_gradient(f, x, 2 * both[0]).verdict == "wrong"
        moved = check_gradient(f, x + 1e-3, (x + 1e-3 > 0) * 1.0, level=level)
        assert moved.verdict == "ok"
        assert not moved.kinks


def test_richardson_decides_too_and_knows_its_limits():
    x = np.array([1.0, -2.0, 0.5])
    assert check_gradient(lambda x: np.abs(x).sum(), x, np.sign(x))
    report = check_gradient(lambda x: np.abs(x**3).sum(), x, np.sign(x) * 3 * x**2 * (1 + 1e-5))
    assert report.verdict == "wrong"
    assert "richardson" in report.method
    noisy = check_gradient(lambda x: 1e9 + np.abs(x).sum() * 1e-5, x, 1e-5 * np.sign(x))
    assert noisy.verdict == "inconclusive"
    assert "noisy" in str(noisy)


# --- what comes before any number --------------------------------------------------------------


def test_the_shape_comes_first():
    W, x, dy = GIVEN["W"], GIVEN["x"], GIVEN["dy"]
    report = check_gradient(lambda W: (x @ W * dy).sum(), W, (x.T @ dy).T, name="W")
    assert report.verdict == "wrong"
    assert report.cause == "transposed"
    assert f"shape {W.T.shape}, W has shape {W.shape}" in str(report)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite(bad):
    gradient = smooth_gradient(SMOOTH)
    gradient[1] = bad
    report = check_gradient(smooth, SMOOTH, gradient)
    assert report.cause == "not finite"
    assert f"{bad} at [1]" in str(report)


def test_a_complex_gradient_is_wrong():
    assert check_gradient(smooth, SMOOTH, smooth_gradient(SMOOTH) + 0j).cause == "complex"


def test_a_new_dropout_mask_is_said_so():
    rng = np.random.default_rng(0)
    report = check_gradient(lambda x: (x * (rng.random(3) < 0.5)).sum(), SMOOTH, np.ones(3))
    assert report.verdict == "inconclusive"
    assert "dropout that draws a new mask" in str(report)


def test_inputs_that_are_written_to():
    def f(x):
        x *= 1
        value = smooth(x)
        x += 1
        return value

    assert check_gradient(f, SMOOTH, smooth_gradient(SMOOTH)).cause == "input written to"

    def gradient(x):
        result = smooth_gradient(x)
        x += 1
        return result

    assert check_gradient(smooth, SMOOTH, gradient).cause == "input written to"
    context = {"mask": np.ones(3)}

    def careless(x):
        context["mask"] += 1
        return smooth_gradient(x)

    assert check_gradient(smooth, SMOOTH, careless, context=context).cause == "input written to"


def test_a_reused_buffer_and_a_stale_cache():
    buffer = np.empty(3)

    def reusing(x):
        buffer[...] = smooth_gradient(x)
        return buffer

    report = check_gradient(smooth, SMOOTH, reusing)
    assert report.cause == "buffer reused"
    assert "something is broken that no number shows" in str(report)
    seen = []

    def stale(x):
        seen.append(x.copy())
        return smooth_gradient(seen[-2] if len(seen) > 1 else x)

    assert "stale cache" in check_gradient(smooth, SMOOTH, stale).causes


def test_nothing_of_the_callers_is_changed():
    x, gradient, context = SMOOTH.copy(), smooth_gradient(SMOOTH), {"mask": np.ones(3)}
    kept = gradient.copy()
    check_gradient(smooth, x, gradient, context=context)
    assert np.array_equal(x, SMOOTH)
    assert np.array_equal(gradient, kept)
    assert list(context) == ["mask"]


# --- a layer ----------------------------------------------------------------------------------


def pullback(dy):
    q = kd.softmax(Z)
    return q * (dy - (q * dy).sum(axis=-1, keepdims=True))


def test_a_backward_pass():
    assert check_backward(kd.softmax, pullback, Z).error < 1e-13


@pytest.mark.parametrize(
    "backward, causes",
    [
        (lambda dy: 6.5 * pullback(dy), []),
        (lambda dy: -pullback(dy), ["times -1"]),
        (lambda dy: 0 * dy, ["times 0"]),  # with a cotangent of ones each of these would pass
        (lambda dy: pullback(np.ones_like(dy)) + 1, ["upstream ignored"]),
        (lambda dy: pullback(dy) * np.abs(dy).max(), ["not linear"]),
    ],
)
def test_mistakes_in_a_backward_pass(backward, causes):
    report = check_backward(kd.softmax, backward, Z)
    assert report.verdict == "wrong"
    assert report.causes == causes


# --- a network --------------------------------------------------------------------------------

KINDS = [
    ("relu", {}),
    ("tanh", {"batch_norm": True}),
    ("sigmoid", {"dropout": 0.3, "input_dropout": 0.2}),
    ("relu", {"batch_norm": True, "dropout": 0.3}),
]


@LEVELS
@pytest.mark.parametrize("kind, more", KINDS)
def test_a_network_is_ok_and_put_back_as_it_was(level, kind, more):
    mlp, x, loss = network(1, kind, **more)
    mlp.gradient[...] = 5.0
    before = mlp.parameters.copy(), mlp.gradient.copy(), repr(mlp.state)
    report = assert_network(mlp, x, loss, level=level)
    assert report.error < 1e-12
    assert np.array_equal(mlp.parameters, before[0])
    assert np.array_equal(mlp.gradient, before[1])
    assert repr(mlp.state) == before[2]
    assert {block.name for block in report.blocks} >= {"dlogits", *mlp.blocks}


def test_quick_is_one_pass_a_direction():
    mlp, x, loss = network(1)
    few = check_network(mlp, x, lambda z: loss(z)).evaluations
    assert few < Z.size + mlp.num_parameters / 10
    assert check_network(mlp, x, loss, level="full").evaluations > mlp.num_parameters


@pytest.mark.parametrize("name", ["no T^2", "KL the wrong way round", "times 1/B"])
def test_a_mistake_in_the_loss_is_not_blamed_on_the_network(name):
    mlp, x, loss = network(4)
    given = fixture(4)
    wrong = LOSS_MISTAKES[name][0]

    def mistaken(z):
        value = loss(z)[0]
        if np.iscomplexobj(z):
            return value, z
        return value, wrong(Problem({**given, "logits": z}))

    context = {
        name: given[name]
        for name in ("teacher_logits", "labels", "temperature", "soft_weight", "hard_weight")
    }
    report = check_network(mlp, x, mistaken, context=context)
    assert report.cause == name
    assert {block.name for block in report.blocks if block.verdict == "wrong"} == {"dlogits"}


def test_a_wrong_layer_is_named_with_its_place():
    mlp, x, loss = network(2)
    mlp.layers[1] = Broken(mlp.layers[1], lambda layer, dy, dx: dy)
    report = check_network(mlp, x, loss)
    assert report.cause == "activation mask missing"
    assert "checked alone, these are wrong: layer 1 (Broken): dx" in str(report)
    wrong = {block.name for block in report.blocks if block.verdict == "wrong"}
    assert wrong == {"linear0.W", "linear0.b"}  # what lies below it


def test_a_mistake_between_the_layers():
    mlp, x, loss = network(2)
    right = mlp.backward

    def backward(dlogits):
        right(dlogits)
        mlp.gradient[...] /= len(x)

    mlp.backward = backward
    report = check_network(mlp, x, loss, context={"temperature": 3.0})
    assert report.cause == "times 1/B"
    assert "checked alone, every layer is right" in str(report)


def test_an_evaluation_between_forward_and_backward():
    """The hazard of layers that remember without asking whether they are in training."""

    class Forgetful(Broken):
        def forward(self, x, training=False):
            self.x = x.copy()
            return self.layer.forward(x, training)

    def spoil(layer, dy, dx):
        layer.dW[...] = layer.x.T @ dy
        return dx

    mlp, x, loss = network(3)
    mlp.layers[0] = Forgetful(mlp.layers[0], spoil)
    report = check_network(mlp, x, loss)
    assert report.cause == "stale cache"
    assert "an inference pass between forward and backward" in str(report)


def test_logits_that_are_overwritten():
    class Reusing(Broken):
        buffer = np.empty(Z.shape)

        def forward(self, x, training=False):
            self.buffer = self.buffer.astype(x.dtype)
            Reusing.buffer[...] = self.layer.forward(x, training)
            return Reusing.buffer

    mlp, x, loss = network(5)
    mlp.layers[-1] = Reusing(mlp.layers[-1], lambda layer, dy, dx: dx)
    assert check_network(mlp, x, loss).causes == ["buffer reused"]


@pytest.mark.parametrize("seed", range(5))
def test_a_float32_network_is_inconclusive(seed):
    mlp, x, loss, _ = gradient_check.random_network(seed)
    report = check_network(mlp.astype(np.float32), x, loss)
    assert report.verdict == "inconclusive"
    assert "some array is float32" in str(report)


def test_units_at_a_kink_are_listed():
    mlp = MLP((4, 6, 3), dtype=np.float64, seed=0)
    x = np.random.default_rng(0).normal(size=(5, 4))
    x[2] = 0  # with biases of zero, its pre-activations are exactly 0

    def loss(z):
        return kd.cross_entropy_loss(z, np.array([0, 1, 2, 2, 0]))

    report = check_network(mlp, x, loss)
    assert report.kinks[:2] == ("layer 1 (ReLU), row 2, unit 0", "layer 1 (ReLU), row 2, unit 1")
    assert "but for the kinks" in str(report)
    x[2] = 1.0
    assert check_network(mlp, x, loss).kinks == ()


def test_a_network_that_draws_a_new_mask_is_not_the_same_twice():
    class Drawing(Broken):
        rng = np.random.default_rng(0)

        def forward(self, x, training=False):
            return self.layer.forward(x, training) * (self.rng.random(x.shape) < 0.5)

    mlp, x, loss = network(1)
    mlp.layers[1] = Drawing(mlp.layers[1], lambda layer, dy, dx: dx)
    report = check_network(mlp, x, loss)
    assert report.verdict == "inconclusive"
    assert report.cause == "not the same twice"
    assert "does a dropout draw a new mask?" in str(report)


def test_a_noisy_loss_is_not_the_same_twice():
    mlp, x, _ = network(1)
    rng = np.random.default_rng(0)
    report = check_network(
        mlp,
        x,
        lambda z: kd.noisy_logit_matching_loss(
            z, fixture(1)["logits"], sigma=1, fraction=1, rng=rng
        ),
    )
    assert report.verdict == "inconclusive"
    assert "not the same twice" in report.causes


# --- the report -------------------------------------------------------------------------------


def test_the_report_says_where_errors_sit():
    right = hinton(Z)[1]
    column, row = right.copy(), right.copy()
    column[:, 4] *= 1.7
    row[3] *= 1.7
    value = lambda z: hinton(z)[0]
    assert check_gradient(value, Z, column).blocks[0].note == "all in column 4"
    assert check_gradient(value, Z, row).blocks[0].note == "all in row 3"
    assert check_gradient(value, Z, row, name="dlogits").blocks[0].note == "all in example 3"


def test_the_report_as_text_and_as_html():
    report = check_gradient(lambda z: hinton(z)[0], Z, 3 * hinton(Z)[1], context=GIVEN)
    text, html = str(report), report._repr_html_()
    for said in ("wrong", "3.0000000 times the right one, and T is 3", "evaluations", "ratio"):
        assert said in text
        assert said in html
    assert max(map(len, text.splitlines())) <= 100
    assert html.count("<table>") == html.count("</table>") == 3
    report = check_gradient(lambda z: hinton(z)[0], Z, 0 * Z, name="<b>")
    assert "&lt;b&gt;" in report._repr_html_()
    assert len(report.worst) == 5


def test_the_report_warns_of_inputs_that_tell_nothing():
    context = GIVEN | {"temperature": 1.0, "soft_weight": 0.5, "hard_weight": 0.5}
    loss = lambda z: hinton(z, temperature=1.0, soft_weight=0.5, hard_weight=0.5)
    report = check_gradient(lambda z: loss(z)[0], Z, loss(Z)[1], context=context)
    assert report
    assert "T is 1: no mistake in T can be seen" in str(report)
    assert "swapped, they give the same" in str(report)


def test_assertion_errors_are_the_report():
    with pytest.raises(AssertionError, match="times 2. Your gradient is 2.0000000 times"):
        assert_gradient(smooth, SMOOTH, 2 * smooth_gradient(SMOOTH))
    mlp, x, loss = network(2)
    with pytest.raises(AssertionError, match="times 2"):
        assert_network(mlp, x, lambda z: (loss(z)[0], 2 * loss(z)[1]))


# --- the scores -------------------------------------------------------------------------------


def test_every_mistake_is_detected_and_named():
    causes = gradient_check.score_causes(problems=20, pairs=3)
    total = gradient_check.totals(causes)
    assert total["detected"] == 1.0
    assert total["named"] >= 0.98
    for name, row in causes.items():
        assert row["detected"] == row["of"], name
        assert row["named"] >= 0.95 * row["of"], name


def test_no_false_alarm():
    scores = gradient_check.score_correct_networks(1000)
    assert scores["verdicts"] == {"ok": 1000, "dead": 0, "inconclusive": 0, "wrong": 0}
    assert scores["largest_error"] < 1e-12


def test_one_entry_of_many_is_found():
    scores = gradient_check.score_one_entry(100)
    assert scores == {"detected": 100, "located": 100, "of": 100, "parameters": 55_050}


def test_the_benchmark_prints_the_scores():
    root = Path(__file__).parent.parent
    command = [sys.executable, "tests/benchmarks/gradient_check.py", "--scores", "--few"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    assert "100.00% detected, 100.00% named rightly" in run.stdout
    assert "located in 2 of 2 seeds" in run.stdout


def test_the_figure_has_its_numbers():
    figures = Path(__file__).parent.parent / "figures"
    results = json.loads((figures / "gradient_check.json").read_text(encoding="utf-8"))
    ours = [row for row in results["rules"] if row["name"].startswith("numpy_kd")]
    others = [row for row in results["rules"] if row not in ours]
    assert all(row["let_through"] == 0 for row in ours)
    assert any(row["let_through"] > 0 for row in others)
    assert (figures / "gradient_check.png").stat().st_size > 10_000
