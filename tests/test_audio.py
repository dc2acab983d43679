"""Audio is read as one channel of floats at the wanted rate, and what cannot be read is named."""

import io
import sys

import numpy as np
import pytest
import soundfile

from attention_rnn.speech.audio import add_noise, change_speed, read_audio, shift_time

RATE = 8000


def tone(frequency=440.0, rate=RATE, seconds=0.25):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def as_wav(samples, rate=RATE, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def test_file_bytes_samples_and_mappings_are_read_alike(tmp_path):
    expected = tone()
    path = tmp_path / "tone.wav"
    path.write_bytes(as_wav(expected))
    sources = [
        path,
        str(path),
        as_wav(expected),
        expected,
        expected.tolist(),
        (expected * 32768).astype(np.int16),
        {"array": expected, "sampling_rate": RATE},
        {"raw": expected, "sampling_rate": RATE},
        {"bytes": as_wav(expected), "path": None},
        {"bytes": None, "path": str(path)},
    ]
    for source in sources:
        read = read_audio(source, RATE)
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, expected, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_another_rate_is_resampled(rate):
    read = read_audio(as_wav(tone(rate=rate), rate), RATE)
    np.testing.assert_allclose(read[200:-200], tone()[200:-200][: len(read) - 400], atol=2e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_are_averaged(axis):
    left, right = tone(440), tone(880)
    read = read_audio(np.stack([left, right], axis=axis), RATE)
    np.testing.assert_allclose(read, (left + right) / 2, atol=1e-6)


def test_unsigned_samples_are_centred():
    np.testing.assert_allclose(read_audio(np.array([0, 128, 255], np.uint8), RATE), [-1, 0, 127 / 128])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (b"no audio at all", ValueError, "cannot be read as audio"),
        (np.zeros(0, np.float32), ValueError, "must hold samples"),
        (np.array([0.0, np.nan]), ValueError, "NaN"),
        (np.array([0.0, np.inf]), ValueError, "infinite"),
        (np.zeros((2, 2, 2)), ValueError, "must hold samples"),
        ({"array": np.zeros(3)}, ValueError, "sampling_rate"),
        (7, TypeError, "got int"),
        (np.array(["a"]), TypeError, "numbers"),
    ],
)
def test_what_is_no_recording_is_refused(source, error, message):
    with pytest.raises(error, match=message):
        read_audio(source, RATE)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "broken.wav"
    path.write_bytes(as_wav(tone())[:20])
    with pytest.raises(ValueError, match=r"broken\.wav"):
        read_audio(path, RATE)
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        read_audio(tmp_path / "missing.wav", RATE)


def test_twice_the_speed_is_half_as_long_and_an_octave_higher():
    fast = change_speed(tone(440), 2.0, RATE)
    assert len(fast) == len(tone()) // 2
    np.testing.assert_allclose(fast[100:-100], tone(880)[: len(fast)][100:-100], atol=2e-3)


def test_a_shift_keeps_the_length():
    samples = np.arange(1, 6, dtype=np.float32)
    np.testing.assert_array_equal(shift_time(samples, 2), [0, 0, 1, 2, 3])
    np.testing.assert_array_equal(shift_time(samples, -2), [3, 4, 5, 0, 0])
    np.testing.assert_array_equal(shift_time(samples, 9), np.zeros(5))


def test_noise_is_as_loud_as_asked():
    signal = tone(seconds=1)
    noise = np.random.default_rng(0).normal(size=300).astype(np.float32)
    added = add_noise(signal, noise, 10.0) - signal
    ratio = 10 * np.log10(np.mean(signal**2) / np.mean(added**2))
    assert ratio == pytest.approx(10, abs=1e-3)
    assert np.isfinite(add_noise(signal, np.zeros(5, np.float32), 10.0)).all()


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_missing_library_is_named_with_its_extra(library, monkeypatch):
    recording = as_wav(tone(rate=16000), 16000)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"Audio needs {library} .*pip install 'attention-rnn\[audio\]'"):
        read_audio(recording, RATE)
