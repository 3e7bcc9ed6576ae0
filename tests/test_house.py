"""The house's own rules, read off the source: floors, randomness, printing, gradients tested."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import numpy_kd as kd

PACKAGE = Path(__file__).parent.parent / "numpy_kd"
TESTS = Path(__file__).parent

FLOORS = [
    {"_checks", "_files", "_progress"},  # the ground, which every floor may stand on
    {"probability", "initializers", "schedules", "optimizers", "gradcheck", "datasets"},
    {"losses", "limits", "metrics", "layers", "mistakes"},
    {"f_divergences"},
    {"decoupled", "standardized", "relations"},
    {"mlp"},
    {"network_check", "checkpoint"},
    {"training", "transfer"},
    {"distillation"},
    {"specialists"},
    {"experiments"},
    {"plots", "exercises"},
    {"notebook"},
    {"course_notebooks"},
    {"experiments_command"},
    {"__main__"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# inside one of these, files may import each other
PACKAGES = {"gradcheck", "datasets", "experiments", "exercises", "plots"}
# the exercises' wings, from the ground up: what judges knows nothing of processes
WINGS = [
    {"exercise"},
    {"judging"},
    {"gallery"},
    {"sheets"},
    {"catalogue"},
    {"in_the_notebook", "sheet_notebooks"},
    {"selfcheck", "grading"},
    {"commands"},
]
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_rooms(path: Path) -> set[str]:
    """Names of the rooms of numpy_kd that this file imports, anywhere in it."""
    return {parts[1] for parts in imported(path) if len(parts) > 1 and parts[1] in FLOOR_OF}


def imported(path: Path) -> list[list[str]]:
    """The parts of every name below numpy_kd that this file imports, anywhere in it."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # a relative import, resolved from the file's own folder
                folder = ["numpy_kd", *path.relative_to(PACKAGE).parent.parts]
                folder = folder[: len(folder) - node.level + 1]
                module = ".".join([*folder, *([module] if module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found += [name.split(".") for name in names if name.split(".")[0] == "numpy_kd"]
    return found


def id_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_every_file_has_its_floor_and_imports_only_from_lower_ones(path):
    here = room(path)
    assert here in FLOOR_OF, f"{here} has no floor: give it one in this test"
    for other in imported_rooms(path) - {here}:
        below = FLOOR_OF[other] < FLOOR_OF[here]
        assert below, f"{id_of(path)} (floor {FLOOR_OF[here]}) imports {other} ({FLOOR_OF[other]})"
    if here not in PACKAGES:
        assert here not in imported_rooms(path)


def test_the_wings_of_the_exercises_stand_on_each_other():
    floor_of = {name: floor for floor, names in enumerate(WINGS) for name in names}
    for path in (path for path in FILES if room(path) == "exercises"):
        here = path.relative_to(PACKAGE).parts[1].removesuffix(".py")
        others = {parts[2] for parts in imported(path) if parts[1:2] == ["exercises"] and parts[2:]}
        for other in (others & floor_of.keys()) - {here}:
            assert floor_of[other] < floor_of[here], f"{id_of(path)} imports {other}"


def test_a_check_in_a_notebook_loads_no_grader():
    program = (
        "import sys, numpy_kd.exercises; "
        "assert not [name for name in sys.modules if name.startswith('numpy_kd.exercises.grading')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)


def test_the_reader_of_imports_sees_them():
    assert ["numpy_kd", "exercises", "judging", "wire"] in imported(
        PACKAGE / "exercises" / "grading" / "child.py"
    )
    assert {"probability", "_checks"} <= imported_rooms(PACKAGE / "losses.py")
    assert "losses" in imported_rooms(PACKAGE / "distillation.py")


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_only_the_command_line_prints(path):
    if room(path) == "__main__":
        return
    for node in ast.walk(tree(path)):
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        assert not (call and node.func.id == "print"), f"print in line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_randomness_is_passed_in(path):
    allowed = {"default_rng", "Generator", "SeedSequence", "PCG64", "bit_generator"}
    for node in ast.walk(tree(path)):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)):
            continue
        if node.value.attr == "random" and getattr(node.value.value, "id", "") == "np":
            assert node.attr in allowed, f"np.random.{node.attr} in line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_matplotlib_is_imported_by_the_plots_alone(path):
    if room(path) in {"plots", "notebook"}:
        return
    source = path.read_text(encoding="utf-8")
    assert "import matplotlib" not in source
    assert "from matplotlib" not in source


def test_the_table_of_names_is_the_one_that_type_checkers_read():
    """`numpy_kd.__init__` says twice where its names are from; each is where it says."""
    block = next(node for node in tree(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    read = {
        (node.module.removeprefix("numpy_kd").removeprefix("."), alias.name)
        for node in block.body
        for alias in node.names
        if alias.name == alias.asname
    }
    written = {(module, name) for module, names in kd._NAMES_OF.items() for name in names}
    assert read == written | {("", module) for module in kd._NAMES_OF}
    for module, name in written:
        assert getattr(kd, name) is getattr(importlib.import_module(f"numpy_kd.{module}"), name)
    assert {name for _, name in read} <= set(dir(kd))
    with pytest.raises(AttributeError, match="module 'numpy_kd' has no attribute 'colour'"):
        kd.colour  # noqa: B018


def test_every_room_with_a_door_can_be_reached_from_the_package():
    rooms = {room(path) for path in FILES}
    hidden = {
        "checkpoint",
        "experiments_command",
        "course_notebooks",
    }  # parts of another room
    assert {name for name in rooms if not name.startswith("_")} - hidden <= set(kd._NAMES_OF)


HEAVY = {"scipy", "matplotlib", "tqdm", "ipywidgets", "torch"}
LIGHT = ["probability", "initializers", "schedules", "optimizers", "datasets", "losses"]
LIGHT += [
    "limits",
    "metrics",
    "f_divergences",
    "decoupled",
    "standardized",
    "relations",
    "layers",
    "mlp",
]


def loaded_by(statement: str) -> set[str]:
    """The top names of `sys.modules` after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, check=True, cwd=PACKAGE.parent, capture_output=True, text=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_package_loads_nothing():
    assert not loaded_by("import numpy_kd") & (HEAVY | {"numpy"})


def test_the_lower_floors_load_no_more_than_numpy():
    statement = "import numpy_kd as kd\n" + "\n".join(f"kd.{name}" for name in LIGHT)
    loaded = loaded_by(statement)
    assert "numpy" in loaded
    assert not loaded & HEAVY


GRADIENTS = (
    "losses.py",
    "f_divergences.py",
    "decoupled.py",
    "standardized.py",
    "relations.py",
    "layers.py",
)


def test_every_gradient_stands_in_a_table_of_gradient_tests():
    tested = {
        node.value
        for name in ("test_losses.py", "test_layers.py")
        for node in ast.walk(tree(TESTS / name))
        if isinstance(node, ast.Constant)
    } | {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree(TESTS / "test_layers.py"))
        if isinstance(node, (ast.Name, ast.Attribute))
    }
    gradients = {
        node.name
        for name in GRADIENTS
        for node in tree(PACKAGE / name).body
        if isinstance(node, ast.FunctionDef)
        and node.name.endswith(("_loss", "_backward"))
        and not node.name.startswith("_")
    }
    assert len(gradients) >= 21
    assert gradients <= tested, f"no gradient test for {sorted(gradients - tested)}"


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_public_functions_have_a_docstring_and_short_files_stay_short(path):
    """Every public function and class says what it does; nothing grows beyond one reading."""
    module = tree(path)
    assert ast.get_docstring(module), "a file opens with a sentence that says why it exists"
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            code = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())
            assert code <= 50, f"{node.name} has {code} lines of code"


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_public_functions_of_the_library_have_an_example(path):
    if room(path) in {
        "experiments",
        "exercises",
        "__main__",
        "course_notebooks",
        "experiments_command",
    }:
        return  # commands and tasks: tried by their own tests
    if room(path).startswith("_"):
        return
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if node.name.endswith(("Error", "Difference")):
                continue
            assert ">>>" in (ast.get_docstring(node) or ""), f"{node.name} has no example"
