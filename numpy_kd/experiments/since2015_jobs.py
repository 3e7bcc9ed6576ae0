"""A student of the comparison: taught in ways that a job of the other tables does not know."""

from __future__ import annotations

import functools
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy_kd.datasets import Split
from numpy_kd.distillation import Teacher
from numpy_kd.experiments.jobs import NOISE, Job, examples, measured, trained
from numpy_kd.mlp import MLP


@dataclass(frozen=True)
class Student(Job):
    """A job whose `data` is the name of a function of this package, with a test part of its choice."""

    teaching: str = "consistent"  # or "fixed", as `distill` takes it
    answers: str = ""  # a function (teacher's logits, labels, rng) to what is taught in their place
    answers_settings: dict = field(default_factory=dict)  # of it
    may_diverge: bool = False  # then the result is "diverged", the message

    def work(
        self, teacher: Teacher | None, source: str | None, checkpoint: Path | None
    ) -> tuple[dict, MLP | None]:
        """Train and measure; a checkpoint is kept where it costs less than to begin anew."""
        data = _data(self.data, source if "mnist" in self.data else None)
        taught, how = teacher, dict[str, Any]()
        if teacher is not None:
            how["teaching"] = self.teaching
        if teacher is not None and self.answers:
            x, labels, _ = examples(self, data)
            change = functools.partial(_of_this_package(self.answers), **self.answers_settings)
            taught = change(teacher.logits(x), labels, self.stream(NOISE))
        if self.length > 1e8:  # more than some seconds
            how["checkpoint"] = checkpoint
        try:
            network, _, held_out = trained(self, data, taught, **how)
        except FloatingPointError as error:
            if not self.may_diverge:
                raise
            return {"diverged": str(error)}, None
        return measured(self, network, data, teacher, held_out), network


@functools.lru_cache(maxsize=2)
def _data(name: str, source: str | None) -> Split:
    """One of the parts that a data set is divided into, read once in each process."""
    load = _of_this_package(name)
    return load() if source is None else load(source)


def _of_this_package(name: str):
    return pkgutil.resolve_name(f"numpy_kd.{name}")
