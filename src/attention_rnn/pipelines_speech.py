"""
The pipelines of audio: those of transformers, which here read any audio by soundfile and soxr, and know when words were
said by models of this package.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import pipelines as transformers_pipelines

from .models.processing_attention_rnn import AttentionRnnSpeechProcessor
from .pipelines_labelling import is_empty
from .speech.audio import read_audio
from .speech.word_times import loudness, widen

# Any, as they take other arguments than the base class declares
BaseRecognition: Any = transformers_pipelines.AutomaticSpeechRecognitionPipeline
BaseClassification: Any = transformers_pipelines.AudioClassificationPipeline

UNITS = ("word", "char")
LEAST_CHUNKS = 3  # strides go into a chunk so often at least


class Chunk(NamedTuple):
    """
    Attributes:
        start, end: of the chunk, in seconds of the recording.
        units: what was said in it, each with `text`, and `start` and `end` in seconds of the recording.
    """

    start: float
    end: float
    units: list[dict[str, Any]]


class AutomaticSpeechRecognitionPipeline(BaseRecognition):
    """
    As in transformers, except that a recording may be a file, bytes, samples, or a mapping of `datasets`, of any format
    that libsndfile reads and of any sampling rate, without ffmpeg, torchaudio or torchcodec. And for models of this
    package

        >>> transcribe = pipeline("automatic-speech-recognition", "runs/commands")
        >>> transcribe("kitchen.wav", return_timestamps="word")
        {'text': 'turn on the light', 'chunks': [{'text': 'turn', 'timestamp': (0.24, 0.48), 'confidence': 0.98}, ...]}

    - `return_timestamps` is `"word"` or `"char"` (of each token), with every model. Words reach as far as the sound
      around the moment in which they were heard, see `speech/word_times.py`; characters are that moment.
    - `chunk_length_s` reads long audio in chunks of so many seconds, which overlap by twice `stride_length_s` (a sixth
      by default). Two chunks are cut in the longest pause between words that both have heard.
    - Other arguments go to `generate`: `num_beams`, `ctc_weight`, `language_model`, ...

    Raises:
        TypeError, ValueError, FileNotFoundError: see `read_audio`.
        ValueError: an argument is out of range.
    """

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        self.is_own = model.config.model_type.startswith("attention_rnn")
        super().__init__(model, *args, **kwargs)
        if self.is_own:
            if self.tokenizer is None or self.feature_extractor is None:
                raise ValueError(f"The pipeline {self.task!r} needs a tokenizer and a feature extractor.")
            self._generation_defaults: dict[str, Any] = {}  # our generate() bounds the length by the audio
            self.speech_processor = AttentionRnnSpeechProcessor(self.feature_extractor, self.tokenizer)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        return [] if is_empty(inputs) else super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        chunk_length_s: float | None = None,
        stride_length_s: float | Sequence[float] | None = None,
        return_timestamps: str | bool | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if not self.is_own:
            given = {
                "chunk_length_s": chunk_length_s,
                "stride_length_s": stride_length_s,
                "return_timestamps": return_timestamps,
                "generate_kwargs": generate_kwargs,
            }
            given = {name: value for name, value in given.items() if value is not None}
            return super()._sanitize_parameters(**given, **kwargs)
        unit = "word" if return_timestamps is True else return_timestamps or None
        if unit is not None and unit not in UNITS:
            raise ValueError(f"`return_timestamps` must be one of {list(UNITS)}, got {return_timestamps!r}.")
        preprocess: dict[str, Any] = {}
        for name, value in {"chunk_length_s": chunk_length_s, "stride_length_s": stride_length_s}.items():
            numbers = [value or 0] if not isinstance(value, (list, tuple)) else value
            if not all(isinstance(number, (int, float)) and 0 <= number < math.inf for number in numbers):
                raise ValueError(f"`{name}` must be a number of seconds of at least 0, got {value!r}.")
        if chunk_length_s:
            stride = chunk_length_s / 6 if stride_length_s is None else stride_length_s
            if isinstance(stride, Sequence):
                stride = max(stride)
            if not 0 <= LEAST_CHUNKS * stride <= chunk_length_s:
                raise ValueError(
                    f"`stride_length_s` must be from 0 to {chunk_length_s / LEAST_CHUNKS:g}, a third of "
                    f"`chunk_length_s`, got {stride_length_s}."
                )
            preprocess = {"chunk_length_s": chunk_length_s, "stride_length_s": stride}
        forward = {**(generate_kwargs or {}), **kwargs}
        if forward.get("num_return_sequences", 1) != 1:
            raise ValueError("`num_return_sequences` must be 1: `model.generate` returns more than one transcript.")
        return preprocess, forward, {} if unit is None else {"return_timestamps": unit}

    def preprocess(
        self, inputs: Any, chunk_length_s: float = 0.0, stride_length_s: float | None = None
    ) -> Iterator[dict[str, Any]]:
        if not self.is_own:
            yield from super().preprocess(
                readable(inputs, self.feature_extractor.sampling_rate), chunk_length_s, stride_length_s
            )
            return
        rate = self.feature_extractor.sampling_rate
        samples = read_audio(_decoded(inputs), rate)
        size = round(chunk_length_s * rate) or len(samples)
        step = max(1, size - 2 * round((stride_length_s or 0.0) * rate))
        # what would be heard whole in the chunk before needs none of its own
        starts = range(0, max(1, len(samples) - (size - step)), step)
        if len(starts) > 1 and len(samples) - starts[-1] < self.feature_extractor.window_length:
            starts = starts[:-1]  # less than a frame, in which nothing can be heard
        for start in starts:
            chunk = samples[start : start + size]
            features = self.feature_extractor(chunk, sampling_rate=rate, return_tensors="pt")
            if self.dtype is not None:
                features = features.to(dtype=self.dtype)
            yield {
                "is_last": start == starts[-1],
                "start": start / rate,
                "end": (start + len(chunk)) / rate,
                "is_whole": len(starts) == 1,
                "levels": loudness(chunk, rate).tolist(),
                **features,
            }

    def _forward(self, model_inputs: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if not self.is_own:
            return super()._forward(model_inputs, **kwargs)
        speech = {name: model_inputs.pop(name) for name in ("input_features", "attention_mask")}
        with torch.no_grad():
            encoded = self.model.model.encoder(**speech, return_dict=True)
        options = {**getattr(self, "_generate_kwargs", {}), **kwargs}
        outputs = self.model.generate(encoder_outputs=encoded, **options)
        tokens = outputs if isinstance(outputs, torch.Tensor) else outputs.sequences
        times = self.model.token_times(tokens, encoder_outputs=encoded)
        return {**model_inputs, "tokens": tokens, **{f"token_{name}": value for name, value in times.items()}}

    def postprocess(self, model_outputs: Any, return_timestamps: str | None = None, **kwargs: Any) -> dict[str, Any]:
        if not self.is_own:
            return super().postprocess(model_outputs, return_timestamps=return_timestamps, **kwargs)
        is_whole = model_outputs[0]["is_whole"]
        words = join_chunks([self._chunk(outputs, self._words) for outputs in model_outputs])
        text = " ".join(word["text"] for word in words)
        if is_whole:
            text = self.tokenizer.decode(model_outputs[0]["tokens"][0], skip_special_tokens=True).strip()
        if return_timestamps is None:
            return {"text": text}
        if return_timestamps == "char":
            of_characters = [self._chunk(outputs, self._characters) for outputs in model_outputs]
            words = join_chunks(of_characters)
        chunks = [
            {"text": word["text"], "timestamp": (word["start"], word["end"]), "confidence": word["confidence"]}
            for word in words
        ]
        return {"text": text, "chunks": chunks}

    def _chunk(self, outputs: dict[str, Any], units_of: Any) -> Chunk:
        start = outputs["start"]
        times = {name: outputs[f"token_{name}"][0].tolist() for name in ("start", "end", "confidence")}
        units = units_of(outputs, outputs["tokens"][0].tolist(), times)
        for unit in units:
            for name in ("start", "end"):
                unit[name] = round(min(unit[name] + start, outputs["end"]), 3)
            unit["confidence"] = round(unit["confidence"], 4)
        return Chunk(start, outputs["end"], units)

    def _words(self, outputs: dict[str, Any], *of_tokens: Any) -> list[dict[str, Any]]:
        return widen(self.speech_processor.words(*of_tokens), outputs["levels"])

    def _characters(self, outputs: dict[str, Any], *of_tokens: Any) -> list[dict[str, Any]]:
        return self.speech_processor.characters(*of_tokens)


class AudioClassificationPipeline(BaseClassification):
    """
    As in transformers, except that a recording may be a file, bytes, samples, or a mapping of `datasets`, of any format
    that libsndfile reads and of any sampling rate, without ffmpeg, torchaudio or torchcodec.

        >>> classify = pipeline("audio-classification", "runs/commands")
        >>> classify("left.wav", top_k=2)
        [{'score': 0.98, 'label': 'left'}, {'score': 0.01, 'label': 'yes'}]

    Raises:
        TypeError, ValueError, FileNotFoundError: see `read_audio`.
    """

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        return [] if is_empty(inputs) else super().__call__(inputs, **kwargs)

    def preprocess(self, inputs: Any) -> Any:
        return super().preprocess(readable(inputs, self.feature_extractor.sampling_rate))


def readable(inputs: Any, sampling_rate: int) -> Any:
    """What pipelines of transformers read without other packages: samples, or an address that they fetch."""
    is_address = isinstance(inputs, str) and inputs.startswith(("http://", "https://"))
    # what a mapping brings beside the recording is handed on
    if is_address or (isinstance(inputs, Mapping) and "stride" in inputs):
        return inputs
    samples = read_audio(_decoded(inputs), sampling_rate)
    if not isinstance(inputs, Mapping):
        return samples
    others = {name: value for name, value in inputs.items() if name not in ("array", "raw", "bytes", "path")}
    return {**others, "raw": samples, "sampling_rate": sampling_rate}


def join_chunks(chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
    """
    What was said in chunks that overlap, each word once: two chunks are cut in the longest pause that the first one has
    heard in the middle half of their overlap.
    """
    units = list(chunks[0].units)
    for before, chunk in pairwise(chunks):
        cut = _longest_pause(units, *_middle_half(chunk.start, before.end))
        units = [unit for unit in units if (unit["start"] + unit["end"]) / 2 < cut]
        later = [unit for unit in chunk.units if (unit["start"] + unit["end"]) / 2 >= cut]
        if units and later and units[-1]["end"] > later[0]["start"]:  # each chunk has heard a part of the other's
            units[-1] = {**units[-1], "end": min(units[-1]["end"], cut)}
            later[0] = {**later[0], "start": max(later[0]["start"], cut)}
        units += later
    return units


def _middle_half(start: float, end: float) -> tuple[float, float]:
    quarter = (end - start) / 4
    return start + quarter, end - quarter


def _longest_pause(units: Sequence[Mapping[str, Any]], start: float, end: float) -> float:
    """The middle of the longest pause between `start` and `end`, or of the time between them."""
    inside = [unit for unit in units if unit["end"] > start and unit["start"] < end]
    begins = [start, *(min(max(unit["end"], start), end) for unit in inside)]
    ends = [*(min(max(unit["start"], start), end) for unit in inside), end]
    pauses = [(behind - before, (before + behind) / 2) for before, behind in zip(begins, ends, strict=True)]
    length, middle = max(pauses)
    return middle if length > 0 else (start + end) / 2


def _decoded(inputs: Any) -> Any:
    """The samples of a decoder of torchcodec, as `datasets` gives them; anything else as it is."""
    if not hasattr(inputs, "get_all_samples"):
        return inputs
    samples = inputs.get_all_samples()
    return {"array": np.asarray(samples.data), "sampling_rate": samples.sample_rate}
