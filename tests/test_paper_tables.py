"""The papers' tables in small: every step, nothing chosen on rows that somebody knew, resumable."""

import functools
import json
import os
import subprocess
import sys
import time
import wave
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd import experiments_command, plots
from numpy_kd.experiments import compression, jobs, regularisers, specialists, speech
from numpy_kd.experiments.regularisers import DataSet
from numpy_kd.experiments.specialists import Recipe
from numpy_kd.specialists import Specialists

ROOT = Path(__file__).parent.parent
ONE = DataSet("letters", 200, (12,), 0.01, 4, 32, teacher_epochs=1)
CURVES = regularisers.Settings(seeds=2, temperatures=(1.0, 4.0), sets=(ONE,), looks=3)
TEAM = replace(
    specialists.Settings().quick(),
    epochs=1,
    sets=4,
    asked=(2, 4),
    examples=1_000,
    held_out=15_000,
    recipes=(Recipe(2.0, 0.5), Recipe(2.0, 10.0, specialists.FULL)),
)
SPEECH = replace(
    speech.Settings().quick(),
    members=2,
    splits=(("nicolas", "theo"), speech.OWN),
    lengths=(1,),
    student_epochs=2,
    temperatures=(5.0,),
    training=speech.Training(every=4, test_every=4, hidden=(8,)),
)
CURVE = replace(compression.Settings().quick(), rows=100, member_epochs=2, steps=10, components=5)
TINY = {
    "regularisers": (regularisers, CURVES),
    "specialists": (specialists, TEAM),
    "speech": (speech, SPEECH),
    "compression": (compression, CURVE),
}
each = pytest.mark.parametrize("name", TINY)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Four speakers whose digits are tones: each of 0.05 s, with noise of its own."""
    place, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    folder = place / "fsdd"
    folder.mkdir()
    t = np.arange(400) / 8000
    for (who, pitch), digit, index in product(
        {"anna": 1.0, "ben": 0.8, "nicolas": 1.1, "theo": 0.9}.items(), range(10), range(50)
    ):
        tone = np.sin(2 * np.pi * pitch * (300 + 200 * digit) * t) + rng.normal(size=400)
        with wave.open(str(folder / f"{digit}_{who}_{index}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((6000 * tone).astype("<i2").tobytes())
    return str(place)


@pytest.fixture(scope="module")
def done(tmp_path_factory, recordings):
    """Of each small table its folder, its result and its CPU seconds, from an empty folder."""

    @functools.cache
    def of(name):
        folder, start = tmp_path_factory.mktemp(name), time.process_time()
        result = run(name, recordings, folder=folder, processes=1)
        return folder, result, time.process_time() - start

    return of


def run(name, recordings, **how):
    """A small table, but for what depends on the clock."""
    table, settings = TINY[name]
    result = table.run(settings, data=recordings, progress=False, **how)
    return {key: value for key, value in result.items() if key != "sizes"}


# --- stopped and continued, here and elsewhere: the same bits -------------------------------------


@each
def test_what_is_missing_is_done_again_with_the_same_bits(name, done, recordings):
    folder, result, _ = done(name)
    files = sorted(folder.glob("*.json"))
    when = {path.name: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    files[1].write_text("{", encoding="utf-8")  # as after a crash of the whole machine
    assert run(name, recordings, folder=folder, processes=1) == result
    redone = [p.name for p in folder.glob("*.json") if p.stat().st_mtime_ns != when[p.name]]
    assert sorted(redone) == [files[0].name, files[1].name]


KILLED = """
import os, random, signal, sys
from test_paper_tables import run
name, recordings, folder, seconds = sys.argv[1:]
moments, killed = random.Random(0), 0
for _ in range(10):
    child = os.fork()
    if child == 0:  # the timer's signal ends it wherever it is, after so much work
        signal.setitimer(signal.ITIMER_VIRTUAL, moments.uniform(0.01, float(seconds) / 4))
        run(name, recordings, folder=folder, processes=1)
        os._exit(0)
    moments.random()
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@each
def test_killed_at_ten_random_moments_it_ends_with_the_same_bits(name, done, recordings, tmp_path):
    _, result, seconds = done(name)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    ten = subprocess.run(
        [sys.executable, "-c", KILLED, name, recordings, str(tmp_path), str(seconds)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert int(ten.stdout) >= 5  # and not done before
    when = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert run(name, recordings, folder=tmp_path, processes=1) == result
    for path, before in when.items():  # what was done was read, not done again
        assert path.stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def dask():
    distributed = pytest.importorskip("distributed", reason="needs the cluster extra")
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


@pytest.mark.parametrize("kind", ["pool", "dask"])
@each
def test_a_pool_and_a_dask_cluster_give_the_same_numbers(
    name, kind, done, recordings, tmp_path, request
):
    executor = request.getfixturevalue(kind)
    assert run(name, recordings, folder=tmp_path, executor=executor) == done(name)[1]


# --- as a command ---------------------------------------------------------------------------------


@each
def test_quick_runs_and_its_table_and_picture_come_from_the_json(
    name, recordings, tmp_path, monkeypatch, capsys
):
    from numpy_kd.__main__ import main

    monkeypatch.chdir(tmp_path)
    how = ["--quick", "--jobs", "1", "--out", "out", "--data", recordings]
    assert main(["reproduce", name, *how]) == 0
    said = capsys.readouterr().out
    written = json.loads((tmp_path / "out" / f"{name}_quick.json").read_text(encoding="utf-8"))
    lines = list(TINY[name][0].table(written))
    assert len(lines) > 8
    assert "\n".join(lines) in said
    assert not any("nan" in line for line in lines)
    assert getattr(plots, name)(written).axes
    assert (tmp_path / "out" / f"{name}_quick.png").stat().st_size > 10_000


def test_all_settings_are_checked_before_the_first_network(tmp_path, monkeypatch, capsys):
    from numpy_kd.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "train", lambda *args, **more: pytest.fail("a network was trained"))
    for seeds in ("0", "1", "-3"):
        assert main(["reproduce", "all", "--seeds", seeds]) == 2
        assert "seeds must be" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert set(TINY) < set(experiments_command.EXPERIMENTS)


# --- nothing is chosen on rows that somebody knew -------------------------------------------------


@pytest.mark.parametrize("held_out", [0, 4000])
def test_recipes_are_chosen_on_rows_of_their_own(held_out):
    data, whole = specialists.letters(held_out), kd.load_letters()
    learnt = 16_000 - held_out
    scaler = kd.StandardScaler().fit(whole.x_train[:learnt])
    np.testing.assert_array_equal(data.x_train, scaler.transform(whole.x_train[:learnt]))
    judged = (whole.x_train[learnt:], whole.labels_train[learnt:]) if held_out else whole[2:]
    np.testing.assert_array_equal(data.x_test, scaler.transform(judged[0]))
    np.testing.assert_array_equal(data.labels_test, judged[1])


def test_the_choice_never_sees_the_test_rows(monkeypatch):
    asked = []
    real = specialists.letters
    monkeypatch.setattr(
        specialists, "letters", lambda held_out: asked.append(held_out) or real(held_out)
    )
    specialists.Seed("choice", TEAM, 7).work(None, None, None)
    assert asked == [TEAM.held_out]


def test_letters_of_section_6_are_in_three_parts():
    data, whole = regularisers.parts("letters"), kd.load_letters()
    np.testing.assert_array_equal(data.labels, whole.labels_train[:-1600])
    np.testing.assert_array_equal(data.labels_held_out, whole.labels_train[-1600:])
    np.testing.assert_array_equal(data.labels_test, whole.labels_test)
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-5)  # standard by these rows alone


def test_the_temperature_is_chosen_on_the_rows_kept_apart(done):
    found = done("regularisers")[1]["sets"]["letters"]
    ends = {
        kind: np.mean([curve["held_out"][-1]["accuracy"] for curve in curves])
        for kind, curves in found["curves"].items()
        if kind != "hard"
    }
    assert found["chosen"] == max(ends, key=ends.get)
    for stopped, curve in zip(found["stopped"], found["curves"]["hard"], strict=True):
        best = max(point["accuracy"] for point in curve["held_out"])
        at = curve["epochs"].index(stopped["epochs"])
        assert curve["held_out"][at]["accuracy"] == best


# --- the numbers are what they are said to be -----------------------------------------------------


def test_curves_are_those_of_one_training_in_one_piece(tmp_path):
    """Looked at in between or not, a network ends with the same parameters."""
    networks = []
    for looks in (2, 5):
        run = regularisers.Run("a", replace(ONE, epochs=9), 3, looks=looks)
        _, network = run.work(None, None, None)
        networks.append(network.parameters)
    np.testing.assert_array_equal(*networks)


def test_hard_and_soft_differ_only_in_what_they_are_taught():
    """A teacher that is certain of the labels is a hard label."""

    class Certain:
        def logits(self, x):
            data = regularisers.parts("letters")
            rows = [np.flatnonzero((data.x == row).all(axis=1))[0] for row in x]
            return 1e4 * kd.one_hot(data.labels[rows], 26, np.float32)

    hard, _ = regularisers.Run("hard", ONE, 1).work(None, None, None)
    soft, _ = regularisers.Run("soft", ONE, 1, temperature=1.0).work(Certain(), None, None)
    for part in ("train", "test"):
        for one, other in zip(hard["curve"][part], soft["curve"][part], strict=True):
            assert abs(one["accuracy"] - other["accuracy"]) < 0.02
            assert one["cross_entropy"] == pytest.approx(other["cross_entropy"], rel=0.02)
    assert soft["teacher_on_rows"]["accuracy"] == 1


def test_a_data_set_that_is_not_here_is_left_out_and_named(tmp_path):
    mnist = replace(ONE, name="mnist")
    settings = replace(CURVES, sets=(ONE, mnist))
    result = regularisers.run(settings, data=str(tmp_path), processes=1, progress=False)
    assert list(result["sets"]) == ["letters"]
    assert "MNIST was not found" in result["missing"]["mnist"]
    assert any("Left out" in line for line in regularisers.table(result))
    with pytest.raises(FileNotFoundError, match="MNIST was not found"):
        regularisers.run(replace(CURVES, sets=(mnist,)), data=str(tmp_path), progress=False)


def test_rows_of_tables_3_and_4_add_up():
    data = specialists.letters(0)
    generalist = specialists.on_labels(TEAM, data, TEAM.hidden, 0, 0)
    team = specialists.team_of(TEAM, data, generalist, 0)
    rows = specialists._by_cover(data, team)
    right = [
        int((net.predict(data.x_test) == data.labels_test).sum()) for net in (generalist, team)
    ]
    assert sum(row["rows"] for row in rows) == len(data.x_test)
    assert [sum(row[who] for row in rows) for who in ("generalist", "team")] == right
    none = next(row for row in rows if row["specialists"] == 0)
    covered = np.isin(data.labels_test, np.concatenate(team.sets))
    assert none["rows"] == (~covered).sum()
    alone = specialists._conditional(data, Specialists(generalist, team.specialists[:1]))
    inside = np.isin(data.labels_test, team.sets[0])
    z = generalist.logits(data.x_test[inside])[:, team.sets[0]]
    expected = (team.sets[0][z.argmax(axis=1)] == data.labels_test[inside]).mean()
    assert alone["generalist"] == pytest.approx(expected)


@pytest.mark.parametrize("speakers", SPEECH.splits)
def test_nobody_has_heard_the_test_nor_what_chooses(speakers, recordings):
    data = speech.sound(speakers, speech.Training(every=1, test_every=1), recordings)
    said = kd.load_spoken_digits(f"{recordings}/fsdd")
    test = np.isin(said.speakers, speakers) if speakers else said.indices < 5
    late = ~test & (said.indices >= 45)
    counts = [int(rows.sum()) for rows in (~test & ~late, late, test)]
    assert [part.recording[-1] + 1 for part in data[:3]] == counts
    np.testing.assert_array_equal(data.digits, said.digits[test])
    np.testing.assert_allclose(data.train.x.mean(axis=0), 0, atol=1e-4)  # standard by these alone


def test_the_length_of_a_member_is_chosen_on_speakers_that_it_has_not_heard(recordings):
    others = SPEECH.splits[0]
    data = speech.sound(others, SPEECH.training, recordings)
    tried = speech.tried_of(SPEECH, others, data)
    assert [job.apart for job in tried["1"]] == ["anna", "ben"]
    assert {job.seed for job in tried["1"]}.isdisjoint(
        job.seed for job in speech.members_of(SPEECH, others, 1)
    )
    for job in tried["1"]:
        less = speech.without(data, job.apart)
        assert job.apart not in less.speakers and len(less.train.x) == len(less.speakers)
        assert len(less.held_out.x) == (data.speakers == job.apart).sum()
        np.testing.assert_allclose(less.train.x.mean(axis=0), 0, atol=1e-4)
    own = speech.sound(speech.OWN, SPEECH.training, recordings)
    assert [job.apart for job in speech.tried_of(SPEECH, speech.OWN, own)["1"]] == [None]


def test_a_teacher_to_whom_the_rows_are_new_has_none_of_them():
    teacher = regularisers.teacher_without(CURVES, ONE).rows(14_400)
    subsets = [run for run in regularisers.students(CURVES, ONE) if run.teacher]
    asked = {int(row) for run in subsets for row in run.rows(14_400)}
    assert len(asked) > ONE.rows
    assert asked.isdisjoint(teacher.tolist()) and len(teacher) + len(asked) == 14_400
    assert len(regularisers.teacher_of(ONE).rows(14_400)) == 14_400


def test_the_table_of_speech(done):
    result = done("speech")[1]
    split = result["splits"]["nicolas and theo"]
    assert len(split["rows"]["member"]["frames"]) == 2
    member, ensemble = split["rows"]["member"], split["rows"]["ensemble, arithmetic"]
    gain = ensemble["frames"][0] - np.mean(member["frames"])
    for row in split["rows"].values():
        shares = [(frames - np.mean(member["frames"])) / gain for frames in row["frames"]]
        np.testing.assert_allclose(row["share"], shares)
    assert split["chosen"] == "T = 5"
    shares = [np.mean(split["rows"]["T = 5"]["share"]) for split in result["splits"].values()]
    np.testing.assert_allclose(result["all"]["T = 5"]["splits"], shares)


def test_the_digit_heard_is_the_one_whose_states_fit_best():
    z, recording = np.random.default_rng(0).normal(size=(40, 30)), np.repeat([0, 1, 2], [7, 20, 13])
    log_q = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    for i, digit in enumerate(speech.heard(z, recording)):
        rows = log_q[recording == i]
        fits = [
            sum(row[3 * d + 3 * t // len(rows)] for t, row in enumerate(rows)) for d in range(10)
        ]
        assert digit == int(np.argmax(fits))


def test_synthetic_rows_keep_what_they_should():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    x = centres[rng.integers(3, size=900)] + rng.normal(scale=[0.5, 1.0], size=(900, 2))
    nbe = compression.naive_bayes_rows(x, 3000, components=12, rng=rng)
    uniform = compression.random_rows(x, 3000, rng=rng)

    def far(rows):  # the share of the rows that are near no centre
        return (np.abs(rows[:, None] - centres).max(axis=2).min(axis=1) > 4).mean()

    assert far(nbe) < 0.02
    assert far(uniform) > 0.2
    np.testing.assert_allclose(np.cov(nbe.T), np.cov(x.T), rtol=0.15, atol=0.5)
    assert (uniform.min(axis=0) >= x.min(axis=0)).all()
    assert (uniform.max(axis=0) <= x.max(axis=0)).all()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="rows must be at most the 16,000"):
        compression.Settings(rows=16_001)
    with pytest.raises(ValueError, match="sets must be from 20 to 26, got 27"):
        specialists.Settings(sets=27)
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        regularisers.Settings(seeds=1)
    with pytest.raises(ValueError, match="temperatures must be a positive finite number"):
        regularisers.Settings(temperatures=(0.0,))


# --- the README says what the results say ---------------------------------------------------------

FIGURES = ROOT / "figures"


def published(name: str) -> dict:
    return json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))


def spread(values, digits: int = 1, scale: float = 100) -> str:
    values = scale * np.asarray(values, float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def said(difference: dict) -> str:
    pairs = sum(difference[key] for key in ("fewer", "equal", "more"))
    mean = f"{difference['mean']:+.1f}".replace("-", "−")
    return (
        f"{mean} ± {difference['standard_error']:.1f} (fewer on {difference['fewer']} of {pairs})"
    )


def rows_of_section_4():
    found = published("speech")
    for title, split in found["splits"].items():
        rows = split["rows"]
        frames = {name: spread(rows[name]["frames"]) for name in ("member", "labels", "T = 5")}
        ensemble = f"{100 * rows['ensemble, arithmetic']['frames'][0]:.1f}"
        yield (
            f"frames right, %, test: {title}",
            f"{frames['member']} · {ensemble} · {frames['T = 5']}; labels {frames['labels']}",
        )
    for T in ("1", "2", "5", "10"):
        share = found["all"][f"T = {T}"]
        each = ", ".join(f"{value:.2f}" for value in share["splits"])
        yield (
            f"share of the ensemble's gain, T = {T}",
            f"{share['mean']:.2f} ± {share['standard_error']:.2f} ({each})",
        )
    share = found["all"]["T = 5, as short as a member"]
    yield (
        "the same, T = 5, trained no longer than a member",
        f"{share['mean']:.2f} ± {share['standard_error']:.2f}",
    )
    wrong = {"member": [], "ensemble, arithmetic": [], "T = 5": []}
    for split in found["splits"].values():
        for name, each in wrong.items():
            each.append(100 * np.mean(split["rows"][name]["recordings"]) / split["recordings"])
    yield (
        "words (recordings) wrong, %, mean over splits",
        " · ".join(f"{np.mean(each):.1f}" for each in wrong.values()),
    )


def rows_of_section_5():
    found = published("specialists")
    seeds, differences = found["seeds"], found["differences"]

    def errors(name):
        return spread([seed["errors"][name] for seed in seeds], scale=1)

    generalist, team, equal = "generalist", "with 20 specialists", "6 generalists"
    inside = [
        f"{100 * np.mean([seed['conditional'][who] for seed in seeds]):.1f}"
        for who in ("generalist", "specialists")
    ]
    yield "among the classes of a set, % right", " → ".join(inside)
    yield (
        "all classes: generalist → with specialists",
        f"{errors(generalist)} → {errors(team)} errors",
    )
    yield (
        "specialists − the generalist trained on for as long",
        said(differences[f"{team} - {generalist} trained on"]),
    )
    yield "specialists − an ensemble that costs as much", said(differences[f"{team} - {equal}"])
    cover = specialists.cover(seeds)
    changes = ", ".join(f"{cover[k]['change']:+.1f}".replace("-", "−") for k in range(1, 10))
    yield "change of right answers, %, with 1 to 9 covering specialists", changes
    for width in (24, 64):
        yield (
            f"distilled back into {width} units − labels alone",
            said(differences[f"{width}, distilled - {width}, labels"]),
        )


def rows_of_section_6():
    for name, found in published("regularisers")["sets"].items():
        teacher, chosen = found["teacher"], found["chosen"]
        ends = [curve["test"][-1]["accuracy"] for curve in found["curves"][chosen]]
        stopped = [point["accuracy"] for point in found["stopped"]]
        yield (
            f"{name}: all of the data · 3 % hard, stopped early · 3 % soft",
            f"{100 * teacher['test']['accuracy']:.1f} · {spread(stopped)} · {spread(ends)} ({chosen})",
        )
        yield f"{name}: share of the gap recovered, %", spread(found["recovered"][chosen], 0)


def rows_of_2006():
    found = published("compression")
    for pair in ("MUNGE - NBE", "NBE - RANDOM"):
        each = [f"{pair}, {amount}" for amount in (1, 5, 25)]
        yield (
            f"{pair.replace('-', '−')}, 1, 5 and 25 synthetic rows for each real one",
            "; ".join(said(found["differences"][one]) for one in each),
        )
    errors = [
        spread([seed["errors"][name] for seed in found["seeds"]], 0, scale=1)
        for name in ("the ensemble", "MUNGE, 25", "student, labels")
    ]
    yield "errors: ensemble · student, MUNGE · student, labels", " · ".join(errors)
    large, small = found["sizes"].values()
    yield (
        "parameters: ensemble · student",
        f"{large['parameters']:,} · {small['parameters']:,}",
    )


@pytest.mark.parametrize(
    "rows", [rows_of_section_4, rows_of_section_5, rows_of_section_6, rows_of_2006]
)
def test_the_readme_says_what_the_results_say(rows):
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    table = {row[0]: row[2] for row in cells if len(row) == 4}
    for what, here in rows():
        assert table.get(what) == here, what


@pytest.mark.parametrize("name", ["speech", "specialists", "regularisers", "compression"])
def test_a_published_result_is_of_the_table_as_it_is_and_has_its_picture(name):
    table, _ = TINY[name]
    result = published(name)
    settings = json.loads(json.dumps(asdict(table.Settings())))
    assert result["settings"] == settings
    assert (FIGURES / f"{name}.png").stat().st_size > 20_000
    assert list(table.table(result))
