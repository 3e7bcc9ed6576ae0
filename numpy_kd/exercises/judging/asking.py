"""One call of a function whose results nobody vouches for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from numpy_kd.exercises.exercise import Answer, fresh
from numpy_kd.exercises.judging import wire


def ask(function: Callable, arguments: tuple, errors: Literal["warn", "ignore"] = "warn") -> Answer:
    """What a function makes of a copy of these arguments, sent as in the grader, without its process.

    `errors` is what becomes of overflow and NaN: "warn", as NumPy does by itself, or "ignore".
    """
    try:
        value, after = wire.answered(*wire.call(function, fresh(arguments), errors))
    except NotImplementedError as error:
        return Answer(failure="missing", text=str(error))
    except MemoryError as error:
        return Answer(failure="memory", text=f"MemoryError: {error}")
    except Exception as error:  # noqa: BLE001 (students' code raises what it likes)
        return Answer(failure="error", text=f"{type(error).__name__}: {error}"[:500])
    return Answer(value=value, after=after)
