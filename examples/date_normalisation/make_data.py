"""Make a corpus of written dates in many languages, each with its ISO 8601 form, without any download.

    python examples/date_normalisation/make_data.py --output_dir runs/date_normalisation/data

writes `train.jsonl`, `validation.jsonl` and `test.jsonl`, one example a line:

    {"source": "mardi 3 mars 1998", "target": "1998-03-03", "locale": "fr", "pattern": "EEEE d MMMM y"}

The patterns are those of the Unicode Common Locale Data Repository (CLDR) as Babel ships them. A pattern is used if a
reader can tell the date from the string alone: it has a day, a month, a year in full, at most a weekday besides, and a
month in letters. A month in digits is used where the order is never in doubt, which is year-month-day ("1998/3/4",
"1998年3月4日") and, with dots, day.month.year ("4.3.1998"). Everything else in digits is left out, since "3/4/1998" is
March in one country and April in the next, as are years of two digits and years with an era.

Each day of 1900-2099 is drawn at most once, in one locale and one pattern. No date, and so no pair of a date and a
pattern and no string, is shared between or within the splits: what the test measures cannot have been memorised.
"""

import argparse
import datetime
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

try:
    from babel import Locale
    from babel.dates import format_date, tokenize_pattern
except ImportError as error:
    raise ImportError(f"make_data.py needs more packages ({error}): pip install 'attention-rnn[demo-dates]'") from error

# fmt: off
LOCALES = [
    "af", "ar", "bg", "bn", "ca", "cs", "da", "de", "de_AT", "el", "en", "en_GB", "es", "et",
    "eu", "fa", "fi", "fr", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka",
    "ko", "lt", "lv", "nb", "nl", "pl", "pt", "pt_PT", "ro", "ru", "sk", "sl", "sq", "sr",
    "sr_Latn", "sv", "sw", "ta", "te", "th", "tr", "uk", "ur", "vi", "zh", "zh_Hant", "zu",
]
# fmt: on
FIRST_DAY = datetime.date(1900, 1, 1)
LAST_DAY = datetime.date(2099, 12, 31)


def is_unambiguous(pattern: str) -> bool:
    """Whether a pattern in CLDR's notation ("EEEE d MMMM y") writes a whole date that reads in one way only."""
    # "L" and "c" are "M" and "E" in the grammatical form that stands alone.
    fields = [
        ({"L": "M", "c": "E"}.get(letter, letter), width)
        for letter, width in (value for kind, value in tokenize_pattern(pattern) if kind == "field")
    ]
    order = "".join(letter for letter, _ in fields if letter != "E")
    if sorted(order) != ["M", "d", "y"] or ("y", 2) in fields:
        return False
    month_in_letters = dict(fields)["M"] >= 3
    return month_in_letters or order == "yMd" or bool(re.search(r"d\. ?M+\. ?y", pattern))


def date_patterns(locale: str) -> list[str]:
    """The unambiguous date patterns of a locale, each once, in CLDR's order."""
    data = Locale.parse(locale)
    patterns = [str(pattern) for pattern in (*data.date_formats.values(), *data.datetime_skeletons.values())]
    return [pattern for pattern in dict.fromkeys(patterns) if is_unambiguous(pattern)]


def make_splits(sizes: dict[str, int], seed: int) -> dict[str, list[dict[str, str]]]:
    """Draw the examples of every split.

    Args:
        sizes (`dict[str, int]`): The number of examples of each split, by the name of the split.
        seed (`int`): The same seed gives the same examples.

    Returns:
        `dict[str, list[dict[str, str]]]`: For each split its examples, with `source`, `target`, `locale`, `pattern`.

    Raises:
        `ValueError`: If a size is below 1, or there are fewer days in 1900-2099 than examples asked for.
    """
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{split}_size` is {size}, but a split needs at least 1 example.")
    days = range(FIRST_DAY.toordinal(), LAST_DAY.toordinal() + 1)
    if sum(sizes.values()) > len(days):
        raise ValueError(
            f"The sizes add up to {sum(sizes.values())}, but each of the {len(days)} days from {FIRST_DAY} to "
            f"{LAST_DAY} is drawn at most once."
        )

    generator = random.Random(seed)
    patterns = {locale: date_patterns(locale) for locale in LOCALES}
    dates = map(datetime.date.fromordinal, generator.sample(days, sum(sizes.values())))

    def draw_example() -> dict[str, str]:
        date = next(dates)
        locale = generator.choice(LOCALES)
        pattern = generator.choice(patterns[locale])
        source = format_date(date, format=pattern, locale=locale)
        return {"source": source, "target": date.isoformat(), "locale": locale, "pattern": pattern}

    return {split: [draw_example() for _ in range(size)] for split, size in sizes.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="where the three files go; made if missing")
    parser.add_argument("--train_size", type=int, default=20_000, help="number of training examples (%(default)s)")
    parser.add_argument("--validation_size", type=int, default=1_000, help="validation examples (%(default)s)")
    parser.add_argument("--test_size", type=int, default=1_000, help="test examples (%(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="seed of the draw (%(default)s)")
    options = parser.parse_args(arguments)

    sizes = {"train": options.train_size, "validation": options.validation_size, "test": options.test_size}
    splits = make_splits(sizes, options.seed)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for split, examples in splits.items():
        path = options.output_dir / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
        print(f"{path}: {len(examples)} dates, such as {examples[0]['source']!r} -> {examples[0]['target']}")


if __name__ == "__main__":
    main()
