"""A progress bar for whoever is watching, and nothing for nobody."""

from __future__ import annotations

import sys
from typing import Any, Self


def bar(total: int | None = None, *, shown: bool | None = None, **options) -> Any:
    """A `tqdm` bar on the standard error stream; `options` are tqdm's own.

    With `shown=None` it shows in a terminal and in a notebook alone. A program without a standard
    error stream (a service, `pythonw`) has no bar, whatever is asked for; and where none is shown,
    tqdm is not even loaded.
    """
    stream = sys.stderr
    visible = not getattr(stream, "closed", stream is None)
    if shown is None and visible:
        shown = "ipykernel" in sys.modules or stream.isatty()
    if not (shown and visible):
        return _NoBar(total)
    from tqdm.auto import tqdm

    return tqdm(total=total, **options)


class _NoBar:
    """What is used like a bar where there is none."""

    def __init__(self, total: int | None):
        self.total = total

    def update(self, n: int = 1) -> None:
        pass

    refresh = close = update

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
