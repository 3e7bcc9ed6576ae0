"""The slope of a function at a point, and beside each slope the error to expect in it.

Two ways, and each speaks for the other. A *difference* `(f(x + h) - f(x - h)) / 2h` needs nothing
of `f`, but has an error on either side: a large step sees curvature, a small one only the rounding
of `f`. So it is taken at a ladder of steps, extrapolated to `h = 0` (Richardson; the table is
Ridders'), and of all windows of the ladder the one with the smallest error is believed. Three
things make up that error: how much the last extrapolation changed; the measured noise of `f`
divided by the step; and half of the jump between the slopes to the right and to the left. At a
kink the last one stays, at every step, so that "slope +- error" is all that lies between the two.

The *complex step* `Im f(x + ih) / h` takes no difference, so nothing cancels and `h` may be 1e-20
(Squire and Trapp 1998). But where `f` drops an imaginary part (`abs`, `norm`, `var`, `.real`, ...)
it is silently wrong. So it is believed only where the differences agree with it within their error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numpy_kd import _checks

METHODS = ("auto", "complex", "central", "richardson")
EPS = float(np.finfo(np.float64).eps)
STEP = 1e-20  # of the complex step, in sizes of an entry
FIRST, RATIO, RUNGS = 0.35, 4.0, 21  # the ladder: from a third of an entry's size to 1e-13 of it
EVEN, ODD, ALL = (2, 4, 6, 8), (1, 3, 5, 7), (1, 2, 3, 4)  # powers of h that are removed
CLOSE = 1e-11  # a relative error that is good enough to stop at
NOISES = 5  # the noise is measured to a factor of two or so, and a difference holds two of it
FEW = 64  # entries that are compared one by one; more are first compared in groups
SETTLED = 1e-9  # a group whose differences are that exact speaks for each of its entries


@dataclass
class Slopes:
    """Slopes, the error of each, and the jump where the slope changes at the point itself.

    >>> Slopes(np.ones(2), np.zeros(2), np.zeros(2))[:1].value
    array([1.])
    """

    value: np.ndarray
    error: np.ndarray
    jump: np.ndarray

    def __getitem__(self, where) -> Slopes:
        return Slopes(self.value[where], self.error[where], self.jump[where])

    def __setitem__(self, where, other: Slopes) -> None:
        self.value[where], self.error[where] = other.value, other.error
        self.jump[where] = other.jump

    def times(self, factor) -> Slopes:
        """Everything times `factor`."""
        size = np.abs(factor)
        return Slopes(self.value * factor, self.error * size, self.jump * factor)

    @property
    def kink(self) -> np.ndarray:
        """Where it is a jump that makes the error."""
        return self.jump != 0

    @classmethod
    def unknown(cls, n: int) -> Slopes:
        """`n` slopes of which nothing is known yet."""
        return cls(np.zeros(n), np.full(n, np.inf), np.zeros(n))


class Function:
    """`f` of a flat vector at the point `x`, and what can be measured of it.

    `sizes` are the steps' units, one for each entry: its own size, or where it is 0 that of its
    block. A *line* is a pair (indices, amounts): the entries that are moved, and by how much each.

    >>> function = Function(lambda x: x[0] * x[1], np.array([2.0, 5.0]))
    >>> function.each(np.arange(2)).value
    array([5., 2.])
    """

    def __init__(self, f: Callable, x: np.ndarray, sizes=None, typical=None, method="auto", rng=0):
        self.f, self.x, self.method, self.why = f, x, method, "as asked for"
        self.rng = np.random.default_rng(rng)
        self.sizes = np.where(x == 0, 1.0, np.abs(x)) if sizes is None else sizes
        self.typical = self.sizes if typical is None else typical
        self.evaluations, self.refusal = 0, ""
        self.value = float(np.real(self._call(x.copy())))
        if not np.isfinite(self.value):
            raise ValueError(f"f must be finite at the point, got {self.value}")
        self.noise = self._noise()
        if method == "auto":
            self.method, self.why = "complex", "it takes no difference, so nothing cancels"
            self._try_complex()

    # --- calls of f -------------------------------------------------------------------------

    def _call(self, x):
        self.evaluations += 1
        with np.errstate(all="ignore"):
            value = self.f(x)
        value = np.asarray(value[0] if isinstance(value, tuple) else value)
        if value.size != 1:
            raise ValueError(f"f must return one number, got shape {value.shape}")
        return value.reshape(())[()]

    def _real(self, x) -> float:
        """The value, or NaN where `f` refuses the point."""
        try:
            return float(np.real(self._call(x)))
        except Exception as error:  # noqa: BLE001 (whatever f says to a point off its domain)
            self.refusal = f"{type(error).__name__}: {error}"
            return np.nan

    def _imaginary(self, line, factor=1.0, shift=0.0) -> float:
        indices, amounts = line
        x = (self.x + shift).astype(complex)
        x[indices] += 1j * STEP * factor * amounts
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            value = self._call(x)
        if not np.iscomplexobj(value):
            raise TypeError("its result is real for a complex argument: abs, norm, var, .real?")
        if not np.isfinite(value):
            raise ArithmeticError(f"it gives {value}")
        if not np.any(shift) and abs(value.real - self.value) > 1e3 * self.noise:
            raise ArithmeticError(f"it gives {value.real:.9g}, and {self.value:.9g} for a real x")
        return float(value.imag) / STEP / factor

    def _noise(self) -> float:
        """How much of a value is rounding: the fourth differences of values close together.

        They hold no curvature once the steps are small, and then stop shrinking (Hamming 1962).
        """
        everything = self.sizes * self.rng.choice([-1.0, 1.0], self.x.size)
        least, before = EPS * abs(self.value), np.inf
        for step in 10.0 ** -np.arange(3, 13):
            for side in (step, -step):
                row = np.array([self._real(self.x + side * k * everything) for k in range(1, 8)])
                if np.isfinite(row).all():
                    break
            else:
                continue
            now = np.sqrt((np.diff(row, 4) ** 2).mean() / 70)  # 70: the sum of binomials squared
            if now <= 4 * least or len(set(row)) < 4:
                return (
                    max(now, least, np.finfo(float).tiny)
                    if before == np.inf or (len(set(row)) >= 4)
                    else max(before, least)
                )
            if now > before / 4:
                return max(now, before)
            before = now
        return max(least, before if np.isfinite(before) else 0.0, np.finfo(float).tiny)

    # --- differences ------------------------------------------------------------------------

    def differences(self, lines) -> Slopes:
        """The slope along each line, by differences alone."""
        n = len(lines)
        values, steps = np.full((2, n, RUNGS), np.nan), np.ones((2, n, RUNGS))
        found, still = Slopes.unknown(n), np.arange(n)
        for k in range(RUNGS):
            t = FIRST / RATIO**k
            for j in still:
                for side, sign in enumerate((1, -1)):
                    steps[side, j, k], values[side, j, k] = self._step(lines[j], sign * t)
            if k < 2:
                continue
            found[still] = self._read(values[:, still, : k + 1], steps[:, still, : k + 1])
            best = found[still]
            next_noise = NOISES * self.noise * RATIO / t
            done = (best.error <= CLOSE * np.abs(best.value)) | (next_noise >= best.error)
            still = still[~done]
            if not len(still):
                break
        return found

    def _step(self, line, t: float) -> tuple[float, float]:
        """The value at `t` along a line, and the step that was really taken, which rounds too."""
        indices, amounts = line
        x = self.x.copy()
        x[indices] += t * amounts
        if len(indices) == 1:
            t = (x[indices[0]] - self.x[indices[0]]) / amounts[0]
        return (abs(t), self._real(x)) if t else (1.0, np.nan)

    def _read(self, values, steps) -> Slopes:
        """The best window of the ladders: (2, n, k) values and steps, to the right and the left."""
        right = (values[0] - self.value) / steps[0]
        left = (self.value - values[1]) / steps[1]
        both = (values[0] - values[1]) / (steps[0] + steps[1])
        central = _windows(both, right - left, EVEN, ODD, NOISES * self.noise / steps[0])
        lonely = ~np.isfinite(central.error)
        for side in (right, left):  # at the edge of the domain there is but one side
            edge = _windows(side, np.zeros_like(side), ALL, ALL, 2 * NOISES * self.noise / steps[0])
            better = lonely & (edge.error < central.error)
            central[better] = edge[better]
        return central

    # --- the complex step -------------------------------------------------------------------

    def along(self, line, confirm: bool = True) -> Slopes:
        """The slope along one line, by the method chosen; a complex step confirmed beside it."""
        if self.method == "central":
            return self._pairs([line])
        if self.method == "richardson":
            return self.differences([line])
        slope = np.array([self._imaginary(line)])
        found = Slopes(slope, 64 * EPS * np.abs(slope), np.zeros(1))
        if confirm and self.why != "as asked for":
            beside = self.differences([line])
            if not self._agree([line], found, beside):
                return beside
            if beside.kink[0] and self._bends(line):
                found.jump = beside.jump
        return found

    def rounding(self, line) -> float:
        """What rounding makes of a complex step: it is taken again where the roundings differ."""
        slopes = [self._imaginary(line)]
        for factor in (0.7, 1.3, 1.9):
            shift = 4 * EPS * self.x * self.rng.standard_normal(self.x.size)
            slopes.append(self._imaginary(line, factor, shift))
        return 20 * float(np.ptp(slopes))

    def each(self, indices) -> Slopes:
        """The slopes by the entries of `indices`; the complex step only where it is confirmed."""
        lines, sizes = self.axes(indices), self.sizes[indices]
        if self.method == "central":
            return self._pairs(lines).times(1 / sizes)
        if self.method == "richardson":
            return self._by_differences(indices)
        try:
            slope = np.array([self._imaginary(line) for line in lines])
        except Exception as error:  # noqa: BLE001 (f may raise what it likes)
            if self.why == "as asked for":
                raise
            self._fall_back(f"f refuses complex numbers ({type(error).__name__}: {error})")
            return self._by_differences(indices)
        found = Slopes(slope, 64 * EPS * np.abs(slope), np.zeros(len(lines)))
        if self.why != "as asked for":
            doubtful = self._unconfirmed(indices, slope)
            beside = self._by_differences(indices[doubtful]).times(sizes[doubtful])
            if not self._agree([lines[i] for i in doubtful], found[doubtful], beside):
                return self._by_differences(indices)
            for k, i in enumerate(
                doubtful
            ):  # a kink nearby is none here: the complex step can tell
                if beside.kink[k] and self._bends(lines[i]):
                    found[[i]] = beside[[k]]
        return found.times(1 / sizes)

    def axes(self, indices) -> list:
        """A line for each of these entries alone."""
        return [(np.array([i]), self.sizes[[i]]) for i in indices]

    def _by_differences(self, indices) -> Slopes:
        """By an entry's own size; then, where that says little, by the size of its block."""
        found = self.differences(self.axes(indices)).times(1 / self.sizes[indices])
        poor = (found.error > 1e-6 * np.abs(found.value)) & ~found.kink
        poor &= self.typical[indices] > 4 * self.sizes[indices]
        if poor.any():
            typical = self.typical[indices[poor]]
            lines = [
                (np.array([i]), np.array([s])) for i, s in zip(indices[poor], typical, strict=True)
            ]
            again, before = self.differences(lines).times(1 / typical), found[poor]
            better = again.error < before.error
            before[better] = again[better]
            found[poor] = before
        return found

    def _unconfirmed(self, indices, slope) -> np.ndarray:
        """Which of the entries no group of like size has settled."""
        positions = np.arange(len(indices))
        if len(indices) <= FEW:
            return positions
        with np.errstate(divide="ignore"):
            decade = np.floor(np.log10(np.abs(slope)))
        doubtful = []
        for d in np.unique(decade):
            group = positions[decade == d]
            signs = self.rng.choice([-1.0, 1.0], len(group))
            line = indices[group], signs * self.sizes[indices[group]]
            beside, whole = self.differences([line]), signs @ slope[group]
            typical = np.sqrt((slope[group] ** 2).sum())
            exact = beside.error[0] <= max(SETTLED * typical, 1e3 * self.noise)
            if not exact or abs(beside.value[0] - whole) > beside.error[0]:
                doubtful.append(group)
        return np.concatenate(doubtful) if doubtful else positions[:0]

    def nearby(self, line, distance: float) -> tuple[float, float, float]:
        """The least and the largest slope along a line at points close by, and their error."""
        indices, amounts = line
        slopes, step = [], distance / 100
        draws = self.rng.standard_normal((16, len(indices)))
        for draw in (1, -1, *draws):
            ends = []
            for t in (step, -step):
                x = self.x.copy()
                x[indices] += (distance * draw + t) * amounts
                ends.append(self._real(x))
            slopes.append((ends[0] - ends[1]) / (2 * step))
        return np.nanmin(slopes), np.nanmax(slopes), NOISES * self.noise / step

    def _bends(self, line) -> bool:
        """Whether the slope differs on the two sides of the point, a few roundings away."""
        indices, amounts = line
        shift = np.zeros_like(self.x)
        shift[indices] = 8 * EPS * (np.abs(self.x[indices]) + amounts)
        after, before = (self._imaginary(line, shift=s * shift) for s in (1, -1))
        return abs(after - before) > 1e-6 * max(abs(after), abs(before))

    def _try_complex(self) -> None:
        """The complex step and the differences along one line through everything."""
        line = self.everywhere()
        try:
            self.along(line)
        except Exception as error:  # noqa: BLE001 (f may raise what it likes)
            self._fall_back(f"f refuses complex numbers ({type(error).__name__}: {error})")

    def everywhere(self, indices=None):
        """A random line through all entries, or all of these, each moved by about its size."""
        indices = np.arange(self.x.size) if indices is None else indices
        u = self.rng.standard_normal(len(indices))
        return indices, self.sizes[indices] * u / np.sqrt((u * u).mean())

    def _agree(self, lines, found: Slopes, beside: Slopes) -> bool:
        """Whether the differences hold the complex steps; if not, there will be no other ones."""
        excess = np.abs(found.value - beside.value) - 1.001 * beside.error
        worst = int(np.argmax(excess)) if len(lines) else 0
        if not len(lines) or excess[worst] <= 0:
            return True
        self._fall_back(
            f"the complex step gives {found.value[worst]:.6g} along a line where differences give "
            f"{beside.value[worst]:.6g}: f drops an imaginary part (abs, norm, var, .real, conj?)"
        )
        return False

    def _fall_back(self, why: str) -> None:
        self.method, self.why = "richardson", why

    def _pairs(self, lines) -> Slopes:
        """Central differences at one step, to compare with."""
        t = EPS ** (1 / 3)  # rounding EPS/t and truncation t**2 in balance
        rows = [[self._step(line, s * t)[1] for s in (1, -1, 2, -2)] for line in lines]
        up, down, far_up, far_down = np.array(rows).T
        slope, far = (up - down) / (2 * t), (far_up - far_down) / (4 * t)
        return Slopes(slope, np.abs(slope - far) / 3 + self.noise / t, 0 * slope)


def _windows(slope, jump, powers, jump_powers, noise) -> Slopes:
    """The best window of a ladder: (n, k) slopes and jumps, and the powers of h in their errors."""
    n, best = np.arange(len(slope)), Slopes.unknown(len(slope))
    with np.errstate(invalid="ignore", over="ignore"):
        for m, (power, jump_power) in enumerate(zip(powers, jump_powers, strict=True)):
            if slope.shape[1] < 2:
                break
            coarse, fine = slope[:, :-1], slope[:, 1:]
            slope = fine + (fine - coarse) / (RATIO**power - 1)
            jump = jump[:, 1:] + (jump[:, 1:] - jump[:, :-1]) / (RATIO**jump_power - 1)
            change = np.maximum(np.abs(slope - coarse), np.abs(slope - fine))
            smooth = change + noise[:, m + 1 :]
            error = smooth + np.abs(jump) / 2
            error = np.where(np.isfinite(error), error, np.inf)
            k = error.argmin(axis=1)
            better = error[n, k] < best.error
            seen = np.where(np.abs(jump) > 8 * smooth, jump, 0.0)
            best[better] = Slopes(slope[n, k], error[n, k], seen[n, k])[better]
    return best
