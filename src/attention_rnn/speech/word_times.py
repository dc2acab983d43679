"""
How far words reach. CTC hears a word in one moment (its probabilities are spikes), somewhere in the word or, as nothing
keeps it from waiting, behind it, by a delay that is much the same for all words of a model. From when to when a word
lasts is told by the loudness around that moment.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

FRAME, HOP = 0.025, 0.01  # seconds of a frame, and from one to the next
SMOOTHED = 9  # frames
QUIET_QUANTILE = 0.05  # of the frames
QUIET_SHARE = 0.04  # above that, of the way to the loud ones
GAP = 0.1  # seconds that a word may be silent in its middle, as before the last sound of "eight"
LEAST_POWER = 1e-10
LONGEST_DELAY, DELAY_STEP = 0.8, 0.04  # seconds
COVERED = 0.97  # of the sound that the best delay covers; what is more may be noise around words


def loudness(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """The logarithm of the power of each frame, smoothed: (samples,) to (frames,), at least one."""
    size, hop = max(1, int(FRAME * sampling_rate)), max(1, int(HOP * sampling_rate))
    samples = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    levels = np.log(frames.var(axis=1, dtype=np.float64) + LEAST_POWER)
    padded = np.pad(levels, SMOOTHED // 2, mode="edge")
    return np.convolve(padded, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")


def widen(words: Sequence[Mapping[str, Any]], levels: Sequence[float] | np.ndarray) -> list[dict[str, Any]]:
    """
    Let words reach as far as the sound around them does, and no farther than the quietest moment between two of them.

    Args:
        words: with `start` and `end` in seconds, in their order.
        levels: the loudness of the recording, see `loudness`.

    Returns:
        The words with new times. One around which nothing is louder than the quiet moments keeps its own.
    """
    if not words:
        return []
    levels = np.asarray(levels)
    is_sound = _is_sound(levels)
    heard = [(_frame(word["start"], levels), _frame(word["end"], levels)) for word in words]
    cuts = [0]
    for (_, end), (start, _) in pairwise(heard):
        cuts.append(end + int(levels[end : max(start, end) + 1].argmin()))
    cuts.append(len(levels) - 1)
    widened = []
    for word, (start, end), (low, high) in zip(words, heard, pairwise(cuts), strict=True):
        before, after = _reach(is_sound[low : start + 1][::-1]), _reach(is_sound[end : high + 1])
        inside = np.flatnonzero(is_sound[start - before : end + after + 1]) + start - before
        times = {} if not len(inside) else {"start": _seconds(inside[0]), "end": _seconds(inside[-1])}
        widened.append({**word, **times})
    return widened


def fit_emission_delay(model: Any, processor: Any, recordings: Iterable[tuple[np.ndarray, Sequence[int]]]) -> float:
    """
    By how many seconds a model hears words later than they are said: the least delay with which its words cover all the
    sound, since words that come late leave the first sounds to none, and their neighbours' sounds to the others.

    Args:
        model: with `token_times`, see `TokenTimesMixin`; `emission_delay` of its config is not heeded.
        processor ([`AttentionRnnSpeechProcessor`]): of that model.
        recordings: samples at the rate of the model, (samples,), each with the tokens of what is said.
    """
    before, model.config.emission_delay = model.config.emission_delay, 0.0
    heard = []
    for samples, tokens in recordings:
        rate = processor.feature_extractor.sampling_rate
        inputs = processor.feature_extractor(samples, sampling_rate=rate, return_tensors="pt").to(model.device)
        try:
            times = model.token_times(torch.tensor([list(tokens)], device=model.device), **inputs)
        except ValueError:  # more tokens than positions
            continue
        words = processor.words(tokens, {name: values[0].tolist() for name, values in times.items()})
        heard.append((words, loudness(samples, rate)))
    model.config.emission_delay = before
    delays = np.arange(0, LONGEST_DELAY, DELAY_STEP)
    covered = np.array([sum(_covered(words, levels, delay) for words, levels in heard) for delay in delays])
    return round(float(delays[np.argmax(covered >= COVERED * covered.max())]), 2)


def _covered(words: Sequence[Mapping[str, Any]], levels: np.ndarray, delay: float) -> int:
    """How many frames of sound are in a word, if words were said earlier than they were heard."""
    earlier = [{"start": max(word["start"] - delay, 0), "end": max(word["end"] - delay, 0)} for word in words]
    is_in_word = np.zeros(len(levels), dtype=bool)
    for word in widen(earlier, levels):
        is_in_word[_frame(word["start"], levels) : _frame(word["end"], levels) + 1] = True
    return int((is_in_word & _is_sound(levels)).sum())


def _is_sound(levels: np.ndarray) -> np.ndarray:
    quiet, loud = np.quantile(levels, (QUIET_QUANTILE, 1 - QUIET_QUANTILE))
    return levels > quiet + QUIET_SHARE * (loud - quiet)


def _frame(seconds: float, levels: np.ndarray) -> int:
    return min(max(round((seconds - FRAME / 2) / HOP), 0), len(levels) - 1)


def _seconds(frame: int) -> float:
    return float(frame * HOP + FRAME / 2)


def _reach(is_sound: np.ndarray) -> int:
    """How many frames away the last one with a sound is, before it is silent for longer than `GAP`."""
    places = np.flatnonzero(is_sound)
    ends = np.flatnonzero(np.diff(places, prepend=0) * HOP > GAP)
    kept = places[: ends[0]] if len(ends) else places
    return int(kept[-1]) if len(kept) else 0
