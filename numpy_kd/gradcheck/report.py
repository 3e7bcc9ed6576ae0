"""What a gradient check saw, as values, as text, and as a table for a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import fill

VERDICTS = ("dead", "ok", "inconclusive", "wrong")  # of several, the last one is the whole's
SAID = {
    "ok": "the gradient is the derivative of f",
    "dead": "gradient and derivative are both zero, so nothing was checked",
    "inconclusive": "the check cannot decide",
    "wrong": "the gradient is not the derivative of f",
}
BROKEN = "something is broken that no number shows"


@dataclass(frozen=True)
class Entry:
    """One entry of a gradient: where, what was given, what was measured, to which error.

    >>> Entry("x[0]", 2.0, 1.0, 1e-15).ratio
    2.0
    """

    where: str
    analytic: float
    numerical: float
    error: float = 0.0

    @property
    def ratio(self) -> float:
        return self.analytic / self.numerical if self.numerical else float("inf")


@dataclass(frozen=True)
class Block:
    """One array of a gradient: its verdict, and its largest error relative to its largest slope.

    >>> Block("W", (2, 3), "ok", 1e-16).verdict
    'ok'
    """

    name: str
    shape: tuple[int, ...]
    verdict: str
    error: float
    note: str = ""
    entries: tuple[Entry, ...] = ()
    explained: bool = False  # these few entries are all that is wrong


@dataclass(frozen=True)
class Problem:
    """Something that is wrong before any number is compared.

    >>> Problem("stochastic", "f is not the same twice", "inconclusive").verdict
    'inconclusive'
    """

    name: str
    sentence: str
    verdict: str = "wrong"


@dataclass(frozen=True)
class GradientReport:
    """The outcome of a check: true when ok; `print` it, or leave it as a cell's last line.

    `verdict` is "ok", "wrong", "inconclusive", or "dead" (gradient and derivative are both zero:
    not a pass, unless other blocks are alive); `error` the largest error of any block relative
    to its largest slope; `worst` the five worst entries; `findings` what was measured of a wrong
    gradient; `causes` the names of what went wrong, `cause` the one if it is one; `kinks` the
    entries where there is no derivative.

    >>> report = GradientReport(method="complex", blocks=(Block("x", (2,), "ok", 2e-16),))
    >>> bool(report), report.verdict, report.error
    (True, 'ok', 2e-16)
    """

    method: str
    blocks: tuple[Block, ...] = ()
    problems: tuple[Problem, ...] = ()
    diagnoses: tuple = ()
    kinks: tuple[str, ...] = ()
    mind: tuple[str, ...] = ()
    evaluations: int = 0
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        verdicts = [block.verdict for block in self.blocks]
        verdicts += [problem.verdict for problem in self.problems]
        return max(verdicts, key=VERDICTS.index, default="inconclusive")

    @property
    def error(self) -> float:
        return max((block.error for block in self.blocks), default=float("nan"))

    @property
    def worst(self) -> list[Entry]:
        entries = [entry for block in self.blocks for entry in block.entries]
        return sorted(entries, key=lambda e: -abs(e.analytic - e.numerical))[:5]

    @property
    def findings(self) -> list[str]:
        return [diagnosis.finding for diagnosis in self.diagnoses if diagnosis.finding]

    @property
    def causes(self) -> list[str]:
        """Names of the causes that are claimed, each once."""
        found = [problem.name for problem in self.problems]
        found += [diagnosis.cause for diagnosis in self.diagnoses if diagnosis.cause]
        return list(dict.fromkeys(found))

    @property
    def cause(self) -> str | None:
        return self.causes[0] if len(self.causes) == 1 else None

    def __bool__(self) -> bool:
        return self.verdict == "ok"

    @property
    def headline(self) -> str:
        """The verdict and what it means."""
        broken = self.verdict == "wrong" and all(b.verdict != "wrong" for b in self.blocks)
        kinked = ", but for the kinks, where there is none" * bool(self and self.kinks)
        return f"{self.verdict}: {BROKEN if broken else SAID[self.verdict]}{kinked}"

    def __str__(self) -> str:
        facts = [("problem", problem.sentence) for problem in self.problems]
        facts += [("measured", finding) for finding in self.findings]
        facts += [("diagnosis", str(d)) for d in self.diagnoses if str(d)]
        facts += [("note", note) for note in self.notes]
        kinks = "; ".join(self.kinks[:5]) + f" and {len(self.kinks) - 5} more" * (
            len(self.kinks) > 5
        )
        facts += [("kinks", f"no derivative at {kinks}")] * bool(kinks)
        facts += [("mind", spot) for spot in self.mind]
        facts += [("method", f"{self.method}; {self.evaluations:,} evaluations of f")]
        lines = [fill(f"  {n:<9}  {text}", 100, subsequent_indent=" " * 13) for n, text in facts]
        blocks = [("block", "shape", "error", "verdict")]
        for b in self.blocks:
            shape, note = " x ".join(map(str, b.shape)) or "number", f", {b.note}" * bool(b.note)
            blocks.append((b.name, shape, f"{b.error:.1e}", b.verdict + note))
        worst = [("worst entries", "given", "numerical", "ratio")]
        for e in self.worst:
            given, numerical = f"{e.analytic + 0.0:.9g}", f"{e.numerical + 0.0:.9g}"
            ratio = f"{e.ratio + 0.0:.7f}" if abs(e.ratio) < 1e6 else f"{e.ratio:.1e}"
            worst.append((e.where, given, numerical, ratio))
        for table in (blocks, worst):
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            for row in table if len(table) > 1 else ():
                cells = (f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True))
                lines.append(f"  {'  '.join(cells)}".rstrip())
        return "\n".join([self.headline, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<pre style="font-family: monospace">{escape(str(self))}</pre>'
