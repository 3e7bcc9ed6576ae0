"""Teachers are read-only, soft targets stay with their examples, and students learn from them."""

import hashlib

import numpy as np
import pytest
from scipy import special

import numpy_kd as kd
from numpy_kd import metrics
from numpy_kd.distillation import Distillation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
LABELS = X[:, :4].argmax(axis=1).astype(np.int64)
HOW = {"temperature": 3.0, "soft_weight": 0.7, "hard_weight": 0.4}
TRAINING = {"epochs": 3, "batch_size": 16, "schedule": 0.02, "rng": 1, "progress": False}


def network(seed=0, hidden=12, **more):
    return kd.MLP((6, hidden, 4), seed=seed, **more)


def trained(seed=0, **more):
    mlp = network(seed, hidden=32, **more)
    how = {"loss": kd.cross_entropy_loss, "rng": seed, "progress": False, "schedule": 0.05}
    kd.fit(mlp, X, LABELS, epochs=20, **how)
    return mlp


def fingerprint(mlp) -> str:
    """A hash of everything that a network is: parameters, running statistics, generators."""
    digest = hashlib.sha256(mlp.parameters.tobytes())
    for name, value in sorted(mlp.state.items()):
        digest.update(name.encode())
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def teachers():
    return [trained(seed, dropout=0.3, batch_norm=True) for seed in range(3)]


def test_teaching_changes_nothing_in_the_teacher(teachers):
    before = [fingerprint(teacher) for teacher in teachers]
    kd.distill(network(9), kd.Ensemble(teachers), X, LABELS, **HOW, **TRAINING)
    kd.distill(network(9), teachers[0], X, LABELS, **HOW, **TRAINING)
    assert [fingerprint(teacher) for teacher in teachers] == before


def test_the_fingerprint_sees_a_change(teachers):
    changed = teachers[0].copy()
    changed.parameters[7] = np.nextafter(changed.parameters[7], np.float32(np.inf))
    assert fingerprint(changed) != fingerprint(teachers[0])
    changed = teachers[0].copy()
    changed.forward(X, training=True)
    assert fingerprint(changed) != fingerprint(teachers[0])


def test_a_locked_teacher_cannot_be_written_to(teachers):
    teacher = kd.Ensemble(teachers)
    with teacher.locked():
        for member in teachers:
            with pytest.raises(ValueError, match="read-only"):
                member.parameters[0] = 1
            for layer in member.layers:
                if hasattr(layer, "W"):
                    with pytest.raises(ValueError, match="read-only"):
                        layer.W[...] = 0
    teachers[0].parameters[0] += 0  # and afterwards it can


def test_the_lock_is_opened_after_an_error(teachers):
    with pytest.raises(ZeroDivisionError), kd.Teacher(teachers[0]).locked():
        raise ZeroDivisionError
    teachers[0].parameters[0] += 0
    with pytest.raises(FloatingPointError):
        kd.distill(network(9), teachers[0], X, LABELS, **HOW, **(TRAINING | {"schedule": 1e20}))
    teachers[0].parameters[0] += 0


def test_a_training_step_on_the_teacher_while_it_teaches_is_an_error(teachers):
    def meddling(rows, rng):
        teachers[0].parameters[0] += 1
        return rows

    with pytest.raises(ValueError, match="read-only"):
        kd.distill(network(9), teachers[0], X, LABELS, **HOW, **TRAINING, augment=meddling)


def test_the_teacher_answers_in_inference_mode(teachers):
    teacher = kd.Teacher(teachers[0])
    np.testing.assert_array_equal(teacher.logits(X), teachers[0].logits(X))
    np.testing.assert_array_equal(teacher.logits(X), teacher.logits(X))  # no new mask
    alone = np.concatenate([teacher.logits(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(
        alone, teacher.logits(X), rtol=1e-4, atol=1e-5
    )  # no batch statistics


def test_soft_targets_are_computed_once(teachers, monkeypatch):
    asked = []
    original = kd.MLP.logits

    def counting(self, x, *args, **kwargs):
        asked.append((id(self), len(x)))
        return original(self, x, *args, **kwargs)

    monkeypatch.setattr(kd.MLP, "logits", counting)
    student = network(9)
    kd.distill(student, teachers[0], X, LABELS, **HOW, **(TRAINING | {"epochs": 7}))
    teacher_asked = [rows for who, rows in asked if who == id(teachers[0])]
    assert teacher_asked == [len(X), len(X)]  # once to teach, once for the report at the end


def test_soft_targets_stay_with_their_examples():
    """Rows that only a faithful pairing can fit: every input has its own random answer."""
    x = np.eye(24, dtype=np.float32)
    teacher = kd.MLP((24, 5), seed=0, initializer="normal")
    teacher.parameters[...] = np.random.default_rng(1).normal(size=teacher.num_parameters)
    student = kd.MLP((24, 5), seed=2)
    result = kd.distill(
        student,
        teacher,
        x,
        temperature=1.0,
        soft_weight=1.0,
        hard_weight=0.0,
        epochs=400,
        batch_size=5,
        schedule=0.5,
        rng=3,
        progress=False,
    )
    assert result.report["agreement"] == 1
    assert result.report["mean_kl"] < 1e-3
    assert metrics.mean_kl(student.logits(x), teacher.logits(x)[::-1]) > 0.1


def test_the_parts_are_the_hinton_loss(teachers):
    """One step on one batch is the step that the formula gives, written out here."""
    student, T = network(9, dtype=np.float64), 3.0
    x = X[:16].astype(np.float64)
    by_hand = student.copy()
    z, v = by_hand.forward(x, training=True), teachers[0].logits(x).astype(np.float64)
    q, p, q1 = special.softmax(z / T, -1), special.softmax(v / T, -1), special.softmax(z, -1)
    dlogits = (0.7 * T * (q - p) + 0.4 * (q1 - np.eye(4)[LABELS[:16]])) / 16
    by_hand.backward(dlogits)
    by_hand.parameters[...] -= 0.02 * by_hand.gradient
    order = {"epochs": 1, "batch_size": 16, "optimizer": kd.SGD(), "schedule": 0.02, "rng": 1}
    kd.distill(student, teachers[0], x, LABELS[:16], **HOW, **order, progress=False)
    np.testing.assert_allclose(student.parameters, by_hand.parameters, rtol=1e-12, atol=1e-14)


def test_labelled_unlabelled_and_partly_labelled(teachers):
    soft_only = HOW | {"hard_weight": 0.0}
    without, with_zero_weight = network(9), network(9)
    kd.distill(without, teachers[0], X, **soft_only, **TRAINING)
    kd.distill(with_zero_weight, teachers[0], X, LABELS, **soft_only, **TRAINING)
    np.testing.assert_array_equal(without.parameters, with_zero_weight.parameters)

    everything, all_marked = network(9), network(9)
    kd.distill(everything, teachers[0], X, LABELS, **HOW, **TRAINING)
    every = np.ones(len(X), dtype=bool)
    kd.distill(all_marked, teachers[0], X, LABELS, labelled=every, **HOW, **TRAINING)
    np.testing.assert_allclose(all_marked.parameters, everything.parameters, rtol=1e-4, atol=1e-6)

    some = np.arange(len(X)) % 3 == 0
    partly, nonsense = network(9), network(9)
    kd.distill(partly, teachers[0], X, LABELS, labelled=some, **HOW, **TRAINING)
    wild = np.where(some, LABELS, -99)  # labels of unlabelled rows mean nothing
    kd.distill(nonsense, teachers[0], X, wild, labelled=some, **HOW, **TRAINING)
    np.testing.assert_array_equal(partly.parameters, nonsense.parameters)
    assert np.abs(partly.parameters - everything.parameters).max() > 1e-4


@pytest.mark.parametrize("T", [1.0, 4.0, 20.0])
def test_the_two_averages(teachers, T):
    logits = np.stack([teacher.logits(X) for teacher in teachers]).astype(np.float64)
    q = special.softmax(logits / T, axis=-1)
    arithmetic = special.softmax(kd.Ensemble(teachers).logits(X, temperature=T) / T, axis=-1)
    np.testing.assert_allclose(arithmetic, q.mean(axis=0), rtol=1e-4, atol=1e-7)
    geometric = special.softmax(
        kd.Ensemble(teachers, average="geometric").logits(X, temperature=T) / T, -1
    )
    product = np.exp(np.log(q).mean(axis=0))
    expected = product / product.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(geometric, expected, rtol=1e-4, atol=1e-7)
    assert np.abs(arithmetic - geometric).max() > 1e-4


def test_an_ensemble_of_one_is_its_member(teachers):
    for average in ("arithmetic", "geometric"):
        one = kd.Ensemble(teachers[:1], average=average)
        shift = one.logits(X, temperature=2.0) - teachers[0].logits(X)
        np.testing.assert_allclose(shift - shift[:, :1], 0, atol=1e-4)  # the same up to a shift
        np.testing.assert_array_equal(one.predict(X), teachers[0].predict(X))


def test_averaged_probabilities_as_ready_made_targets_give_the_same_gradient(teachers):
    T, z = 4.0, RNG.normal(size=(len(X), 4))
    mean = np.mean([special.softmax(t.logits(X).astype(float) / T, -1) for t in teachers], axis=0)
    _, by_targets = kd.soft_target_loss(z, mean, temperature=T)
    _, by_logits = kd.kl_loss(z, kd.Ensemble(teachers).logits(X, temperature=T), T)
    np.testing.assert_allclose(by_targets, by_logits, rtol=1e-3, atol=1e-9)


def test_reports_say_more_than_accuracy(teachers):
    result = kd.distill(
        network(9), teachers[0], X, LABELS, validation=(X[:50], LABELS[:50]), **HOW, **TRAINING
    )
    assert isinstance(result, Distillation)
    assert set(result.report) == {
        "errors",
        "accuracy",
        "cross_entropy",
        "calibration_error",
        "agreement",
        "mean_kl",
    }
    assert result.report["errors"] == round(50 * (1 - result.report["accuracy"]))
    assert len(result.history.accuracy) == 3
    unlabelled = kd.distill(network(9), teachers[0], X, **(HOW | {"hard_weight": 0}), **TRAINING)
    assert set(unlabelled.report) == {"agreement", "mean_kl"}


def test_a_distilled_student_is_more_like_its_teacher_than_one_alone():
    data = kd.load_digits()
    x, labels = data.x_train[:150], data.labels_train[:150]
    teacher = kd.MLP((64, 64, 10), seed=0)
    how = {"epochs": 15, "schedule": 0.05, "rng": 0, "progress": False}
    kd.fit(teacher, data.x_train, data.labels_train, loss=kd.cross_entropy_loss, **how)
    how = {"epochs": 100, "rng": 0, "progress": False}
    alone, distilled = kd.MLP((64, 16, 10), seed=1), kd.MLP((64, 16, 10), seed=1)
    kd.fit(alone, x, labels, loss=kd.cross_entropy_loss, schedule=0.05, **how)
    weights = {"temperature": 8, "soft_weight": 0.9, "hard_weight": 0.1}
    kd.distill(distilled, teacher, x, labels, schedule=0.02, **weights, **how)
    one, other = (
        kd.evaluate(student, data.x_test, data.labels_test, teacher)
        for student in (alone, distilled)
    )
    assert other["agreement"] > one["agreement"] + 0.01
    assert other["mean_kl"] < one["mean_kl"]
    assert other["accuracy"] > one["accuracy"]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda t: kd.distill(t, t, X, LABELS, **HOW, **TRAINING), "must be different networks"),
        (
            lambda t: kd.distill(t, kd.Ensemble([network(5), t]), X, LABELS, **HOW, **TRAINING),
            "student and teacher must be different networks, got the same one",
        ),
        (
            lambda t: kd.distill(kd.MLP((6, 8, 3)), t, X, LABELS, **HOW, **TRAINING),
            r"student must have the teacher's input width and number of classes, \(6, 4\), got",
        ),
        (
            lambda t: kd.distill(network(9), t, X, **HOW, **TRAINING),
            "hard_weight must be 0 when labels is None, got 0.4",
        ),
        (
            lambda t: kd.distill(network(9), t, X, LABELS[:7], **HOW, **TRAINING),
            "labels must have one row for each of the 120 rows of x, got 7",
        ),
        (
            lambda t: kd.distill(
                network(9), t, X, LABELS, **(HOW | {"temperature": 0}), **TRAINING
            ),
            "temperature must be a positive finite number, got 0",
        ),
        (
            lambda t: kd.distill(network(9), "t", X, LABELS, **HOW, **TRAINING),
            "teacher must be an MLP, a Teacher, an Ensemble or an array",
        ),
        (
            lambda t: kd.distill(t, network(9), X, LABELS + 9, **HOW, **TRAINING),
            "labels must be in",
        ),
        (lambda t: kd.Ensemble([]), "members must be at least one network"),
        (lambda t: kd.Ensemble([t, kd.MLP((6, 3))]), "members must be .* all of one input width"),
        (lambda t: kd.Ensemble([t], average="median"), "average must be one of 'arithmetic'"),
        (lambda t: kd.Ensemble([t, 3]), "members must be an MLP, got 3"),
        (lambda t: kd.Ensemble(t), "members must be several networks, got MLP"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(network(1))
