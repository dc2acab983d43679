"""
Readers of spoken digits and of spoken yes and no: rows with `samples`, `sampling_rate`, and what is said. And what is
measured of a model beside its transcripts: when it has heard the words, and what it writes of a stream.

Recordings of the Free Spoken Digit Dataset are named digit_speaker_index.wav; 0 to 4 are its test, and 5 to 7, of what
it has for training, choose a recipe and its best epoch here.
"""

import io
import random
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from transformers import pipeline

import attention_rnn  # noqa: F401, makes the pipelines known
from attention_rnn.metrics import load_metric
from attention_rnn.speech.audio import read_audio

Row = dict[str, Any]

SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TAKES = {"test": range(5), "dev": range(5, 8), "train": range(8, 50)}
LENGTHS = {"1-5": (1, 5), "6-8": (6, 8), "12-16": (12, 16)}
UTTERANCES = {"train": {"1-5": 6000}, "dev": {"1-5": 100}, "test": {"1-5": 150, "6-8": 80, "12-16": 40}}
YESNO_TRAINING_FILES, YESNO_DEV_FILES = 31, 4
TOLERANCE = 0.06  # seconds that a boundary may be off
STREAM_SECONDS = 0.32  # of a chunk


class Take(NamedTuple):
    digit: int
    speaker: str
    index: int
    samples: np.ndarray


@cache
def takes(data_dir: Path) -> tuple[list[Take], int]:
    """All recordings, and their sampling rate."""
    found, rate = [], 0
    for speaker in SPEAKERS:
        for name, samples, rate in read_zip(data_dir / f"{speaker}.zip"):  # noqa: B007, all have the same
            digit, _, index = Path(name).stem.split("_")
            found.append(Take(int(digit), speaker, int(index), samples))
    return found, rate


def read_zip(file: Path) -> Iterator[tuple[str, np.ndarray, int]]:
    """Name, samples and sampling rate of every wav file in a zip file, by name."""
    with zipfile.ZipFile(file) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".wav")):
            samples, rate = soundfile.read(io.BytesIO(archive.read(name)), dtype="float32")
            yield name, samples, rate


def read_fsdd(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    """Single digits: of all speakers, or with one left out of training and tested."""
    every_take, rate = takes(data_dir)
    left_out = setting.removeprefix("without_")
    for take in every_take:
        if setting == "official":
            is_wanted = take.index in TAKES[split]
        elif split == "test":
            is_wanted = take.speaker == left_out
        else:
            is_wanted = take.speaker != left_out and (take.index in TAKES["dev"]) == (split == "dev")
        if is_wanted:
            yield {"samples": take.samples, "sampling_rate": rate, "label": DIGITS[take.digit]}


def read_digits(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    """Digits of one speaker, joined with pauses, in noise; trained on one to five of them."""
    every_take, rate = takes(data_dir)
    generator, noise = random.Random(f"digits {split}"), np.random.default_rng(len(split))
    of_speaker = {
        speaker: [take for take in every_take if take.speaker == speaker and take.index in TAKES[split]]
        for speaker in SPEAKERS
    }
    for part, count in UTTERANCES[split].items():
        for _ in range(count):
            digits = generator.randint(*LENGTHS[part])
            if split == "train":  # short ones are more frequent, of which CTC learns soonest
                digits = min(digits, generator.randint(*LENGTHS[part]))
            said = generator.choices(of_speaker[generator.choice(SPEAKERS)], k=digits)
            pieces = [pause(generator, rate)]
            for take in said:
                pieces += [take.samples * 10 ** generator.uniform(-0.2, 0.2), pause(generator, rate)]
            ends = np.cumsum([len(piece) for piece in pieces]) / rate
            times = [[round(start, 4), round(end, 4)] for start, end in zip(ends[::2], ends[1::2], strict=False)]
            samples = np.concatenate(pieces)
            loudness = np.sqrt(np.mean(samples**2)) * 10 ** (-generator.uniform(10, 40) / 20)
            samples = samples + loudness * noise.standard_normal(len(samples))
            text = " ".join(DIGITS[take.digit] for take in said)
            row = {"samples": samples.clip(-1, 1), "sampling_rate": rate, "text": text}
            yield {**row, "part": part, "times": times}


def pause(generator: random.Random, rate: int) -> np.ndarray:
    return np.zeros(int(generator.uniform(0.02, 0.4) * rate), np.float32)


def read_yesno(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    """Eight words a file, whose name says which they are; the first files train, as in Kaldi."""
    files = list(read_zip(data_dir / "waves_yesno.zip"))
    parts = {
        "train": files[: YESNO_TRAINING_FILES - YESNO_DEV_FILES],
        "dev": files[YESNO_TRAINING_FILES - YESNO_DEV_FILES : YESNO_TRAINING_FILES],
        "test": files[YESNO_TRAINING_FILES:],
    }
    for name, samples, rate in parts[split]:
        text = " ".join("yes" if word == "1" else "no" for word in Path(name).stem.split("_"))
        yield {"samples": samples, "sampling_rate": rate, "text": text}


def score_digits(predictions: list[str], rows: list[Row]) -> dict[str, float]:
    """Word error rates by how many digits were said, those of training first."""
    scores, metric = {}, load_metric("wer")
    for part in dict.fromkeys(row.get("part", "") for row in rows):
        pairs = [(p, row["text"]) for p, row in zip(predictions, rows, strict=True) if row.get("part", "") == part]
        texts, references = ([pair[side] for pair in pairs] for side in (0, 1))
        scores[f"wer_{part}"] = metric.compute(predictions=texts, references=references)["wer"]
    return scores


def hear_digits(setting: str, folder: Path, rows: list[Row]) -> dict[str, float]:
    """
    The share of the boundaries of words, in percent, that are found to within `TOLERANCE`, over the transcripts of the
    lengths of training that are right; and of a model that streams the word error rates of what it writes chunk by
    chunk, in place of those of whole recordings.

    Args:
        folder: of the run, which has the recordings in the folder above.
        rows: with `audio`, `text`, `part` and `times`.
    """
    transcribe: Any = pipeline("automatic-speech-recognition", str(folder))
    errors: list[float] = []
    for row in rows:
        if row["part"] == next(iter(LENGTHS)):
            heard = transcribe(str(folder.parent / row["audio"]), return_timestamps="word")
            if heard["text"] == row["text"]:
                errors += boundary_errors([chunk["timestamp"] for chunk in heard["chunks"]], row["times"])
    scores = {"boundaries": 100 * float(np.mean(np.array(errors) <= TOLERANCE))} if errors else {"boundaries": 0.0}
    if setting == "streamed":
        texts = [stream(transcribe, folder.parent / row["audio"]) for row in rows]
        scores |= score_digits(texts, rows)
    return scores


def boundary_errors(found: Sequence[Sequence[float]], exact: Sequence[Sequence[float]]) -> list[float]:
    """By how many seconds the beginning and the end of each word are off."""
    return np.abs(np.array(found) - np.array(exact)).flatten().tolist()


def stream(transcribe: Any, file: Path) -> str:
    """What a model writes of a recording that it hears chunk by chunk."""
    extractor = transcribe.feature_extractor
    samples, state = read_audio(str(file), extractor.sampling_rate), extractor.begin_stream()
    size = int(STREAM_SECONDS * extractor.sampling_rate)

    def chunks() -> Iterator[Any]:
        nonlocal state
        for start in range(0, len(samples), size):
            frames, state = extractor.stream(samples[start : start + size], state)
            yield frames

    tokens = transcribe.model.generate(input_features=chunks())
    return transcribe.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
