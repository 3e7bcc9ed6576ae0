"""The house's own rules, read off the source: floors, randomness, printing, gradients tested."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "numpy_kd"
TESTS = Path(__file__).parent

FLOORS = [
    {"_checks", "_files", "_memory"},  # the ground, which every floor may stand on
    # the cellar: what one file of the ground floor is made of
    {"idx", "download"},
    {"probability", "initializers", "schedules", "optimizers", "gradcheck", "datasets"},
    {"losses", "limits", "metrics", "layers", "mistakes"},
    {"mlp"},
    {"network_check"},
    {"training", "transfer"},
    {"distillation"},
    {"specialists"},
    {"experiments"},
    {"plots", "exercises"},
    {"notebook"},
    {"notebooks_command"},
    {"__main__"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# inside one of these, files may import each other
PACKAGES = {"gradcheck", "experiments", "exercises", "plots"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_rooms(path: Path) -> set[str]:
    """Names of the rooms of numpy_kd that this file imports, anywhere in it."""
    rooms = set()
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
        for name in names:
            parts = name.split(".")
            if parts[0] == "numpy_kd" and len(parts) > 1 and parts[1] in FLOOR_OF:
                rooms.add(parts[1])
    return rooms


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


def test_the_reader_of_imports_sees_them():
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


def test_importing_the_package_imports_no_matplotlib():
    check = (
        "import sys, numpy_kd; assert not {'matplotlib', 'ipywidgets', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=PACKAGE.parent)


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
        for name in ("losses.py", "layers.py")
        for node in tree(PACKAGE / name).body
        if isinstance(node, ast.FunctionDef)
        and node.name.endswith(("_loss", "_backward"))
        and not node.name.startswith("_")
    }
    assert len(gradients) >= 13
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
    if room(path) in {"experiments", "exercises", "__main__", "notebooks_command"}:
        return  # commands and tasks: tried by their own tests
    if room(path).startswith("_"):
        return
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if node.name.endswith(("Error", "Difference")):
                continue
            assert ">>>" in (ast.get_docstring(node) or ""), f"{node.name} has no example"
