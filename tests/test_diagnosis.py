"""The table of causes: each row sees its own mistake, no row sees one that is not there."""

import numpy as np
import pytest

from numpy_kd import diagnosis
from numpy_kd._gradcheck.case import softmax, softmax_jacobian
from numpy_kd.diagnosis import CAUSES, FACTORS, PAIRS, Case, Cause, blind_spots, diagnose
from numpy_kd.experiments.gradient_mistakes import LAYER_MISTAKES, LOSS_MISTAKES, PRODUCTS
from numpy_kd.gradcheck import fixture, numerical_gradient

GIVEN = fixture(3)
RIGHT = Case(context=GIVEN).total()


def test_every_row_is_tried_by_an_injected_mistake():
    assert {cause.name for cause in CAUSES} == {*LOSS_MISTAKES, *LAYER_MISTAKES, *PRODUCTS}
    assert len({cause.name for cause in CAUSES}) == len(CAUSES)


@pytest.mark.parametrize("cause", [c for c in CAUSES if c.stage != "product"], ids=lambda c: c.name)
def test_no_row_matches_the_right_gradient(cause):
    for seed in range(5):
        given = fixture(seed)
        right = Case(context=given).total()
        assert cause.residual(Case(right, right, given)) > 1e-3
        if cause.stage == "formula":  # nor when the right one is not at hand
            assert cause.residual(Case(right, None, given)) > 1e-3


def test_the_textbook_is_right():
    z, r = GIVEN["logits"], GIVEN["dy"][:, :1] * GIVEN["logits"] + 1
    assert np.allclose(softmax(z).sum(axis=1), 1, rtol=1e-14)
    assert np.isfinite(softmax(1e300 * np.ones((1, 2)))).all()
    slope = numerical_gradient(
        lambda z: (np.exp(z) / np.exp(z).sum(-1, keepdims=True) * r).sum(), z, "complex"
    )
    assert np.allclose(softmax_jacobian(softmax(z), r), slope, rtol=1e-12, atol=1e-15)


def test_the_total_is_the_gradient_of_the_two_part_cost():
    case = Case(context=GIVEN)

    def value(z):
        log_q = z / 3 - np.log(np.exp(z / 3).sum(-1, keepdims=True))
        log_q1 = z - np.log(np.exp(z).sum(-1, keepdims=True))
        soft = -9 * (case.p * log_q).sum(-1).mean()
        hard = -(case.y * log_q1).sum(-1).mean()
        return GIVEN["soft_weight"] * soft + GIVEN["hard_weight"] * hard

    slope = numerical_gradient(value, GIVEN["logits"], "complex")
    assert np.abs(case.total() - slope).max() < 1e-13 * np.abs(slope).max()


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
    assert np.allclose(Case(context=given).total(), right, rtol=1e-13, atol=1e-16)
    assert diagnose((p - q) / 3 / B, right, given).cause == "times -1"
    assert diagnose((q - p) / B, right, given).cause == "times T"
    assert diagnose(q / 3 / B, right, given).cause == "target not subtracted"
    wrong = (softmax(GIVEN["logits"] / 3, axis=0) - p) / 3 / B
    assert diagnose(wrong, right, given).cause == "softmax along the wrong axis"


@pytest.mark.parametrize("name", FACTORS)
def test_factors_come_with_evidence(name):
    number = FACTORS[name][0](Case(context=GIVEN))
    found = diagnose(number * RIGHT, RIGHT, GIVEN)
    assert found.cause == f"times {name}"
    assert f"Your gradient is {number:.7f} times the right one" in str(found)
    if name.isalpha():
        assert f"{name} is {number:.7g}" in str(found)


def test_the_evidence_of_the_statement():
    text = str(diagnose(3 * RIGHT, RIGHT, GIVEN))
    assert "Your gradient is 3.0000000 times the right one, and T is 3" in text


def test_pairs_leave_out_what_cancels():
    names = {frozenset(pair) for pair in PAIRS}
    assert frozenset(("T", "1/N")) in names
    assert frozenset(("T", "T^2")) in names
    assert not {frozenset(("2", "1/2")), frozenset(("T^2", "1/T")), frozenset(("0", "T"))} & names


def test_two_matches_claim_nothing():
    given = {**GIVEN, "temperature": 2.0}
    found = diagnose(2 * RIGHT, RIGHT, given)
    assert found.cause is None
    assert {cause.name for cause in found.causes} == {"times 2", "times T"}
    assert '"times 2" or "times T"' in str(found)


def test_no_match_claims_nothing():
    wrong = RIGHT.copy()
    wrong[1, 2] *= 1.01
    found = diagnose(wrong, RIGHT, GIVEN)
    assert (found.cause, found.causes) == (None, ())
    nearly = 3 * RIGHT
    nearly[0, 0] *= 1 + 1e-7  # a constant ratio, but for one entry
    assert diagnose(nearly, RIGHT, GIVEN).cause is None


def test_an_earlier_stage_decides():
    """With soft targets alone, a missing T**2 is a constant factor too: it is named once."""
    given = {**GIVEN, "hard_weight": 0.0}
    right = Case(context=given).total()
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
    assert diagnose(RIGHT + 5, RIGHT, given, [*CAUSES, own]).cause == "forgot to halve"
    assert diagnose(RIGHT + 5, RIGHT, {}, [own]).cause is None  # not known: it does not apply
    CAUSES.append(own)
    try:
        assert diagnose(RIGHT + 5, RIGHT, given).cause == "forgot to halve"
    finally:
        CAUSES.remove(own)


def test_shuffled_rows_are_told_from_other_targets():
    case = Case(context=GIVEN)
    p = case.p.copy()
    p[0] = p[1]  # one row used twice is no shuffle
    assert diagnose(case.total((case.q - p) / 3), RIGHT, GIVEN).cause is None
    order = np.arange(len(p))
    order[:2] = 1, 0
    shuffled = case.total((case.q - case.p[order]) / 3)
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
    case = Case(context=given)
    numbers = [FACTORS[name][0](case) for name in FACTORS]
    numbers += [FACTORS[a][0](case) * FACTORS[b][0](case) for a, b in PAIRS]
    gaps = np.diff(np.sort(numbers)) / np.abs(np.sort(numbers))[1:].clip(1e-3)
    assert gaps.min() > 1e-6  # no factor, and no product of two, passes for another


def test_the_module_leans_on_nothing_that_it_checks():
    with open(diagnosis.__file__, encoding="utf-8") as file:
        assert "probability" not in file.read()
