"""Files that are either the old ones or the new ones: written aside, then renamed."""

from __future__ import annotations

import glob
import io
import json
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

HEADER = "header"


@contextmanager
def written_aside(path) -> Iterator[BinaryIO]:
    """A binary file to write to; it takes the place of `path` only when all went well.

    A link is written through, and a file that is replaced keeps its mode. The writer holds a lock
    on the file aside, which ends with its process: what a killed run has left behind is removed by
    the next that writes to the same place.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is there, and not a file that could be replaced")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path)
    aside, file = _new_file_beside(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                os.chmod(aside, stat.S_IMODE(path.stat().st_mode))
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _new_file_beside(path: Path) -> tuple[Path, BinaryIO]:
    """A file with the permissions of any new one, locked by this process for as long as it is open."""
    while True:
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        file = aside.open("xb")
        with suppress(OSError):  # a file system without locks: its orphans stay
            _lock(file)
        if aside.exists():
            return aside, file
        file.close()  # taken for an orphan, between its making and its lock


def _remove_orphans(path: Path) -> None:
    """Remove the files beside `path` that a writer of it left when it was killed."""
    for found in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError), found.open("rb") as file:  # not where somebody is writing it
            _lock(file, wait=False)
            found.unlink()


def _lock(file: BinaryIO, *, wait: bool = True) -> None:
    """Take the lock of an open file, or raise `OSError` if another has it."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


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
        np.savez(file, **{HEADER: encoded}, **arrays)  # type: ignore[arg-type]


def read_npz(path, kind: str) -> tuple[dict, dict[str, np.ndarray]]:
    """What `write_npz` wrote, or a `ValueError` naming the file, if it is not a whole `kind`."""
    with Path(path).open("rb") as file:
        try:
            arrays = _arrays(file)
            header = json.loads(arrays.pop(HEADER).tobytes().decode("utf-8"))
        except Exception:  # noqa: BLE001 (a damaged archive raises whatever is stumbled over first)
            message = f"{path} is not a whole {kind} file: it is truncated or foreign"
            raise ValueError(message) from None
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise ValueError(f"{path} is not a {kind} file")
    return header, arrays


def _arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` that `np.savez` wrote, none of them larger than its share of the file.

    They are stored as they are, so that a packed member is foreign, and may be one that unpacks to
    a thousand times its size.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("packed")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("larger than the file")
        return {
            member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members
        }


def _array(content: bytes) -> np.ndarray:
    """The array in the bytes of an `.npy` file; what its header says must be what is there."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, column_by_column, dtype = read_header(stream)
    flat = np.frombuffer(bytearray(content[stream.tell() :]), dtype)  # writable, and no pickle
    return flat.reshape(shape, order="F" if column_by_column else "C")
