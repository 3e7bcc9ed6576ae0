"""Every single change of a function's text: an operator, an axis, a constant, two arguments."""

import ast
import inspect
from collections.abc import Callable, Iterator

OTHER_OPERATOR = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Gt: ast.Lt,
    ast.Lt: ast.Gt,
    ast.GtE: ast.Lt,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.USub: ast.UAdd,
}
OTHER_METHOD = {"sum": "mean", "mean": "sum", "max": "min", "argmax": "argmin", "argmin": "argmax"}


def changed(function: Callable) -> Iterator[tuple[str, Callable]]:
    """Each function that differs from this one in one place, with its text."""
    source = inspect.getsource(function)
    for place, node in enumerate(ast.walk(ast.parse(source).body[0])):
        for change in _changes(node):
            other = ast.parse(source).body[0]
            change(list(ast.walk(other))[place])
            module = ast.fix_missing_locations(ast.Module([other], []))
            namespace = dict(function.__globals__)
            exec(compile(module, "<changed>", "exec"), namespace)  # noqa: S102 (our own text)
            yield ast.unparse(other), namespace[function.__name__]


def _changes(node) -> Iterator[Callable]:
    if isinstance(node, (ast.BinOp, ast.UnaryOp)) and type(node.op) in OTHER_OPERATOR:
        yield lambda x: setattr(x, "op", OTHER_OPERATOR[type(x.op)]())
    if isinstance(node, ast.BinOp):
        yield _swap_sides
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER_OPERATOR:
        yield lambda x: setattr(x, "ops", [OTHER_OPERATOR[type(x.ops[0])]()])
    if isinstance(node, ast.keyword) and node.arg == "axis":
        yield lambda x: setattr(x, "value", ast.Constant(None))
        yield lambda x: setattr(x, "value", ast.Constant(-1 if ast.unparse(x.value) == "0" else 0))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda x: setattr(x, "value", x.value + 1)
    if isinstance(node, ast.Call) and len(node.args) > 1:
        yield lambda x: x.args.insert(0, x.args.pop(1))
    if isinstance(node, ast.Attribute) and node.attr in OTHER_METHOD:
        yield lambda x: setattr(x, "attr", OTHER_METHOD[x.attr])


def _swap_sides(node):
    node.left, node.right = node.right, node.left
