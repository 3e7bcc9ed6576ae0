"""Jobs: the same bits whoever executes them, kept, continued, and stopped in good order."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from numpy_kd.experiments import digits, jobs
from numpy_kd.experiments.jobs import Job, JobError, Workers

ROOT = Path(__file__).parent.parent
SOFT = {"temperature": 3.0, "soft_weight": 0.9, "hard_weight": 0.1}
TEACHER = Job("teacher", hidden=(16,), rate=0.01, epochs=3, held_out=200, network={"dropout": 0.1})
STUDENT = Job(
    "student",
    hidden=(7,),
    rate=0.01,
    epochs=2,
    seed=5,
    rows=150,
    drawn=True,
    loss="losses.hinton_loss",
    settings=SOFT,
    teacher=("teacher",),
    curve=True,
)
NOISY = replace(
    STUDENT,
    name="noisy",
    loss="losses.noisy_logit_matching_loss",
    settings={"sigma": 0.5, "fraction": 0.5},
    without=(3, 8),
    jitter=1,
    optimizer="SGD",
    optimizer_settings={"momentum": 0.9, "max_norm": 3.0},
)


def done(folder, *table, **how):
    """Results and networks of jobs, one round for each."""
    with Workers(folder, progress=False, **how) as workers:
        results = [workers.train([job])[0] for job in table]
        return results, [workers.network(job.name) for job in table]


def without_time(results):
    return [{k: v for k, v in result.items() if k != "seconds_per_epoch"} for result in results]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What comes out in this process."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, *done(folder, TEACHER, STUDENT, NOISY, processes=1)


def test_a_result_says_what_it_is_about(alone):
    _, (teacher, student, _), _ = alone
    assert teacher["job"]["hidden"] == [16] and teacher["teacher"] is None
    assert teacher["parameters"] == 65 * 16 + 17 * 10
    assert 0 < teacher["held_out_errors"] < 200 and teacher["held_out_cross_entropy"] > 0
    assert sum(teacher["errors_by_class"]) == teacher["test"]["errors"]
    assert "curve" not in teacher and len(student["curve"]) == 2
    assert student["curve"][-1] == pytest.approx(student["test"]["accuracy"])
    assert 0 <= student["test"]["agreement"] <= 1 and "agreement" not in teacher["test"]


def test_a_pool_gives_the_same_bits(alone, tmp_path):
    _, expected, networks = alone
    found, again = done(tmp_path, TEACHER, STUDENT, NOISY, processes=2)
    assert without_time(found) == without_time(expected)
    for a, b in zip(networks, again, strict=True):
        assert np.array_equal(a.parameters, b.parameters)


def test_a_temporary_folder_gives_the_same_and_is_gone(alone):
    with Workers(processes=1, progress=False) as workers:
        (result,) = workers.train([TEACHER])
        folder = workers.folder
        assert sorted(path.name for path in folder.iterdir()) == ["teacher.json", "teacher.npz"]
    assert without_time([result]) == without_time(alone[1][:1])
    assert not folder.exists()


def when_written(folder):
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).iterdir()}


def test_what_is_there_is_read_and_what_changed_is_done_again(tmp_path):
    (first, _), _ = done(tmp_path, TEACHER, STUDENT, processes=1)
    before = when_written(tmp_path)
    assert set(before) == {f"{n}.{e}" for n in ("teacher", "student") for e in ("json", "npz")}
    assert done(tmp_path, TEACHER, STUDENT, processes=1)[0][0] == first
    assert when_written(tmp_path) == before
    # another teacher of that name: what it taught is done again, too
    done(tmp_path, replace(TEACHER, epochs=2), STUDENT, processes=1)
    after = when_written(tmp_path)
    assert all(after[name] > before[name] for name in before) and set(after) == set(before)


@pytest.mark.parametrize("harm", ["no network", "half a result", "another numpy"])
def test_what_is_not_whole_is_done_again(harm, tmp_path):
    (first,), _ = done(tmp_path, TEACHER, processes=1)
    path = tmp_path / "teacher.json"
    if harm == "no network":
        (tmp_path / "teacher.npz").unlink()
    elif harm == "half a result":
        path.write_text(path.read_text()[:100])
    else:
        path.write_text(json.dumps(first | {"versions": {"numpy": "1.0"}}))
    (second,), _ = done(tmp_path, TEACHER, processes=1)
    assert without_time([second]) == without_time([first])
    assert json.loads(path.read_text()) == second and (tmp_path / "teacher.npz").exists()


def test_a_checkpoint_is_taken_up_by_its_own_job_alone(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "measured", lambda *_: 1 / 0)  # after the last epoch
        with pytest.raises(JobError, match="job teacher: ZeroDivisionError"):
            done(tmp_path, TEACHER, processes=1)
    (checkpoint,) = tmp_path.glob("*.checkpoint.npz")
    other = replace(TEACHER, seed=1)
    expected, _ = done(tmp_path / "elsewhere", other, processes=1)
    found, _ = done(tmp_path, other, processes=1)
    assert without_time(found) == without_time(expected) and checkpoint.exists()
    done(tmp_path, TEACHER, processes=1)
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    "processes, wrong, message",
    [
        (1, {"loss": "losses.no_loss"}, "AttributeError: .*no_loss"),
        (
            1,
            {"data": "cats"},
            "ValueError: data must be a data set of numpy_kd.datasets, got 'cats'",
        ),
        (1, {"rows": 5000}, "ValueError: rows must be more than the 200 held out and at most 1297"),
        (1, {"held_out": 1297}, "ValueError: rows must be more than the 1297 held out"),
        (1, {"teacher": ("nobody",)}, "FileNotFoundError: .*nobody.npz"),
        (2, {"rate": 1e30, "optimizer": "SGD"}, "FloatingPointError: .* in epoch 0"),
    ],
)
def test_an_error_says_which_job_and_why(processes, wrong, message, tmp_path):
    with pytest.raises(JobError, match=f"^job bad: {message}"):
        done(tmp_path, replace(TEACHER, name="bad", **wrong), processes=processes)
    assert not list(tmp_path.glob("*.json"))


def test_a_worker_that_is_killed_is_an_error_that_says_so(tmp_path):
    with (
        ProcessPoolExecutor(1, initializer=os._exit, initargs=(1,)) as pool,
        pytest.raises(JobError, match="a worker was ended from outside"),
    ):
        done(tmp_path, TEACHER, executor=pool)


def test_two_jobs_of_one_name_are_refused():
    with (
        Workers(processes=1, progress=False) as workers,
        pytest.raises(ValueError, match="jobs must have different names"),
    ):
        workers.train([TEACHER, replace(TEACHER, seed=1)])


@pytest.mark.parametrize("processes", [0, -1, 1.5, "two"])
def test_processes_must_be_a_count(processes):
    with pytest.raises(ValueError, match="processes must be an integer of at least 1"):
        Workers(processes=processes)


def test_rows_are_first_or_drawn_and_some_are_kept_apart():
    data = jobs.data_set("digits")
    job = replace(TEACHER, rows=100, held_out=30)
    x, labels, (x_out, labels_out) = jobs.examples(job, data)
    assert np.array_equal(np.vstack([x, x_out]), data.x_train[:100]) and len(x_out) == 30
    assert np.array_equal(np.hstack([labels, labels_out]), data.labels_train[:100])
    lacking, labels, (_, out) = jobs.examples(replace(job, without=(0, 5)), data)
    assert not {0, 5} & set(labels.tolist()) and {0, 5} <= set(out.tolist())
    assert len(lacking) == len(labels) < 70
    drawn = [jobs.examples(replace(job, drawn=True, seed=seed), data)[0] for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], x)


def test_the_students_of_a_seed_differ_in_what_they_learn_from_alone():
    settings = digits.Settings()
    for seed in range(3):
        alone, distilled = (
            student(settings, seed) for student in (digits.student_alone, digits.student_distilled)
        )
        differ = {
            field.name
            for field in fields(Job)
            if getattr(alone, field.name) != getattr(distilled, field.name)
        }
        assert differ == {"name", "rate", "loss", "settings", "teacher"}


# --- stopping ---------------------------------------------------------------------------------

LONG = """
import sys
from numpy_kd.experiments.jobs import Job, Workers
if __name__ == "__main__":
    with Workers(sys.argv[1], processes=2, progress=False) as workers:
        workers.train([Job(f"j{i}", hidden=(64,), rate=0.01, epochs=10_000) for i in range(4)])
"""


@pytest.fixture
def long_run(tmp_path):
    """Two workers at work for an hour, in a process group of their own."""
    script = tmp_path / "long.py"
    script.write_text(LONG)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "folder")],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield run, tmp_path / "folder"
    if group(run):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def group(run) -> bool:
    """Whether any process of its group is there."""
    try:
        os.killpg(run.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
def test_ctrl_c_ends_all_workers_without_a_word(long_run):
    run, folder = long_run
    wait(lambda: len(list(folder.glob("*.checkpoint.npz"))) == 2)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does it
    _, said = run.communicate(timeout=60)
    assert said.count("Traceback") == 1 and "KeyboardInterrupt" in said  # this program's own
    wait(lambda: not group(run))
    assert len(list(folder.glob("*.checkpoint.npz"))) == 2  # from where it would go on


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
def test_ctrl_c_while_the_workers_start(long_run):
    run, folder = long_run
    wait(folder.exists)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert said.count("Traceback") <= 1
    wait(lambda: not group(run))


@pytest.mark.skipif(os.name == "nt", reason="needs signal masks")
def test_ctrl_c_waits_while_the_workers_start_whichever_thread_takes_it():
    done, started = threading.Event(), False
    threading.Thread(target=done.wait).start()  # it has no mask, as those of BLAS have none
    try:
        with pytest.raises(KeyboardInterrupt), jobs._no_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            started = True
    finally:
        done.set()
    assert started


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_workers_end_with_their_parent(long_run):
    run, folder = long_run
    wait(lambda: len(list(folder.glob("*.checkpoint.npz"))) == 2)
    run.kill()
    run.stderr.close()
    run.wait()
    wait(lambda: not group(run))
