"""Where data files lie on this machine, and how they get there: whole, or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from numpy_kd import _checks, _progress
from numpy_kd._files import written_aside

_CHUNK = 1 << 16


def data_folders(
    name: str, environ: Mapping[str, str] | None = None, platform: str = sys.platform
) -> list[Path]:
    """The folders where the data set `name` may lie: `$NUMPY_KD_DATA`'s, then the user's cache.

    The cache is below `$XDG_CACHE_HOME`, else `~/.cache`; on Windows below `%LOCALAPPDATA%`.
    `environ` stands for the environment variables.

    >>> environ = {"NUMPY_KD_DATA": "data", "XDG_CACHE_HOME": "cache"}
    >>> for folder in data_folders("mnist", environ, platform="linux"):
    ...     folder.as_posix()
    'data/mnist'
    'cache/numpy_kd/mnist'
    """
    name, environ = str(_checks.path("name", name)), os.environ if environ is None else environ
    if platform == "win32":
        cache = environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    places = [environ["NUMPY_KD_DATA"]] if environ.get("NUMPY_KD_DATA") else []
    places.append(os.path.join(cache, "numpy_kd"))
    return [Path(os.path.expanduser(place), name) for place in places]


def fetch(
    urls: Sequence[str],
    path: str | os.PathLike,
    *,
    check: Callable[[bytes], None],
    limit: int,
    timeout: float = 30.0,
) -> None:
    """Write to `path` the content of the first of `urls` that answers and passes `check`.

    `check(content)` raises `ValueError` for content that is not the wanted one. A mirror that
    refuses, says nothing for `timeout` seconds, breaks off, sends more than `limit` bytes or the
    wrong ones is passed over. The file appears under its name only when it is whole: it is
    gathered in memory, written beside and renamed. Progress is shown in a terminal only.
    Raises `OSError` with every mirror's reason if none is left; then nothing has been written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source, copy = Path(folder) / "source", Path(folder) / "copy"
    ...     _ = source.write_bytes(b"digits")
    ...     fetch([source.as_uri()], copy, check=lambda content: None, limit=100)
    ...     copy.read_bytes()
    b'digits'
    """
    path = Path(path)
    failures = []
    for url in urls:
        try:
            content = _get(url, limit, timeout, path.name)
            check(content)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"\n  {url}: {str(error) or type(error).__name__}")
        else:
            with written_aside(path) as file:
                file.write(content)
            return
    raise OSError(f"{path.name} could not be fetched from any mirror:{''.join(failures)}")


def _get(url: str, limit: int, timeout: float, name: str) -> bytes:
    """What `url` sends, if it sends all it promised and no more than `limit` bytes."""
    from urllib.error import HTTPError  # imported late: slow, and few runs fetch anything
    from urllib.request import urlopen

    try:
        response = urlopen(url, timeout=timeout)
    except HTTPError as error:
        with error:  # it holds the connection
            raise OSError(f"HTTP status {error.code}, {error.reason}") from None
    promised = response.headers.get("Content-Length", "")
    promised = int(promised) if promised.isdecimal() else None
    content = bytearray()
    bar = _progress.bar(promised, unit="B", unit_scale=True, desc=name)
    with response, bar:
        while len(content) <= limit and (piece := response.read(_CHUNK)):
            content += piece
            bar.update(len(piece))
    if len(content) > limit:
        raise ValueError(f"more than the {limit} bytes it can have")
    if promised is not None and len(content) < promised:
        raise ValueError(f"broke off after {len(content)} of {promised} bytes")
    return bytes(content)
