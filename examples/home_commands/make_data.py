"""Make a corpus of spoken commands for a home, without any download: espeak-ng reads them in many voices.

    python examples/home_commands/make_data.py --output_dir runs/home_commands/data

writes `train.jsonl`, `validation.jsonl` and `test.jsonl`, and the recordings in `wav`, one example a line:

    {"audio": "wav/train_0.wav", "text": "turn on the lamp in the hall", "voice": "en-gb-scotland+f4", "rate": 160}

Sentences are made of eleven patterns, such as "set the timer to seventeen minutes". A voice is an accent of English
with one of the variants of espeak-ng, men and women of different ages, at a rate and a pitch by chance, and white
noise lies 5 to 30 decibels below it. The voices of validation and test are not in training, nor are their sentences:
what the test measures are voices that were never heard.

The package espeakng-loader holds the library and its voices. They are under the GPL; nothing else here needs them.
"""

import argparse
import ctypes
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import espeakng_loader
    import numpy as np
    import soundfile
    import soxr
except ImportError as error:
    raise ImportError(
        f"make_data.py needs more packages ({error}): pip install 'attention-rnn[demo-speech]'"
    ) from error

SAMPLING_RATE = 8_000  # as over a telephone, which commands do not need more than
SHARE_OF_UNHEARD_VOICES = 0.2
RATES, PITCHES, PITCH_RANGES = (120, 200), (10, 90), (20, 80)  # words a minute, and espeak-ng's 0 to 100
SIGNAL_TO_NOISE = (5, 30)  # decibels

# fmt: off
ACCENTS = ["en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd"]
VARIANTS = [
    *(f"m{number}" for number in range(1, 9)), *(f"f{number}" for number in range(1, 6)), "Andy", "Annie", "Denis",
    "Linda", "Michael", "Steph", "Max", "Mario", "Gene", "Lee", "Alex", "Auntie", "Belinda", "John", "Paul", "Robert",
]
ROOMS = ["kitchen", "bedroom", "bathroom", "hall", "garden", "office", "garage", "living room"]
DEVICES = ["light", "lamp", "heater", "fan", "radio", "television", "music", "alarm"]
PEOPLE = ["anna", "peter", "maria", "john", "laura", "david", "emma", "tom"]
CITIES = ["london", "paris", "berlin", "rome", "madrid", "oslo", "vienna", "dublin", "lisbon", "athens"]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "today", "tomorrow"]
ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
TENS = ["", "", "twenty", "thirty", "forty", "fifty"]
# each makes two hundred sentences or more, so that most of them are left for training
PATTERNS: list[tuple[str, list[list[str]]]] = [
    ("turn {} the {} in the {} at {}", [["on", "off"], DEVICES, ROOMS, ONES[1:13]]),
    ("set the {} to {} {}", [["heater", "alarm", "timer"], ["NUMBER"], ["degrees", "minutes", "seconds"]]),
    ("what is the weather in {} on {} {}", [CITIES, DAYS[:7], ["morning", "afternoon", "evening"]]),
    ("wake me up at {} {} {}", [ONES[1:13], ["NUMBER"], ["today", "tomorrow"]]),
    ("call {} {} at {}", [PEOPLE, ["at home", "at work", "again"], ONES[1:13]]),
    ("send {} a message at {} {}", [PEOPLE, ONES[1:13], ["NUMBER"]]),
    ("remind me {} at {} to call {}", [DAYS, ONES[1:13], PEOPLE]),
    ("how far is it from {} to {} by {}", [CITIES, CITIES, ["car", "train", "bus", "bicycle"]]),
    ("make the {} in the {} {}", [DEVICES[:6], ROOMS, ["louder", "brighter", "warmer", "darker", "quieter"]]),
    ("play {} in the {} {}", [["jazz", "rock", "piano", "the news", "guitar"], ROOMS, DAYS[:7]]),
    ("is the {} in the {} {}", [DEVICES, ROOMS, ["still on", "off", "too loud", "broken", "working"]]),
]
# fmt: on


class Speaker:
    """espeak-ng, called within this process."""

    SYNCHRONOUS, RATE, PITCH, RANGE, UTF8 = 2, 1, 3, 4, 1  # of espeak-ng's speak_lib.h

    def __init__(self) -> None:
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sampling_rate = self.library.espeak_Initialize(self.SYNCHRONOUS, 0, data, 0)
        if self.sampling_rate < 1:
            raise RuntimeError(f"espeak-ng does not start with the data in {data.decode()}")
        self.parts: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self._take)  # which must live as long as the library may call it
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def has(self, voice: str) -> bool:
        """Whether there is such a voice."""
        return self.library.espeak_SetVoiceByName(voice.encode()) == 0

    def say(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> np.ndarray:
        """(samples,), floats from -1 to 1."""
        if not self.has(voice):
            raise ValueError(f"voice must be one that espeak-ng has, got {voice!r}")
        for parameter, value in ((self.RATE, rate), (self.PITCH, pitch), (self.RANGE, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.parts.clear()
        spoken = text.encode() + b"\0"
        self.library.espeak_Synth(spoken, len(spoken), 0, 1, 0, self.UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.parts).astype(np.float32) / 2**15


def draw_sentence(generator: random.Random) -> str:
    """A command by chance."""
    pattern, choices = generator.choice(PATTERNS)
    words = (generator.choice(of_slot) for of_slot in choices)
    return pattern.format(*(number_words(generator.randint(5, 59)) if word == "NUMBER" else word for word in words))


def number_words(number: int) -> str:
    """Below sixty."""
    if number < len(ONES):
        return ONES[number]
    return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")


def draw_examples(sizes: dict[str, int], voices: Sequence[str], seed: int) -> dict[str, list[dict[str, Any]]]:
    """
    Draw what is said by which voice, for each split; no sentence and no voice of training is in another split.

    Args:
        sizes (`dict[str, int]`): the number of examples of each split; `"train"` comes last.
        voices (`list[str]`): all there are.
        seed (`int`): the same seed gives the same examples.

    Raises:
        `ValueError`: if a size is below 1, or there are fewer than two voices.
    """
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"the size of {split} must be at least 1, got {size}")
    if len(voices) < 2:
        raise ValueError(f"voices must be at least two, got {list(voices)}")
    generator = random.Random(seed)
    shuffled = generator.sample(list(voices), len(voices))
    unheard = max(1, int(SHARE_OF_UNHEARD_VOICES * len(voices)))
    tested: set[str] = set()
    examples: dict[str, list[dict[str, Any]]] = {}
    for split in sorted(sizes, key="train".__eq__):
        of_split = shuffled[unheard:] if split == "train" else shuffled[:unheard]
        examples[split] = []
        while len(examples[split]) < sizes[split]:
            text = draw_sentence(generator)
            if split != "train":
                tested.add(text)
            elif text in tested:
                continue
            examples[split].append(
                {
                    "audio": f"wav/{split}_{len(examples[split])}.wav",
                    "text": text,
                    "voice": generator.choice(of_split),
                    "rate": generator.randint(*RATES),
                    "pitch": generator.randint(*PITCHES),
                    "pitch_range": generator.randint(*PITCH_RANGES),
                    "signal_to_noise": generator.randint(*SIGNAL_TO_NOISE),
                }
            )
    return examples


def record(speaker: Speaker, example: dict[str, Any], noise: np.random.Generator) -> np.ndarray:
    """An example as it sounds: (samples,), at `SAMPLING_RATE`."""
    spoken = speaker.say(*(example[name] for name in ("text", "voice", "rate", "pitch", "pitch_range")))
    samples = soxr.resample(spoken, speaker.sampling_rate, SAMPLING_RATE)
    loudness = float(np.sqrt(np.mean(samples**2))) * 10 ** (-example["signal_to_noise"] / 20)
    samples = samples + loudness * noise.standard_normal(len(samples), dtype=np.float32)
    return 0.7 * samples / np.abs(samples).max()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="where the files go")
    parser.add_argument("--train_size", type=int, default=3000, help="training examples (%(default)s)")
    parser.add_argument("--validation_size", type=int, default=100, help="validation examples (%(default)s)")
    parser.add_argument("--test_size", type=int, default=300, help="test examples (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same corpus (%(default)s)")
    options = parser.parse_args(argv)
    speaker = Speaker()
    voices = [voice for accent in ACCENTS for variant in VARIANTS if speaker.has(voice := f"{accent}+{variant}")]
    sizes = {"validation": options.validation_size, "test": options.test_size, "train": options.train_size}
    (options.output_dir / "wav").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(options.seed)
    for split, examples in draw_examples(sizes, voices, options.seed).items():
        seconds = 0.0
        with open(options.output_dir / f"{split}.jsonl", "w", encoding="utf-8") as table:
            for example in examples:
                samples = record(speaker, example, noise)
                soundfile.write(options.output_dir / example["audio"], samples, SAMPLING_RATE)
                table.write(json.dumps(example) + "\n")
                seconds += len(samples) / SAMPLING_RATE
        heard = len({example["voice"] for example in examples})
        print(f"{split}: {len(examples):,} commands in {heard} voices, {seconds / 60:.0f} minutes", flush=True)


if __name__ == "__main__":
    main()
