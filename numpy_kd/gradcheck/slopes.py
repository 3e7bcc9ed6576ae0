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

*Slopes* are an array of three rows here: value, error, jump. A jump is 0 but at a kink.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

METHODS = ("auto", "complex", "central", "richardson")
EPS, TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)
STEP = 2.0**-66  # of the complex step, in sizes of an entry: 1e-20, but without rounding
FIRST, RATIO, RUNGS = 0.35, 4.0, 21  # the ladder: from a third of an entry's size to 1e-13 of it
EVEN, ODD, ALL = (2, 4, 6, 8), (1, 3, 5, 7), (1, 2, 3, 4)  # powers of h that are removed
CLOSE = 1e-11  # a relative error that is good enough to stop at
POOR = 1e-6  # a relative error that makes one try larger steps
NOISES = 5  # the noise is measured to a factor of two or so, and a difference holds two of it
CERTAIN = 8  # a jump is one if it is that much larger than what else is in the error, and stays
FEW = 64  # entries that are confirmed one by one; more are first confirmed in groups
SETTLED = 1e-9  # a group whose differences are that exact speaks for each of its entries
ROUNDINGS = 64  # of a complex step's own size; where that is not enough, they are measured
WHY = "it takes no difference, so nothing cancels"


class Function:
    """`f` of a flat vector at the point `x`, and what can be measured of it.

    `sizes` are the steps' units, one for each entry; `typical` larger ones, where those say little.
    A *line* is a pair (indices, amounts): the entries that are moved, and by how much each.

    >>> function = Function(lambda x: x[0] * x[1], np.array([2.0, 5.0]))
    >>> function.each(np.arange(2))[0]
    array([5., 2.])
    """

    def __init__(self, f: Callable, x, sizes=None, typical=None, method="auto", rng=0):
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
            self.method, self.why = "complex", WHY
            self.along(self.everywhere())

    # --- calls of f -------------------------------------------------------------------------

    def _call(self, x):
        self.evaluations += 1
        with np.errstate(all="ignore"):
            value = self.f(x)
        value = np.asarray(value[0] if isinstance(value, tuple) else value)
        if value.size != 1:
            raise ValueError(
                f"f must return one number, got shape {value.shape}; to check an array y give a "
                "function (x, dy) -> dx as its gradient"
            )
        return value.reshape(())[()]

    def real(self, x) -> float:
        """The value, or NaN where `f` refuses the point."""
        try:
            return float(np.real(self._call(x)))
        except Exception as error:  # noqa: BLE001 (whatever f says to a point off its domain)
            self.refusal = f"{type(error).__name__}: {error}"
            return np.nan

    def imaginary(self, line, factor=1.0, shift=0.0) -> float:
        """The complex step along a line, `factor` times as long, at `x + shift`."""
        x = (self.x + shift).astype(complex)
        x[line[0]] += 1j * STEP * factor * line[1]
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            value = self._call(x)
        if not np.iscomplexobj(value):
            raise TypeError("its result is real for a complex argument: abs, norm, var, .real?")
        same = np.any(shift) or abs(value.real - self.value) <= 1e3 * self.noise
        if not (np.isfinite(value) and same):
            raise ArithmeticError(f"it gives {value.real:.9g}, and {self.value:.9g} for a real x")
        return float(value.imag) / STEP / factor

    def _noise(self) -> float:
        """How much of a value is rounding: the fourth differences of values close together.

        They hold no curvature once the steps are small; what is left is noise when it no longer
        shrinks with the steps and changes its sign (Hamming 1962; More and Wild 2011). The next
        step has to confirm it: kinks between the points look alike for one step and then shrink,
        and a few coarse values can lie on a line by chance. The line is uneven: along an even one
        a float32 inside rounds in step, and shows no noise.
        """
        line = self.sizes * self.rng.choice([-0.9, -0.6, 0.7, 1.1], self.x.size)
        noise, least, stayed = np.inf, max(EPS * abs(self.value), TINY), [0.0]
        for step in 10.0 ** -np.arange(3, 13):
            rows = ([self.real(self.x + s * k * line) for k in range(1, 8)] for s in (step, -step))
            row = next((row for row in rows if np.isfinite(row).all()), None)
            if row is None:
                continue
            fourth, before = np.diff(row, 4), noise
            noise = np.sqrt((fourth**2).mean() / 70)  # 70: the sum of the binomials squared
            stays = before == stayed[-1]
            if len(set(row)) < (7 if stays else 4):  # steps too small to be seen: as before
                noise = max(before, stayed[-1]) if np.isfinite(before) else noise
                break
            if max(noise, before) <= 4 * least or (stays and noise > before / 8):
                noise = max(noise, before)
                break
            if noise > before / 4 and np.ptp(np.sign(fourth)):
                stayed.append(noise)
        return max(noise, least) if np.isfinite(noise) else least

    # --- differences ------------------------------------------------------------------------

    def differences(self, lines) -> np.ndarray:
        """The slope along each line, by differences alone."""
        values, steps = np.full((2, len(lines), RUNGS), np.nan), np.ones((2, len(lines), RUNGS))
        found, still = np.zeros((3, len(lines))), np.arange(len(lines))
        for k in range(RUNGS):
            t = FIRST / RATIO**k
            for j in still:
                for side, sign in enumerate((1, -1)):
                    steps[side, j, k], values[side, j, k] = self._step(lines[j], sign * t)
            if k < 3:
                continue
            part = np.s_[:, still, : k + 1]
            found[:, still] = best = self._read(values[part], steps[part])
            next_noise = NOISES * self.noise * RATIO / t
            done = (best[1] <= CLOSE * np.abs(best[0])) | (next_noise >= best[1])
            done &= np.isfinite(values[:, still, k]).all(axis=0)  # else it may lie near an edge
            still = still[~done]
        return found

    def _step(self, line, t: float) -> tuple[float, float]:
        """The step that was really taken along a line, as that rounds too, and the value there."""
        indices, amounts = line
        x = self.x.copy()
        x[indices] += t * amounts
        if len(indices) == 1:
            t = (x[indices[0]] - self.x[indices[0]]) / amounts[0]
        return (abs(t), self.real(x)) if t else (1.0, np.nan)

    @np.errstate(invalid="ignore", over="ignore")
    def _read(self, values, steps) -> np.ndarray:
        """The best window of each ladder: (2, n, k) values and steps, to the right and the left."""
        right, left = (values[0] - self.value) / steps[0], (self.value - values[1]) / steps[1]
        noise = NOISES * np.fmax(self.noise, EPS * np.abs(values).max(axis=0)) / steps[0]
        both = (values[0] - values[1]) / steps.sum(axis=0)
        best = _windows(both, right - left, EVEN, ODD, noise)
        lonely = ~np.isfinite(both).any(axis=1)
        for side in (right, left) if lonely.any() else ():  # the edge of the domain: one side
            edge = _windows(side, np.zeros_like(side), ALL, ALL, 2 * noise)
            best = np.where(lonely & (edge[1] < best[1]), edge, best)
        return best

    # --- the complex step -------------------------------------------------------------------

    def _complex(self, lines, beside: Callable, doubtful: Callable) -> np.ndarray:
        """The complex step along lines, if `beside(lines)`, their differences, confirm it.

        They are asked for the lines that are doubtful. The first time that they do not, differences
        take its place, for good; so they do for a line at a kink, but not for one near a kink.
        """
        asked = self.why != WHY
        try:
            slope = np.array([self.imaginary(line) for line in lines])
            found = np.array([slope, ROUNDINGS * EPS * np.abs(slope), 0 * slope])
            at = doubtful(slope)
            if asked or not len(at):
                return found
            other = beside([lines[i] for i in at])
            excess = np.abs(slope[at] - other[0]) - 1.001 * other[1]
            if excess.max() <= 0:
                for k in np.flatnonzero(other[2]):
                    if self._bends(lines[at[k]]):
                        found[:, at[k]] = other[:, k]
                return found
            why = (
                f"the complex step gives {slope[at][excess.argmax()]:.6g} along a line where "
                f"differences give {other[0, excess.argmax()]:.6g}: f drops an imaginary part "
                "(abs, norm, var, .real, conj?)"
            )
        except Exception as error:
            if asked:
                raise
            why = f"f refuses complex numbers ({type(error).__name__}: {error})"
        self.method, self.why = "richardson", why
        return beside(lines)

    def _bends(self, line) -> bool:
        """Whether the slope differs on the two sides of the point, a few roundings away."""
        shift = np.zeros_like(self.x)
        shift[line[0]] = 8 * EPS * (np.abs(self.x[line[0]]) + np.abs(line[1]))
        after, before = (self.imaginary(line, shift=s * shift) for s in (1, -1))
        return abs(after - before) > 1e-6 * max(abs(after), abs(before))

    def rounding(self, line) -> float:
        """What rounding makes of a complex step: it is taken again where the roundings differ."""
        shifts = 4 * EPS * self.x * self.rng.standard_normal((3, self.x.size))
        slopes = [self.imaginary(line, *pair) for pair in zip((0.7, 1.3, 1.9), shifts, strict=True)]
        return 20 * float(np.ptp([self.imaginary(line), *slopes]))

    def _unsettled(self, indices, slope) -> np.ndarray:
        """Of many slopes, those that no group of like size has settled, by one line for a group."""
        if len(indices) <= FEW:
            return np.arange(len(indices))
        with np.errstate(divide="ignore"):
            decade = np.floor(np.log10(np.abs(slope)))
        left = [np.zeros(0, int)]
        for d in np.unique(decade):
            group = np.flatnonzero(decade == d)
            signs = self.rng.choice([-1.0, 1.0], len(group))
            line = indices[group], signs * self.sizes[indices[group]]
            value, error, _ = self.differences([line])[:, 0]
            exact = max(SETTLED * np.sqrt((slope[group] ** 2).sum()), 1e3 * self.noise)
            if error > exact or abs(value - signs @ slope[group]) > error:
                left.append(group)
        return np.concatenate(left)

    # --- what is asked for ------------------------------------------------------------------

    def everywhere(self, indices=None):
        """A random line through all entries, or these, each moved by about its size."""
        indices = np.arange(self.x.size) if indices is None else indices
        u = self.rng.standard_normal(len(indices))
        return indices, self.sizes[indices] * u / np.sqrt((u * u).mean())

    def axes(self, indices, sizes=None) -> list:
        """A line for each of these entries alone."""
        sizes = self.sizes[indices] if sizes is None else sizes
        return [(np.array([i]), np.array([s])) for i, s in zip(indices, sizes, strict=True)]

    def along(self, line, confirm: bool = True) -> np.ndarray:
        """(value, error, jump) of the slope along one line, by the method chosen."""
        doubtful = np.arange(int(confirm))
        return self._slopes([line], self.differences, lambda slope: doubtful)[:, 0]

    def each(self, indices) -> np.ndarray:
        """The slopes by each of these entries; the complex step only where it is confirmed."""
        doubtful = lambda slope: self._unsettled(indices, slope)
        return self._slopes(self.axes(indices), self._by_axes, doubtful) / self.sizes[indices]

    def _slopes(self, lines, differences: Callable, doubtful: Callable) -> np.ndarray:
        if self.method == "complex":
            return self._complex(lines, differences, doubtful)
        return (self._pairs if self.method == "central" else differences)(lines)

    def _by_axes(self, lines) -> np.ndarray:
        """Differences by an entry's own size; where that says little, by a larger one."""
        found = self.differences(lines)
        indices, own = (np.array([line[part][0] for line in lines]) for part in (0, 1))
        poor = np.flatnonzero((found[1] > POOR * np.abs(found[0])) & (found[2] == 0))
        larger = np.maximum(self.typical[indices], 8 * own)[poor]
        again = self.differences(self.axes(indices[poor], larger)) * (own[poor] / larger)
        found[:, poor] = np.where(again[1] < found[1, poor], again, found[:, poor])
        return found

    def nearby(self, line, distance: float) -> tuple[float, float, float]:
        """The least and the largest slope along a line at points close by, and their error."""
        indices, amounts = line
        slopes, step, x = [], distance / 100, self.x.copy()
        for draw in (1, -1, *self.rng.standard_normal((16, len(indices)))):
            ends = []
            for t in (step, -step):
                x[indices] = self.x[indices] + (distance * draw + t) * amounts
                ends.append(self.real(x.copy()))
            slopes.append((ends[0] - ends[1]) / (2 * step))
        return np.nanmin(slopes), np.nanmax(slopes), NOISES * self.noise / step

    def _pairs(self, lines) -> np.ndarray:
        """Central differences at one step, to compare with."""
        t = EPS ** (1 / 3)  # rounding EPS/t and truncation t**2 in balance
        rows = [[self._step(line, s * t)[1] for s in (1, -1, 2, -2)] for line in lines]
        up, down, far_up, far_down = np.array(rows).T
        slope, far = (up - down) / (2 * t), (far_up - far_down) / (4 * t)
        return np.array([slope, np.abs(slope - far) / 3 + self.noise / t, 0 * slope])


def _windows(slope, jump, powers, jump_powers, noise) -> np.ndarray:
    """The best window of a ladder: (n, k) slopes and jumps, and the powers of h in their errors."""
    n, best, raw = np.arange(len(slope)), np.zeros((3, len(slope))), jump
    best[1] = np.inf
    for m, (power, jump_power) in enumerate(zip(powers, jump_powers, strict=True), 1):
        if slope.shape[1] < 2:
            break
        coarse, fine = slope[:, :-1], slope[:, 1:]
        slope = fine + (fine - coarse) / (RATIO**power - 1)
        jump = jump[:, 1:] + (jump[:, 1:] - jump[:, :-1]) / (RATIO**jump_power - 1)
        smooth = np.maximum(np.abs(slope - coarse), np.abs(slope - fine)) + noise[:, m:]
        error = smooth + np.abs(jump) / 2
        error = np.where(np.isfinite(error), error, np.inf)
        stays = np.abs(jump) > np.maximum(CERTAIN * smooth, np.abs(raw[:, m:]) / 2)
        seen = np.where(stays, jump, 0.0)
        found = np.array([slope, error, seen])[:, n, error.argmin(axis=1)]
        best = np.where(found[1] < best[1], found, best)
    return best
