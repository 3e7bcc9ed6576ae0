"""Is this gradient the derivative of this function? The checks that people call.

A check compares a gradient with *its own* `f`. Whoever forgets `T` in both the value and the
gradient passes it: check values first, against another implementation, and then the gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from numpy_kd import _checks
from numpy_kd.gradcheck import preconditions
from numpy_kd.gradcheck.causes import Case, Diagnosis, diagnose
from numpy_kd.gradcheck.comparison import MANY, Comparison
from numpy_kd.gradcheck.parameters import Parameters
from numpy_kd.gradcheck.report import Block, GradientReport, Problem
from numpy_kd.gradcheck.slopes import METHODS, Function

LEVELS = ("auto", "full", "quick")
FULL = 2000  # entries up to which "auto" looks at each one


@dataclass(frozen=True)
class Derivative:
    """A numerical gradient, the error to expect in each entry, and how and why it was taken.

    >>> differentiate(lambda x: x @ x, np.array([1.0, 2.0])).method
    'complex'
    """

    gradient: np.ndarray
    error: np.ndarray
    method: str
    why: str
    evaluations: int


def numerical_gradient(f, x, method: str = "auto", *, scale=None):
    """The gradient of `f` at `x`, entry by entry, by nothing but calls of `f`.

    Parameters: `f` takes an array like `x` and returns one number (complex for complex input);
    `x` an array of any shape, or a dict, list or tuple of them; `method` one of
        "complex"     Im f(x + ih)/h with h = 1e-20: exact to rounding, one call an entry
        "central"     (f(x + h) - f(x - h))/2h: ten digits at best, two calls; to compare with
        "richardson"  central differences extrapolated to h = 0 (Ridders 1982), with an error
        "auto"        the complex step where differences confirm it, else Richardson
    Do not trust "complex" where `f` drops or flips an imaginary part (abs, norm, var, vdot, conj,
    .real, sign, a buffer of real numbers): it gives a wrong number and no error. `scale` is the
    size of an entry, from which the steps start; its own where none is given.
    Returns: like `x`, float64. `differentiate` also tells error, method and reason.
    Raises `ValueError` for an `f` of more than one number, a non-finite value, an empty `x`.

    >>> numerical_gradient(lambda x: (x**3).sum(), np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    return differentiate(f, x, method, scale=scale).gradient


def differentiate(f, x, method: str = "auto", *, scale=None) -> Derivative:
    """`numerical_gradient` with the error of each entry, the method taken, and why.

    >>> result = differentiate(lambda x: np.abs(x).sum(), np.array([1.0, -2.0]))
    >>> result.gradient.round(9), result.method
    (array([ 1., -1.]), 'richardson')
    >>> result.why[:47]
    'f refuses complex numbers (TypeError: its resul'
    """
    _checks.function("f", f)
    params = Parameters(x)
    scale = _scale(params, scale)
    function = _function(f, params, _checks.one_of("method", method, METHODS), scale, 0)
    value, error, _ = function.each(np.arange(params.flat.size))
    gradient, error = params.unpack(value), params.unpack(error)
    return Derivative(gradient, error, function.method, function.why, function.evaluations)


def check_gradient(
    f: Callable,
    x,
    gradient=None,
    *,
    level: str = "auto",
    method: str = "auto",
    order: int = 1,
    tolerance: float | None = None,
    scale=None,
    context: Mapping | None = None,
    causes: list | None = None,
    blocks: Mapping | None = None,
    name: str = "x",
    rng=0,
) -> GradientReport:
    """Is `gradient` the gradient of `f` at `x`?

    Every numerical slope comes with an error of its own, and an entry is right within
    `max(tolerance |slope|, error)`. There is no absolute tolerance.

    Parameters
        f: takes an array like `x` and returns one number; or (number, gradient), and then
            `gradient` is left out; or an array `y`, and then `gradient` is a function
            (x, dy) -> dx, or (dy) -> dx that is called right after f(x).
        x: an array, or a dict, list or tuple of arrays, nested or not; `gradient` is alike.
        gradient: numbers, or a function of `x` that gives them (it is then also called at another
            point, to see what it remembers).
        level: "full" looks at every entry, "quick" at random lines through each block, finding
            what is wrong by bisection; "auto" is full up to 2,000 entries.
        method: as in `numerical_gradient`, but not "central".
        order: 2 checks second derivatives: `f` gives a gradient like `x` (or value and gradient),
            and `gradient` is its Hessian-vector product, a function (x, v) -> H v.
        tolerance: relative, 1e-10 by default, for gradients that are computed less exactly.
        scale: the size of an entry (a number, or like `x`), from which steps start.
        context: what rows of `causes` may use, a table to put in place of `causes.CAUSES`.
        blocks: {name: (slice of the flat x, shape)}, for an `x` that holds several arrays.
        name: what the report calls `x`; rng: for the random lines.
    Returns: a `GradientReport`, true when ok. Raises `ValueError` where `x` is empty, complex or
    not finite, where `f` is not finite, and where `gradient` is not built like `x`.

    >>> x = np.array([1.0, 2.0, 3.0])
    >>> print(check_gradient(lambda x: (x**2).sum() / 2, x, 2 * x))
    wrong: the gradient is not the derivative of f
      measured   your gradient is 2.0000000 times the right one
      diagnosis  times 2
      method     complex: it takes no difference, so nothing cancels; 51 evaluations of f
      block  shape  error    verdict
      x      3      1.0e+00  wrong
      worst entries  given  numerical  ratio
      x[2]           6      3          2.0000000
      x[1]           4      2          2.0000000
      x[0]           2      1          2.0000000
    """
    _checks.function("f", f)
    _checks.one_of("level", level, LEVELS)
    _checks.one_of("method", method, ("auto", "complex", "richardson"))
    _checks.instance("name", name, str, "a name")
    order = _checks.count("order", order)
    if order > 2:
        raise ValueError(f"order must be 1 or 2, got {order}")
    if tolerance is not None:
        tolerance = _checks.positive("tolerance", tolerance)
    rng, params = _checks.generator("rng", rng), Parameters(x, name, blocks)
    scale = _scale(params, scale)
    options = {"level": level, "method": method, "tolerance": tolerance, "scale": scale}
    options |= {"context": dict(context or {}), "causes": causes, "rng": rng}
    if order == 2:
        return _second_order(f, params, gradient, options)
    if gradient is None or callable(gradient):
        first = f(params.unpack(params.flat))
        if gradient is None and not isinstance(first, tuple):
            raise ValueError("gradient must be given where f does not return (value, gradient)")
        if gradient and (np.size(_value(first)) != 1 or _takes(gradient, 1) == 2):
            return _backward(f, gradient, params, options)
    return _check(f, params, (lambda p: f(p)[1]) if gradient is None else gradient, **options)


def check_backward(
    forward: Callable, backward: Callable, x, *, context: Mapping | None = None, rng=0, **options
) -> GradientReport:
    """A layer's backward pass: is `backward(dy)` the gradient of `(forward(x) * dy).sum()`?

    `dy` is drawn at random: with ones, the softmax's gradient is 0 and any multiple of it passes.
    Before that, a backward pass fed zeros must give zeros, and be linear in what it is fed.

    Parameters: `forward` takes `x` to an array or one number, or to (array, cache); `backward` the gradient by
    that output, and the cache where there is one, to the gradient by `x`. It is always called
    after `forward(x)`, so that it may remember. `x`, and the others, as in `check_gradient`.

    >>> x = np.array([[1.0, -2.0], [3.0, 0.5]])
    >>> print(check_backward(np.tanh, lambda dy: dy * (1 - np.tanh(x) ** 2), x).verdict)
    ok
    """

    _checks.function("forward", forward)
    _checks.function("backward", backward)

    def gradient(x, dy):
        result = forward(x)
        cache = result[1:] if isinstance(result, tuple) else ()
        return backward(dy, *cache)

    return check_gradient(forward, x, gradient, context=context, rng=rng, **options)


def assert_gradient(f: Callable, x, gradient=None, **options) -> GradientReport:
    """`check_gradient` for a test: an `AssertionError` that is the report, unless it is ok.

    >>> assert_gradient(lambda x: (x**2).sum(), np.array([1.0, 2.0]), np.array([2.0, 4.0])).verdict
    'ok'
    """
    report = check_gradient(f, x, gradient, **options)
    if not report:
        raise AssertionError(f"\n{report}")
    return report


# --- how it goes --------------------------------------------------------------------------------


def _value(result):
    return result[0] if isinstance(result, tuple) else result


def _function(f, params: Parameters, method, scale, rng, place=lambda flat: flat) -> Function:
    """`f` of the flat vector, with the size of each entry: its own, or that of its block."""
    own, typical = np.abs(params.flat), np.ones(params.flat.size)
    for where, _ in params.blocks.values():
        typical[where] = np.median(own[where][own[where] > 0]) if own[where].any() else 1.0
    own = np.where(own == 0, typical, own)
    if scale is not None:
        own = typical = scale
    own = 2.0 ** np.round(np.log2(own))  # so that dividing by a step rounds nothing
    at = lambda flat: f(params.unpack(place(flat)))
    return Function(at, params.flat, own, typical, method, rng)


def _scale(params: Parameters, scale) -> np.ndarray | None:
    """The size of each entry as it was given, for the flat vector."""
    if scale is None:
        return None
    if isinstance(scale, (Mapping, list, tuple)) or np.shape(getattr(scale, "shape", ())) != (0,):
        given, misfits, _ = params.pack("scale", scale)
    else:
        given, misfits = np.full(params.flat.size, _checks.number("scale", scale)), {}
    if not misfits and given.dtype.kind != "c":
        given = given.astype(np.float64)
    if misfits or given.dtype.kind == "c" or not np.all((given > 1e-150) & (given < 1e150)):
        raise ValueError("scale must be positive and of a usual size, a number or like x")
    return given


def _check(f, params, gradient, *, level, method, tolerance, scale, context, causes, rng):
    """Preconditions, then the comparison, then what can be said of a gradient that is wrong."""
    before = {k: v.copy() for k, v in context.items() if isinstance(v, np.ndarray)}
    given, misfits, dtype, problems = preconditions.of_the_gradient(gradient, params, rng)
    problems += preconditions.of_the_numbers(given, misfits, params)
    function = _function(f, params, method, scale, rng)
    names = preconditions.symmetric_blocks(function, params)
    mean = lambda flat: preconditions.symmetric(flat, names, params)
    problems = preconditions.of_the_function(f, params, function.value) + problems
    if names:
        function = _function(f, params, method, scale, rng, mean)
    report = GradientReport("")
    if not any(
        p.verdict == "inconclusive" or p.name in ("complex", "not finite") for p in problems
    ):
        fitting = {name: part for name, part in params.blocks.items() if name not in misfits}
        given = mean(np.nan_to_num(given))
        comparison = Comparison(function, given, fitting, tolerance, dtype)
        full = level == "full" or (level == "auto" and given.size <= FULL)
        blocks = (comparison.full() if full else comparison.quick()) if fitting else []
        for name, misfit in misfits.items():
            shape = params.blocks[name][1]
            note = f"the gradient has shape {misfit.shape}, {name} has shape {shape}"
            blocks.append(Block(name, shape, "wrong", np.inf, note))
        diagnoses = _diagnoses(comparison, blocks, misfits, params, context, causes)
        report = replace(report, blocks=tuple(blocks), diagnoses=tuple(diagnoses))
        report = replace(report, kinks=tuple(comparison.kinks))
    if any(not np.array_equal(context[k], v, equal_nan=True) for k, v in before.items()):
        problems.append(Problem("input written to", "an array of the context was changed"))
    said = [f"f takes {name} for symmetric: G + G.T is what is checked" for name in names]
    digits = np.log10(abs(function.value)) - np.log10(function.noise) if function.value else 16
    if function.method == "richardson" and 4 < digits < 9:
        said.append(f"f is exact to about {digits:.0f} digits: float32 inside?")
    return replace(
        report,
        method=f"{function.method}: {function.why}",
        problems=tuple(problems),
        mind=tuple(_blind_spots(params, context, causes)),
        evaluations=function.evaluations,
        notes=tuple(said),
    )


def _diagnoses(comparison, blocks, misfits, params: Parameters, context, causes) -> list[Diagnosis]:
    """One diagnosis for each wrong block, but the same one only once."""
    found: dict[Diagnosis, list[str]] = {}
    for block in blocks:
        if block.verdict != "wrong" or block.explained:
            continue
        where, shape = comparison.blocks.get(block.name) or params.blocks[block.name]
        right, error = comparison.right.get(block.name, (None, 0.0))
        if block.name in misfits and np.prod(shape) <= MANY:
            slopes = comparison.function.each(np.arange(where.start, where.stop))
            right, error = slopes[:2].reshape(2, *shape)
        given = misfits.get(block.name, comparison.gradient[where].reshape(shape))
        known = {"x": params.flat[where].reshape(shape), "shape": shape, **context}
        diagnosis = diagnose(given, right, known, causes, error)
        found.setdefault(diagnosis, []).append(block.name)
    if len(params.blocks) == 1:
        return list(found)
    return [
        replace(d, finding=d.finding and f"{', '.join(n)}: {d.finding}") for d, n in found.items()
    ]


def _blind_spots(params: Parameters, context, causes) -> list[str]:
    ones = [name for name, (where, _) in params.blocks.items() if (params.flat[where] == 1).all()]
    spots = [
        f"{name} is 1 in every entry: a factor {name} that is forgotten is not seen"
        for name in ones
    ]
    rows = [row for row in causes or () if row.stage == "mind"]
    return spots + [spot for row in rows for spot in row.pattern(Case(context=context))]


def _linear_map(of: Callable, f, params: Parameters, draw, options, context) -> GradientReport:
    """A function (x, dy) -> dx that must be linear in dy, against the slopes of `f(x) . dy`."""
    dy, other = draw
    report = _check(
        lambda x: (f(x) * dy).sum(),
        params,
        lambda x: of(x, dy.copy()),
        **{**options, "context": {**context, **options["context"]}},
    )

    def fed(dy):
        return params.pack("gradient", of(params.unpack(params.flat), dy.copy()))[0].copy()

    finite = np.isfinite(fed(dy)).all()
    problems = preconditions.of_the_backward_pass(fed, dy, other) if finite else []
    return replace(report, problems=(*report.problems, *problems))


def _takes(function: Callable, unknown: int) -> int:
    """How many arguments a function must be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions tell nothing
        return unknown
    positional = (p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    return sum(p.default is p.empty for p in positional)


def _backward(f, gradient, params: Parameters, options) -> GradientReport:
    """A backward pass, by random cotangents."""
    after = lambda x, dy: (f(x), gradient(dy))[1]  # it may remember what f saw
    shape = np.shape(_value(f(params.unpack(params.flat))))
    draw = options["rng"].standard_normal((2, *shape))
    way = gradient if _takes(gradient, 2) == 2 else after
    return _linear_map(way, lambda x: _value(f(x)), params, draw, options, {"dy": draw[0]})


def _second_order(f, params: Parameters, product, options) -> GradientReport:
    """A Hessian-vector product, by the slopes of the gradient along a random vector."""
    n, first = params.flat.size, f(params.unpack(params.flat))
    both = isinstance(first, tuple) and np.size(first[0]) == 1
    if not both and np.isscalar(first):
        raise ValueError(
            "with order=2 f must return a gradient, or (value, gradient), got a number"
        )
    if not callable(product):
        H = np.asarray(product, dtype=float).reshape(n, n)
        product = lambda x, v: params.unpack(H @ params.pack("v", v)[0])
    gradient = lambda x: params.pack("f's gradient", f(x)[1] if both else f(x))[0]
    times = lambda x, v: product(x, params.unpack(v))
    v, u = draw = options["rng"].standard_normal((2, n))
    report = _linear_map(times, gradient, params, draw, options, {})
    Hv, Hu = (params.pack("gradient", times(params.unpack(params.flat), w))[0] for w in (v, u))
    if abs(u @ Hv - v @ Hu) > 1e-7 * np.abs(u * Hv).sum():
        problem = Problem("not symmetric", "a Hessian is symmetric, and this one is not")
        report = replace(report, problems=(*report.problems, problem))
    return report
