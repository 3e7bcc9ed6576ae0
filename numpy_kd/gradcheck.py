"""Numbers against formulas: is this gradient the derivative of this function, and if not, why?

A derivative without a difference: for a function that is analytic, `f(x + ih) = f(x) + ih f'(x)
- ...`, so that `Im f(x + ih) / h` is the derivative to all digits once `h**2` is below rounding;
nothing is subtracted, so `h` may be 1e-20. (Squire and Trapp 1998.) This asks of `f` that it
compute with complex numbers. Do not trust it where `f` drops or flips an imaginary part: `abs`,
`np.linalg.norm`, `np.var`, `np.vdot`, `conj`, `.real`, `sign`, a buffer of real numbers, a
comparison that decides by more than the real part. `"auto"` therefore tries one direction by
differences too, and falls back on Richardson's extrapolation, saying so, where the two disagree.

A check compares a gradient with *its own* `f`. Whoever forgets `T` in both the value and the
gradient passes it: check values first, against another implementation, and then the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from numpy_kd import _checks
from numpy_kd._gradcheck import contract
from numpy_kd._gradcheck.pieces import Run, kinks, pieces
from numpy_kd._gradcheck.report import (
    Block,
    Entry,
    GradientReport,
    concentration,
    like_float32,
)
from numpy_kd._gradcheck.slopes import (
    Derivative,
    Slopes,
    differentiate,
    numerical_gradient,
    random_direction,
)
from numpy_kd.diagnosis import CAUSES, Cause, Diagnosis, blind_spots, diagnose

__all__ = [
    "CAUSES",
    "Cause",
    "Derivative",
    "Diagnosis",
    "GradientReport",
    "Slopes",
    "assert_gradient",
    "assert_network",
    "check_backward",
    "check_gradient",
    "check_network",
    "diagnose",
    "differentiate",
    "fixture",
    "numerical_gradient",
]

LEVELS = ("full", "quick")
TOLERANCE = 1e-10  # of a block's largest entry: 10**5 above the complex step's error, and
#                    10**5 below the tolerances in use, which let a gradient of zeros pass at T = 50
FEW = 1000  # entries that a failed quick check may look at one by one for its diagnosis

# --- the comparison, block by block -----------------------------------------------------------


class _Comparison:
    """A gradient against the slopes of its function: every entry, or a few random directions."""

    def __init__(self, slopes: Slopes, gradient: np.ndarray, blocks: dict, rng):
        self.slopes, self.gradient, self.blocks, self.rng = slopes, gradient, blocks, rng
        self.everything = np.arange(len(gradient))
        self.rounding = 1e-6  # an error below it in most entries is that of some float32 array
        self.right = {}  # the true gradient of a block, where it became known
        self.kinks: list[str] = []

    def run(self, level: str) -> list[Block]:
        u = random_direction(self.rng, len(self.gradient), self.everything)
        least = 1e-9 * np.abs(self.gradient).max() / len(u) ** 0.5
        self.kinked = abs(self.slopes.jump(u)) > least
        if level == "full":
            return self._full(u)
        if self.kinked:
            self.kinks = ["x along a random direction"]
        blocks = [self._quick(name) for name in self.blocks]
        if len(blocks) > 1 and all(block.verdict == "ok" for block in blocks):
            self.blocks["all together"] = slice(0, len(u)), (len(u),)
            blocks.append(self._quick("all together"))
        return blocks

    # every entry

    def _full(self, u) -> list[Block]:
        numerical, error = self.slopes.each(self.everything)
        at_kink = np.zeros(len(u), bool)
        if self.kinked:
            least = 1e-6 * max(np.abs(numerical).max(), np.abs(self.gradient).max())
            for i in self.everything:
                at_kink[i] = abs(self.slopes.jump(u, np.eye(1, len(u), i)[0])) > least
        return [self._judge(name, numerical, error, at_kink) for name in self.blocks]

    def _judge(self, name, numerical, error, at_kink) -> Block:
        where, shape = self.blocks[name]
        given, numerical, error = self.gradient[where], numerical[where], error[where]
        at_kink = at_kink[where]
        self.right[name] = numerical.reshape(shape)
        self.kinks += [Entry(name, _index(i, shape), 0, 0).where for i in np.flatnonzero(at_kink)]
        miss, scale = np.abs(given - numerical), _largest(given, numerical)
        off = miss > np.maximum(TOLERANCE * scale, 10 * error)
        verdict, note = self._verdict(name, scale, 10 * error.max(), off[~at_kink].any())
        if verdict == "ok" and off.any():
            verdict, note = "inconclusive", "differs only at a kink"
        if verdict == "wrong" and like_float32(miss, numerical, scale, self.rounding):
            verdict, note = "inconclusive", "some array is float32"
        entries = ()
        if off.any() and verdict != "dead":
            note = note or concentration(miss * off, shape, name)
            worst = [i for i in np.argsort(-miss)[:5] if off[i]]
            entries = tuple(Entry(name, _index(i, shape), given[i], numerical[i]) for i in worst)
        return Block(name, shape, verdict, miss.max() / scale if scale else 0.0, note, entries)

    def _verdict(self, name, scale: float, uncertainty: float, off: bool) -> tuple[str, str]:
        if scale == 0:
            return "dead", "exactly zero, both"
        if off:
            noise = self._is_noise(name, scale)
            return ("dead", "zero up to rounding, both") if noise else ("wrong", "")
        if uncertainty > 1e-3 * scale:
            return "inconclusive", "the differences are too noisy"
        return "ok", ""

    def _is_noise(self, name, scale) -> bool:
        """Whether these tiny slopes are but the rounding of something larger, as those of a bias
        before a batch normalisation are: other roundings then change them altogether."""
        if scale > 1e-9 * max(abs(self.slopes.value), np.abs(self.gradient).max()):
            return False
        length, indices = len(self.gradient), self.everything[self.blocks[name][0]]
        u, slopes = random_direction(self.rng, length, indices), []
        for factor in (1, 0.7, 1.3, 1.9):
            shift = 1e-9 * self.slopes.size * self.rng.standard_normal(length)
            slopes.append(self.slopes.along(factor * u, shift)[0] / factor)
        return np.ptp(slopes) > 0.1 * np.abs(slopes).max()

    # a random direction

    def _quick(self, name: str) -> Block:
        where, shape = self.blocks[name]
        u = random_direction(self.rng, len(self.gradient), self.everything[where])
        slope, error = self.slopes.along(u)
        miss, root = slope - self.gradient @ u, len(self.everything[where]) ** 0.5
        # a unit direction gives each entry the share 1/root, so does an entry's tolerance
        scale = _largest(self.gradient[where], slope * root)
        tolerance = max(TOLERANCE * scale / root, 10 * error)
        verdict, note = self._verdict(name, scale, 10 * error * root, abs(miss) > tolerance)
        entries, relative = (), abs(miss) * root / scale if scale else 0.0
        explained = False
        if verdict == "wrong" and self.kinked:
            verdict, note = "inconclusive", "differs, but at a kink: move x a little"
        if verdict == "wrong":
            entries, explained = self._locate(name, u, miss, tolerance)
            if explained:
                relative = max(abs(e.analytic - e.numerical) for e in entries) / scale
                note = "nothing else is wrong"
            elif relative < self.rounding:
                verdict, note = "inconclusive", "some array is float32"
            else:
                note = "and more than these entries"
                self._guess_right(name, u, slope)
        return Block(name, shape, verdict, relative, note, entries, explained)

    def _locate(self, name, u, miss, tolerance) -> tuple[tuple[Entry, ...], bool]:
        """The entries behind a miss, by bisection, one at a time; and whether they are all.

        The miss is a sum over the entries, `sum (numerical - given) u`, so halve the set, measure
        one half, subtract for the other, and follow the larger: one entry of P in log2(P) steps.
        """
        where, shape = self.blocks[name]
        given, entries = self.gradient.copy(), []
        while abs(miss) > tolerance and len(entries) < 5:
            indices, part = self.everything[where], miss
            while len(indices) > 1:
                left, right = np.array_split(indices, 2)
                along = np.zeros_like(u)
                along[left] = u[left]
                left_part = self.slopes.along(along)[0] - given @ along
                follow_left = abs(left_part) >= abs(part - left_part)
                indices, part = (left, left_part) if follow_left else (right, part - left_part)
            i = int(indices[0])
            numerical = self.slopes.each([i])[0][i]
            index = _index(i - self.everything[where][0], shape)
            entries.append(Entry(name, index, self.gradient[i], numerical))
            miss -= (numerical - given[i]) * u[i]
            given[i] = numerical
        u = random_direction(self.rng, len(u), self.everything[where])
        left = self.slopes.along(u)[0] - given @ u
        few = 2 * len(entries) <= np.count_nonzero(given[where])
        return tuple(entries), few and abs(left) <= tolerance

    def _guess_right(self, name, u, slope) -> None:
        """The true gradient, if it is a multiple of the given one, or if it has few entries."""
        where, shape = self.blocks[name]
        other = random_direction(self.rng, len(self.gradient), self.everything[where])
        here, there = (
            slope * (self.gradient @ other),
            self.slopes.along(other)[0] * (self.gradient @ u),
        )
        if here and abs(here - there) <= 1e-9 * abs(here):
            right = self.gradient[where] * (slope / (self.gradient @ u))
        elif len(self.blocks) == 1 and len(self.everything) <= FEW:
            right = self.slopes.each(self.everything[where])[0][where]
        else:
            return
        self.right[name] = right.reshape(shape)


def _index(i, shape) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(i, shape))


def _largest(*arrays) -> float:
    return max(float(np.abs(array).max()) for array in arrays)


# --- the checks -------------------------------------------------------------------------------


def check_gradient(
    f: Callable,
    x,
    gradient,
    *,
    level: str = "full",
    method: str = "auto",
    context: Mapping | None = None,
    causes: list[Cause] | None = None,
    blocks: Mapping | None = None,
    name: str = "x",
    rng=0,
) -> GradientReport:
    """Is `gradient` the gradient of `f` at `x`? Never by an absolute tolerance: see `TOLERANCE`.

    It knows no other `f` than this one, so check its values first.

    Parameters: `f` as in `numerical_gradient`; `gradient` an array like `x`, or a function of
    `x` that returns one (then it is also called at another point, to see what it remembers);
    `level` "full" looks at every entry, "quick" at one random direction for each of `blocks`
    ({name: (slice of the flat x, shape)}) and finds what is wrong by bisection; `method` as in
    `numerical_gradient`, but not "central"; `context` what `diagnose` may use; `causes` a table
    of one's own; `name` what the report calls `x`; `rng` for the random directions.
    Returns: a `GradientReport`, true when ok. Raises `ValueError` as `numerical_gradient` does.

    >>> x = np.array([1.0, 2.0, 3.0])
    >>> print(check_gradient(lambda x: (x**2).sum() / 2, x, 2 * x))
    wrong: the gradient is not the derivative of f
      diagnosis  times 2. Your gradient is 2.0000000 times the right one: a square was differentiated
                 without its 1/2, or counted twice.
      method     complex: it takes no difference, so nothing cancels; 12 evaluations of f
      block  shape  error    verdict
      x      3      5.0e-01  wrong
      worst entries  given  numerical  ratio
      x[2]           6      3          2.0000000
      x[1]           4      2          2.0000000
      x[0]           2      1          2.0000000
    """
    _checks.one_of("level", level, LEVELS)
    _checks.one_of("method", method, ("auto", "complex", "richardson"))
    rng, context = _checks.generator("rng", rng), dict(context or {})
    before = {k: v.copy() for k, v in context.items() if isinstance(v, np.ndarray)}
    slopes = Slopes(f, x, method, rng)
    problems = contract.of_the_function(f, slopes)
    given, more = contract.of_the_gradient(gradient, slopes, rng)
    problems = problems or more  # of a function that is not the same twice no more can be said
    shape = slopes.shape
    blocks = dict(blocks or {name: (slice(0, slopes.x.size), shape)})
    found, diagnoses, kinks = [], [], []
    if given.dtype.kind == "c":
        problems.append(contract.Problem("complex", "the gradient is complex, x is real"))
    elif given.shape != shape:
        found, diagnoses = _of_another_shape(slopes, given, context, causes, name)
    elif not np.isfinite(given).all():
        problems.append(contract.not_finite(given))
    elif all(problem.verdict == "wrong" for problem in problems):
        comparison = _Comparison(slopes, given.ravel().astype(np.float64), blocks, rng)
        comparison.rounding = 1e-6 if given.dtype == np.float64 else 1e-3
        found, kinks = comparison.run(level), comparison.kinks
        diagnoses = _of_the_blocks(comparison, found, context, causes)
    if any(not np.array_equal(context[k], v, equal_nan=True) for k, v in before.items()):
        problems.append(contract.Problem("input written to", "an array of the context was changed"))
    return GradientReport(
        f"{slopes.method}: {slopes.why}",
        tuple(found),
        tuple(problems),
        tuple(diagnoses),
        tuple(kinks),
        tuple(blind_spots(context)),
        slopes.evaluations,
    )


def check_backward(
    forward: Callable, backward: Callable, x, *, context: Mapping | None = None, rng=0, **options
) -> GradientReport:
    """A layer's backward pass: is `backward(dy)` the gradient of `(forward(x) * dy).sum()`?

    `dy` is drawn at random: with ones, the softmax's gradient is 0 and any multiple of it passes.
    Before that, a backward pass fed zeros must give zeros, and be linear in what it is fed.

    Parameters: `forward` an array like `x` to an array; `backward` the gradient by that output to
    the gradient by `x`, always called after `forward(x)`, so that it may remember; the others as
    in `check_gradient`, where `context` also has `x` and `dy`.

    >>> x = np.array([[1.0, -2.0], [3.0, 0.5]])
    >>> print(check_backward(np.tanh, lambda dy: dy * (1 - np.tanh(x) ** 2), x).verdict)
    ok
    """
    rng = _checks.generator("rng", rng)
    x = _checks.finite("x", _checks.float_array("x", x)).astype(np.float64)
    dy, other = rng.standard_normal((2, *np.shape(forward(x.copy()))))

    def fed(dy, x=x):
        forward(x.copy())
        return np.array(backward(dy.copy()))

    context = {"x": x, "dy": dy, **(context or {})}
    report = check_gradient(
        lambda x: (forward(x) * dy).sum(),
        x,
        lambda x: fed(dy, x),
        context=context,
        rng=rng,
        **options,
    )
    return report.with_problems(contract.of_the_backward_pass(fed, dy, other))


def check_network(
    mlp,
    x,
    loss: Callable,
    *,
    training: bool = True,
    level: str = "quick",
    context: Mapping | None = None,
    causes: list[Cause] | None = None,
    rng=0,
) -> GradientReport:
    """Is `mlp.gradient` the gradient of the cost by all parameters, and `dlogits` by the logits?

    The loss is checked first, entry by entry; then the network, one complex forward pass for a
    direction in each block of parameters and one in all (`level="quick"`), or one for each
    parameter ("full"). Should something be wrong, every layer is then checked alone.

    Parameters: `mlp` with `forward(x, training)`, `backward(dlogits)`, `parameters`, `gradient`,
    `blocks`, `state`, `layers`, `astype`; it is put back as it was, but for a pending forward
    pass. `x` (B, D); `loss(logits) -> (value, dlogits)`, a closure over its targets; `context`
    the numbers for the diagnosis (`teacher_logits`, `labels`, `temperature`, ...).
    Dropout draws the same mask each time, as `mlp.state` holds its generators. A float32 network
    is inconclusive by nature: check `mlp.astype(np.float64)`.

    >>> from numpy_kd import cross_entropy_loss
    >>> from numpy_kd.mlp import MLP
    >>> mlp, x = MLP((4, 5, 3), "tanh", dtype=np.float64, seed=0), np.eye(4)
    >>> labels = np.array([0, 2, 1, 1])
    >>> print(check_network(mlp, x, lambda z: cross_entropy_loss(z, labels)).verdict)
    ok
    """
    _checks.one_of("level", level, LEVELS)
    rng, context = _checks.generator("rng", rng), dict(context or {})
    run = Run(mlp, x, loss, training)
    with run.restoring():
        run.logits(run.other)  # so that whatever is remembered from the first pass is not of x
        logits = run.logits().copy()
        sizes = getattr(mlp, "sizes", logits.shape[1:])
        context = {"logits": logits, "sizes": sizes, **context}
        options = {"rng": rng, "context": context, "causes": causes}
        few = "full" if logits.size <= FEW else "quick"
        of_loss = check_gradient(
            lambda z: loss(z)[0],
            logits,
            lambda z: loss(z)[1],
            level=few,
            name="dlogits",
            **options,
        )
        if not of_loss:  # then what lies before it is checked with a random cotangent instead
            run.cotangent = rng.standard_normal(logits.shape).astype(logits.dtype)
        problems = run.contract(rng)
        gradient = run.backward(run.dlogits(logits))
        whole = check_gradient(
            run.value, run.theta, gradient, level=level, blocks=mlp.blocks, **options
        )
        parts = []
        single = all(b.explained for b in whole.blocks if b.verdict == "wrong")
        if not single or any(problem.verdict == "wrong" for problem in problems):
            parts = _layer_by_layer(run, rng, context, causes)
        return of_loss.joined(whole, parts, problems, kinks(run))


def assert_gradient(f: Callable, x, gradient, **options) -> GradientReport:
    """`check_gradient` for a test: an `AssertionError` that is the report, unless it is ok.

    >>> assert_gradient(lambda x: (x**2).sum(), np.array([1.0, 2.0]), np.array([2.0, 4.0])).verdict
    'ok'
    """
    report = check_gradient(f, x, gradient, **options)
    if not report:
        raise AssertionError(f"\n{report}")
    return report


def assert_network(mlp, x, loss: Callable, **options) -> GradientReport:
    """`check_network` for a test: an `AssertionError` that is the report, unless it is ok.

    >>> from numpy_kd.mlp import MLP
    >>> mlp = MLP((2, 3), dtype=np.float64, seed=0)
    >>> assert_network(mlp, np.eye(2), lambda z: ((z * z).sum() / 2, z)).verdict
    'ok'
    """
    report = check_network(mlp, x, loss, **options)
    if not report:
        raise AssertionError(f"\n{report}")
    return report


def fixture(seed: int = 0) -> dict:
    """A problem in which no two usual mistakes look alike: use it as inputs and as `context`.

    Sizes pairwise coprime and all different, T = 3, unequal weights, uneven labels, logits away
    from 0. Keys: `x` (B, D), `W` (D, M), `b`, `dy` (B, M), `logits`, `teacher_logits` (B, N),
    `labels` (B,), `temperature`, `soft_weight`, `hard_weight`, `sizes` (D, M, N).

    >>> given = fixture(seed=1)
    >>> given["x"].shape, given["logits"].shape, given["temperature"]
    ((5, 11), (5, 7), 3.0)
    >>> blind_spots(given)
    []
    """
    rng = np.random.default_rng(seed)
    B, N = (int(size) for size in rng.permutation([5, 7]))
    D, M = (int(size) for size in rng.permutation([11, 13]))
    logits, teacher_logits = rng.normal(0.3, 2, (2, B, N))
    logits += np.copysign(0.1, logits)
    labels = rng.integers(1, N, B)
    labels[:2] = labels[0]  # one class twice, and class 0 never
    return {
        "x": rng.normal(size=(B, D)),
        "W": rng.normal(size=(D, M)) / D**0.5,
        "b": rng.normal(size=M) / 2,
        "dy": rng.normal(size=(B, M)),
        "logits": logits,
        "teacher_logits": teacher_logits,
        "labels": labels,
        "temperature": 3.0,
        "soft_weight": rng.uniform(0.55, 0.95),
        "hard_weight": rng.uniform(0.15, 0.45),
        "sizes": (D, M, N),
    }


# --- the diagnosis of what was found -----------------------------------------------------------


def _of_another_shape(slopes, given, context, causes, name):
    """A gradient whose numbers cannot be laid beside the right ones: which shape is it?"""
    note = f"the gradient has shape {given.shape}, {name} has shape {slopes.shape}"
    block = Block(name, slopes.shape, "wrong", np.inf, note)
    right = slopes.each(np.arange(slopes.x.size))[0] if slopes.x.size <= FEW else slopes.x * np.nan
    right = right.reshape(slopes.shape)
    return [block], [diagnose(given, right, context, causes)]


def _of_the_blocks(comparison, found, context, causes) -> list[Diagnosis]:
    """One diagnosis for each wrong block, but the same one only once."""
    diagnoses = {}
    for block in found:
        if block.verdict == "wrong" and not block.explained:
            where, _ = comparison.blocks[block.name]
            given = comparison.gradient[where].reshape(block.shape)
            right = comparison.right.get(block.name)
            diagnosis = diagnose(given, right, {"shape": block.shape, **context}, causes)
            diagnoses.setdefault(str(diagnosis), diagnosis)
    return list(diagnoses.values())


def _layer_by_layer(run: Run, rng, context, causes) -> list[GradientReport]:
    """The layers that are wrong when checked alone, each with its own diagnosis."""
    numbers = {k: v for k, v in context.items() if np.ndim(v) == 0}
    numbers |= {"batch_size": len(run.x), "num_classes": context["logits"].shape[1]}
    wrong = []
    for piece in pieces(run, rng, numbers):
        report = check_gradient(
            piece.f,
            piece.x,
            piece.gradient,
            level="quick",
            context=piece.context,
            causes=causes,
            name=piece.name,
            rng=rng,
        )
        if report.verdict == "wrong":
            wrong.append(report)
    return wrong
