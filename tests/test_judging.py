"""The judge on answers it has never seen: grades that no seed changes, and no false word."""

import dataclasses
import inspect
import math
import re
import types

import good_answers
import numpy as np
import pytest
from good_answers import softmax as own_softmax
from single_changes import changed
from wrong_answers import WRONG

import numpy_kd as kd
from numpy_kd import mistakes
from numpy_kd.exercises import catalogue, in_the_notebook, selfcheck
from numpy_kd.exercises.exercise import Answer, Seen
from numpy_kd.exercises.judging import asking, causes, differences, draws, measured, verdict, wire

EXERCISES = catalogue.EXERCISES
SEEDS = [0, 3, 2**40 + 7, 2**64 - 1]
NAMED = re.compile(r", and [-\d.e+]+ is (.+?)(?: \(seen|; T is|$)")


def verdict_on(name, function, seed):
    return selfcheck.verdict_on(EXERCISES[name], function, seed)


def points(found):
    return tuple(check.points for check in found.checks)


# --- wrong answers, listed and not --------------------------------------------------------------


def test_there_are_enough_mistakes_that_no_sheet_lists():
    assert len({str(wrong) for wrong in WRONG}) == len(WRONG) >= 150
    unnamed = [wrong for wrong in WRONG if not wrong.cause]
    assert len(unnamed) >= 140
    assert {wrong.exercise for wrong in WRONG} >= {
        name for name, exercise in EXERCISES.items() if exercise.gallery is None
    }


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_nothing_false_is_said_and_no_seed_changes_the_grade(wrong):
    grades, seen_names = set(), set()
    for seed in SEEDS:
        found = verdict_on(wrong.exercise, wrong.function, seed)
        text = "\n".join(found.lines())
        grades.add(points(found))
        names = {name for check in found.checks for name in NAMED.findall(check.text)}
        assert found.cause in ("", wrong.cause), text
        assert names <= set(wrong.true), text
        assert wrong.says in text, text
        seen_names |= names
    assert len(grades) == 1, grades
    assert sum(grades.pop()) < EXERCISES[wrong.exercise].points
    assert seen_names == set(wrong.true)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
def test_listed_mistakes_have_one_grade_and_their_name(exercise):
    for mistake in exercise.mistakes:
        found = [selfcheck.verdict_on(exercise, mistake.function, seed) for seed in SEEDS[-2:]]
        assert {each.cause for each in found} == {mistake.name}
        assert len({points(each) for each in found}) == 1, mistake.name


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
def test_good_answers_are_right_on_every_seed(exercise):
    function = getattr(good_answers, exercise.name)
    for seed in SEEDS:
        found = selfcheck.verdict_on(exercise, function, seed)
        assert found.status == "ok", found.lines()


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
def test_any_single_change_has_one_grade_and_at_most_one_cause(exercise):
    """Hundreds of answers that nobody wrote; a few of them are right all the same."""
    count, wrong = 0, 0
    for text, function in changed(getattr(good_answers, exercise.name)):
        found = [selfcheck.verdict_on(exercise, function, seed) for seed in (1, 2**63)]
        assert len({(points(each), each.cause) for each in found}) == 1, text
        count, wrong = count + 1, wrong + (found[0].points < exercise.points)
    assert wrong >= count / 2


# --- arguments ----------------------------------------------------------------------------------


def fingerprint(call):
    generators = (x.bit_generator.seed_seq.entropy if is_generator(x) else x for x in call)
    return tuple((np.shape(x), np.asarray(x).tobytes()) for x in generators)


def is_generator(x):
    return isinstance(x, np.random.Generator)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
def test_a_lookup_knows_no_check(exercise):
    """Whoever has seen the calls of many seeds still misses one of each check."""
    known = {
        fingerprint(call)
        for seed in (in_the_notebook.LOCAL_SEED, *range(30))
        for _, calls in exercise.plan(seed)
        for call in calls
    }
    for check, calls in exercise.plan(2**50 + 1):
        assert not {fingerprint(call) for call in calls} <= known, check.name


def test_what_is_drawn_tells_mistakes_apart():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        z, _, y, T, soft, hard = draws.distilled(rng)
        B, N = z.shape
        numbers = [
            B - 1,
            B,
            B + 1,
            N - 1,
            N,
            N + 1,
            T,
            T**2,
            T**0.5,
            soft,
            hard,
            1 - soft,
            1 - hard,
        ]
        numbers += [1.0, 2.0, soft + hard, 2 * B, 2 * N, math.log(10), math.log(2)]
        gaps = np.diff(np.sort(numbers))
        assert gaps.min() > 2e-3, sorted(numbers)
        assert abs(z.mean(axis=-1)).min() > 0.1 and (y == N - 1).any()
        first, second = draws.unlike(draws.distilled, rng)
        assert all(a.shape[0] != b.shape[0] for a, b in zip(first[:3], second[:3], strict=True))
        assert not set(first[3:]) & set(second[3:])
        far = draws.far_rows(rng, (B, N))
        with np.errstate(all="ignore"):
            one_shift = np.exp((far - far.max()) / 3.7).sum(axis=-1)
        assert (one_shift == 0).sum() == B - 1, (
            "one maximum for the batch must lose every other row"
        )
        assert (own_softmax(far, 3.7) == 0).any(axis=-1).all()


def test_the_local_seed_is_none_that_a_grader_draws():
    seed = in_the_notebook.LOCAL_SEED
    assert seed >= 2**64
    for exercise in EXERCISES.values():
        local = [fingerprint(c) for _, calls in exercise.plan(seed) for c in calls]
        low = [fingerprint(c) for _, calls in exercise.plan(seed % 2**64) for c in calls]
        assert local != low


# --- what is said -------------------------------------------------------------------------------


def test_two_mistakes_with_the_same_numbers_are_no_cause():
    softmax = EXERCISES["softmax"]
    ignored = softmax.mistakes[1]
    twice = dataclasses.replace(softmax, mistakes=(ignored, dataclasses.replace(ignored, name="b")))
    assert selfcheck.verdict_on(softmax, ignored.function, 0).cause == ignored.name
    found = selfcheck.verdict_on(twice, ignored.function, 0)
    assert (found.cause, found.sentence) == ("", "") and found.status == "wrong"


def test_a_cause_explains_every_call():
    """The last step as if there were no floor: elsewhere the floor was used."""

    def floor_lost_at_the_end(step, rate, total_steps, floor=0.0):
        return good_answers.cosine_decay(
            step, rate, total_steps, floor if step < total_steps else 0
        )

    found = verdict_on("cosine_decay", floor_lost_at_the_end, 3)
    assert found.points == 3 and found.cause == ""
    ignores = next(m for m in EXERCISES["cosine_decay"].mistakes if m.name == "floor ignored")
    assert verdict_on("cosine_decay", ignores.function, 3).cause == "floor ignored"


def test_an_answer_that_crashes_is_no_mistake_that_does_not():
    ignored = EXERCISES["softmax"].mistakes[1].function

    def crashes_on_one_row(z, T=1.0):
        assert len(z) > 1
        return ignored(z, T)

    found = verdict_on("softmax", crashes_on_one_row, 0)
    assert found.cause == "" and found.status == "error"


def wrong_at_one(z, v, T):
    """A right value beside a gradient whose q is taken at T = 1."""
    value = good_answers.kl_loss(z, v, T)[0]
    return value, (own_softmax(z) - own_softmax(v, T)) / T / len(z)


def test_the_diagnosis_of_gradients_speaks_where_it_explains_all_that_is_off():
    found = verdict_on("kl_loss", wrong_at_one, 0)
    assert found.cause == "q at T = 1"
    assert found.sentence.startswith("dlogits: q at T = 1: ")

    row = next(row for row in mistakes.CAUSES if row.name == "q at T = 1")
    mistakes.CAUSES.append(dataclasses.replace(row, name="the same by another name"))
    try:
        assert verdict_on("kl_loss", wrong_at_one, 0).cause == ""
    finally:
        mistakes.CAUSES.pop()

    def value_too(z, v, T):
        value, dlogits = wrong_at_one(z, v, T)
        return value + 1, dlogits

    assert verdict_on("kl_loss", value_too, 0).cause == ""

    def only_in_large_batches(z, v, T):
        value, dlogits = wrong_at_one(z, v, T)
        return value, dlogits if len(z) > 1 else dlogits[:, ::-1]

    assert verdict_on("kl_loss", only_in_large_batches, 0).cause == ""


def test_small_differences_are_shown():
    def nearly(z, v, T):
        value, dlogits = good_answers.kl_loss(z, v, T)
        return value * (1 + 3e-8), dlogits

    text = verdict_on("kl_loss", nearly, 0).checks[0].text
    value, needed, off = re.match(r"(value) is off by (\S+); needed is ([^\s;]+)", text).group(
        1, 3, 2
    )
    assert value == "value" and float(off) == pytest.approx(3e-8 * float(needed), rel=1e-4)
    assert text.endswith("; it is 1 + 3e-08 times the right one")


def test_the_sentence_has_the_numbers_of_the_call_that_is_shown():
    forgotten = next(
        m for m in EXERCISES["kl_loss"].mistakes if m.name == "1/T forgotten in the gradient"
    )
    for seed in SEEDS:
        found = verdict_on("kl_loss", forgotten.function, seed)
        ratio = re.search(
            r"it is (\S+) times the right one in every entry, and (\S+) is T", found.checks[1].text
        )
        assert float(ratio[1]) == float(ratio[2])
        assert f"the gradient is {ratio[2]} times too large, and T = {ratio[2]}." == found.sentence


def pair(got, right, **numbers):
    return measured.Pair(np.asarray(got, float), np.asarray(right, float), numbers, 1e-7)


def test_a_number_has_a_name_only_where_it_is_that_on_all_calls_and_nothing_else():
    x = np.array([1.0, 2.0, 5.0])
    one, other = pair(3 * x, x, T=3.0, B=5), pair(2.5 * x, x, T=2.5, B=4)
    assert measured.relation([one, other], 0).endswith("in every entry, and 3 is T")
    assert measured.relation([other, one], 0).endswith("in every entry, and 2.5 is T")
    third = pair(7 * x, x, T=2.5, B=4)
    assert " is T" not in measured.relation([one, third], 0)
    alike = pair(3 * x, x, T=3.0, B=3)
    assert measured.relation([alike], 0) == "it is 3.0000000 times the right one in every entry"
    assert measured.relation([alike, other], 0).endswith(", and 3 is T")


def test_a_single_number_is_no_factor_by_itself():
    assert measured.relation([pair(2.7, 1.3, T=2.0)], 0) == ""
    assert measured.relation([pair(3.25, 1.3, T=2.5)], 0).endswith(", and 2.5 is T")
    same = measured.relation([pair(2.6, 1.0), pair(5.2, 2.0)], 0)
    assert same == "it is 2.6000000 times the right one"
    assert measured.relation([pair(2.6, 1.0), pair(5.3, 2.0)], 0) == ""
    assert measured.relation([pair(1.5, 1.0), pair(2.5, 2.0)], 0) == "it is the right one plus 0.5"


@pytest.mark.parametrize("name", ["softmax", "cross_entropy", "kl_loss", "standardise"])
def test_what_a_notebook_makes_of_floating_point_errors_costs_nothing(name):
    function = getattr(good_answers, name)
    with np.errstate(all="raise"):
        assert kd.check(function)
        assert verdict_on(name, function, 1).status == "ok"


# --- the judge mutated --------------------------------------------------------------------------


def a_cause_is_the_only_one():
    test_two_mistakes_with_the_same_numbers_are_no_cause()
    test_a_cause_explains_every_call()
    test_an_answer_that_crashes_is_no_mistake_that_does_not()
    test_the_diagnosis_of_gradients_speaks_where_it_explains_all_that_is_off()


def a_contract_of_dtype_names_no_cause():
    """Numbers that are right everywhere look like no mistake, whatever else is amiss."""

    def upcasts(z, T=1.0):
        return own_softmax(z.astype(np.float64), T)

    right = dataclasses.replace(EXERCISES["softmax"].mistakes[0], function=good_answers.softmax)
    exercise = dataclasses.replace(EXERCISES["softmax"], mistakes=(right,))
    found = selfcheck.verdict_on(exercise, upcasts, 0)
    assert found.status == "wrong" and found.cause == ""


def wrong_answers_stay_wrong():
    chosen = ("epsilon 1e-8", "the batch's maximum", "N - 1 in the spread", "Manhattan", "log10")
    for wrong in WRONG:
        if wrong.what in chosen:
            test_nothing_false_is_said_and_no_seed_changes_the_grade(wrong)


PROBES = (
    a_cause_is_the_only_one,
    a_contract_of_dtype_names_no_cause,
    test_a_number_has_a_name_only_where_it_is_that_on_all_calls_and_nothing_else,
    test_a_single_number_is_no_factor_by_itself,
    test_small_differences_are_shown,
    test_the_local_seed_is_none_that_a_grader_draws,
    test_what_is_drawn_tells_mistakes_apart,
    lambda: test_what_a_notebook_makes_of_floating_point_errors_costs_nothing("softmax"),
    wrong_answers_stay_wrong,
)

MUTANTS = {
    "the first cause that fits": (causes, "if len(found) == 1:", "if found:"),
    "a cause for some of the calls": (causes, "if all(_makes(", "if any(_makes("),
    "crashes overlooked": (causes, "return made.failure == call.failure", "return True"),
    "a diagnosis for some of the calls": (causes, "if all(row.fits(", "if any(row.fits("),
    "one of several diagnoses": (causes, "if len(found) != 1:", "if not found:"),
    "a diagnosis beside a wrong value": (
        causes,
        '                return "", ""\n            if not diff',
        "                continue\n            if not diff",
    ),
    "a name for one of the calls": (
        measured,
        "if all(\n            _is(x",
        "if any(\n            _is(x",
    ),
    "the first name that fits": (measured, "if len(names) == 1 else", "if names else"),
    "any single number is a factor": (
        measured,
        "if not name and not everywhere and not _one_for_all(factors, pairs):",
        "if False:",
    ),
    "differences that are not shown": (
        differences,
        "if _number(got[where]) == _number(right[where]):",
        "if False:",
    ),
    "a loose tolerance": (differences, "LOOSE, TIGHT = 2e-5, 1e-10", "LOOSE, TIGHT = 2e-5, 1e-6"),
    "a tolerance between epsilons": (
        differences,
        "LOOSE, TIGHT = 2e-5, 1e-10",
        "LOOSE, TIGHT = 2e-5, 5e-8",
    ),
    "a local seed that can be drawn": (
        in_the_notebook,
        "LOCAL_SEED = 2**64 + 2015",
        "LOCAL_SEED = 2015",
    ),
    "sizes side by side": (draws, "= 4, 20, 3", "= 4, 20, 1"),
    "rows that one shift keeps in range": (draws, "FAR = 5000.0", "FAR = 5.0"),
    "two calls alike": (draws, "if not any(map(_alike, first, second)):", "if True:"),
    "the notebook's floating-point errors": (
        wire,
        'with np.errstate(divide=errors, over=errors, under="ignore", invalid=errors):',
        "if True:",
    ),
}


def test_the_probes_find_nothing_in_the_judge_as_it_is():
    for probe in PROBES:
        probe()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutated_judge_is_caught(name, monkeypatch):
    module, old, new = MUTANTS[name]
    source = inspect.getsource(module)
    assert source.count(old) == 1
    mutant = types.ModuleType(module.__name__)
    exec(compile(source.replace(old, new), module.__file__, "exec"), mutant.__dict__)  # noqa: S102
    for attribute, value in vars(module).items():
        if not attribute.startswith("__") and getattr(value, "__module__", None) in (
            module.__name__,
            None,
        ):
            monkeypatch.setattr(module, attribute, getattr(mutant, attribute, value))
    caught = []
    for probe in PROBES:
        try:
            probe()
        except Exception as error:  # noqa: BLE001 (a mutant may well crash)
            caught.append(error)
            break
    assert caught


def test_seen_and_answer_hold_what_the_judge_needs():
    call = Seen((np.ones(2),), np.ones(2), (np.ones(2),), np.ones(2))
    assert not causes.is_off(call, np.ones(2)) and causes.is_off(call, 2 * np.ones(2))
    assert asking.ask(lambda x: x * 2, (np.float64(3),)) == Answer(6.0, (3.0,))
    assert verdict.STATUS[asking.ask(lambda: 1 / 0, ()).failure]
