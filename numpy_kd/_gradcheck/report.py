"""What a gradient check saw, as values, as text, and as a table for a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from textwrap import fill

import numpy as np

VERDICTS = ("ok", "dead", "inconclusive", "wrong")  # from the best to the worst
SAID = {
    "ok": "the gradient is the derivative of f",
    "dead": "gradient and derivative are both zero, so nothing was checked",
    "inconclusive": "the check cannot decide",
    "wrong": "the gradient is not the derivative of f",
}
BROKEN = "something is broken that no number shows"


@dataclass(frozen=True)
class Entry:
    """One entry of a gradient: where, what was given, and what the numbers say."""

    block: str
    index: tuple[int, ...]
    analytic: float
    numerical: float

    @property
    def ratio(self) -> float:
        return self.analytic / self.numerical if self.numerical else float("inf")

    @property
    def where(self) -> str:
        return f"{self.block}[{', '.join(map(str, self.index))}]"


@dataclass(frozen=True)
class Block:
    """One array of a gradient: its largest error relative to its largest entry, and the worst."""

    name: str
    shape: tuple[int, ...]
    verdict: str
    error: float
    note: str = ""
    entries: tuple[Entry, ...] = ()
    explained: bool = False  # these few entries are all that is wrong


@dataclass(frozen=True)
class Problem:
    """Something that is wrong before any number is compared."""

    name: str
    sentence: str
    verdict: str = "wrong"


@dataclass(frozen=True)
class GradientReport:
    """The outcome of a check: true when ok; `print` it, or leave it as a cell's last line.

    `verdict` is "ok", "wrong", "inconclusive", or "dead" (gradient and derivative are both zero:
    not a pass); `error` the largest error of any block relative to its largest entry; `worst`
    the five worst entries; `causes` the names of what went wrong, `cause` the one if it is one.

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
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> str:
        verdicts = [part.verdict for part in (*self.blocks, *self.problems)]
        return max(verdicts, key=VERDICTS.index, default="inconclusive")

    @property
    def error(self) -> float:
        return max((block.error for block in self.blocks), default=float("nan"))

    @property
    def worst(self) -> list[Entry]:
        entries = [entry for block in self.blocks for entry in block.entries]
        return sorted(entries, key=lambda e: -abs(e.analytic - e.numerical))[:5]

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

    def with_problems(self, problems) -> GradientReport:
        """The same, with more found before any number was compared."""
        return replace(self, problems=(*self.problems, *problems))

    def joined(self, whole, parts, problems, kinks) -> GradientReport:
        """The report of a network: of its loss (self), of the whole, and of layers found wrong."""
        diagnoses = [d for part in parts for d in part.diagnoses] or list(whole.diagnoses)
        names = [block.name for part in parts for block in part.blocks]
        found = f"checked alone, these are wrong: {', '.join(names)}"
        alone = "checked alone, every layer is right: look at what joins them"
        wrong = [found if names else alone] if whole.verdict == "wrong" else []
        same = self.method.split(":")[0] == whole.method.split(":")[0]
        return replace(
            whole,
            method=whole.method if same else f"for the loss {self.method}; then {whole.method}",
            blocks=self.blocks + whole.blocks,
            problems=(*self.problems, *whole.problems, *problems),
            diagnoses=(*self.diagnoses, *diagnoses),
            kinks=(*self.kinks, *kinks, *whole.kinks),
            notes=(*self.notes, *wrong),
            evaluations=self.evaluations + whole.evaluations,
        )

    @property
    def headline(self) -> str:
        """The verdict and what it means."""
        numbers_are_right = all(block.verdict == "ok" for block in self.blocks)
        broken = self.verdict == "wrong" and numbers_are_right
        kinked = ", but for the kinks, where there is none" * bool(self and self.kinks)
        return f"{self.verdict}: {BROKEN if broken else SAID[self.verdict]}{kinked}"

    def _facts(self) -> list[tuple[str, str]]:
        how = f"{self.method}; {self.evaluations:,} evaluations of f"
        facts = [("problem", problem.sentence) for problem in self.problems]
        facts += [("diagnosis", str(diagnosis)) for diagnosis in self.diagnoses]
        facts += [("note", note) for note in self.notes]
        if self.kinks:
            more = f" and {len(self.kinks) - 5} more" if len(self.kinks) > 5 else ""
            facts.append(("kinks", f"no derivative at {'; '.join(self.kinks[:5])}{more}"))
        return [*facts, *(("mind", spot) for spot in self.mind), ("method", how)]

    def _tables(self) -> list[list[tuple[str, ...]]]:
        blocks = [("block", "shape", "error", "verdict")]
        for b in self.blocks:
            shape = " x ".join(map(str, b.shape)) or "number"
            verdict = f"{b.verdict}, {b.note}" if b.note else b.verdict
            blocks.append((b.name, shape, f"{b.error:.1e}", verdict))
        if not self.worst:
            return [blocks] if self.blocks else []
        worst = [("worst entries", "given", "numerical", "ratio")]
        worst += [
            (e.where, f"{e.analytic + 0.0:.9g}", f"{e.numerical:.9g}", f"{e.ratio + 0.0:.7f}")
            for e in self.worst
        ]
        return [blocks, worst]

    def __str__(self) -> str:
        lines = [self.headline]
        for name, text in self._facts():
            lines.append(fill(f"  {name:<9}  {text}", 100, subsequent_indent=" " * 13))
        for table in self._tables():
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += [
                "  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True))
                for row in table
            ]
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [f"<p>{escape(self.headline)}</p>"]
        facts = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in self._facts()
        )
        rows.append(f"<table>{facts}</table>")
        for head, *body in self._tables():
            cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            lines = "".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in body
            )
            rows.append(f"<table><tr>{cells}</tr>{lines}</table>")
        return "<div>" + "".join(rows) + "</div>"


def like_float32(miss, numerical, scale, limit) -> bool:
    """Not one entry that is off, but most of them a little, as rounding does it."""
    relative = miss[numerical != 0] / np.abs(numerical[numerical != 0])
    typical = np.median(relative) if relative.size else 0.0
    return miss.max() < limit * scale and 1e-9 < typical < limit


def concentration(miss, shape, name) -> str:
    """Whether the errors sit in one row, or in one column (of logits: an example, or a class)."""
    if len(shape) != 2 or min(shape) < 2 or np.count_nonzero(miss) < 2:
        return "one entry" if np.count_nonzero(miss) == 1 and miss.size > 1 else ""
    energy = (miss.reshape(shape) / miss.max()) ** 2
    words = ("example", "class") if name == "dlogits" else ("row", "column")
    for axis, word in zip((1, 0), words, strict=True):
        share = energy.sum(axis=axis) / energy.sum()
        if share.max() > 0.9:
            return f"all in {word} {int(share.argmax())}"
    return ""
