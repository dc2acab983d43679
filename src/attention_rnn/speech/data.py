"""Recordings to train on: where they stand, what is done to them, and in which order a model hears them."""

import io
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from ..arguments import TableDataArguments, option
from ..data import FORMATS, brief, choose_columns, read_rows
from ..models.configuration_attention_rnn_speech import AttentionRnnSpeechConfig
from ..models.feature_extraction_attention_rnn import AttentionRnnFeatureExtractor
from ..training import origin, read_split
from .audio import add_noise, change_speed, read_audio, shift_time

logger = logging.getLogger(__name__)

HIGHEST_SAMPLING_RATE = 16_000  # of a new model: speech has little above 8 kHz
NOISE_RANGE = 30.0  # decibels between the loudest noise and the softest one
RECORDINGS_TO_FIT = 2_000  # that the mean and deviation of `--normalization global` are taken of
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au")
IGNORED_LABEL = -100


@dataclass
class SpeechDataArguments(TableDataArguments):
    """Recordings, and what is done to them in training."""

    train_file: str | None = option(
        None,
        "csv, tsv, json or jsonl with a row for each recording: its file, relative to the folder of the table, and "
        "what is said. May be compressed (.gz). Or a folder with such a table, metadata.csv or the like, or of folders "
        "that are named as what their recordings say.",
    )
    audio_column: str | None = option(None, "Column of the recording. Default: audio, path, file, ...; else the first.")
    max_duration: float = option(30.0, "Longer recordings are left out of training, in seconds.")
    speed_change: float = option(0.1, "Training plays each recording up to that share faster or slower, 0 to 0.5.")
    time_shift: float = option(0.0, "Training moves each recording up to so many seconds to and fro.")
    signal_to_noise: float | None = option(
        None, "Training adds white noise to every other recording, that many decibels below it or fewer. Default: none."
    )


@dataclass
class SpeechFeatureArguments:
    """What a new model hears."""

    sampling_rate: int | None = option(
        None, f"Samples per second. Default: those of the training data, at most {HIGHEST_SAMPLING_RATE:,}."
    )
    normalization: str | None = option(
        None, "Of the features: utterance, running or global. Default: running where no layer reads backwards."
    )


def check_speech_arguments(data_args: SpeechDataArguments) -> None:
    """
    Raises:
        ValueError: a number is out of range.
    """
    for name, least, most in (("max_duration", 0.01, 1e6), ("speed_change", 0, 0.5), ("time_shift", 0, 60)):
        if not least <= (value := getattr(data_args, name)) <= most:
            raise ValueError(f"--{name} must be from {least:g} to {most:g}, got {value}")


def check_features(overrides: Mapping[str, Any], arguments: SpeechFeatureArguments) -> None:
    """
    Raises:
        ValueError: what the features are is told in two places, or is out of range.
    """
    if given := {"sampling_rate", "hop_length"} & set(overrides):
        raise ValueError(f"--config_overrides must leave {sorted(given)} to --sampling_rate")
    AttentionRnnFeatureExtractor(
        overrides.get("num_mel_bins", 80),
        8000 if arguments.sampling_rate is None else arguments.sampling_rate,
        normalization=arguments.normalization or "utterance",
    )


def read_recordings(split: str, data_args: Any) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """
    The recordings of a split.

    Yields:
        The place of each row, the row, and of its recording `audio`, what it is called, and `recording`, what
        `read_audio` reads.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row has no recording.
    """
    file = getattr(data_args, f"{split}_file")
    folder = Path(file or "")
    folder = folder if folder.is_dir() else folder.parent
    for place, row in _read_table(split, data_args):
        column = data_args.audio_column
        if column not in row:
            raise ValueError(f"{place}: there must be a column {column!r}, got the columns {brief(list(row))}")
        value = row[column]
        if isinstance(value, Mapping) and (value.get("bytes") is not None or value.get("path") is not None):
            # what a file holds travels in a data set as it is
            yield place, row, {"audio": str(value.get("path") or place), "recording": dict(value)}
            continue
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{place}: column {column!r} must hold the file of a recording, got {brief(value)}")
        path = folder / value.strip()
        if not path.is_file():
            raise FileNotFoundError(f"{place}: there is no recording {str(path)!r}")
        yield place, row, {"audio": value.strip(), "recording": {"bytes": None, "path": str(path)}}


def settle_speech_columns(split: str, data_args: Any, **said: str | None) -> str:
    """
    Choose the column of the recording where no argument names it, and that of what is said.

    Args:
        said: its role, a key of `COLUMN_NAMES`, with the column that an argument names.

    Returns:
        The column of what is said.
    """
    for place, row in _read_table(split, data_args):
        columns = [name for name in row if name != getattr(data_args, "group_column", None)]
        data_args.audio_column, column = choose_columns(columns, place, audio=data_args.audio_column, **said)
        return column
    raise ValueError(f"the {split} data must hold at least one recording, got none in {origin(split, data_args)}")


def _read_table(split: str, data_args: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    file = getattr(data_args, f"{split}_file")
    if file is None or not Path(file).is_dir():
        yield from read_split(split, data_args)
        return
    # the folders of `datasets`, which encodes audio by torchcodec alone
    if tables := [table for table in sorted(Path(file).glob("metadata.*")) if table.suffix[1:] in FORMATS]:
        yield from read_rows(str(tables[0]), wanted_columns=["file_name", data_args.audio_column])
        return
    for path in sorted(Path(file).glob("*/*")):
        if path.suffix.lower() in SUFFIXES:
            yield str(path), {"audio": str(path.relative_to(file)), "label": path.parent.name}


def suitable_sampling_rate(examples: Sequence[Mapping[str, Any]]) -> int:
    """That of the first recording, or 16,000 if it has more samples per second."""
    import soundfile

    first = examples[0]
    source = first["recording"]
    try:
        rate = soundfile.info(source["path"] if source["bytes"] is None else io.BytesIO(source["bytes"])).samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{first['place']}: {first['audio']} cannot be read as audio: {error}") from error
    return min(rate, HIGHEST_SAMPLING_RATE)


def make_feature_extractor(
    examples: Sequence[Mapping[str, Any]], values: Mapping[str, Any], arguments: SpeechFeatureArguments
) -> AttentionRnnFeatureExtractor:
    """
    The feature extractor of a new model.

    Args:
        examples: training recordings, each with `recording` and `place`.
        values: what the config of the model is told.
        arguments: what the user has asked for.
    """
    mels = values.get("num_mel_bins", AttentionRnnSpeechConfig.num_mel_bins)
    reads_backwards = np.any(values.get("bidirectional", True))
    normalization = arguments.normalization or ("utterance" if reads_backwards else "running")
    rate = suitable_sampling_rate(examples) if arguments.sampling_rate is None else arguments.sampling_rate
    extractor = AttentionRnnFeatureExtractor(mels, rate, normalization=normalization)
    if normalization in ("global", "running"):
        step = max(1, len(examples) // RECORDINGS_TO_FIT)
        extractor.fit([read_recording(examples[index], rate) for index in range(0, len(examples), step)])
    return extractor


def feature_fields(extractor: AttentionRnnFeatureExtractor) -> dict[str, int]:
    """The fields of `AttentionRnnSpeechConfig` that tell what the features are."""
    return {
        "num_mel_bins": extractor.feature_size,
        "sampling_rate": extractor.sampling_rate,
        "hop_length": extractor.hop_length,
    }


def read_recording(example: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
    """
    The samples of an example.

    Raises:
        ValueError: it is no audio, or it holds no samples or not finite ones; with the place of its row.
    """
    try:
        return read_audio(example["recording"], sampling_rate)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{example['place']}: {error}") from error


def measure(examples: Any, extractor: Any, split: str) -> Any:
    """
    Read every recording once, so that a damaged one is found before the training, and add their `duration` in seconds.

    Raises:
        ValueError: a recording cannot be read, or is shorter than a frame; with the place of its row.
    """
    rate = extractor.sampling_rate
    least = getattr(extractor, "window_length", 1)

    def duration(example: dict[str, Any]) -> dict[str, float]:
        samples = len(read_recording(example, rate))
        if samples < least:
            raise ValueError(
                f"{example['place']}: {example['audio']} must last a frame or longer, {least / rate:.3f} s, got "
                f"{samples / rate:.4f} s"
            )
        return {"duration": samples / rate}

    return examples.map(duration, desc=f"reading recordings of {split}")


def without_long(examples: Any, arguments: SpeechDataArguments) -> Any:
    """
    The training examples that are no longer than `--max_duration`. How many are left out is logged.

    Raises:
        ValueError: all are longer.
    """
    most = arguments.max_duration
    kept = examples.filter(lambda duration: duration <= most, input_columns="duration", desc="leaving out what is long")
    if not len(kept):
        raise ValueError(f"--max_duration {most:g} leaves out all {len(examples):,} training recordings")
    if len(kept) < len(examples):
        logger.warning(
            f"{len(examples) - len(kept):,} of {len(examples):,} training recordings are longer than --max_duration "
            f"{most:g} s and are left out."
        )
    return kept


class SpeechExamples(Dataset):
    """
    What a model reads and learns of recordings. They are read when they are wanted; nothing is kept.

    Args:
        examples: with `recording`, `place` and `duration`, as `measure` returns them.
        labels: of each example, a number or tokens.
        extractor: a feature extractor.
        augmentation ([`SpeechDataArguments`], *optional*): what training changes.
    """

    def __init__(
        self, examples: Any, labels: Sequence[Any], extractor: Any, augmentation: SpeechDataArguments | None = None
    ) -> None:
        self.examples, self.labels = examples, labels
        self.extractor, self.augmentation = extractor, augmentation

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        samples = self.samples(index)
        if self.augmentation is not None:
            samples = augment(samples, self.extractor.sampling_rate, self.augmentation)
        least = getattr(self.extractor, "window_length", 1)
        samples = np.pad(samples, (0, max(0, least - len(samples))))  # a faster recording is shorter
        inputs = self.extractor(samples, sampling_rate=self.extractor.sampling_rate)
        name = self.extractor.model_input_names[0]
        return {name: inputs[name][0], "labels": self.labels[index]}

    def samples(self, index: int) -> np.ndarray:
        """(samples,)"""
        return read_recording(self.examples[index], self.extractor.sampling_rate)

    @property
    def lengths(self) -> list[float]:
        """The duration of each, in seconds."""
        return list(self.examples["duration"])


def augment(samples: np.ndarray, sampling_rate: int, arguments: SpeechDataArguments) -> np.ndarray:
    """A recording played at another speed, shifted and with noise, by chance."""
    if arguments.speed_change:
        factor = random.uniform(1 - arguments.speed_change, 1 + arguments.speed_change)
        samples = change_speed(samples, factor, sampling_rate)
    if arguments.time_shift:
        most = int(arguments.time_shift * sampling_rate)
        samples = shift_time(samples, random.randint(-most, most))
    if arguments.signal_to_noise is not None and random.random() < 0.5:
        noise = np.random.standard_normal(len(samples)).astype(np.float32)
        samples = add_noise(samples, noise, arguments.signal_to_noise + random.uniform(0, NOISE_RANGE))
    return samples


class SpeechCollator:
    """Pads features, and labels that are tokens by -100."""

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        name = self.extractor.model_input_names[0]
        batch = self.extractor.pad({name: [example[name] for example in examples]}, padding=True, return_tensors="pt")
        labels = [torch.as_tensor(example["labels"]) for example in examples]
        if labels[0].dim():
            padded = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL)
        else:
            padded = torch.stack(labels)
        return {**batch, "labels": padded}


class AscendingSampler(Sampler[int]):
    """
    The shortest recordings first in the first epoch, in which a model learns most from them (SortaGrad of Amodei et
    al., 2016, https://arxiv.org/abs/1512.02595, section 3.2); then batches of similar length by chance.

    Args:
        lengths: of each recording.
        batch_size: how many shall be of similar length.
        seed: the same seed and the same epoch give the same order.
    """

    def __init__(self, lengths: Sequence[float], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.epoch == 0:
            return iter(sorted(range(len(self.lengths)), key=self.lengths.__getitem__))
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


class AscendingFirst:
    """Lets a Trainer hear [`SpeechExamples`] in the order of [`AscendingSampler`], unless it is told another one."""

    args: Any
    train_dataset: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return AscendingSampler(dataset.lengths, batch_size, self.args.seed)
