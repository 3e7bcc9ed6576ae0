"""One call of a function whose results nobody vouches for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numpy_kd.exercises.exercise import Answer, fresh
from numpy_kd.exercises.judging import wire

NUMPYS_OWN = {"divide": "warn", "over": "warn", "invalid": "warn", "under": "ignore"}


def ask(function: Callable, arguments: tuple) -> Answer:
    """What a function makes of a copy of these arguments, as it would come back over the wire.

    Floating-point errors are handled as NumPy does by itself: `np.seterr(all="raise")` in a
    notebook makes no right answer wrong.
    """
    own = fresh(arguments)
    try:
        with np.errstate(**NUMPYS_OWN):
            value = wire.plain(function(*own))
    except NotImplementedError as error:
        return Answer(failure="missing", text=str(error))
    except MemoryError as error:
        return Answer(failure="memory", text=f"MemoryError: {error}")
    except Exception as error:  # noqa: BLE001 (students' code raises what it likes)
        return Answer(failure="error", text=f"{type(error).__name__}: {error}"[:500])
    return Answer(value=value, after=own)
