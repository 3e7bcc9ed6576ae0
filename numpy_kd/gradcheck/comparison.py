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
from numpy_kd.gradcheck.slopes import EPS, TINY, Function

TOLERANCE = 1e-10  # of an entry: 10**5 roundings, as a sum of many terms may lose
CLEAR = 2  # tolerances away, an entry is wrong
VOUCH = 0.01  # of a slope: an error larger than that hides mistakes worth finding
ROUNDINGS = 16  # of the largest term: what a sum that should be 0 may come to
COARSE = 32  # roundings of an entry, for gradients in float32: their sums have fewer terms
ROUNDED = 1e-8, 5e-7  # of an entry: what float32 typically does to it
FLOAT32 = COARSE * float(np.finfo(np.float32).eps)
MAY_ROUND = 1e-6  # of the largest term: no rounding reaches further
MANY = 1000  # entries of a block that a failed quick check may look at one by one
NEARBY = 1e-4  # of an entry's size: how far from a kink its neighbours are asked
AT_A_KINK = "differs, but at a kink: move x a little"


class Comparison:
    """A gradient against a `Function`; what it learned is in `right` and `kinks`.

    `right` is {block: (true gradient, its error)} where that became known.

    >>> function = Function(lambda x: (x**2).sum(), np.array([1.0, 2.0]))
    >>> gradient, blocks = np.array([2.0, 4.0]), {"x": (slice(0, 2), (2,))}
    >>> [block.verdict for block in Comparison(function, gradient, blocks).full()]
    ['ok']
    """

    def __init__(self, function: Function, gradient, blocks, tolerance=None, dtype=np.float64):
        self.function, self.gradient, self.blocks = function, gradient, dict(blocks)
        self.tolerance = TOLERANCE if tolerance is None else tolerance
        eps = float(np.finfo(np.float32 if _of_float32(gradient) else dtype).eps)
        self.coarse = COARSE * eps if eps > EPS else 0.0
        self.sizes, self.everything = function.sizes, np.arange(len(gradient))
        self.right: dict = {}
        self.kinks: list = []
        largest = np.abs(gradient * self.sizes).max()
        self.rounding = max(ROUNDINGS * EPS * largest, 4 * function.noise)

    # --- every entry ------------------------------------------------------------------------

    def full(self) -> list[Block]:
        return [
            self._judge(name, self.everything[where]) for name, (where, _) in self.blocks.items()
        ]

    def _slopes(self, indices):
        """(slopes, miss, tolerance, below) of these entries: which lie below the whole's rounding."""
        given, sizes = self.gradient[indices], self.sizes[indices]
        value, error, jump = self.function.each(indices)
        miss, rough = np.abs(given - value), _coarse(value, self.coarse)
        tolerance = np.maximum(np.maximum(self.tolerance * np.abs(value), error), rough)
        if self.function.method == "complex":  # where an entry looks wrong, is it but rounding?
            reach = MAY_ROUND * max(np.abs(value * sizes).max(), self.rounding / EPS)
            slight = miss * sizes <= reach
            for k in np.flatnonzero((miss > tolerance) & (jump == 0) & slight)[:MANY]:
                line = self.function.axes(indices[[k]])[0]
                error[k] = max(error[k], self.function.rounding(line) / sizes[k])
            tolerance = np.maximum(tolerance, error)
        # a difference such as q - 1 has the rounding of its terms, which are its neighbours' size
        largest = np.abs(value).max(), np.abs(value * sizes).max()
        rounds = (miss <= EPS * largest[0]) & (miss * sizes <= EPS * largest[1])
        tolerance = np.where(rounds, np.maximum(tolerance, miss), tolerance)
        return (value, error, jump), miss, tolerance, np.abs(given) * sizes <= self.rounding

    def _judge(self, name, indices) -> Block:
        """The verdict on these entries of a block, which are all of it or some."""
        (where, shape), given = self.blocks[name], self.gradient[indices]
        sizes = self.sizes[indices]
        (value, error, jump), miss, tolerance, below = self._slopes(indices)
        nothing = (np.abs(value) <= error) & (jump == 0)
        off = miss > np.where(jump == 0, CLEAR, 1.05) * tolerance
        off = (off | self._no_subgradient(indices, jump)) & ~(nothing & below)
        small = (error * sizes <= VOUCH * np.median(np.abs(value * sizes))) | below
        said = (error <= VOUCH * np.abs(value)) | small | (jump != 0)
        vague = ~off & ((miss > tolerance) & (jump == 0) & ~(nothing & below) | ~said)
        places = [located(name, i - self.everything[where][0], shape) for i in indices]
        self.kinks += [places[k] for k in np.flatnonzero(jump)]
        scale = np.abs(value).max()
        relative = miss[jump == 0].max(initial=0) / scale if scale else float(miss.any())
        verdict, note = "ok", "float32" if self.coarse else ""
        if off.any():
            verdict, note = "wrong", "one entry" if off.sum() == 1 < off.size else ""
            if self._like_float32(indices, value, miss):
                verdict, note = "inconclusive", "some array is float32"
            elif (off & (jump != 0)).any():
                note = "no subgradient at a kink"
        elif (nothing & ((np.abs(given) <= error) | below) & (small | (given == 0))).all():
            verdict, note = "dead", "zero up to rounding, both"
            note, relative = note if value.any() or given.any() else "exactly zero, both", 0.0
        elif vague.any():
            k = int(np.argmax(np.where(vague, error * sizes, -1)))
            verdict, note = "inconclusive", f"{places[k]} is {value[k]:.3g} +- {error[k]:.1g}"
            note = f"too noisy: {note}"
            if not np.isfinite(error[k]):
                note = f"f gives no number near the point ({self.function.refusal})"
        if len(indices) == np.prod(shape) and "kink" not in note:
            right = np.where(jump == 0, value, given).reshape(shape)  # at a kink any will do
            self.right[name] = right, np.where(jump == 0, error, 0).reshape(shape)
        worst = [k for k in np.argsort(-miss * sizes) if off[k]][:5]
        entries = tuple(Entry(places[k], given[k], value[k], error[k]) for k in worst)
        return Block(name, shape, verdict, float(relative), note, entries)

    def _like_float32(self, where, value, miss) -> bool:
        """Most of many entries off by as little as float32 rounds, and by no formula."""
        x, off = self.function.x[where], self.gradient[where] - value
        if x.size < 12 or (miss > _coarse(value, FLOAT32)).any():
            return False
        rounds = ROUNDED[0] < np.median(miss[value != 0] / np.abs(value[value != 0])) < ROUNDED[1]
        terms = np.array([np.ones_like(x), x, np.sign(x), value]).T  # what a mistake is made of
        rest = off - terms @ np.linalg.lstsq(terms, off)[0]
        return rounds and (rest**2).sum() > 0.1 * (off**2).sum()

    def _no_subgradient(self, indices, jump) -> np.ndarray:
        """Which entries at kinks are each within their bounds, but not together.

        At a tie `x.max()` has slope 1 along both entries at once, so that (1, 1) is none.
        """
        kinks, found = np.flatnonzero(jump), np.zeros(len(indices), bool)
        groups = [kinks] * (len(kinks) > 1)
        groups += list(map(np.array, combinations(kinks, 2))) if len(kinks) <= 6 else []
        for group in groups:
            line = indices[group], self.sizes[indices[group]]
            low, high, error = self.function.nearby(line, NEARBY)
            given, wide = self.gradient[line[0]] @ line[1], high - low + error
            found[group] |= not low - wide <= given <= high + wide
        return found

    # --- random lines -----------------------------------------------------------------------

    def quick(self) -> list[Block]:
        blocks = [self._quick(name) for name in self.blocks]
        if len(blocks) > 1 and all(block.verdict in ("ok", "dead") for block in blocks):
            whole = slice(0, len(self.sizes)), self.sizes.shape
            self.blocks["all together"] = whole
            blocks.append(self._quick("all together"))
        return blocks

    def _lines(self, indices):
        """A line through all, and one through those of like size, as large ones hide small ones."""
        yield self.function.everywhere(indices), True
        terms = np.abs(self.gradient[indices]) * self.sizes[indices]
        size = np.log10(np.maximum(terms, TINY)) // 2
        for group in np.unique(size) if np.ptp(size) else ():
            yield self.function.everywhere(indices[size == group]), False

    def _quick(self, name: str) -> Block:
        (where, shape), found, dead = self.blocks[name], [], True
        whole = np.abs(self.gradient[where] * self.sizes[where])
        typical, rms = np.median(whole), np.sqrt((whole**2).mean())
        for line, first in self._lines(self.everything[where]):
            value, error, jump = self.function.along(line, confirm=first)
            terms = self.gradient[line[0]] * line[1]
            size, miss = np.sqrt((terms**2).sum()), value - terms.sum()
            coarse = self.coarse * (size + rms * len(terms) ** 0.5)  # as in `_coarse`
            tolerance = max(self.tolerance / len(terms) ** 0.5 * size, coarse)
            if abs(miss) > max(tolerance, error) and self.function.method == "complex":
                error = max(error, self.function.rounding(line))
            tolerance = max(tolerance, error)
            self.kinks += [f"{name} along a random line"] * bool(jump)
            if abs(value) <= error and size <= self.rounding:
                continue  # nothing is seen along this line, nor should be
            dead, size = False, max(size, abs(value))
            found.append(abs(miss) / size)
            if abs(miss) > CLEAR * tolerance and not jump:
                return self._off(name, line, miss, tolerance, found[-1])
            small = error <= VOUCH * typical * len(terms) ** 0.5
            if abs(miss) > tolerance or not (small or error <= VOUCH * size):
                note = f"too noisy: {value:.3g} +- {tolerance:.1g}, {terms.sum():.3g} given"
                note = AT_A_KINK if jump else note
                return Block(name, shape, "inconclusive", found[-1], note)
        if dead:
            return Block(name, shape, "dead", 0.0, "zero up to rounding, both")
        return Block(name, shape, "ok", max(found), "float32" if self.coarse else "")

    def _off(self, name, line, miss, tolerance, relative) -> Block:
        """Wrong along a line: which entries, and is that all?"""
        entries, explained = self._locate(name, line, miss, tolerance)
        shape, indices = self.blocks[name][1], line[0]
        if explained:
            note = "nothing else is wrong along these lines"
            return Block(name, shape, "wrong", relative, note, entries, True)
        if len(indices) == np.prod(shape):
            self._guess_right(name, line, miss)
        some = np.sort(self.function.rng.permutation(indices)[:MANY])
        found = self._judge(name, some)
        if found.verdict == "ok":  # not one of these, then
            found = Block(name, shape, "wrong", relative, "and more than these", entries)
        return found

    def _locate(self, name, line, miss, tolerance) -> tuple[tuple[Entry, ...], bool]:
        """The entries behind a miss, by bisection, one at a time; and whether they are all.

        The miss is a sum over the entries, so halve the set, measure one half, subtract for the
        other, and follow the larger: one entry of P in log2(P) steps.
        """
        where, shape = self.blocks[name]
        given = self.gradient.copy()
        entries: list[Entry] = []

        def missing(part):
            return self.function.along(part, confirm=False)[0] - given[part[0]] @ part[1]

        while abs(miss) > tolerance and len(entries) < 5:
            (indices, amounts), rest = line, miss
            while len(indices) > 1:
                middle = len(indices) // 2
                first = missing((indices[:middle], amounts[:middle]))
                if abs(first) >= abs(rest - first):
                    indices, amounts, rest = indices[:middle], amounts[:middle], first
                else:
                    indices, amounts, rest = indices[middle:], amounts[middle:], rest - first
            i = indices[0]
            value, error, _ = self.function.each(indices)[:, 0]
            index = located(name, i - self.everything[where][0], shape)
            entries.append(Entry(index, given[i], value, error))
            miss -= (value - given[i]) * amounts[0]
            given[i] = value
        few = 2 * len(entries) <= np.count_nonzero(given[where])
        rest = missing(self.function.everywhere(line[0]))
        return tuple(entries), bool(few and abs(rest) <= tolerance)

    def _guess_right(self, name, line, miss) -> None:
        """The true gradient, if it is a multiple of the given one."""
        given, other = self.gradient[line[0]], self.function.everywhere(line[0])
        here, there = given @ line[1], given @ other[1]
        value, second = miss + here, self.function.along(other, confirm=False)[0]
        if here and abs(value * there - second * here) <= 1e-9 * abs(value * there):
            right = given.reshape(self.blocks[name][1]) * (value / here)
            self.right[name] = right, 1e-12 * np.abs(right)


def _of_float32(gradient) -> bool:
    """Whether these are float32 numbers, all of them, and most with more digits than round ones."""
    with np.errstate(over="ignore", under="ignore"):
        near, rough = gradient.astype(np.float32), gradient.astype(np.float16)
    return np.array_equal(near, gradient) and np.mean(near != rough) > 0.5


def _coarse(value, coarse: float):
    """What rounding to float32 may do to entries: sums round as their larger terms do."""
    return coarse * (np.abs(value) + np.sqrt((value**2).mean()))
