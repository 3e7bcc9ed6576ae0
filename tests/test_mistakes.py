"""The tables of causes: each row sees its own mistake, no row sees one that is not there."""

import numpy as np
import pytest
from benchmarks.gradient_mistakes import LAYER_MISTAKES, LOSS_MISTAKES

from numpy_kd import gradcheck, mistakes, network_check
from numpy_kd.gradcheck import Case, Cause, numerical_gradient
from numpy_kd.mistakes import CAUSES, Letters, blind_spots, diagnose, fixture, softmax

GIVEN = fixture(3)
RIGHT = Letters(Case(context=GIVEN)).total()
FORMULAS = [row for row in CAUSES if row.stage == "formula"]


def test_every_row_is_tried_by_an_injected_mistake():
    rows = [row for row in (*CAUSES, *network_check.LAYERS) if row.stage in ("formula", "shape")]
    names = {row.name for row in rows} - {"softmax by its diagonal"}  # in test_gradcheck.py
    assert names <= {*LOSS_MISTAKES, *LAYER_MISTAKES}
    assert len(names) == len(rows) - 1


@pytest.mark.parametrize("row", FORMULAS, ids=lambda row: row.name)
def test_no_row_matches_the_right_gradient(row):
    for seed in range(5):
        given = fixture(seed)
        right = Letters(Case(context=given)).total()
        assert not row.fits(Case(right, right, given))
        assert not row.fits(Case(right, None, given))  # nor when the right one is not at hand


def test_the_textbook_is_right():
    z, r = GIVEN["logits"], GIVEN["dy"][:, :1] * GIVEN["logits"] + 1
    assert np.allclose(softmax(z).sum(axis=1), 1, rtol=1e-14)
    assert np.isfinite(softmax(1e300 * np.ones((1, 2)))).all()
    slope = numerical_gradient(
        lambda z: (np.exp(z) / np.exp(z).sum(-1, keepdims=True) * r).sum(), z, "complex"
    )
    assert np.allclose(mistakes.softmax_jacobian(softmax(z), r), slope, rtol=1e-12, atol=1e-15)


def test_the_total_is_the_gradient_of_the_two_part_cost():
    letters = Letters(Case(context=GIVEN))

    def value(z):
        log_q = z / 3 - np.log(np.exp(z / 3).sum(-1, keepdims=True))
        log_q1 = z - np.log(np.exp(z).sum(-1, keepdims=True))
        soft = -9 * (letters.p * log_q).sum(-1).mean()
        hard = -(letters.y * log_q1).sum(-1).mean()
        return GIVEN["soft_weight"] * soft + GIVEN["hard_weight"] * hard

    slope = numerical_gradient(value, GIVEN["logits"], "complex")
    assert np.abs(letters.total() - slope).max() < 1e-13 * np.abs(slope).max()


@pytest.mark.parametrize("context", ["labels", "targets", "teacher_logits"])
def test_a_loss_with_one_term_is_known_too(context):
    """Without weights the cost is one cross-entropy at T, whatever it aims at."""
    given = {name: GIVEN[name] for name in ("logits", "temperature")}
    p = {
        "labels": np.eye(GIVEN["logits"].shape[1])[GIVEN["labels"]],
        "targets": softmax(GIVEN["teacher_logits"]),
        "teacher_logits": softmax(GIVEN["teacher_logits"] / 3),
    }[context]
    given[context] = p if context == "targets" else GIVEN[context]
    q, B = softmax(GIVEN["logits"] / 3), len(p)
    right = (q - p) / 3 / B
    assert np.allclose(Letters(Case(context=given)).total(), right, rtol=1e-13, atol=1e-16)
    assert diagnose((p - q) / 3 / B, right, given).cause == "times -1"
    assert diagnose((q - p) / B, right, given).cause == "times T"
    assert diagnose(q / 3 / B, right, given).cause == "target not subtracted"
    wrong = (softmax(GIVEN["logits"] / 3, axis=0) - p) / 3 / B
    assert diagnose(wrong, right, given).cause == "softmax along the wrong axis"


def test_factors_come_with_evidence():
    numbers = {"T": 3.0, "B": RIGHT.shape[0], "N": RIGHT.shape[1]}
    numbers |= {name: GIVEN[name] for name in ("soft_weight", "hard_weight")}
    for name, value in numbers.items():
        for said, number in ((name, value), (f"1/{name}", 1 / value), (f"{name}^2", value**2)):
            found = diagnose(number * RIGHT, RIGHT, GIVEN)
            assert found.cause == f"times {said}"
            assert f"your gradient is {number:.7f} times the right one" in found.finding
            assert f"{name} is {value:.7g}" in str(found)
    assert diagnose(2 * 3.0 * RIGHT, RIGHT, GIVEN).cause == "times 2 times T"
    assert diagnose(-3.0 * RIGHT, RIGHT, GIVEN).cause == "times -1 times T"
    assert diagnose(0.123 * RIGHT, RIGHT, GIVEN).cause is None


def test_two_matches_claim_nothing():
    given = {**GIVEN, "temperature": 2.0}
    found = diagnose(2 * RIGHT, RIGHT, given)
    assert found.cause is None
    assert set(found.names) == {"times 2", "times T"}
    assert '"times 2" or "times T"' in str(found)


def test_no_match_claims_nothing():
    wrong = RIGHT.copy()
    wrong[1, 2] *= 1.01
    found = diagnose(wrong, RIGHT, GIVEN)
    assert (found.cause, found.names) == (None, ())
    nearly = 3 * RIGHT
    nearly[0, 0] *= 1 + 1e-7  # a constant ratio, but for one entry
    assert diagnose(nearly, RIGHT, GIVEN).cause is None


def test_an_earlier_stage_decides():
    """With soft targets alone, a missing T**2 is a constant factor too: it is named once."""
    given = {**GIVEN, "hard_weight": 0.0}
    right = Letters(Case(context=given)).total()
    assert diagnose(right / 9, right, given).cause == "times 1/T^2"


def test_shapes():
    W = GIVEN["W"]
    assert diagnose(W.T, W).cause == "transposed"
    assert diagnose(W.ravel(), W).cause == "another shape"
    assert diagnose(W[None], W).cause == "another shape"
    assert diagnose(W[:, :-1], W).cause is None
    square = W[:11, :11]
    assert diagnose(square.T, square).cause == "transposed"


def test_a_class_adds_its_own_cause():
    own = Cause("forgot to halve", lambda c: c.right + c.extra, "it adds the extra")
    given = {"extra": np.float64(5.0)}
    assert diagnose(RIGHT + 5, RIGHT, given).cause is None
    find = gradcheck.diagnose
    assert find(RIGHT + 5, RIGHT, given, [*CAUSES, own]).cause == "forgot to halve"
    assert find(RIGHT + 5, RIGHT, {}, [own]).cause is None  # not known: it does not apply
    CAUSES.append(own)
    try:
        assert diagnose(RIGHT + 5, RIGHT, given).cause == "forgot to halve"
    finally:
        CAUSES.remove(own)


def test_shuffled_rows_are_told_from_other_targets():
    letters = Letters(Case(context=GIVEN))
    p = letters.p.copy()
    p[0] = p[1]  # one row used twice is no shuffle
    assert diagnose(letters.total((letters.q - p) / 3), RIGHT, GIVEN).cause is None
    order = np.arange(len(p))
    order[:2] = 1, 0
    shuffled = letters.total((letters.q - letters.p[order]) / 3)
    assert diagnose(shuffled, RIGHT, GIVEN).cause == "teacher rows shuffled"


@pytest.mark.parametrize(
    "context, said",
    [
        ({"temperature": 1.0}, "T is 1"),
        ({"temperature": 2.0}, "2 and T are both 2"),
        ({"soft_weight": 0.5, "hard_weight": 0.5}, "soft_weight and hard_weight are equal"),
        ({"logits": np.ones((1, 3))}, "the batch has one row"),
        ({"W": np.ones((3, 3))}, "W is square"),
        ({"logits": np.ones((4, 4))}, "B and N are both 4"),
        ({"logits": np.ones((5, 9)), "temperature": 3.0}, "N and T^2 are both 9"),
        ({"logits": np.ones((5, 3)), "sizes": (7, 4, 4)}, "sizes[1] and sizes[2] are both 4"),
    ],
)
def test_blind_spots(context, said):
    assert any(said in spot for spot in blind_spots(context)), blind_spots(context)


@pytest.mark.parametrize("seed", range(20))
def test_the_fixture_has_no_blind_spots(seed):
    given = fixture(seed)
    assert blind_spots(given) == []
    sizes = [*given["logits"].shape, *given["W"].shape]
    assert len(set(sizes)) == 4
    assert np.gcd.reduce(np.array([np.gcd(a, b) for a in sizes for b in sizes if a != b])) == 1
    assert np.abs(given["logits"]).min() >= 0.1
    assert len(np.unique(np.bincount(given["labels"]))) > 1


def test_the_module_leans_on_nothing_that_it_checks():
    for module in (mistakes, gradcheck.causes):
        with open(module.__file__, encoding="utf-8") as file:
            assert "probability" not in file.read()
