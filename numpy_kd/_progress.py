"""A progress bar for whoever is watching, and nothing for nobody."""

from __future__ import annotations

import sys


def bar(total: int | None = None, *, shown: bool | None = None, **options):
    """A `tqdm` bar on the standard error stream; `options` are tqdm's own.

    With `shown=None` it shows in a terminal and in a notebook alone. A program without a standard
    error stream (a service, `pythonw`) has no bar, whatever is asked for.
    """
    from tqdm.auto import tqdm  # here, so that nobody waits for it who never shows a bar

    if shown is None:
        shown = "ipykernel" in sys.modules or _is_terminal(sys.stderr)
    return tqdm(total=total, disable=not shown or sys.stderr is None, **options)


def _is_terminal(stream) -> bool:
    """Whether there is a stream, open, with somebody at its end."""
    return not getattr(stream, "closed", True) and stream.isatty()
