"""Words reach from where their sound begins to where it ends, wherever in them they were heard."""

import numpy as np
import pytest

from attention_rnn.word_times import GAP, HOP, loudness, widen

RATE = 8000


def said(*spans, seconds=3.0, noise=0.01, rate=RATE):
    """A recording with a loud tone in each span of seconds, in noise."""
    time = np.arange(int(seconds * rate)) / rate
    samples = noise * np.random.default_rng(0).standard_normal(len(time))
    for start, end in spans:
        samples += np.where((time >= start) & (time < end), np.sin(2 * np.pi * 440 * time), 0)
    return samples.astype(np.float32)


def times(*spans):
    return [{"text": "w", "start": start, "end": end, "confidence": 1.0} for start, end in spans]


def found(words, samples, rate=RATE):
    return np.array([(word["start"], word["end"]) for word in widen(words, loudness(samples, rate))])


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_word_is_as_long_as_its_sound(rate):
    samples = said((0.5, 1.1), (1.6, 2.0), rate=rate)
    heard = times((0.96, 1.04), (1.6, 1.68))
    np.testing.assert_allclose(found(heard, samples, rate), [[0.5, 1.1], [1.6, 2.0]], atol=0.04)


def test_a_short_silence_does_not_end_a_word_and_a_long_one_does():
    samples = said((0.5, 0.8), (0.8 + GAP - 0.06, 1.2), (1.8, 2.1))
    np.testing.assert_allclose(found(times((0.64, 0.72)), samples), [[0.5, 1.2]], atol=0.04)


def test_words_without_a_pause_between_them_meet_where_it_is_quietest():
    samples = said((0.5, 1.5)) * np.where(np.abs(np.arange(3 * RATE) / RATE - 1.1) < 0.02, 0.3, 1)
    (_, end), (start, _) = found(times((0.8, 0.88), (1.28, 1.36)), samples)
    assert end == pytest.approx(1.1, abs=0.04)
    assert start == pytest.approx(end, abs=HOP)


def test_a_word_that_was_heard_late_ends_with_its_sound():
    np.testing.assert_allclose(found(times((1.12, 1.2)), said((0.5, 1.1))), [[0.5, 1.1]], atol=0.04)


def test_a_word_in_silence_keeps_its_times():
    words = times((0.8, 0.88))
    assert widen(words, loudness(np.zeros(2 * RATE, np.float32), RATE)) == words


@pytest.mark.parametrize("samples", [1, 150, 200])
def test_a_recording_of_a_frame_or_less_has_a_level(samples):
    levels = loudness(np.ones(samples, np.float32), RATE)
    assert len(levels) >= 1
    assert widen(times((0.0, 0.08)), levels) == times((0.0, 0.08))
    assert widen([], levels) == []
