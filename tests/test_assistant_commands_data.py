"""The corpus of the tagger in the site: what is labelled, and what only the test holds."""

import pytest
from example_scripts import load_script

pytest.importorskip("babel")
SIZES = {"train": 400, "test": 200}


@pytest.fixture(scope="module")
def make_data():
    return load_script("assistant_commands/make_data.py")


def values_of(commands, slot):
    found, value = set(), []
    for command in commands:
        for word, label in zip([*command["words"], ""], [*command["labels"], "O"], strict=True):
            if value and label != f"I-{slot}":
                found.add(" ".join(value))
                value = []
            if label in (f"B-{slot}", f"I-{slot}"):
                value.append(word)
    return found


def test_values_of_open_slots_are_in_one_split_alone(make_data):
    splits = make_data.make_splits(SIZES, seed=3)
    assert {split: len(commands) for split, commands in splits.items()} == SIZES
    for slot in make_data.OPEN:
        train, test = (values_of(splits[split], slot) for split in ("train", "test"))
        assert len(train) > 1, slot
        assert test - train == test, slot
    assert values_of(splits["train"], "room") & values_of(splits["test"], "room")


def test_the_same_seed_draws_the_same_and_no_command_twice(make_data):
    splits = make_data.make_splits(SIZES, seed=3)
    assert splits == make_data.make_splits(SIZES, seed=3)
    commands = [tuple(command["words"]) for of_split in splits.values() for command in of_split]
    assert len(set(commands)) == len(commands)


def test_labels_follow_the_words_of_a_pattern(make_data, monkeypatch):
    monkeypatch.setattr(make_data, "PATTERNS", {"go": ["[drive|] to {city} by {vehicle}"]})
    values = {"city": ["new york"], "vehicle": ["train"]}
    seen = {tuple(make_data.draw_command(make_data.random.Random(seed), values)["labels"]) for seed in range(20)}
    spoken = ("O", "B-city", "I-city", "O", "B-vehicle")
    assert seen == {spoken, ("O", *spoken)}


def test_a_split_needs_a_command(make_data):
    with pytest.raises(ValueError, match="size of test must be at least 1, got 0"):
        make_data.make_splits({"train": 1, "test": 0}, seed=1)
