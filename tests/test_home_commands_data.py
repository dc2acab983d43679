"""The corpus of the speech demo: who says what in which split, and that espeak-ng says it."""

import json
import random
import sys
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("espeakng_loader")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "home_commands"))
import make_data

VOICES = [f"voice {number}" for number in range(10)]
SIZES = {"validation": 20, "test": 30, "train": 100}


def test_no_voice_and_no_sentence_of_training_is_tested():
    examples = make_data.draw_examples(SIZES, VOICES, seed=3)
    assert {split: len(of_split) for split, of_split in examples.items()} == SIZES
    for name in ("voice", "text"):
        heard = {example[name] for example in examples["train"]}
        assert not heard & {example[name] for split in ("validation", "test") for example in examples[split]}
    assert len({example["voice"] for example in examples["train"]}) == 8


def test_every_word_of_the_test_is_in_training():
    examples = make_data.draw_examples({"validation": 100, "test": 300, "train": 3000}, VOICES, seed=1)
    words = {split: {word for row in rows for word in row["text"].split()} for split, rows in examples.items()}
    assert words["test"] | words["validation"] <= words["train"]


def test_the_same_seed_draws_the_same():
    assert make_data.draw_examples(SIZES, VOICES, 3) == make_data.draw_examples(SIZES, VOICES, 3)
    assert make_data.draw_examples(SIZES, VOICES, 3) != make_data.draw_examples(SIZES, VOICES, 4)


def test_numbers_are_words():
    assert [make_data.number_words(number) for number in (5, 19, 20, 59)] == [
        "five",
        "nineteen",
        "twenty",
        "fifty nine",
    ]


def test_a_sentence_has_no_slot_left():
    generator = random.Random(1)
    for _ in range(500):
        assert make_data.draw_sentence(generator).replace(" ", "").isalpha()


def test_a_size_must_be_at_least_one():
    with pytest.raises(ValueError, match="the size of test must be at least 1, got 0"):
        make_data.draw_examples({"test": 0}, VOICES, 1)


def test_the_corpus_is_written_as_the_script_reads_it(tmp_path):
    sizes = ["--train_size", "3", "--validation_size", "1", "--test_size", "2"]
    make_data.main(["--output_dir", str(tmp_path), *sizes])
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:
        samples, rate = soundfile.read(tmp_path / row["audio"])
        assert rate == make_data.SAMPLING_RATE
        assert 0.5 < len(samples) / rate < 8
        assert 0.5 < abs(samples).max() < 1


def test_a_voice_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="'nobody'"):
        make_data.Speaker().say("hello", "nobody", 150, 50, 50)
