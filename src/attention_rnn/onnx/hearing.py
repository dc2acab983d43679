"""
Runs a folder of a model of speech that `export_speech` has written, with numpy, onnxruntime and tokenizers alone.

    from attention_rnn import SpeechRunner

    runner = SpeechRunner.from_pretrained("runs/digits-onnx")
    runner(samples)["text"]

Each folder holds this file, and those that it imports, as one: `run_onnx.py`, which needs no other.

    python run_onnx.py recording.wav
"""

import argparse
import json
import math
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from .decoding import CONFIG, Graph, class_scores, find_folder, read_config
from .reading import TOKENIZER, open_tokenizer

RECORDING, CHUNK = "recording.onnx", "chunk.onnx"
TRANSCRIPTION, COMMANDS = "automatic-speech-recognition", "audio-classification"
_FIELDS = {"format_version": int, "task": str, "features": dict, "seconds": float, "states": list}
# those of the feature extractor, see `models/feature_extraction_attention_rnn.py`
_INT16_SCALE, _PREEMPHASIS, _LOWEST_FREQUENCY = 32768.0, 0.97, 20.0
_LEAST_ENERGY, _LEAST_DEVIATION, _PRIOR_FRAMES = float(np.finfo(np.float32).eps), 0.1, 100


class FrameState(NamedTuple):
    """What is known of a stream of samples before a chunk."""

    samples: ndarray  # that belong to a frame which is not complete
    frames: int
    total: ndarray  # of the log energies so far, for each band
    total_of_squares: ndarray


class LogMel:
    """The frames of `AttentionRnnFeatureExtractor`, in numpy."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.bands, self.rate = settings["feature_size"], settings["sampling_rate"]
        self.length, self.hop = settings["window_length"], settings["hop_length"]
        self.normalization = settings["normalization"]
        self.has_mean = settings["mean"] is not None
        self.mean, self.deviation = (np.array(settings[name] or []) for name in ("mean", "standard_deviation"))
        self.fft_length = 2 ** math.ceil(math.log2(self.length))
        self.window = (np.hanning(self.length) ** 0.85).astype(np.float32)
        self.bank = self._bank()

    def __call__(self, samples: ndarray) -> ndarray:
        """(samples,) -> (frames, bands)"""
        return self._normalize(self._log_mel(samples), self.begin())[0]

    def begin(self) -> FrameState:
        frames, total, total_of_squares = 0, np.zeros(self.bands), np.zeros(self.bands)
        if self.normalization == "running" and self.has_mean:
            frames, total = _PRIOR_FRAMES, _PRIOR_FRAMES * self.mean
            total_of_squares = _PRIOR_FRAMES * (np.square(self.deviation) + np.square(self.mean))
        return FrameState(np.zeros(0, np.float32), frames, total, total_of_squares)

    def stream(self, chunk: ndarray, state: FrameState) -> tuple[ndarray, FrameState]:
        """The frames that a chunk completes, (frames, bands), and the state."""
        samples = np.concatenate([state.samples, chunk])
        log_mel = self._log_mel(samples)
        return self._normalize(log_mel, state._replace(samples=samples[len(log_mel) * self.hop :]))

    def _log_mel(self, samples: ndarray) -> ndarray:
        if len(samples) < self.length:
            return np.zeros((0, self.bands), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.length)[:: self.hop] * np.float32(_INT16_SCALE)
        frames = frames - frames.mean(axis=1, keepdims=True)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        spectrum = np.fft.rfft((frames - np.float32(_PREEMPHASIS) * before) * self.window, n=self.fft_length)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        return np.log(np.maximum(power.astype(np.float32) @ self.bank, _LEAST_ENERGY))

    def _normalize(self, log_mel: ndarray, state: FrameState) -> tuple[ndarray, FrameState]:
        if self.normalization is None or not len(log_mel):
            return log_mel, state
        if self.normalization == "utterance":
            deviation = np.maximum(log_mel.std(axis=0), _LEAST_DEVIATION)
            return (log_mel - log_mel.mean(axis=0)) / deviation, state
        if self.normalization == "global":
            scaled = (log_mel - self.mean) / np.maximum(self.deviation, _LEAST_DEVIATION)
            return scaled.astype(np.float32), state
        frames = log_mel.astype(np.float64)
        totals = state.total + frames.cumsum(axis=0)
        totals_of_squares = state.total_of_squares + np.square(frames).cumsum(axis=0)
        counts = state.frames + np.arange(1, len(frames) + 1)[:, None]
        mean = totals / counts
        deviation = np.sqrt(np.maximum(totals_of_squares / counts - np.square(mean), _LEAST_DEVIATION**2))
        after = FrameState(state.samples, state.frames + len(frames), totals[-1], totals_of_squares[-1])
        return ((frames - mean) / deviation).astype(np.float32), after

    def _bank(self) -> ndarray:
        def mel(frequency: Any) -> ndarray:
            return 1127 * np.log1p(np.asarray(frequency, np.float64) / 700)

        lowest, highest = mel([_LOWEST_FREQUENCY, self.rate / 2])
        edges = np.linspace(lowest, highest, self.bands + 2)
        bins = mel(np.arange(self.fft_length // 2 + 1) * self.rate / self.fft_length)[:, None]
        left, centre, right = edges[:-2], edges[1:-1], edges[2:]
        return np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(0).astype(np.float32)


class HeardState(NamedTuple):
    """What is known of a stream before a chunk."""

    samples: FrameState
    frames: ndarray  # that wait for others of their group
    states: dict[str, ndarray]
    positions: int = 0  # of the memory, so far; below 0 are none
    last: int = -1  # what CTC heard at the last position


class SpeechRunner:
    """
    A model of speech without torch. What it hears are samples of one channel, as floats from -1 to 1, at
    `sampling_rate`.

    - `automatic-speech-recognition`: `runner(samples)` gives `{"text", "tokens", "times"}`, of each token when it
      begins, in seconds; the most likely token of each moment is taken.
    - `audio-classification`: a list of `{"label", "score"}`, the best first.

    Args:
        folder: what `export_speech` has written.
        threads: of each call.

    Raises:
        ValueError: a file is missing, damaged, of another kind, or does not fit the others.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        self.config = read_config(folder / CONFIG, (TRANSCRIPTION, COMMANDS), _FIELDS)
        self.task: str = self.config["task"]
        self.sampling_rate: int = self.config["features"]["sampling_rate"]
        self.log_mel = LogMel(self.config["features"])
        is_text = self.task == TRANSCRIPTION
        outputs = ["log_probabilities"] if is_text else ["logits"]
        self.recording = Graph(folder / RECORDING, threads, ["input_features"], outputs)
        self.tokenizer = open_tokenizer(folder / TOKENIZER, self.config["vocab_size"], {}) if is_text else None
        self.lookahead: int = self.config.get("lookahead", 0)
        self.chunk = None
        if self.config["ratio"] is not None:
            states = [f"state_{index}" for index in range(len(self.config["states"]))]
            self.chunk = Graph(folder / CHUNK, threads, ["frames", "length", *states], outputs)

    @classmethod
    def from_pretrained(cls, name: str | Path, threads: int = 1, revision: str | None = None) -> "SpeechRunner":
        """The runner of a folder, or of a repository of the Hugging Face Hub."""
        return cls(find_folder(name, revision), threads)

    def __call__(self, samples: Any, sampling_rate: int | None = None) -> Any:
        """
        Args:
            samples: of a recording, (samples,).
            sampling_rate: that of the samples, if it is to be checked.

        Raises:
            ValueError: the samples are of another rate, of several channels, no floats, not finite, or less than a
                frame.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(f"`sampling_rate` must be {self.sampling_rate}, got {sampling_rate}: resample the audio.")
        checked = self._check(samples)
        if len(checked) < self.log_mel.length:
            raise ValueError(f"`samples` must last {self.log_mel.length} samples or more, got {len(checked)}.")
        outputs = self.recording.run({"input_features": self.log_mel(checked)[None]})
        if self.task == COMMANDS:
            scores = class_scores(outputs["logits"], self.config.get("problem_type"))[0]
            labels = self.config["labels"]
            return [{"label": labels[i], "score": float(scores[i])} for i in np.argsort(-scores, kind="stable")]
        tokens, times, _ = self._collapse(outputs["log_probabilities"][0], 0, self.config["blank"])
        return {"text": self._text(tokens), "tokens": tokens, "times": times}

    def begin_stream(self) -> HeardState:
        """
        The state before the first chunk of a stream.

        Raises:
            ValueError: the model cannot stream.
        """
        if self.chunk is None or self.log_mel.normalization == "utterance":
            raise ValueError(
                "The model cannot stream: it reads backwards or sees later frames, or its features are normalised by "
                "the whole recording."
            )
        states = {f"state_{i}": np.zeros(shape, np.float32) for i, shape in enumerate(self.config["states"])}
        nothing = np.zeros((0, self.log_mel.bands), np.float32)
        return HeardState(self.log_mel.begin(), nothing, states, -self.lookahead, self.config["blank"])

    def stream_step(
        self, samples: Any, state: HeardState, is_last: bool = False
    ) -> tuple[list[int], list[float], HeardState]:
        """
        What the next samples of a stream, of any number, say: the tokens that begin in them, when each begins, in
        seconds from the beginning of the stream, and the state. With `is_last` the stream ends with them.
        """
        frames, of_samples = self.log_mel.stream(self._check(samples), state.samples)
        frames, ratio = np.concatenate([state.frames, frames]), self.config["ratio"]
        count = len(frames) if is_last else len(frames) // ratio * ratio
        state = state._replace(samples=of_samples, frames=frames[count:])
        groups = -(-count // ratio) + (self.lookahead if is_last else 0)
        if groups == 0 or self.chunk is None:
            return [], [], state
        padded = np.zeros((groups * ratio, self.log_mel.bands), np.float32)
        padded[:count] = frames[:count]
        inputs = {"frames": padded.reshape(groups, ratio, -1), "length": np.array(count), **state.states}
        outputs = self.chunk.run(inputs)
        heard = outputs["log_probabilities"][0][max(-state.positions, 0) :]
        tokens, times, last = self._collapse(heard, max(state.positions, 0), state.last)
        states = {name: outputs[f"{name}_next"] for name in state.states}
        return tokens, times, state._replace(states=states, positions=state.positions + groups, last=last)

    def stream(self, chunks: Iterable[Any]) -> Iterator[str]:
        """Pieces of the text, as they are heard in chunks of samples of any size."""
        state, heard, said = self.begin_stream(), list[int](), ""
        for chunk, is_last in _and_the_last(chunks):
            tokens, _, state = self.stream_step(chunk, state, is_last)
            if tokens:
                heard += tokens
                text = self._text(heard)
                yield text[len(said) :]
                said = text

    def _check(self, samples: Any) -> ndarray:
        checked = np.asarray(samples)
        if checked.ndim != 1:
            raise ValueError(f"`samples` must be of one channel, (samples,), got the shape {checked.shape}.")
        if len(checked) and checked.dtype.kind != "f":
            raise ValueError(f"`samples` must be floats from -1 to 1, got {checked.dtype}.")
        if not np.isfinite(checked).all():
            raise ValueError("`samples` must be finite, got NaN or infinite ones.")
        return checked.astype(np.float32)

    def _collapse(self, log_probs: ndarray, before: int, last: int) -> tuple[list[int], list[float], int]:
        """Tokens, times, and what was heard last, of the positions (positions, vocabulary) that follow `before`."""
        tokens, times = [], []
        for position, best in enumerate(log_probs.argmax(axis=-1).tolist(), start=before):
            if best not in (last, self.config["blank"]):
                tokens.append(best)
                times.append(max(position * self.config["seconds"] - self.config["emission_delay"], 0.0))
            last = best
        return tokens, times, last

    def _text(self, tokens: list[int]) -> str:
        return "" if self.tokenizer is None else self.tokenizer.decode(tokens, skip_special_tokens=True)


def _and_the_last(chunks: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Chunks, and nothing as the last one."""
    yield from ((chunk, False) for chunk in chunks)
    yield np.zeros(0, np.float32), True


def read_wave(file: str) -> tuple[ndarray, int]:
    """The mean of the channels of a wav file of 16 bits, and its sampling rate."""
    try:
        with wave.open(file) as recording:
            width, channels, rate = recording.getsampwidth(), recording.getnchannels(), recording.getframerate()
            data = recording.readframes(recording.getnframes())
    except (EOFError, wave.Error) as error:
        raise ValueError(f"{file} must be a wav file: {error or 'it ends too early'}.") from error
    if width != 2:
        raise ValueError(f"{file} must have samples of 16 bits, got {8 * width}.")
    whole = len(data) // (2 * channels) * 2 * channels  # of a file that was cut off
    samples = np.frombuffer(data[:whole], np.int16).reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return samples / np.float32(_INT16_SCALE), rate


def main() -> None:
    parser = argparse.ArgumentParser(description="What the model in the folder of this file hears.")
    parser.add_argument("files", nargs="+", help="wav files of 16 bits, with the sampling rate of the model")
    parser.add_argument("--folder", default=Path(__file__).parent, help="another folder")
    options = parser.parse_intermixed_args()
    try:
        runner = SpeechRunner.from_pretrained(options.folder)
        for file in options.files:
            print(json.dumps(runner(*read_wave(file)), ensure_ascii=False))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
