"""Audio as a model of speech wants it: one channel, one sampling rate; and what training does to it."""

import io
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np


def read_audio(source: Any, sampling_rate: int) -> np.ndarray:
    """
    A recording as floats from -1 to 1, its channels averaged, resampled where it has another rate.

    Args:
        source: a file that libsndfile reads (wav, flac, ogg, mp3, ...), or its bytes; samples at `sampling_rate`,
            (samples,) or (channels, samples) or (samples, channels), integers or floats; or a mapping as `datasets`
            has it, with `array` (or `raw`) and `sampling_rate`, or `bytes` or `path`.
        sampling_rate: the one wanted, in samples per second.

    Returns:
        (samples,), float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no audio or damaged; there are no samples, or NaN or infinite ones; a mapping lacks its
            keys.
        TypeError: the source is something else.
        ImportError: a library of the extra `audio` is missing.
    """
    name = "`source`"
    if isinstance(source, Mapping):
        if source.get("bytes") is None and source.get("path") is None:
            array = source.get("array", source.get("raw"))
            if array is None or source.get("sampling_rate") is None:
                raise ValueError(
                    "`source` must have `array` and `sampling_rate`, or `bytes`, or `path`, got a mapping of "
                    f"{sorted(source)}."
                )
            return _prepared(array, int(source["sampling_rate"]), sampling_rate, name)
        if source.get("array") is not None and source.get("sampling_rate") is not None:
            return _prepared(source["array"], int(source["sampling_rate"]), sampling_rate, str(source.get("path")))
        name = str(source.get("path") or "`bytes`")
        source = source["path"] if source.get("bytes") is None else source["bytes"]
    if isinstance(source, (str, os.PathLike)):
        if not os.path.isfile(source):
            raise FileNotFoundError(f"There is no audio file {os.fspath(source)!r}.")
        return _read(os.fspath(source), sampling_rate, os.fspath(source))
    if isinstance(source, (bytes, bytearray)):
        return _read(io.BytesIO(source), sampling_rate, name)
    if not hasattr(source, "__array__") and not isinstance(source, (list, tuple)):
        raise TypeError(f"`source` must be a file, bytes, samples or a mapping, got {type(source).__name__}.")
    return _prepared(source, sampling_rate, sampling_rate, name)


def change_speed(samples: np.ndarray, factor: float, sampling_rate: int) -> np.ndarray:
    """
    The recording played `factor` times as fast, its pitch rising with it (Ko et al., 2015).

    Raises:
        ValueError: `factor` is not from 0.5 to 2.
    """
    if not 0.5 <= factor <= 2:
        raise ValueError(f"`factor` must be from 0.5 to 2, got {factor}.")
    return _resampled(samples, round(sampling_rate * factor), sampling_rate)


def shift_time(samples: np.ndarray, shift: int) -> np.ndarray:
    """The recording `shift` samples later, or earlier if it is negative, as long as before, with silence at the gap."""
    shifted = np.zeros_like(samples)
    kept = max(len(samples) - abs(shift), 0)
    if shift >= 0:
        shifted[len(samples) - kept :] = samples[:kept]
    else:
        shifted[:kept] = samples[len(samples) - kept :]
    return shifted


def add_noise(samples: np.ndarray, noise: np.ndarray, signal_to_noise: float) -> np.ndarray:
    """
    The recording with noise, repeated or cut to its length, `signal_to_noise` decibels below it.

    Raises:
        ValueError: there is no noise.
    """
    if not len(noise):
        raise ValueError("`noise` must hold samples, got none.")
    repeated = np.resize(noise, len(samples)).astype(samples.dtype)
    loudness, of_noise = (float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) for part in (samples, repeated))
    scale = loudness / max(of_noise, 1e-12) * 10 ** (-signal_to_noise / 20)
    return samples + np.float32(scale) * repeated


def _read(file: Any, sampling_rate: int, name: str) -> np.ndarray:
    soundfile = _library("soundfile")
    try:
        samples, rate = soundfile.read(file, dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as audio: {error}") from error
    return _prepared(samples, rate, sampling_rate, name)


def _prepared(samples: Any, rate: int, sampling_rate: int, name: str) -> np.ndarray:
    samples = np.asarray(samples)
    if samples.ndim == 2 and min(samples.shape) >= 1:
        samples = _scaled(samples, name).mean(axis=int(np.argmin(samples.shape)), dtype=np.float64)
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"{name} must hold samples, (samples,) or those of some channels, got {samples.shape}.")
    samples = _scaled(samples, name)
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} must hold finite samples, got NaN or infinite ones.")
    if rate < 1:
        raise ValueError(f"{name} must have a sampling rate of at least 1, got {rate}.")
    return _resampled(samples, rate, sampling_rate)


def _scaled(samples: np.ndarray, name: str) -> np.ndarray:
    if samples.dtype.kind == "u":
        half = (int(np.iinfo(samples.dtype).max) + 1) // 2
        return ((samples.astype(np.float64) - half) / half).astype(np.float32)
    if samples.dtype.kind == "i":
        return (samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    if samples.dtype.kind != "f":
        raise TypeError(f"{name} must hold numbers, got {samples.dtype}.")
    return samples.astype(np.float32)


def _resampled(samples: np.ndarray, rate: int, sampling_rate: int) -> np.ndarray:
    if rate == sampling_rate:
        return samples
    return _library("soxr").resample(samples, rate, sampling_rate).astype(np.float32)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"Audio needs {name} ({error}): pip install 'attention-rnn[audio]'") from error
