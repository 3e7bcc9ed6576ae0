"""Teachers are read-only, soft targets stay with their examples, and students learn from them."""

import functools
import hashlib

import numpy as np
import pytest
from scipy import special

import numpy_kd as kd
from numpy_kd import metrics
from numpy_kd.datasets import jitter
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


def shifted(rows, rng):
    """Rows that no longer look like themselves."""
    return rows + rng.normal(scale=0.5, size=rows.shape).astype(rows.dtype)


def taught(teacher, x=X, labels=None, how=HOW, seed=9, **more):
    """A student and what `distill` said about it."""
    student = network(seed)
    return student, kd.distill(student, teacher, x, labels, **how, **(TRAINING | more))


SOFT = HOW | {"hard_weight": 0.0}


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


@pytest.mark.parametrize("teaching", ["consistent", "fixed"])
def test_a_training_step_on_the_teacher_while_it_teaches_is_an_error(teachers, teaching):
    def meddling(rows, rng):
        teachers[0].parameters[0] += 1
        return rows

    with pytest.raises(ValueError, match="read-only"):
        taught(teachers[0], labels=LABELS, augment=meddling, teaching=teaching)


def test_the_teacher_answers_in_inference_mode(teachers):
    teacher = kd.Teacher(teachers[0])
    np.testing.assert_array_equal(teacher.logits(X), teachers[0].logits(X))
    np.testing.assert_array_equal(teacher.logits(X), teacher.logits(X))  # no new mask
    alone = np.concatenate([teacher.logits(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(
        alone, teacher.logits(X), rtol=1e-4, atol=1e-5
    )  # no batch statistics


def questions(monkeypatch, teacher):
    """A list that fills with the rows that the teacher is asked about."""
    asked = []
    original = kd.MLP.logits

    def listening(self, x, *args, **kwargs):
        if self is teacher:
            asked.append(np.array(x))
        return original(self, x, *args, **kwargs)

    monkeypatch.setattr(kd.MLP, "logits", listening)
    return asked


def test_without_augment_soft_targets_are_computed_once(teachers, monkeypatch):
    asked = questions(monkeypatch, teachers[0])
    taught(teachers[0], labels=LABELS, epochs=7)
    assert list(map(len, asked)) == [len(X), len(X)]  # once to teach, once for the report


def test_with_augment_the_teacher_is_asked_about_what_the_student_sees(teachers, monkeypatch):
    asked, seen = questions(monkeypatch, teachers[0]), []

    def augment(rows, rng):
        seen.append(shifted(rows, rng))
        return seen[-1]

    taught(teachers[0], labels=LABELS, epochs=2, augment=augment)
    steps = asked[1:-1]
    assert len(seen) == len(steps) == 2 * 8
    for ours, theirs in zip(seen, steps, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    asked.clear()
    taught(teachers[0], labels=LABELS, epochs=2, augment=augment, teaching="fixed")
    assert list(map(len, asked)) == [len(X), len(X)]


def test_an_augmented_step_is_the_step_that_the_formula_gives(teachers):
    """Consistent: the teacher's answer to the rows as they are seen. Fixed: as they were."""
    x, T, moved = X[:16].astype(np.float64), 3.0, None
    ways = {"consistent": lambda: moved, "fixed": lambda: x}
    for teaching, rows_asked in ways.items():
        student = network(9, dtype=np.float64)
        by_hand = student.copy()

        def augment(rows, rng):
            return rows[:, ::-1] * 2

        moved = x[:, ::-1] * 2
        z = by_hand.forward(moved, training=True)
        v = kd.Ensemble(teachers).logits(rows_asked(), temperature=T).astype(np.float64)
        by_hand.backward(0.7 * T * (special.softmax(z / T, -1) - special.softmax(v / T, -1)) / 16)
        by_hand.parameters[...] -= 0.02 * by_hand.gradient
        order = {"epochs": 1, "batch_size": 16, "optimizer": kd.SGD(), "schedule": 0.02, "rng": 1}
        how = SOFT | order | {"augment": augment, "teaching": teaching, "progress": False}
        kd.distill(student, kd.Ensemble(teachers), x, **how)
        np.testing.assert_allclose(student.parameters, by_hand.parameters, rtol=1e-9, atol=1e-12)


def test_a_consistently_taught_student_is_the_same_to_the_bit_again_and_in_two_parts(
    teachers, tmp_path
):
    how = {"labels": LABELS, "augment": shifted}
    whole, result = taught(kd.Ensemble(teachers), epochs=4, **how)
    again, _ = taught(kd.Ensemble(teachers), epochs=4, **how)
    np.testing.assert_array_equal(again.parameters, whole.parameters)
    how["checkpoint"] = tmp_path / "run.npz"
    taught(kd.Ensemble(teachers), epochs=2, **how)
    parts, taken_up = taught(kd.Ensemble(teachers), epochs=4, **how)
    np.testing.assert_array_equal(parts.parameters, whole.parameters)
    assert taken_up.history == result.history


@pytest.mark.parametrize(
    "change",
    [
        lambda teacher: teacher.parameters.__setitem__(7, teacher.parameters[7] + 1e-3),
        lambda teacher: teacher.layers[1].running_mean.__setitem__(0, 0.1),
    ],
    ids=["a parameter", "a running mean"],
)
def test_a_run_does_not_go_on_with_another_teacher(change, teachers, tmp_path):
    checkpoint = tmp_path / "run.npz"
    taught(teachers[0], augment=shifted, how=SOFT, checkpoint=checkpoint)
    other = teachers[0].copy()
    change(other)
    with pytest.raises(ValueError, match="belongs to another run: its functions asked is"):
        taught(other, augment=shifted, how=SOFT, checkpoint=checkpoint, epochs=5)
    for more in ({"temperature": 4.0}, {"teaching": "fixed"}):
        with pytest.raises(ValueError, match="belongs to another run"):
            taught(teachers[0], augment=shifted, how=SOFT | more, checkpoint=checkpoint, epochs=5)
    taught(teachers[0].copy(), augment=shifted, how=SOFT, checkpoint=checkpoint, epochs=5)


def test_augmented_rows_and_their_answers_cannot_part():
    """Each input has its own answer, and `augment` deals the rows of a batch out anew."""
    x = np.eye(24, dtype=np.float32)
    teacher = kd.MLP((24, 5), seed=0, initializer="normal")
    teacher.parameters[...] = np.random.default_rng(1).normal(size=teacher.num_parameters)
    how = {"temperature": 1.0, "soft_weight": 1.0, "hard_weight": 0.0, "epochs": 400}
    how |= {"batch_size": 5, "schedule": 0.5, "rng": 3, "progress": False}
    reports = {}
    for teaching in ("consistent", "fixed"):
        augment = {"augment": lambda rows, rng: rng.permutation(rows), "teaching": teaching}
        reports[teaching] = kd.distill(kd.MLP((24, 5), seed=2), teacher, x, **how, **augment).report
    assert reports["consistent"]["agreement"] == 1
    assert reports["consistent"]["mean_kl"] < 1e-3
    assert reports["fixed"]["mean_kl"] > 0.1


def test_fixed_targets_under_jitter_are_much_worse_than_consistent_ones():
    """8 x 8 digits moved by a pixel: the soft target of the image as it was is another's."""
    data = kd.load_digits()
    x = data.x_train[:150]
    teacher = kd.MLP((64, 64, 10), seed=0)
    how = {"epochs": 15, "schedule": 0.05, "rng": 0, "progress": False}
    kd.fit(teacher, data.x_train, data.labels_train, loss=kd.cross_entropy_loss, **how)
    how = {"temperature": 8, "soft_weight": 1, "hard_weight": 0, "epochs": 60, "schedule": 0.03}
    how |= {"augment": functools.partial(_moved, pixels=1), "progress": False}
    for seed in range(2):
        errors = {}
        for teaching in ("consistent", "fixed"):
            student = kd.MLP((64, 32, 10), seed=1 + seed)
            kd.distill(student, teacher, x, rng=seed, teaching=teaching, **how)
            errors[teaching] = (student.predict(data.x_test) != data.labels_test).sum()
        assert errors["consistent"] < 40
        assert errors["fixed"] > 2 * errors["consistent"]


def _moved(rows, rng, pixels):
    return jitter(rows, pixels, rng)


# --- saved answers, other losses ----------------------------------------------------------------


def test_saved_answers_teach_like_the_teacher_who_gave_them(teachers):
    for teacher in (kd.Teacher(teachers[0]), kd.Ensemble(teachers)):
        asked, expected = taught(teacher, labels=LABELS)
        answers = teacher.logits(X, temperature=HOW["temperature"])
        student, result = taught(answers, labels=LABELS)
        np.testing.assert_array_equal(student.parameters, asked.parameters)
        assert result.history == expected.history
        np.testing.assert_array_equal(result.transfer.teacher_logits, answers)
    listed, _ = taught(answers.tolist(), labels=LABELS)
    np.testing.assert_allclose(listed.parameters, student.parameters, rtol=1e-4, atol=1e-6)


def test_saved_log_probabilities_are_logits_too(teachers):
    logits = teachers[0].logits(X).astype(np.float64)
    one, _ = taught(logits, how=SOFT)
    other, _ = taught(special.log_softmax(logits, axis=-1), how=SOFT)
    np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-4, atol=1e-6)


def test_the_answers_of_an_arithmetic_ensemble_belong_to_one_temperature(teachers):
    ensemble, T = kd.Ensemble(teachers), HOW["temperature"]
    right, _ = taught(ensemble, how=SOFT)
    wrong, _ = taught(ensemble.logits(X, temperature=1.0), how=SOFT)
    kept, _ = taught(ensemble.logits(X, temperature=T), how=SOFT)
    np.testing.assert_array_equal(kept.parameters, right.parameters)
    assert np.abs(wrong.parameters - right.parameters).max() > 1e-4


def test_the_report_leaves_the_teacher_out_where_it_has_no_answers(teachers):
    answers, alone = teachers[0].logits(X), {"errors", "accuracy", "cross_entropy"}
    alone |= {"calibration_error"}
    _, result = taught(answers, labels=LABELS, validation=(X[:50], LABELS[:50]))
    assert set(result.report) == alone
    _, result = taught(answers, labels=LABELS)
    assert set(result.report) == alone | {"agreement", "mean_kl"}
    assert set(kd.evaluate(network(9), X, None, answers)) == {"agreement", "mean_kl"}


def test_saved_answers_and_augmented_rows_go_together_only_by_name(teachers):
    answers = teachers[0].logits(X)
    with pytest.raises(ValueError, match="teacher must be a network to be asked about augmented"):
        taught(answers, how=SOFT, augment=shifted)
    one, _ = taught(answers, how=SOFT, augment=shifted, teaching="fixed")
    other, _ = taught(teachers[0], how=SOFT, augment=shifted, teaching="fixed")
    np.testing.assert_array_equal(one.parameters, other.parameters)


@pytest.mark.parametrize("given", [np.float32, lambda p: p.round(2), lambda p: p > 0.5])
def test_probabilities_are_no_answers(teachers, given):
    p = special.softmax(teachers[0].logits(X).astype(np.float64), axis=-1)
    p[p.max(axis=-1) <= 0.5] = np.eye(4)[0]
    with pytest.raises(ValueError, match=r"look like probabilities .* give np.log\(np.maximum"):
        taught(given(p), how=SOFT)
    remedy = np.log(np.maximum(given(p), 1e-30))
    assert np.isfinite(taught(remedy, how=SOFT)[1].history.loss).all()


LOSSES = {
    "bound by partial": functools.partial(kd.kl_loss, temperature=3.0),
    "of two arguments": kd.logit_matching_loss,
    "a function of one's own": lambda logits, answers: kd.logit_matching_loss(logits, answers),
}


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss_of_two_arguments_teaches(name, teachers):
    loss, student = LOSSES[name], network(9)
    how = TRAINING | {"schedule": 0.002}
    result = kd.distill(student, teachers[0], X, LABELS, loss=loss, **how)
    expected = network(9)
    history = kd.fit(expected, X, teachers[0].logits(X), loss=loss, **how)
    np.testing.assert_array_equal(student.parameters, expected.parameters)
    assert result.history == history and history.parts == {}
    assert result.report["accuracy"] > 0  # the labels are for the report


def test_temperature_is_handed_on_and_the_teacher_is_asked_at_it(teachers):
    ensemble = kd.Ensemble(teachers)
    given, bound, by_hand = network(9), network(9), network(9)
    kd.distill(given, ensemble, X, loss=kd.kl_loss, temperature=3.0, **TRAINING)
    loss = functools.partial(kd.kl_loss, temperature=3.0)
    kd.distill(bound, ensemble, X, loss=loss, **TRAINING)
    kd.fit(by_hand, X, ensemble.logits(X, temperature=3.0), loss=loss, **TRAINING)
    np.testing.assert_array_equal(given.parameters, by_hand.parameters)
    np.testing.assert_array_equal(bound.parameters, by_hand.parameters)


def test_a_loss_gets_labels_where_it_has_an_argument_for_them(teachers):
    seen = []

    def loss(logits, teacher_logits, *, labels, labelled=None, weight=1.0):
        seen.append((labels, labelled))
        return kd.logit_matching_loss(logits, teacher_logits)

    some = np.arange(len(X)) % 2 == 0
    how = TRAINING | {"epochs": 1, "schedule": 0.002}
    kd.distill(network(9), teachers[0], X, LABELS, labelled=some, loss=loss, **how)
    labels, labelled = (np.concatenate(arrays) for arrays in zip(*seen, strict=True))
    assert labelled.sum() == some.sum()
    np.testing.assert_array_equal(np.sort(labels[labelled]), np.sort(LABELS[some]))
    with pytest.raises(ValueError, match="missing a required .*argument: 'labels'"):
        kd.distill(network(9), teachers[0], X, loss=loss, **how)


def test_the_soft_and_the_hard_part_are_recorded_apart(teachers):
    _, result = taught(teachers[0], labels=LABELS, schedule=1e-30, epochs=1)
    z, v = network(9).logits(X), teachers[0].logits(X)
    soft, hard = result.history.parts["soft"][0], result.history.parts["hard"][0]
    T = HOW["temperature"]
    assert soft == pytest.approx(0.7 * T**2 * metrics.mean_kl(z, v, temperature=T), rel=1e-4)
    assert hard == pytest.approx(0.4 * metrics.mean_cross_entropy(z, LABELS), rel=1e-4)
    assert result.history.loss[0] == pytest.approx(soft + hard, rel=1e-12)
    _, unlabelled = taught(teachers[0], how=SOFT)
    assert unlabelled.history.parts["hard"] == [0.0] * 3
    assert unlabelled.history.parts["soft"] == unlabelled.history.loss


def test_the_recorded_parts_are_those_of_the_loss(teachers):
    """What is trained is `hinton_loss`, whichever way it is called."""
    student, result = taught(teachers[0], labels=LABELS)
    loss = functools.partial(kd.hinton_loss, **HOW)
    bound = network(9)
    again = kd.distill(bound, teachers[0], X, LABELS, loss=loss, **TRAINING)
    np.testing.assert_array_equal(bound.parameters, student.parameters)
    assert again.history == result.history

    def plain(logits, teacher_logits, labels):
        return loss(logits, teacher_logits, labels=labels)

    by_hand = network(9)
    history = kd.fit(by_hand, X, (teachers[0].logits(X), LABELS), loss=plain, **TRAINING)
    np.testing.assert_array_equal(by_hand.parameters, student.parameters)
    assert history.loss == result.history.loss


def test_a_student_keeps_its_best_epoch(teachers):
    how = {"validation": (X[60:], LABELS[60:]), "patience": 3, "epochs": 40, "schedule": 0.3}
    _, result = taught(teachers[0], X[:60], labels=LABELS[:60], **how)
    assert len(result.history.loss) == result.history.best_epoch + 1 + 3 < 40
    assert result.report["accuracy"] == max(result.history.accuracy)


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


def test_no_temperature_is_too_low_or_too_high_for_a_mean(teachers):
    """As T -> 0 the best of the members' answers counts; as T grows all classes are alike."""
    v = np.stack([teacher.logits(X) for teacher in teachers]).astype(np.float64)
    ensemble = kd.Ensemble(teachers)
    for T in (5e-324, 1e-300, 1e-45, 1e-4):
        limit = (v - v.max(axis=-1, keepdims=True)).max(axis=0)
        np.testing.assert_allclose(ensemble.logits(X, temperature=T), limit, atol=2e-3)
    for T in (1e4, 1e30, 1e300, 1.7e308):
        answers = ensemble.logits(X, temperature=T)
        assert answers.dtype == np.float32
        np.testing.assert_allclose(kd.softmax(answers, T), 0.25, atol=1e-3)
    mean = v.mean(axis=0)  # and T log p tends to the mean of the logits
    answers = ensemble.logits(X, temperature=1e4)
    np.testing.assert_allclose(answers, mean - mean.max(axis=-1, keepdims=True), atol=2e-2)


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
    _, by_logits = kd.kl_loss(z, kd.Ensemble(teachers).logits(X, temperature=T), temperature=T)
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
        (lambda t: taught(t, how=SOFT | {"teaching": "patient"}), "teaching must be one of"),
        (lambda t: taught(X[:, :3], how=SOFT), "teacher must have a column for each of the .* 4"),
        (lambda t: taught(X[:7, :4], how=SOFT), "must have one row for each of the 120 rows of x"),
        (lambda t: taught(X[:, :4] * np.nan, how=SOFT), "teacher must be finite, got nan at"),
        (lambda t: taught([t, t], how=SOFT), "teacher must be an array of numbers"),
        (lambda t: taught(t, how={}), "missing a required .*argument: 'temperature'"),
        (
            lambda t: taught(t, how={"loss": kd.kl_loss}),
            r"loss must be .* loss\(logits, teacher_logits\): missing a required .*'temperature'",
        ),
        (
            lambda t: taught(t, how={"loss": kd.logit_matching_loss, "soft_weight": 0.5}),
            "got an unexpected keyword argument 'soft_weight'",
        ),
        (
            lambda t: taught(t, labels=LABELS, how={"loss": kd.cross_entropy_loss}),
            "multiple values for argument 'labels'",
        ),
        (lambda t: taught(t, how={"loss": "kl"}), "loss must be a function"),
        (lambda t: taught(t, how={"loss": max}), "loss must be a function that can be called as"),
        (
            lambda t: taught(
                t, labels=LABELS, labelled=LABELS > 1, how={"loss": lambda z, v, labels: None}
            ),
            "labelled must be None for a loss that has no argument of that name",
        ),
        (
            lambda t: kd.evaluate(None, X),
            "network must be an MLP, a Teacher or an Ensemble, got No",
        ),
        (lambda t: kd.evaluate(t, X, None, "t"), "teacher must be an MLP, a Teacher, an Ensemble"),
        (lambda t: kd.Teacher(t).logits(X, temperature="4"), "temperature must be a positive fin"),
        (lambda t: kd.Ensemble("ab"), "members must be several networks, got 'ab'"),
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


@pytest.mark.parametrize(
    "how",
    [
        HOW,  # a hard weight, but no labels
        SOFT | {"temperature": -1},
        SOFT | {"soft_weight": "much"},
        SOFT | {"teaching": "patient"},
        {"loss": kd.kl_loss},
    ],
)
def test_a_bad_setting_changes_nothing(how, teachers):
    """Not even what a forward pass in training mode would change."""
    student = network(9, dropout=0.5, batch_norm=True)
    before = fingerprint(student)
    with pytest.raises(ValueError):
        kd.distill(student, teachers[0], X, **how, **TRAINING)
    assert fingerprint(student) == before


def test_what_two_meanings_share_has_a_name(teachers):
    for asked in (kd.Teacher(teachers[0]), kd.Ensemble(teachers)):
        with pytest.raises(TypeError, match="positional argument"):
            asked.logits(X, 4.0)
