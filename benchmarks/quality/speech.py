"""
Readers of spoken digits and of spoken yes and no: rows with `samples`, `sampling_rate`, and what is said.

Recordings of the Free Spoken Digit Dataset are named digit_speaker_index.wav; 0 to 4 are its test, and 5 to 7, of what
it has for training, choose a recipe and its best epoch here.
"""

import io
import random
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

Row = dict[str, Any]

SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TAKES = {"test": range(5), "dev": range(5, 8), "train": range(8, 50)}
LENGTHS = {"1-5": (1, 5), "6-8": (6, 8), "12-16": (12, 16)}
UTTERANCES = {"train": {"1-5": 3000}, "dev": {"1-5": 100}, "test": {"1-5": 150, "6-8": 80, "12-16": 40}}
YESNO_TRAINING_FILES, YESNO_DEV_FILES = 31, 4


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
            said = generator.choices(of_speaker[generator.choice(SPEAKERS)], k=generator.randint(*LENGTHS[part]))
            pieces = [pause(generator, rate)]
            for take in said:
                pieces += [take.samples * 10 ** generator.uniform(-0.2, 0.2), pause(generator, rate)]
            samples = np.concatenate(pieces)
            loudness = np.sqrt(np.mean(samples**2)) * 10 ** (-generator.uniform(10, 40) / 20)
            samples = samples + loudness * noise.standard_normal(len(samples))
            text = " ".join(DIGITS[take.digit] for take in said)
            yield {"samples": samples.clip(-1, 1), "sampling_rate": rate, "text": text, "part": part}


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
