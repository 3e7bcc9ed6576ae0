"""Recordings are read whole or refused by name; features are what they are said to be."""

import hashlib
import io
import os
import struct
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

import numpy_kd as kd
from numpy_kd.datasets import speech

RNG = np.random.default_rng(0)


def wav(samples, channels=1, width=2, rate=8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return out.getvalue()


def every_recording(speakers=("anna",)):
    """Name to content: each of its own length, its first sample a number that names it."""
    return {
        f"{digit}_{speaker}_{index}.wav": wav([100 * digit + index, *[0] * (300 + digit)])
        for speaker in speakers
        for digit in range(10)
        for index in range(50)
    }


def write(folder, recordings) -> Path:
    (folder / "recordings").mkdir(parents=True)
    for name, content in recordings.items():
        (folder / "recordings" / name).write_bytes(content)
    return folder


def zipped(recordings, method=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("fsdd-1.0/README.md", "recordings of digits")
        for name, content in recordings.items():
            archive.writestr(f"fsdd-1.0/recordings/{name}", content)
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("fsdd"), every_recording(("anna", "ben")))
    (folder / "recordings" / "notes.txt").write_text("not a recording", encoding="utf-8")
    return folder


def test_what_is_read_is_what_was_said(folder, monkeypatch):
    found = kd.load_spoken_digits(folder)
    assert len(found.waves) == 1000
    assert found.speakers.tolist() == ["anna"] * 500 + ["ben"] * 500
    for sound, digit, index in zip(found.waves, found.digits, found.indices, strict=True):
        assert sound.dtype == np.float32
        assert (len(sound), 2**15 * sound[0]) == (301 + digit, 100 * digit + index)
    twice = found.take(found.indices < 2)
    assert sorted(set(twice.indices.tolist())) == [0, 1]
    assert len(twice.waves) == len(twice.digits) == 40
    monkeypatch.setenv("NUMPY_KD_DATA", str(folder.parent))
    (folder.parent / "fsdd").symlink_to(folder)
    assert len(kd.load_spoken_digits().waves) == 1000
    assert len(kd.load_spoken_digits(folder / "recordings").waves) == 1000


def test_an_archive_is_read_as_a_folder_is(tmp_path):
    recordings = every_recording()
    (tmp_path / "fsdd.zip").write_bytes(zipped(recordings))
    from_zip = kd.load_spoken_digits(tmp_path)
    from_folder = kd.load_spoken_digits(write(tmp_path / "other", recordings))
    for one, other in zip(from_zip.waves, from_folder.waves, strict=True):
        np.testing.assert_array_equal(one, other)


def checksum(recordings) -> str:
    digest = hashlib.sha256()
    for name in sorted(recordings):
        digest.update(name.encode() + hashlib.sha256(recordings[name]).digest())
    return digest.hexdigest()


def test_a_download_is_kept_only_if_it_is_the_right_one(tmp_path, monkeypatch):
    recordings = every_recording()
    wrong = recordings | {"3_anna_3.wav": wav([1, 2, 3])}
    places = [tmp_path / name for name in ("wrong.zip", "broken.zip", "right.zip")]
    right = zipped(recordings)
    for place, content in zip(places, (zipped(wrong), right[:-5000], right), strict=True):
        place.write_bytes(content)
    monkeypatch.setattr(speech, "SPEECH_SHA256", checksum(recordings))
    monkeypatch.setattr(speech, "SPEECH_MIRRORS", [place.as_uri() for place in places[:2]])
    with pytest.raises(OSError, match="(?s)wrong.zip: not the recordings.*broken.zip: not a whole"):
        kd.load_spoken_digits(tmp_path / "cache", download=True)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(speech, "SPEECH_MIRRORS", [place.as_uri() for place in places])
    assert len(kd.load_spoken_digits(tmp_path / "cache", download=True).waves) == 500
    monkeypatch.setattr(speech, "SPEECH_MIRRORS", [])  # and need not be fetched again
    assert len(kd.load_spoken_digits(tmp_path / "cache", download=True).waves) == 500


GOOD = wav(np.arange(400))
BAD = {
    "an empty file": (b"", "it ends too early"),
    "only a header": (GOOD[:44], "is truncated: 0 of 800 bytes"),
    "half of it": (GOOD[:444], "is truncated: 400 of 800 bytes"),
    "an odd byte": (GOOD[:-1], "is truncated: 799 of 800 bytes"),
    "a header cut": (GOOD[:20], "is not a WAV file that can be read"),
    "another format": (b"OggS" + GOOD[4:], "is not a WAV file that can be read"),
    "text": (b"hello, this is no sound at all", "is not a WAV file that can be read"),
    "two channels": (wav(np.arange(400), channels=2), "got 2 of 16 bits at 8000 Hz"),
    "eight bits": (wav(np.arange(400), width=1), "got 1 of 8 bits at 8000 Hz"),
    "CD quality": (wav(np.arange(400), rate=44_100), "got 1 of 16 bits at 44100 Hz"),
    "no sound": (wav([]), "is truncated: 0 of 0 bytes"),
    "compressed": (GOOD[:20] + struct.pack("<H", 6) + GOOD[22:], "unknown format: 6"),
    "endless": (bytes(2**20 + 1), "must have at most 1048576 bytes"),
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("what", BAD)
def test_a_bad_recording_is_named(tmp_path, what, kind):
    content, message = BAD[what]
    recordings = {"0_anna_0.wav": GOOD, "1_anna_0.wav": content}
    if kind == "zip":
        (tmp_path / "fsdd.zip").write_bytes(zipped(recordings))
    else:
        write(tmp_path, recordings)
    with pytest.raises(ValueError, match=message) as error:
        kd.load_spoken_digits(tmp_path)
    assert "1_anna_0.wav" in str(error.value)


def test_a_missing_recording_is_named(tmp_path):
    recordings = every_recording()
    del recordings["4_anna_17.wav"]
    with pytest.raises(ValueError, match="there is no recording 4_anna_17.wav"):
        kd.load_spoken_digits(write(tmp_path, recordings))


@pytest.mark.parametrize("damage", ["cut", "text", "flipped", "encrypted"])
def test_a_bad_archive_is_named(tmp_path, damage):
    content = bytearray(zipped(every_recording(), zipfile.ZIP_DEFLATED))
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "text":
        content = b"no archive"
    elif damage == "flipped":  # inside the first recordings, behind their headers
        content[150:400] = bytes(250)
    else:
        for start in (i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"):
            content[start + 8] |= 1
    (tmp_path / "fsdd.zip").write_bytes(content)
    with pytest.raises(ValueError, match="fsdd.zip: not a whole zip archive"):
        kd.load_spoken_digits(tmp_path)


def test_where_it_looked_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMPY_KD_DATA", str(tmp_path / "here"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    with pytest.raises(
        FileNotFoundError, match="(?s)here/fsdd.*there/numpy_kd/fsdd.*download=True"
    ):
        kd.load_spoken_digits()


# --- features -------------------------------------------------------------------------------------


def test_features_are_scipys_spectrogram_in_bands():
    sound = RNG.normal(size=3000)
    how = {"nperseg": 200, "noverlap": 120, "nfft": 512, "detrend": False}
    window = signal.get_window("hann", 200)
    _, _, spectrum = signal.spectrogram(
        sound, 8000, window=window, scaling="spectrum", mode="magnitude", **how
    )
    power = (spectrum * window.sum()) ** 2
    expected = np.log(speech.mel_filters() @ power + 1e-8).T
    np.testing.assert_allclose(speech.log_mel(sound), expected, rtol=1e-10, atol=1e-10)
    single = speech.log_mel(sound.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-4)


@pytest.mark.parametrize("n, frames", [(1, 1), (200, 1), (279, 1), (280, 2), (8000, 98)])
def test_so_many_frames(n, frames):
    assert speech.log_mel(RNG.normal(size=n)).shape == (frames, 40)


@pytest.mark.parametrize("count", [1, 20, 40, 80])
def test_filters_are_triangles_on_the_mel_scale(count):
    filters = speech.mel_filters(count)
    f = np.arange(257) * 8000 / 512
    assert filters.shape == (count, 257)
    assert filters.min() == 0
    assert filters.max() <= 1
    assert (filters.sum(axis=1) > 0).all()  # none falls between two frequencies
    mel = 2595 * np.log10(1 + f / 700)
    centres = 2595 * np.log10(1 + 4000 / 700) * np.arange(1, count + 1) / (count + 1)
    nearest = np.abs(mel[filters.argmax(axis=1)] - centres)
    assert (nearest <= np.diff(mel).max()).all()
    inside = (mel >= centres[0]) & (mel <= centres[-1])
    np.testing.assert_allclose(filters.sum(axis=0)[inside], 1)  # nothing counts twice


def test_loudness_is_a_constant_added():
    sound = RNG.normal(size=1000)
    np.testing.assert_allclose(
        speech.log_mel(8 * sound) - speech.log_mel(sound), 2 * np.log(8), atol=1e-4
    )


def test_silence_is_a_number():
    np.testing.assert_allclose(speech.log_mel(np.zeros(500, np.float32)), np.log(1e-8), rtol=1e-6)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("before, after", [(20, 5), (0, 0), (2, 7)])
def test_context_repeats_the_ends(before, after, every):
    features = RNG.normal(size=(11, 4))
    found = speech.with_context(features, before=before, after=after, every=every)
    wanted = [
        np.concatenate([features[min(max(s, 0), 10)] for s in range(t - before, t + after + 1)])
        for t in range(0, 11, every)
    ]
    np.testing.assert_array_equal(found, wanted)


def test_states_divide_a_recording_evenly():
    for frames in range(1, 40):
        found = speech.states(frames, 9)
        assert (np.diff(found) >= 0).all()
        assert set(found.tolist()) <= {27, 28, 29}
        if frames >= 3:
            assert np.ptp(np.bincount(found - 27)) <= 1


def test_frames_know_their_recording(folder):
    recordings = kd.load_spoken_digits(folder).take(range(0, 500, 60))
    frames = speech.spoken_frames(recordings, every=2)
    start = 0
    for i, (sound, digit) in enumerate(zip(recordings.waves, recordings.digits, strict=True)):
        features = speech.log_mel(sound)
        rows = np.flatnonzero(frames.recording == i)
        assert rows.tolist() == list(range(start, start + -(-len(features) // 2)))
        np.testing.assert_array_equal(frames.x[rows, 20 * 40 : 21 * 40], features[::2])
        assert set((frames.states[rows] // 3).tolist()) == {digit}
        start += len(rows)
    assert start == len(frames.x)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: speech.log_mel([]), "sound must not be empty"),
        (lambda: speech.log_mel([[1.0]]), r"sound must have shape \(n,\)"),
        (lambda: speech.log_mel([1.0, np.inf]), "sound must be finite"),
        (lambda: speech.log_mel([1j]), "sound must be real"),
        (lambda: speech.mel_filters(81), "coefficients must be at most 80"),
        (lambda: speech.with_context(np.ones(3)), r"features must have shape \(B, N\)"),
        (lambda: speech.with_context(np.ones((3, 2)), before=-1), "before must be an integer"),
        (lambda: speech.with_context(np.ones((3, 2)), every=0), "every must be an integer"),
        (lambda: speech.states(0, 1), "frames must be an integer of at least 1"),
        (lambda: speech.spoken_frames([np.ones(3)]), "recordings must be Recordings"),
        (lambda: kd.load_spoken_digits(3), "path must be a path"),
        (lambda: kd.load_spoken_digits(download="yes"), "download must be True or False"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


DATA = Path(os.environ.get("NUMPY_KD_DATA", "")) / "fsdd"


@pytest.mark.skipif(speech._place(DATA) is None, reason="the real recordings are not here")
def test_the_real_recordings_are_the_published_ones():
    assert checksum(dict(speech._contents(speech._place(DATA)))) == speech.SPEECH_SHA256
    recordings = kd.load_spoken_digits(DATA)
    assert len(recordings.waves) == 3000
    assert len(set(recordings.speakers.tolist())) == 6
    assert {len(sound) for sound in recordings.waves} >= {1148, 18262}


def test_a_microphone_makes_no_difference_to_centred_frames():
    """A filter on the whole sound is a constant for each band, but for what is near the floor."""
    rng = np.random.default_rng(0)
    sound = rng.normal(size=4000)
    muffled = np.convolve(sound, [1.0, 0.3], mode="same")  # short beside a window
    two = [
        speech.Recordings([wave], np.array([3]), np.array(["anna"]), np.array([0]))
        for wave in (sound, muffled)
    ]
    for centred, worst in ((False, 0.4), (True, 0.1)):
        one, other = (speech.spoken_frames(r, centred=centred).x for r in two)
        error = np.sqrt(((one - other) ** 2).mean())
        assert (error > worst) != centred, (centred, error)
    plain = speech.log_mel(sound)
    expected = speech.with_context(plain - plain.mean(axis=0))
    np.testing.assert_allclose(speech.spoken_frames(two[0], centred=True).x, expected, atol=1e-12)
