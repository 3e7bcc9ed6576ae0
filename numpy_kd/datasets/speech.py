"""Spoken digits, and what a network is given of them: log-mel features with their neighbours.

Sound is a row of numbers, 8,000 a second. What tells digits apart is which pitches are in it, and
how that changes; so it is cut into short frames, and each frame becomes its energy in 40 bands.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import wave
import zipfile
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from numpy_kd import _checks
from numpy_kd.datasets.download import data_folders, fetch

RATE = 8_000  # samples a second
WINDOW, HOP = 200, 80  # samples: 25 ms and 10 ms
FFT = 512  # samples that a frame is filled up to, for bands that are narrow
FLOOR = 1e-8  # energy; the rounding to 16 bits has about as much

SPEECH_MIRRORS = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.zip",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.zip",
)
# of the SHA-256 of each recording after its name, in the order of the names
SPEECH_SHA256 = "0fbe6612aaa20a80ef4371894a46e060038337a518fe3d4728cb7eee7caa013c"

_ARCHIVE = "fsdd.zip"
_NAME = re.compile(r"(\d)_([a-z]+)_(\d{1,4})\.wav")
_LIMIT = 1 << 26  # bytes of the archive; it has about 16 MB
_WAV_LIMIT = 1 << 20  # bytes of a recording; the longest has 37 kB
_EACH = 50  # recordings of a digit by a speaker


class Recordings(NamedTuple):
    """Waves of different lengths, in [-1, 1), with what was said, by whom, and which time it was.

    >>> one = Recordings([np.zeros(800)], np.array([7]), np.array(["theo"]), np.array([0]))
    >>> one.take(one.speakers == "theo").digits
    array([7])
    """

    waves: list[np.ndarray]
    digits: np.ndarray
    speakers: np.ndarray
    indices: np.ndarray

    def take(self, rows) -> Recordings:
        """Those that `rows` picks, indices or booleans."""
        rows = _checks.indices("rows", rows, len(self.waves))
        waves = [self.waves[row] for row in rows]
        return Recordings(waves, self.digits[rows], self.speakers[rows], self.indices[rows])


def load_spoken_digits(path: str | os.PathLike | None = None, *, download=False) -> Recordings:
    """The Free Spoken Digit Dataset: 3,000 recordings, the digits 0 to 9 by six speakers, 50 times.

    Reads `recordings/{digit}_{speaker}_{index}.wav`, or the archive `fsdd.zip` that holds them,
    from the folder `path` if it is given, else from the first of `$NUMPY_KD_DATA/fsdd` and the
    user's cache folder that has any. With `download=True` the archive is first fetched into
    `path`, else into the cache, and kept only if all recordings are there as published.

    Waves are float32 in [-1, 1), 8,000 samples a second, in the order of speaker, digit, index.
    The data set's own split takes the indices 0 to 4 for testing, the others for training. Of
    versions with other speakers all are read, but each must have 50 recordings of every digit.
    Raises `FileNotFoundError` saying where it looked, `ValueError` naming a recording that is
    missing or is not a whole WAV file of one channel, 16 bits, 8,000 Hz; `OSError` when the
    archive could not be fetched.

    Source: Z. Jackson and others, Free Spoken Digit Dataset, CC BY-SA 4.0.

    >>> load_spoken_digits("no-such-folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    FileNotFoundError: Spoken digits were not found. Looked in:
      no-such-folder
    ...
    """
    download = _checks.flag("download", download)
    if path is None:
        folders = data_folders("fsdd")
    else:
        folders = [_checks.path("path", path).expanduser()]
    place = next(filter(None, map(_place, folders)), None)
    if place is None and download:
        place = folders[-1] / _ARCHIVE
        fetch(SPEECH_MIRRORS, place, check=_check_archive, limit=_LIMIT)
    if place is None:
        raise FileNotFoundError(
            "\n  ".join(["Spoken digits were not found. Looked in:", *map(str, folders)])
            + "\nFetch them once with load_spoken_digits(download=True), or set NUMPY_KD_DATA to a "
            "folder whose subfolder fsdd holds recordings/0_george_0.wav and so on, or fsdd.zip."
        )
    named = {}
    for name, content in _contents(place):
        digit, speaker, index = _NAME.findall(name)[0]
        named[speaker, int(digit), int(index)] = _samples(f"{place}: {name}", content)
    speakers = sorted({speaker for speaker, _, _ in named})
    for speaker, digit, index in product(speakers, range(10), range(_EACH)):
        if (speaker, digit, index) not in named:
            raise ValueError(f"{place}: there is no recording {digit}_{speaker}_{index}.wav")
    keys = sorted(named)
    who, digits, indices = zip(*keys, strict=True)
    waves = [named[key] for key in keys]
    return Recordings(waves, np.array(digits), np.array(who), np.array(indices))


def _place(folder: Path) -> Path | None:
    """Where in the folder the recordings are, or None."""
    for place in (folder / "recordings", folder):
        if place.is_dir() and any(_NAME.fullmatch(entry.name) for entry in place.iterdir()):
            return place
    archive = folder / _ARCHIVE
    return archive if archive.is_file() else None


def _contents(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each recording in a folder or an archive, in the order of the names."""
    if not place.is_dir():
        with place.open("rb") as file:
            try:
                yield from _in_archive(file)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
    for path in sorted(p for p in place.glob("*.wav") if _NAME.fullmatch(p.name)):
        with path.open("rb") as file:
            yield path.name, file.read(_WAV_LIMIT + 1)


def _in_archive(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.rpartition("/")[2]: member for member in archive.infolist()}
            for name in sorted(filter(_NAME.fullmatch, members)):
                with archive.open(members[name]) as member:
                    yield name, member.read(_WAV_LIMIT + 1)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"not a whole zip archive that can be read: {error}") from None


def _check_archive(content: bytes) -> None:
    """Raise `ValueError` unless an archive holds the recordings as published."""
    digest = hashlib.sha256()
    for name, recording in _in_archive(io.BytesIO(content)):
        digest.update(name.encode() + hashlib.sha256(recording).digest())
    if digest.hexdigest() != SPEECH_SHA256:
        raise ValueError(
            f"not the recordings as published: together they have {digest.hexdigest()}"
        )


def _samples(name: str, content: bytes) -> np.ndarray:
    """The samples of a WAV file of one channel and 16 bits at 8,000 Hz."""
    if len(content) > _WAV_LIMIT:
        raise ValueError(f"{name} must have at most {_WAV_LIMIT} bytes")
    try:
        with wave.open(io.BytesIO(content)) as file:
            form = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            promised, data = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        why = str(error) or "it ends too early"
        raise ValueError(f"{name} is not a WAV file that can be read: {why}") from None
    if form != (1, 16, RATE):
        raise ValueError(
            f"{name} must have one channel of 16 bits at {RATE} Hz, "
            f"got {form[0]} of {form[1]} bits at {form[2]} Hz"
        )
    if len(data) != 2 * promised or promised == 0:
        raise ValueError(f"{name} is truncated: {len(data)} of {2 * promised} bytes of sound")
    return np.frombuffer(data, "<i2").astype(np.float32) / 2**15


# --- features -------------------------------------------------------------------------------------


def mel_filters(coefficients: int = 40) -> np.ndarray:
    """Triangles over the frequencies of a spectrum, evenly spaced on the mel scale.

        mel = 2595 log10(1 + f / 700)

    Pitch as it is heard: evenly spaced below 700 Hz or so, by ratios above. Each triangle rises
    from the centre of the one before it to its own, where it is 1, and falls to the next one's.

    Parameters: `coefficients` how many, at most 80. Returns: (coefficients, 257), float64: 257 are
    the frequencies from 0 to 4,000 Hz. Raises `ValueError` for a count out of range.

    >>> filters = mel_filters()
    >>> filters.shape, (filters.argmax(axis=1) * RATE / FFT)[[0, 18, 39]].round()
    ((40, 257), array([  31.,  984., 3781.]))
    """
    coefficients = _checks.count("coefficients", coefficients)
    if coefficients > 80:
        raise ValueError(f"coefficients must be at most 80, got {coefficients}")
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, coefficients + 2) / 2595) - 1)
    f = np.arange(FFT // 2 + 1) * RATE / FFT
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((f - low) / (centre - low), (high - f) / (high - centre)))


def log_mel(sound, *, coefficients: int = 40) -> np.ndarray:
    """A wave as frames of log energies in bands of pitch: 25 ms each, one every 10 ms.

        frames    200 samples, 80 apart, faded in and out by a Hann window
        power     |FFT|^2 of each frame: how much of each frequency is in it
        energy    power, added up by the triangles of `mel_filters`
        feature   log(energy + 1e-8): a factor in loudness becomes a constant added

    Parameters: `sound` (n,) samples at 8,000 Hz; what is shorter than a window is filled up with
    silence; `coefficients` as in `mel_filters`.
    Returns: (1 + (n - 200) // 80, coefficients), dtype of `sound`.
    Raises `ValueError` for an empty, complex or not finite wave.

    >>> t = np.arange(RATE) / RATE
    >>> features = log_mel(np.sin(2 * np.pi * 1000 * t))
    >>> features.shape, int(features[50].argmax())  # the filter with its centre nearest to 1,000 Hz
    ((98, 40), 18)
    """
    from scipy import fft  # as long to load as the rest of this package

    sound = _checks.real("sound", _checks.finite("sound", _checks.float_array("sound", sound)))
    if sound.ndim != 1:
        raise ValueError(f"sound must have shape (n,), got {sound.shape}")
    coefficients = _checks.count("coefficients", coefficients)
    window, filters = _window_and_filters(coefficients, sound.dtype)
    sound = np.pad(sound, (0, max(0, WINDOW - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    power = np.abs(fft.rfft(frames * window, FFT)) ** 2
    return np.log(power @ filters.T + sound.dtype.type(FLOOR))


@functools.cache
def _window_and_filters(coefficients: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """The same for each recording: made anew they are half of the work."""
    from scipy import signal

    window = signal.get_window("hann", WINDOW).astype(dtype)
    return window, mel_filters(coefficients).astype(dtype)


def with_context(features, *, before: int = 20, after: int = 5, every: int = 1) -> np.ndarray:
    """Each frame together with its neighbours in time, oldest first: 26 frames of 40 coefficients.

    The paper's network sees 20 frames before and 5 after the one that it is asked about (Hinton,
    Vinyals, Dean 2015, sec. 4.1). Beyond the ends the first and the last frame are repeated.

    Parameters: `features` (frames, D); `before`, `after` how many neighbours; `every` k for the
    frames 0, k, 2k, ... alone. Returns: (rows, (before + 1 + after) * D), dtype of `features`.
    Raises `ValueError` for other arguments.

    >>> with_context([[1.0], [2.0], [3.0]], before=2, after=1)
    array([[1., 1., 1., 2.],
           [1., 1., 2., 3.],
           [1., 2., 3., 3.]])
    """
    features = _checks.batch("features", features)
    before = _checks.count("before", before, at_least=0)
    after = _checks.count("after", after, at_least=0)
    every = _checks.count("every", every)
    padded = np.pad(features, ((before, after), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, before + 1 + after, axis=0)
    return windows[::every].swapaxes(1, 2).reshape(-(-len(features) // every), -1)


def states(frames: int, digit, *, per_digit: int = 3) -> np.ndarray:
    """The state of each frame of a recording: its digit's beginning, middle or end.

        state of frame t = per_digit * digit + floor(per_digit * t / frames)

    The counterpart of the paper's states of a hidden Markov model, which an earlier recogniser
    finds in the sound; here the frames are cut evenly.

    Parameters: `frames` how many; `digit` 0 to 9; `per_digit` states. Returns: (frames,) int64.
    Raises `ValueError` for other arguments.

    >>> states(7, 4)
    array([12, 12, 12, 13, 13, 14, 14])
    """
    frames, per_digit = _checks.count("frames", frames), _checks.count("per_digit", per_digit)
    digit = _checks.count("digit", digit, at_least=0)
    return per_digit * digit + per_digit * np.arange(frames) // frames


class Frames(NamedTuple):
    """Frames of many recordings: (n, 1040) inputs, (n,) states, and (n,) whose frame each is.

    >>> Frames._fields
    ('x', 'states', 'recording')
    """

    x: np.ndarray
    states: np.ndarray
    recording: np.ndarray


def spoken_frames(
    recordings: Recordings, *, every: int = 1, per_digit: int = 3, centred: bool = False
) -> Frames:
    """What a network learns from: every k-th frame with its context, and its state.

    What microphone and room do to a sound is a factor for each pitch, and so a constant added to
    each feature of all frames. Where `centred` the mean over a recording is taken away from it, and
    the constant with it: speakers become more alike (mean normalisation: Atal 1974).

    Parameters: `recordings` from `load_spoken_digits`; `every` k; `per_digit` as in `states`.
    Returns: `Frames`; `recording` counts those given from 0. Raises `ValueError` for none.

    >>> two = Recordings([np.zeros(800), np.ones(900)], np.array([1, 3]), *2 * [np.array([0, 0])])
    >>> frames = spoken_frames(two, every=4)
    >>> frames.x.shape, frames.states, frames.recording
    ((5, 1040), array([ 3,  4,  9, 10, 11]), array([0, 0, 1, 1, 1]))
    """
    recordings = _checks.instance("recordings", recordings, Recordings, "Recordings")
    if not recordings.waves:
        raise ValueError("recordings must be at least one, got none")
    every = _checks.count("every", every)
    centred = _checks.flag("centred", centred)
    features = [log_mel(sound) for sound in recordings.waves]
    if centred:
        features = [rows - rows.mean(axis=0) for rows in features]
    x = [with_context(rows, every=every) for rows in features]
    wanted = [
        states(len(rows), digit, per_digit=per_digit)[::every]
        for rows, digit in zip(features, recordings.digits, strict=True)
    ]
    recording = np.repeat(np.arange(len(x)), [len(rows) for rows in x])
    return Frames(np.concatenate(x), np.concatenate(wanted), recording)
