"""The exercises: sound by themselves, right about mistakes, and current as notebooks."""

import inspect
import json
import warnings
from pathlib import Path

import good_answers
import numpy as np
import pytest
import scipy.special

import numpy_kd as kd
from numpy_kd.__main__ import main
from numpy_kd.exercises import catalogue, check, selfcheck, sheet_notebooks
from numpy_kd.exercises.exercise import Answer
from numpy_kd.exercises.judging import differences
from numpy_kd.exercises.judging.verdict import judge

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks" / "exercises"
EXERCISES = catalogue.EXERCISES
SHEETS = list(catalogue.SHEETS.values())


def by_name(table):
    return pytest.mark.parametrize("exercise", table.values(), ids=list(table))


# --- the exercises by themselves ----------------------------------------------------------------


@by_name(EXERCISES)
def test_reference_passes_stub_fails_and_every_mistake_is_named(exercise):
    assert list(selfcheck.problems_of(exercise, 2**63 + 5)) == []


def test_the_check_of_the_exercises_sees_a_bad_one():
    softmax = EXERCISES["softmax"]
    harmless = softmax.mistakes[0].__class__("none", "nothing", softmax.reference)
    spoiled = softmax.__class__(**{**vars(softmax), "mistakes": (harmless,)})
    found = list(selfcheck.problems_of(spoiled, 0))
    assert found == ["softmax, 'none': costs nothing", "softmax, 'none': taken for ''"]
    wrong = softmax.__class__(**{**vars(softmax), "reference": softmax.mistakes[1].function})
    assert selfcheck.verdict_on(wrong, softmax.reference, 0).points == 0


def test_there_are_as_many_as_promised():
    exhibits = [e for e in EXERCISES.values() if e.gallery is not None]
    assert len(SHEETS) == 12
    assert len(EXERCISES) - len(exhibits) == 49
    assert len(exhibits) == 15
    assert sum(len(sheet.exercises) for sheet in SHEETS) == len(EXERCISES)
    keys = [q.key for e in EXERCISES.values() for q in e.questions]
    assert len(keys) == len(set(keys)) and all(
        any(e.questions for e in s.exercises) for s in SHEETS
    )


@by_name(EXERCISES)
def test_every_exercise_is_complete(exercise):
    assert 1 <= len(exercise.hints) <= 3
    assert 3 <= len(exercise.mistakes) or (exercise.gallery and len(exercise.mistakes) >= 2)
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes)
    assert exercise.statement.count("$") % 2 == 0
    assert callable(getattr(good_answers, exercise.name))
    parameters = inspect.signature(selfcheck.stub_function(exercise)).parameters
    own = inspect.signature(getattr(good_answers, exercise.name)).parameters
    assert list(parameters) == list(own)


def test_given_helpers_have_the_signature_that_their_exercise_asks_for():
    used = {name for e in EXERCISES.values() for name in e.uses}
    for name in used & EXERCISES.keys():
        asked = inspect.signature(selfcheck.stub_function(EXERCISES[name])).parameters
        has = inspect.signature(catalogue.helper(name)).parameters
        assert list(has)[: len(asked)] == list(asked), name


@by_name(EXERCISES)
def test_a_good_answer_is_told_so(exercise):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(getattr(good_answers, exercise.name))
    assert report, report
    assert report.lines[0] == f"{exercise.name}: {exercise.points} of {exercise.points} points"


# --- random answers: no false alarm -------------------------------------------------------------


def munge_with_other_draws(x, swap_probability, local_variance, rng):
    e = x[good_answers.nearest_neighbours(x)]
    swap = rng.binomial(1, swap_probability, x.shape).astype(bool)
    return np.where(swap, rng.normal(e, np.abs(x - e) / local_variance), x)


OTHER_DRAWS = {
    "munge": munge_with_other_draws,
    "dropout": lambda x, rate, rng: x * rng.binomial(1, 1 - rate, x.shape) / (1 - rate),
    "he_normal": lambda m, n, rng: rng.standard_normal((m, n)) * np.sqrt(2 / m),
    "xavier_uniform": lambda m, n, rng: (2 * rng.random((m, n)) - 1) * np.sqrt(6 / (m + n)),
}


@pytest.mark.parametrize("name", OTHER_DRAWS)
def test_other_ways_to_draw_are_right_too(name):
    for seed in range(100, 130):
        verdict = selfcheck.verdict_on(EXERCISES[name], OTHER_DRAWS[name], seed)
        assert verdict.status == "ok", verdict.lines()


# --- what is said -------------------------------------------------------------------------------


def own_softmax(z, T=1.0):
    e = np.exp((z - z.max(axis=-1, keepdims=True)) / T)
    return e / e.sum(axis=-1, keepdims=True)


def own_kl_loss(z, v, T):
    p, q = own_softmax(v, T), own_softmax(z, T)
    log_p, log_q = (
        _shifted(x / T) - np.log(np.exp(_shifted(x / T)).sum(-1, keepdims=True)) for x in (v, z)
    )
    return (p * (log_p - log_q)).sum(axis=-1).mean(), (q - p) / T / len(z)


def _shifted(z):
    return z - z.max(axis=-1, keepdims=True)


def said(function, name=""):
    return str(check(function, name))


def doubles_the_gradient(z, v, T):
    value, dlogits = own_kl_loss(z, v, T)
    return value, 2 * dlogits


def takes_t_for_one(z, v, T):
    return own_kl_loss(z, v, 1.0)


def test_the_complex_step_gives_evidence():
    report = said(doubles_the_gradient, "kl_loss")
    assert "By the complex step, the slope of your own value at" in report
    assert "it is 2.0000000 times the right one in every entry" in report
    assert "the two belong together" in said(takes_t_for_one, "kl_loss")


def changes_its_argument(dy, y):
    dy *= y > 0
    return dy


REPORTS = {
    "transposed": (
        "linear_backward",
        lambda dy, x, W: (dy @ W.T, dy.T @ x, dy.sum(axis=0)),
        "it is the right one, transposed",
    ),
    "nothing returned": ("softmax", lambda z, T=1.0: None, "q is None; needed is an array"),
    "text": ("softmax", lambda z, T=1.0: np.array(["a"]), "q is an array of <U1 of shape (1,)"),
    "complex numbers": ("softmax", lambda z, T=1.0: z + 1j, "q is an array of complex128"),
    "a list": ("softmax", lambda z, T=1.0: [1.0], "q is list; needed is an array of shape"),
    "too few results": ("kl_loss", lambda z, v, T: 1.0, "2 results are needed (value, dlogits)"),
    "in place": ("relu_backward", changes_its_argument, "argument 1 was changed"),
    "float64 for float32": (
        "softmax",
        lambda z, T=1.0: own_softmax(z.astype(np.float64), T),
        "q has dtype float64; needed is float32 (seen with float32 arrays)",
    ),
    "not for a batch of one": (
        "relu_backward",
        lambda dy, y: dy * (y > 0) if len(dy) > 1 else -dy,
        "(seen with a batch of one)",
    ),
    "an error": ("softmax", lambda z, T=1.0: z @ z, "ValueError: matmul"),
    "a warning": (
        "softmax",
        lambda z, T=1.0: np.exp(z / T) / np.exp(z / T).sum(axis=-1, keepdims=True),
        "Your code warned: overflow encountered in exp",
    ),
    "a module that is not there": (
        "softmax",
        lambda z, T=1.0: scipy.special.softmax(z / T, axis=-1),
        "it uses the module scipy; the grader has only NumPy and the standard library",
    ),
    "the library through its name": (
        "softmax",
        lambda z, T=1.0: kd.softmax(z, T),
        "it uses kd.softmax; given here from numpy_kd: none",
    ),
    "the library's own": ("softmax", kd.softmax, "this is the library's own softmax"),
    "not done": (
        "softmax",
        selfcheck.stub_function(EXERCISES["softmax"]),
        "exercise 01.2, softmax, is not done yet",
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_what_was_seen_is_said(name):
    exercise, function, expected = REPORTS[name]
    report = check(function, exercise)
    assert not report
    assert expected in str(report), report
    assert f'kd.hint("{exercise}", 1)' in str(report)
    assert "<script" not in report._repr_html_()


def test_a_helper_of_the_notebook_is_looked_into():
    def uses_a_helper(z, T=1.0):
        return _behind_the_scenes(z, T)

    assert "the module scipy" in said(uses_a_helper, "softmax")
    assert kd.check(good_answers.soften)


def _behind_the_scenes(z, T):
    return scipy.special.softmax(z / T, axis=-1)


def test_points_are_a_share_of_what_is_asked():
    assert check(good_answers.softmax, points=10) == 10.0
    naive = EXERCISES["softmax"].mistakes[0].function
    assert check(naive, "softmax", points=10) == 8.0
    assert isinstance(check(kd.softmax, points=10), float) and check(kd.softmax, points=10) == 0


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ValueError, match=r"like an exercise \(softmax, log_softmax"):
        check(lambda z: z, "sofmax")


def test_hints_come_one_at_a_time():
    texts = [str(kd.hint("softmax", k)) for k in (1, 2, 3)]
    assert len(set(texts)) == 3 and texts[1].startswith("Hint 2 of 3: ")
    with pytest.raises(ValueError, match="number must be 1 to 3, got 4"):
        kd.hint(good_answers.softmax, 4)


@pytest.mark.parametrize("question", [q for e in EXERCISES.values() for q in e.questions], ids=str)
def test_predictions_are_answered(question):
    assert str(kd.predict(question.key, None)).startswith("Write down your number")
    assert kd.predict(question.key, question.answer)
    assert question.explanation in str(kd.predict(question.key, question.answer))
    for number, reply in question.replies:
        assert not kd.predict(question.key, number)
        assert reply in str(kd.predict(question.key, number))
    assert not kd.predict(question.key, question.answer + 1234.5)


def test_an_exhibit_is_revealed_on_request():
    text = str(kd.reveal("repaired_04"))
    assert "def strong_04" in text and "the gradient is off by up to" in text
    with pytest.raises(ValueError, match="exhibit of the gallery"):
        kd.reveal("softmax")
    with pytest.raises(ValueError, match="key must be one of"):
        kd.predict("nothing")


def test_comparing_never_raises():
    values = [
        None,
        3,
        2.5,
        np.nan,
        "x",
        [1],
        (1, 2),
        (),
        np.ones(2),
        np.ones((2, 2)),
    ]
    values += [
        np.array([1, np.inf]),
        np.zeros((0, 2)),
        np.array([True]),
        differences.Other("thing"),
    ]
    for value in values:
        for right in (1.0, np.ones(2), (1.0, np.ones(2)), np.array([np.inf, 1.0])):
            call = problems_call(value, right)
            names = ("a", "b") if isinstance(right, tuple) else ("a",)
            assert isinstance(differences.results(names)([call]), str)
            assert isinstance(differences.contract(names)([call]), str)
            assert isinstance(differences.close(value, right), bool)


def problems_call(value, right):
    from numpy_kd.exercises.exercise import Seen

    return Seen((np.ones(2),), value, (np.ones(2),), right)


def test_answers_of_every_kind_are_judged_without_raising():
    strange = [
        None,
        "x",
        np.nan,
        (1,),
        differences.Other("list"),
        np.full((5, 7), 1e308),
    ]
    for exercise in EXERCISES.values():
        plan = exercise.plan(0)
        count = sum(len(calls) for _, calls in plan)
        for value in strange:
            verdict = judge(exercise, plan, [Answer(value=value)] * count)
            assert verdict.status == "wrong" and verdict.points == 0, (exercise.name, value)


# --- the notebooks ------------------------------------------------------------------------------


def cells_of(sheet):
    return json.loads(sheet_notebooks.notebook(sheet))["cells"]


def source(cell):
    return "".join(cell["source"])


def test_the_committed_notebooks_are_current():
    stale = [path.name for path in sheet_notebooks.stale(NOTEBOOKS)]
    assert stale == [], "run: python -m numpy_kd class build"
    assert sorted(p.name for p in NOTEBOOKS.glob("*.ipynb")) == [
        sheet_notebooks.file_name(s) for s in SHEETS
    ]


def test_a_rebuild_changes_no_byte_and_a_change_is_seen(tmp_path):
    first = {path.name: path.read_bytes() for path in sheet_notebooks.build(tmp_path)}
    assert {path.name: path.read_bytes() for path in sheet_notebooks.build(tmp_path)} == first
    assert sheet_notebooks.stale(tmp_path) == []
    spoiled = tmp_path / sheet_notebooks.file_name(SHEETS[2])
    spoiled.write_bytes(spoiled.read_bytes() + b"\n")
    assert sheet_notebooks.stale(tmp_path) == [spoiled]


def test_a_notebook_with_cells_of_every_kind_is_valid():
    nbformat = pytest.importorskip("nbformat")
    sheet = catalogue.SHEETS["ex13"]
    assert any(e.gallery for e in sheet.exercises) and any(e.questions for e in sheet.exercises)
    nbformat.validate(nbformat.reads(sheet_notebooks.notebook(sheet), as_version=4))


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.key)
def test_notebooks_hold_no_solution(sheet):
    cells = cells_of(sheet)
    assert len({cell["id"] for cell in cells}) == len(cells)
    answers = {
        cell["metadata"]["nbgrader"]["grade_id"]: source(cell)
        for cell in cells
        if cell["metadata"].get("nbgrader", {}).get("solution")
    }
    assert answers == {e.name: sheet_notebooks.stub(e) for e in sheet.exercises}
    exhibits = "\n".join(source(c) for c in cells if c["id"].startswith(("broken", "weak")))
    rest = "\n".join(source(c) for c in cells if not c["id"].startswith(("broken", "weak")))
    for exercise in sheet.exercises:
        for line in solution_lines(exercise):
            assert line not in rest and (line not in exhibits or exercise.gallery)


def solution_lines(exercise):
    """The lines of the good answer and of the library's function that say something."""
    texts = [inspect.getsource(getattr(good_answers, exercise.name))]
    library = getattr(kd, exercise.name, None)
    if library is not None:
        texts.append(inspect.getsource(library).split('"""')[-1])
    lines = [line.strip() for text in texts for line in text.splitlines()[1:]]
    return [line for line in lines if len(line) > 25 and not line.startswith(("W, b, x", "def "))]


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.key)
def test_notebooks_run_with_stubs_and_with_answers(sheet):
    for module, expected in ((None, 0.0), (good_answers, float(sheet.points))):
        namespace, total = {}, 0.0
        for cell in cells_of(sheet):
            if cell["cell_type"] != "code":
                continue
            if cell["metadata"].get("nbgrader", {}).get("grade"):
                total += eval(source(cell), namespace)
            else:
                exec(source(cell), namespace)  # noqa: S102 (our own notebook)
                if module and cell["metadata"].get("nbgrader", {}).get("solution"):
                    name = cell["metadata"]["nbgrader"]["grade_id"]
                    namespace[name] = getattr(module, name)
        assert total == expected


def test_a_notebook_in_a_real_kernel(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    nb = nbformat.reads(sheet_notebooks.notebook(SHEETS[0]), as_version=4)
    answer = inspect.getsource(good_answers.hardmax)
    next(cell for cell in nb.cells if cell.id == "hardmax").source = answer
    nbclient.NotebookClient(nb, timeout=60, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = {cell.id: cell.outputs for cell in nb.cells if cell.cell_type == "code"}
    shown, result = outputs["hardmax-check"]
    assert shown.output_type == "display_data" and "4 of 4 points" in shown.data["text/html"]
    assert result.output_type == "execute_result" and result.data["text/plain"] == "4.0"
    assert outputs["softmax-check"][1].data["text/plain"] == "0.0"
    assert "not done yet" in outputs["softmax-check"][0].data["text/plain"]
    predicted = outputs["predict-two-logits"][0]
    assert "text/html" not in predicted.data and "text/markdown" in predicted.data


def test_checksums_are_those_of_nbgrader():
    cell = next(c for c in cells_of(SHEETS[0]) if c["id"] == "softmax-check")
    nbgrader = cell["metadata"]["nbgrader"]
    assert source(cell) == "kd.check(softmax, points=5)"
    assert nbgrader["schema_version"] == 3 and nbgrader["points"] == 5
    assert nbgrader["checksum"] == "91ea1a91074f92065a77a363b0957e3f"  # computed by nbgrader 0.9.5


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.key)
def test_nbgrader_itself_agrees(sheet):
    utils = pytest.importorskip("nbgrader.utils")
    nbformat = pytest.importorskip("nbformat")
    from nbgrader.nbgraderformat import MetadataValidator

    nb = nbformat.reads(sheet_notebooks.notebook(sheet), as_version=4)
    MetadataValidator().validate_nb(nb)
    graded = [cell for cell in nb.cells if "nbgrader" in cell.metadata]
    assert len(graded) >= 2 * len(sheet.exercises)
    for cell in graded:
        assert utils.compute_checksum(cell) == cell.metadata.nbgrader.checksum


# --- the commands -------------------------------------------------------------------------------


def test_build_and_check_from_the_command_line(tmp_path, capsys, monkeypatch):
    assert main(["class", "build", "--out", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(catalogue.SHEETS)
    assert main(["class", "check", "--notebooks", str(tmp_path)]) == 0
    assert "every reference passes, every stub fails" in capsys.readouterr().out
    monkeypatch.setattr(selfcheck, "problems", lambda: iter(["softmax: costs nothing"]))
    next(tmp_path.glob("ex03*")).unlink()
    assert main(["class", "check", "--notebooks", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "softmax: costs nothing" in err and "ex03_the_gradient.ipynb is not current" in err


def test_grade_and_regrade_from_the_command_line(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    code = "import numpy as np\n" + inspect.getsource(good_answers.hardmax)
    (tmp_path / "in" / "ann.py").write_text(code)
    arguments = ["class", "grade", str(tmp_path / "in"), "--out", str(tmp_path / "book.csv")]
    assert main([*arguments, "--regrade"]) == 2
    assert "no gradebook" in capsys.readouterr().err
    assert main([*arguments, "--seconds", "5", "--jobs", "1"]) == 0
    assert "    4 of   17  ann" in capsys.readouterr().out
    before = (tmp_path / "book.json").read_bytes()
    assert main([*arguments, "--regrade"]) == 0
    assert "the same as before, to the byte" in capsys.readouterr().out
    assert (tmp_path / "book.json").read_bytes() == before
    (tmp_path / "in" / "ann.py").write_text(code + "x = 1\n")
    assert main([*arguments, "--regrade"]) == 0
    assert "not the same as before" in capsys.readouterr().out
    other = json.loads(before) | {"versions": {"numpy_kd": "0.0.1"}}
    (tmp_path / "book.json").write_text(json.dumps(other))
    assert main([*arguments, "--regrade"]) == 2
    assert "was made with numpy_kd 0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--seed", "-1"], ["--jobs", "0"], ["--seconds", "0"]], ids=lambda o: o[0]
)
def test_bad_options_are_one_line(option, tmp_path, capsys):
    (tmp_path / "a.py").write_text("x = 1")
    assert main(["class", "grade", str(tmp_path), "--out", str(tmp_path / "b.csv"), *option]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
