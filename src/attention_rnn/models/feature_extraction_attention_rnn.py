"""Log-mel features of audio, in torch: of whole recordings, and of a stream in which they are the same."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor

NORMALIZATIONS = ("global", "utterance", "running")

PREEMPHASIS = 0.97
LOWEST_FREQUENCY = 20.0  # in hertz
INT16_SCALE = 32768.0  # Kaldi's samples are 16-bit integers, ours go from -1 to 1
LEAST_ENERGY = torch.finfo(torch.float32).eps  # the logarithm of silence is taken of this
LEAST_DEVIATION = 0.1  # of what never changes, so that silence is not blown up
PRIOR_FRAMES = 100  # as many frames the global mean and deviation are worth to `running`


class FeatureState(NamedTuple):
    """What `AttentionRnnFeatureExtractor.stream` knows of the audio before a chunk; its size is constant."""

    samples: Tensor  # those that the next frame begins with, (samples,)
    frames: int  # so far
    total: Tensor  # the sum of these, (mels,)
    total_of_squares: Tensor  # (mels,)


class AttentionRnnFeatureExtractor(SequenceFeatureExtractor):
    """
    Log-mel energies, as Kaldi computes them: frames without their mean, pre-emphasised, in Povey's window, their power
    spectrum in triangular bands that are even on the mel scale, and its logarithm.

    Args:
        feature_size (`int`, defaults to 80):
            Number of mel bands.
        sampling_rate (`int`, defaults to 16000):
            Samples per second of the audio. Any; a model is trained with one.
        window_ms (`float`, defaults to 25.0), hop_ms (`float`, defaults to 10.0):
            Length of a frame and the time from one frame to the next, in milliseconds.
        normalization (`str`, *optional*, defaults to `"utterance"`):
            Of each band: `"utterance"` by the mean and standard deviation of the recording; `"global"` by those of the
            training data, which `fit` finds; `"running"` by those of the frames so far, beginning with the global ones
            where `fit` has found them; `None` leaves energies as they are. All but `"utterance"` can be streamed.
        mean, standard_deviation (`list[float]`, *optional*):
            Those of the training data, one per band.

    Raises:
        TypeError, ValueError: a value is out of range, or `num_mel_bins` is given in the place of `feature_size`.

    Example:
        >>> extractor = AttentionRnnFeatureExtractor(sampling_rate=8000)
        >>> features = extractor(waveform, sampling_rate=8000, return_tensors="pt")
        >>> features.input_features.shape, features.attention_mask.shape  # (1, frames, 80), (1, frames)
    """

    model_input_names = ["input_features", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16000,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        normalization: str | None = "utterance",
        mean: Sequence[float] | None = None,
        standard_deviation: Sequence[float] | None = None,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if "num_mel_bins" in kwargs:
            raise TypeError("`num_mel_bins` is that of a model's config: give the extractor `feature_size`.")
        for name, value in {"feature_size": feature_size, "sampling_rate": sampling_rate}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}.")
        if normalization is not None and normalization not in NORMALIZATIONS:
            raise ValueError(f"`normalization` must be one of {[*NORMALIZATIONS, None]}, got {normalization!r}.")
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.window_ms, self.hop_ms = window_ms, hop_ms
        for name in ("window_ms", "hop_ms"):
            if not getattr(self, name) * sampling_rate >= 1000:
                raise ValueError(f"`{name}` must last a sample or more, got {getattr(self, name)!r}.")
        self.normalization = normalization
        self.mean = None if mean is None else [float(value) for value in mean]
        self.standard_deviation = None if standard_deviation is None else [float(value) for value in standard_deviation]
        for name in ("mean", "standard_deviation"):
            values = getattr(self, name)
            if values is not None and (len(values) != feature_size or not all(map(math.isfinite, values))):
                raise ValueError(f"`{name}` must be {feature_size} finite numbers, one per mel band, got {values}.")
        if (mean is None) != (standard_deviation is None):
            raise ValueError("`mean` and `standard_deviation` must be given together.")

    @property
    def window_length(self) -> int:
        """Samples of a frame."""
        return int(self.sampling_rate * self.window_ms / 1000)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sampling_rate * self.hop_ms / 1000)

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Args:
            raw_speech: a recording of one channel, (samples,), as floats from -1 to 1; or several in a list, or a
                tensor or array (batch, samples).
            sampling_rate: that of the recordings, which must be that of the extractor.
            padding, max_length, truncation, pad_to_multiple_of: see transformers' `SequenceFeatureExtractor.pad`.

        Returns:
            `input_features`, (batch, frames, mels), and `attention_mask`, (batch, frames).

        Raises:
            ValueError: another sampling rate; a recording with several channels, without a whole frame, of other than
                floating point numbers, or with NaN or infinite values.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"`sampling_rate` must be that of the extractor, {self.sampling_rate}, got {sampling_rate}: resample "
                "the audio."
            )
        recordings = [self._check(recording) for recording in _as_list(raw_speech)]
        features = []
        for recording in recordings:
            if len(recording) < self.window_length:
                raise ValueError(
                    f"`raw_speech` must hold recordings of at least a frame, {self.window_length} samples "
                    f"({self.window_ms} ms), got one of {len(recording)}."
                )
            log_mel = self._log_mel(recording)
            features.append(self._normalize(log_mel, self.begin_stream())[0].numpy())
        return self.pad(
            {"input_features": features},  # type: ignore[arg-type]
            padding=padding,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
            **{name: kwargs[name] for name in ("max_length", "truncation", "pad_to_multiple_of") if name in kwargs},
        )

    def fit(self, recordings: Sequence[Any]) -> "AttentionRnnFeatureExtractor":
        """Find `mean` and `standard_deviation` of the mel bands over recordings, for `"global"` and `"running"`."""
        total = total_of_squares = torch.zeros(self.feature_size, dtype=torch.float64)
        count = 0
        for recording in recordings:
            log_mel = self._log_mel(self._check(recording)).double()
            total, total_of_squares = total + log_mel.sum(0), total_of_squares + log_mel.square().sum(0)
            count += len(log_mel)
        if count == 0:
            raise ValueError("`recordings` must hold a whole frame, got none.")
        mean = total / count
        deviation = (total_of_squares / count - mean.square()).clamp(min=0).sqrt()
        self.mean, self.standard_deviation = mean.tolist(), deviation.tolist()
        return self

    def begin_stream(self) -> FeatureState:
        """The state before the first chunk of a stream."""
        total = total_of_squares = torch.zeros(self.feature_size, dtype=torch.float64)
        count = 0
        if self.normalization == "running" and self.mean is not None:
            mean = torch.tensor(self.mean, dtype=torch.float64)
            deviation = torch.tensor(self.standard_deviation, dtype=torch.float64)
            count, total = PRIOR_FRAMES, PRIOR_FRAMES * mean
            total_of_squares = PRIOR_FRAMES * (deviation.square() + mean.square())
        return FeatureState(torch.zeros(0), count, total, total_of_squares)

    def stream(self, chunk: Any, state: FeatureState) -> tuple[Tensor, FeatureState]:
        """
        The frames that a chunk of any size completes, which are those of the whole recording.

        Args:
            chunk: (samples,), as floats from -1 to 1.
            state: what the last call returned, at first `begin_stream()`.

        Returns:
            Features (frames, mels) and the state.

        Raises:
            ValueError: the extractor normalises by the whole recording; see also `__call__`.
        """
        if self.normalization == "utterance":
            raise ValueError(
                '`normalization="utterance"` needs the whole recording; a stream needs "global", "running" or None.'
            )
        samples = torch.cat([state.samples, self._check(chunk, may_be_empty=True)])
        log_mel = self._log_mel(samples)
        state = state._replace(samples=samples[len(log_mel) * self.hop_length :])
        return self._normalize(log_mel, state)

    def _check(self, recording: Any, may_be_empty: bool = False) -> Tensor:
        samples = torch.as_tensor(recording)
        if samples.dim() != 1:
            raise ValueError(
                f"`raw_speech` must hold recordings of one channel, (samples,), got the shape {tuple(samples.shape)}: "
                "take the mean of the channels."
            )
        if not samples.is_floating_point() and len(samples):
            raise ValueError(
                f"`raw_speech` must be floats from -1 to 1, got {samples.dtype}: divide integers by their largest."
            )
        if not len(samples) and not may_be_empty:
            raise ValueError("`raw_speech` must hold samples, got an empty recording.")
        if not samples.isfinite().all():
            raise ValueError("`raw_speech` must be finite, got NaN or infinite samples.")
        return samples.detach().to("cpu", torch.float32)

    def _log_mel(self, samples: Tensor) -> Tensor:
        """(samples,) -> (frames, mels)"""
        if len(samples) < self.window_length:
            return samples.new_zeros(0, self.feature_size)
        frames = samples.unfold(0, self.window_length, self.hop_length) * INT16_SCALE
        frames = frames - frames.mean(dim=1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        fft_length = 2 ** math.ceil(math.log2(self.window_length))
        window = povey_window(self.window_length)
        spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=fft_length)
        power = spectrum.real.square() + spectrum.imag.square()
        bank = mel_bank(self.feature_size, fft_length, self.sampling_rate)
        return (power @ bank).clamp(min=LEAST_ENERGY).log()

    def _normalize(self, log_mel: Tensor, state: FeatureState) -> tuple[Tensor, FeatureState]:
        if self.normalization is None or not len(log_mel):
            return log_mel, state
        if self.normalization == "utterance":
            return (log_mel - log_mel.mean(0)) / log_mel.std(0, correction=0).clamp(min=LEAST_DEVIATION), state
        if self.normalization == "global":
            if self.mean is None:
                raise ValueError('`normalization="global"` needs `mean` and `standard_deviation`: call `fit` first.')
            deviation = torch.tensor(self.standard_deviation).clamp(min=LEAST_DEVIATION)
            return (log_mel - torch.tensor(self.mean)) / deviation, state
        frames = log_mel.double()
        totals = state.total + frames.cumsum(0)
        totals_of_squares = state.total_of_squares + frames.square().cumsum(0)
        counts = state.frames + torch.arange(1, len(frames) + 1, dtype=torch.float64)[:, None]
        mean = totals / counts
        deviation = (totals_of_squares / counts - mean.square()).clamp(min=LEAST_DEVIATION**2).sqrt()
        state = state._replace(
            frames=state.frames + len(frames), total=totals[-1], total_of_squares=totals_of_squares[-1]
        )
        return ((frames - mean) / deviation).float(), state


@cache
def povey_window(length: int) -> Tensor:
    """Hann's window to the power of 0.85, (length,)."""
    return torch.hann_window(length, periodic=False, dtype=torch.float64).pow(0.85).float()


@cache
def mel_bank(mels: int, fft_length: int, sampling_rate: int) -> Tensor:
    """The weight of each bin of a spectrum in each mel band, (bins, mels)."""
    lowest, highest = _mel(torch.tensor([LOWEST_FREQUENCY, sampling_rate / 2], dtype=torch.float64)).tolist()
    edges = torch.linspace(lowest, highest, mels + 2, dtype=torch.float64)
    frequencies = torch.arange(fft_length // 2 + 1, dtype=torch.float64) * sampling_rate / fft_length
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(frequencies)[:, None]
    return torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0).float()


def _as_list(raw_speech: Any) -> list[Any]:
    """Recordings one by one."""
    if isinstance(raw_speech, (list, tuple)):
        if not raw_speech:
            raise ValueError("`raw_speech` must hold a recording, got none.")
        return [raw_speech] if isinstance(raw_speech[0], (int, float)) else list(raw_speech)
    return list(raw_speech) if torch.as_tensor(raw_speech).dim() > 1 else [raw_speech]


def _mel(frequency: Tensor) -> Tensor:
    return 1127 * torch.log1p(frequency / 700)


AttentionRnnFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")

__all__ = ["AttentionRnnFeatureExtractor"]
