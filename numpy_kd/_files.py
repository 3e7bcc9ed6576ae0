"""Files that are either the old ones or the new ones: written aside, then renamed."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import contextmanager
from pathlib import Path

import numpy as np

HEADER = "header"


@contextmanager
def written_aside(path):
    """A binary file to write to; it takes the place of `path` only when all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with aside.open("xb") as file:  # with the permissions of any new file
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path, text: str) -> None:
    """`text` as UTF-8 with `\\n` line ends."""
    with written_aside(path) as file:
        file.write(text.encode("utf-8"))


def write_npz(path, header: dict, arrays: dict[str, np.ndarray]) -> None:
    """Arrays with a JSON header, as an `.npz` that needs no pickle.

    Arrays inside the header, as in the states of some generators, become lists.
    """
    text = json.dumps(header, default=np.ndarray.tolist)
    encoded = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    with written_aside(path) as file:
        np.savez(file, **{HEADER: encoded}, **arrays)


def read_npz(path, kind: str) -> tuple[dict, dict[str, np.ndarray]]:
    """What `write_npz` wrote, or a `ValueError` naming the file, if it is not a whole `kind`."""
    with Path(path).open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            header = json.loads(arrays.pop(HEADER).tobytes().decode("utf-8"))
        except Exception:  # noqa: BLE001 (a damaged archive raises whatever is stumbled over first)
            message = f"{path} is not a whole {kind} file: it is truncated or foreign"
            raise ValueError(message) from None
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise ValueError(f"{path} is not a {kind} file")
    return header, arrays
