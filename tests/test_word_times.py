"""Words reach from where their sound begins to where it ends, wherever in them they were heard."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attention_rnn import AttentionRnnFeatureExtractor
from attention_rnn.speech.word_times import GAP, HOP, fit_emission_delay, loudness, widen

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


def found_times(words, samples, rate=RATE):
    return np.array([(word["start"], word["end"]) for word in widen(words, loudness(samples, rate))])


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_word_is_as_long_as_its_sound(rate):
    samples = said((0.5, 1.1), (1.6, 2.0), rate=rate)
    heard = times((0.96, 1.04), (1.6, 1.68))
    np.testing.assert_allclose(found_times(heard, samples, rate), [[0.5, 1.1], [1.6, 2.0]], atol=0.06)


def test_a_short_silence_does_not_end_a_word_and_a_long_one_does():
    samples = said((0.5, 0.8), (0.8 + GAP - 0.06, 1.2), (1.8, 2.1))
    np.testing.assert_allclose(found_times(times((0.64, 0.72)), samples), [[0.5, 1.2]], atol=0.06)


def test_words_without_a_pause_between_them_meet_where_it_is_quietest():
    samples = said((0.5, 1.5)) * np.where(np.abs(np.arange(3 * RATE) / RATE - 1.1) < 0.02, 0.3, 1)
    (_, end), (start, _) = found_times(times((0.8, 0.88), (1.28, 1.36)), samples)
    assert end == pytest.approx(1.1, abs=0.06)
    assert start == pytest.approx(end, abs=HOP)


def test_a_word_that_was_heard_late_ends_with_its_sound():
    np.testing.assert_allclose(found_times(times((1.12, 1.2)), said((0.5, 1.1))), [[0.5, 1.1]], atol=0.06)


def test_a_word_in_silence_keeps_its_times():
    words = times((0.8, 0.88))
    assert widen(words, loudness(np.zeros(2 * RATE, np.float32), RATE)) == words


@pytest.mark.parametrize("samples", [1, 150, 200])
def test_a_recording_of_a_frame_or_less_has_a_level(samples):
    levels = loudness(np.ones(samples, np.float32), RATE)
    assert len(levels) >= 1
    assert widen(times((0.0, 0.08)), levels) == times((0.0, 0.08))
    assert widen([], levels) == []


class LateModel:
    """Hears words so many seconds late; its tokens are the numbers of the spans of a recording."""

    def __init__(self, recordings, delay):
        self.config = SimpleNamespace(emission_delay=0.5)
        self.device = "cpu"
        self.recordings, self.delay = recordings, delay

    def token_times(self, tokens, **inputs):
        assert self.config.emission_delay == 0
        (number,) = tokens.unique().tolist()
        if number >= len(self.recordings):
            raise ValueError("more tokens than positions")
        start = torch.tensor([[(first + last) / 2 + self.delay for first, last in self.recordings[number]]])
        return {"start": start, "end": start + 0.04, "confidence": torch.ones_like(start)}


class Processor:
    def __init__(self):
        self.feature_extractor = AttentionRnnFeatureExtractor(13, RATE)

    def words(self, tokens, times):
        columns = [times[name] for name in ("start", "end", "confidence")]
        return [dict(zip(("start", "end", "confidence"), row, strict=True)) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4])
def test_the_delay_of_a_model_is_found_without_times_to_learn_from(delay):
    generator, recordings = np.random.default_rng(2), []
    for _ in range(12):
        starts = 0.2 + np.cumsum(generator.uniform(0.5, 0.9, 3)) - 0.5
        recordings.append([(start, start + generator.uniform(0.25, 0.4)) for start in starts])
    model = LateModel(recordings, delay)
    heard = [(said(*spans), [number] * 3) for number, spans in enumerate(recordings)]
    found = fit_emission_delay(model, Processor(), [*heard, (heard[0][0], [99])])
    assert found == pytest.approx(delay, abs=0.2)  # half a word early or late is within it
    assert model.config.emission_delay == 0.5
