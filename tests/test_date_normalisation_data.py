import datetime
import json
from collections import defaultdict

import pytest
from babel.dates import format_date
from example_scripts import load_script

SIZES = {"train": 600, "validation": 100, "test": 100}


@pytest.fixture(scope="module")
def make_data():
    return load_script("date_normalisation/make_data.py")


@pytest.fixture(scope="module")
def splits(make_data):
    return make_data.make_splits(SIZES, seed=1)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("EEEE d MMMM y", True),
        ("MMM d, y", True),
        ("ccc, d LLLL y", True),
        ("y-MM-dd", True),
        ("y年M月d日", True),
        ("dd.MM.y", True),
        ("E, d. M. y", True),
        pytest.param("M/d/y", False, id="month or day first"),
        pytest.param("E, d/M/y", False, id="a weekday does not settle the order"),
        pytest.param("y-dd-MM", False, id="looks like year-month-day"),
        pytest.param("d MMM yy", False, id="century missing"),
        pytest.param("d MMMM G y", False, id="era"),
        pytest.param("MMMM y", False, id="day missing"),
        pytest.param("d MMMM", False, id="year missing"),
        pytest.param("d MMM y HH:mm", False, id="time"),
    ],
)
def test_is_unambiguous(make_data, pattern, expected):
    assert make_data.is_unambiguous(pattern) is expected


def test_every_locale_has_patterns(make_data):
    assert len(make_data.LOCALES) == len(set(make_data.LOCALES)) >= 40
    assert all(make_data.date_patterns(locale) for locale in make_data.LOCALES)


def test_a_string_names_one_date_in_the_whole_inventory(make_data):
    dates = defaultdict(set)
    new_year = datetime.date(2000, 1, 1)
    for locale in make_data.LOCALES:
        for pattern in make_data.date_patterns(locale):
            for day in range(366):
                date = new_year + datetime.timedelta(day)
                dates[format_date(date, format=pattern, locale=locale)].add(date)
    assert {string: meanings for string, meanings in dates.items() if len(meanings) > 1} == {}


def test_sizes(splits):
    assert {split: len(examples) for split, examples in splits.items()} == SIZES


def test_source_is_the_target_in_the_locale_and_pattern(splits):
    for example in splits["test"]:
        date = datetime.date.fromisoformat(example["target"])
        assert 1900 <= date.year <= 2099
        assert example["source"] == format_date(date, format=example["pattern"], locale=example["locale"])


@pytest.mark.parametrize("field", ["source", "target"])
def test_nothing_is_drawn_twice(splits, field):
    values = [example[field] for examples in splits.values() for example in examples]
    assert len(set(values)) == len(values)


def test_seed_determines_the_examples(make_data, splits):
    assert make_data.make_splits(SIZES, seed=1) == splits
    assert make_data.make_splits(SIZES, seed=2) != splits


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"train": 10, "test": 0}, "`test_size` is 0"), ({"train": 70_000, "test": 10_000}, "add up to 80000")],
)
def test_sizes_out_of_range_are_refused(make_data, sizes, message):
    with pytest.raises(ValueError, match=message):
        make_data.make_splits(sizes, seed=1)


def test_script_writes_one_json_object_a_line(make_data, tmp_path):
    make_data.main(
        f"--output_dir {tmp_path / 'data'} --train_size 5 --validation_size 2 --test_size 3 --seed 1".split()
    )
    for split, size in {"train": 5, "validation": 2, "test": 3}.items():
        lines = (tmp_path / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == size
        assert all(json.loads(line).keys() == {"source", "target", "locale", "pattern"} for line in lines)
