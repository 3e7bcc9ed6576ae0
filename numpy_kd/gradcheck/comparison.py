"""A gradient beside the slopes of its function: one rule, entry by entry, or along random lines.

An entry is *right* within `max(tolerance |slope|, error)` of its slope and *wrong* beyond twice
that. In between, and where the error is larger than `VOUCH` of the slope, nothing can be said, and
then the check is *inconclusive*; but an entry whose error is small beside its neighbours' slopes
(`VOUCH` of their median), or that lies below the rounding of the whole, is let be.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from numpy_kd.gradcheck.parameters import located
from numpy_kd.gradcheck.report import Block, Entry
from numpy_kd.gradcheck.slopes import EPS, Function, Slopes

TOLERANCE = 1e-10  # of an entry: 10**5 roundings, as a sum of many terms may lose
VOUCH = 0.01  # of a slope: an error larger than that hides mistakes worth finding
ROUNDINGS = 16  # of the largest term: what a sum that should be 0 may come to
FLOAT32 = 32 * float(np.finfo(np.float32).eps)  # of an entry: as ROUNDINGS, for float32
MANY = 1000  # entries of a block that a failed quick check may look at one by one
NEARBY = 1e-4  # of an entry's size: how far from a kink its neighbours are asked


class Comparison:
    """A gradient against a `Function`; what it learned is in `right` and `kinks`.

    >>> function = Function(lambda x: (x**2).sum(), np.array([1.0, 2.0]))
    >>> gradient, blocks = np.array([2.0, 4.0]), {"x": (slice(0, 2), (2,))}
    >>> [block.verdict for block in Comparison(function, gradient, blocks).full()]
    ['ok']
    """

    def __init__(self, function: Function, gradient, blocks, tolerance=None, dtype=np.float64):
        self.function, self.gradient, self.blocks = function, gradient, blocks
        self.tolerance = TOLERANCE if tolerance is None else tolerance
        eps = float(np.finfo(dtype).eps)
        self.coarse = 32 * eps if eps > EPS else 0.0  # as ROUNDINGS, of the gradient's own type
        self.sizes, self.everything = function.sizes, np.arange(len(gradient))
        self.right: dict[str, tuple] = {}  # a block's true gradient and its error, where known
        self.kinks: list[str] = []
        terms = np.abs(gradient * self.sizes)
        self.rounding = max(ROUNDINGS * EPS * terms.max(), 4 * function.noise)

    # --- every entry ------------------------------------------------------------------------

    def full(self) -> list[Block]:
        slopes = self.function.each(self.everything)
        tolerance = self._tolerance(slopes)
        miss = np.abs(self.gradient - slopes.value)
        if self.function.method == "complex":  # where an entry looks wrong, is it but rounding?
            for i in np.flatnonzero((miss > tolerance) & (slopes.jump == 0))[:MANY]:
                line = self.function.axes([i])[0]
                slopes.error[i] = max(slopes.error[i], self.function.rounding(line) / self.sizes[i])
            tolerance = self._tolerance(slopes)
        kinked = self._no_subgradient(slopes)
        return [self._judge(name, slopes, tolerance, miss, kinked) for name in self.blocks]

    def _tolerance(self, slopes: Slopes):
        tolerance = np.maximum(self.tolerance * np.abs(slopes.value), slopes.error)
        if self.coarse:
            for where, _ in self.blocks.values():
                tolerance[where] = np.maximum(tolerance[where], self._coarse(slopes.value[where]))
        return tolerance

    def _coarse(self, slope):
        """What rounding to float32 may do to entries; sums round as their larger terms do."""
        return (self.coarse or FLOAT32) * (np.abs(slope) + np.sqrt((slope**2).mean()))

    def _judge(self, name, slopes, tolerance, miss, kinked) -> Block:
        where, shape = self.blocks[name]
        given, sizes, slopes = self.gradient[where], self.sizes[where], slopes[where]
        tolerance, miss, kinked = tolerance[where], miss[where], kinked[where]
        self.right[name] = slopes.value.reshape(shape), slopes.error.reshape(shape)
        kink = slopes.kink
        self.kinks += [located(name, i, shape) for i in np.flatnonzero(kink)]
        off = (miss > np.where(kink, 1.05, 2) * tolerance) | kinked
        zero = (np.abs(slopes.value) <= slopes.error) & (np.abs(given) <= slopes.error)
        terms = np.abs(slopes.value * sizes)
        vouched = slopes.error <= VOUCH * np.abs(slopes.value)
        small = (slopes.error * sizes <= VOUCH * np.median(terms)) | (
            np.abs(given) * sizes <= self.rounding
        )
        vague = ~off & ((miss > tolerance) | ~(vouched | small)) & ~kink
        scale = np.abs(slopes.value).max()
        relative = miss[~kink].max(initial=0.0) / scale if scale else float(miss.any())
        if off.any():
            verdict, note = self._wrong(name, slopes.value, miss, off)
        elif (zero & (small | (given == 0))).all():
            exactly = not slopes.value.any() and not given.any()
            verdict, note = "dead", "exactly zero, both" if exactly else "zero up to rounding, both"
            relative = 0.0
        elif vague.any():
            worst = int(np.argmax(np.where(vague, slopes.error * sizes, -1)))
            error, slope = slopes.error[worst], slopes.value[worst]
            verdict = "inconclusive"
            note = f"too noisy: {located(name, worst, shape)} is {slope:.3g} +- {error:.1g}"
            if not np.isfinite(error):
                note = f"f gives no number near the point ({self.function.refusal})"
        else:
            verdict, note = "ok", "float32" if self.coarse else ""
        entries = ()
        if off.any():
            worst = [i for i in np.argsort(-np.where(off, miss * sizes, -1.0))[:5] if off[i]]
            entries = tuple(
                Entry(located(name, i, shape), given[i], slopes.value[i], slopes.error[i])
                for i in worst
            )
        return Block(name, shape, verdict, float(relative), note, entries)

    def _wrong(self, name, slope, miss, off) -> tuple[str, str]:
        """Wrong, unless most entries are off by as little as float32 rounds, and none by more."""
        alive = slope != 0
        typical = np.median(miss[alive] / np.abs(slope[alive])) if alive.any() else 0.0
        if (miss <= self._coarse(slope)).all() and typical > 1e-9 and miss.size > 1:
            ratios = self.gradient[self.blocks[name][0]][alive] / slope[alive] - 1
            if np.ptp(ratios) > 0.1 * np.abs(ratios).max():  # a constant factor is no rounding
                return "inconclusive", "some array is float32"
        return "wrong", "one entry" if off.sum() == 1 and off.size > 1 else ""

    def _no_subgradient(self, slopes: Slopes) -> np.ndarray:
        """Where entries at kinks are each within their bounds, but not together.

        At a tie `x.max()` has slope 1 along both entries at once, so that (1, 1) is none.
        """
        kinks, found = np.flatnonzero(slopes.kink), np.zeros(len(self.everything), bool)
        groups = [kinks] if len(kinks) > 1 else []
        if 2 < len(kinks) <= 6:
            groups += [np.array(pair) for pair in combinations(kinks, 2)]
        for group in groups:
            line = group, self.sizes[group]
            low, high, error = self.function.nearby(line, NEARBY)
            given, wide = self.gradient[group] @ self.sizes[group], high - low + error
            if not low - wide <= given <= high + wide:
                found[group] = True
        return found

    # --- random lines -----------------------------------------------------------------------

    def quick(self) -> list[Block]:
        blocks = [self._quick(name) for name in self.blocks]
        if len(blocks) > 1 and all(block.verdict in ("ok", "dead") for block in blocks):
            self.blocks = {
                **self.blocks,
                "all together": (slice(0, len(self.sizes)), self.sizes.shape),
            }
            blocks.append(self._quick("all together"))
        return blocks

    def _lines(self, indices):
        """A line with every entry by its size; and one where small entries weigh as much as large."""
        yield self.function.everywhere(indices)
        terms = np.abs(self.gradient[indices]) * self.sizes[indices]
        middle = np.sqrt((terms**2).mean())
        if terms.min() < 0.1 * middle:
            indices, amounts = self.function.everywhere(indices)
            yield indices, amounts * middle / (terms + 1e-3 * middle)

    def _quick(self, name: str) -> Block:
        where, shape = self.blocks[name]
        indices, worst = self.everything[where], None
        for line in self._lines(indices):
            slope = self.function.along(line)
            terms = self.gradient[indices] * line[1]
            size = np.sqrt((terms**2).sum())
            miss, error = slope.value[0] - terms.sum(), slope.error[0]
            tolerance = max(self.tolerance * size / len(terms) ** 0.5, error, self.coarse * size)
            if abs(miss) > tolerance and self.function.method == "complex":
                error = max(error, self.function.rounding(line))
                tolerance = max(tolerance, error)
            size = max(size, abs(slope.value[0]))
            if slope.jump[0]:
                self.kinks.append(f"{name} along a random line")
            if size == 0 or (size <= error and (size <= self.rounding or not terms.any())):
                note = "zero up to rounding, both" if size else "exactly zero, both"
                return Block(name, shape, "dead", 0.0, note)
            if abs(miss) > 2 * tolerance:
                worst = line, miss, tolerance, size, slope.jump[0]
                break
            if abs(miss) > tolerance or error > VOUCH * size:
                note = "differs, but at a kink: move x a little" if slope.jump[0] else "too noisy"
                return Block(name, shape, "inconclusive", abs(miss) / size, note)
        if worst is None:
            return Block(name, shape, "ok", abs(miss) / size, "float32" if self.coarse else "")
        line, miss, tolerance, size, jump = worst
        relative = abs(miss) / size
        if jump:
            note = "differs, but at a kink: move x a little"
            return Block(name, shape, "inconclusive", relative, note)
        entries, explained = self._locate(name, line, miss, tolerance)
        if explained:
            note = "nothing else is wrong along these lines"
        elif relative < FLOAT32:
            return Block(name, shape, "inconclusive", relative, "some array is float32", entries)
        else:
            note = "and more than these entries"
            self._guess_right(name, line, miss)
        return Block(name, shape, "wrong", relative, note, entries, explained)

    def _locate(self, name, line, miss, tolerance) -> tuple[tuple[Entry, ...], bool]:
        """The entries behind a miss, by bisection, one at a time; and whether they are all.

        The miss is a sum over the entries, so halve the set, measure one half, subtract for the
        other, and follow the larger: one entry of P in log2(P) steps.
        """
        where, shape = self.blocks[name]
        given, entries, full = self.gradient.copy(), [], line

        def missing(part):
            return self.function.along(part, confirm=False).value[0] - given[part[0]] @ part[1]

        while abs(miss) > tolerance and len(entries) < 5:
            part, rest = full, miss
            while len(part[0]) > 1:
                half = len(part[0]) // 2
                left, right = [tuple(a[s] for a in part) for s in (slice(half), slice(half, None))]
                first = missing(left)
                part, rest = (
                    (left, first) if abs(first) >= abs(rest - first) else (right, rest - first)
                )
            i = int(part[0][0])
            slope = self.function.each(np.array([i]))
            index = located(name, i - self.everything[where][0], shape)
            entries.append(Entry(index, self.gradient[i], slope.value[0], slope.error[0]))
            miss -= (slope.value[0] - given[i]) * full[1][full[0] == i][0]
            given[i] = slope.value[0]
        few = 2 * len(entries) <= np.count_nonzero(given[where])
        explained = few and abs(missing(self.function.everywhere(full[0]))) <= tolerance
        return tuple(entries), explained

    def _guess_right(self, name, line, miss) -> None:
        """The true gradient, if it is a multiple of the given one, or if it has few entries."""
        where, shape = self.blocks[name]
        indices, given = line[0], self.gradient[line[0]]
        other = self.function.everywhere(indices)
        here, there = given @ line[1], given @ other[1]
        slope, second = miss + here, self.function.along(other, confirm=False).value[0]
        if here and abs(slope * there - second * here) <= 1e-9 * abs(slope * there):
            right, error = given * (slope / here), 1e-12 * np.abs(given)
        elif len(indices) <= MANY:
            slopes = self.function.each(indices)
            right, error = slopes.value, slopes.error
        else:
            return
        self.right[name] = right.reshape(shape), error.reshape(shape)
