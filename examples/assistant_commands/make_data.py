"""Make a corpus of commands to an assistant, each with its intent and its slots, without any download.

    pip install 'attention-rnn[demo-dates]'
    python examples/assistant_commands/make_data.py --output_dir runs/assistant_commands
    attention-rnn train runs/assistant_commands/train.jsonl --test runs/assistant_commands/test.jsonl

writes `train.jsonl` and `test.jsonl`, one command a line:

    {"words": ["wake", "me", "at", "six"], "labels": ["O", "O", "O", "B-time"], "intent": "set an alarm"}

Commands are made of patterns, in which `[a|b]` is a choice, also of nothing, and `{slot}` one of its values. Places are
the cities, countries and languages of the Unicode Common Locale Data Repository (CLDR) as Babel ships them; names of
songs and of groups are made of words. A fifth of the values of the slots that are open in life (city, country,
language, person, song, group, item) is in the test alone, which so measures what is found by the words around it.
"""

import argparse
import json
import random
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

try:
    from babel import Locale
except ImportError as error:
    raise ImportError(f"make_data.py needs more packages ({error}): pip install 'attention-rnn[demo-dates]'") from error

# fmt: off
PATTERNS = {
    "play music": [
        "[please|could you|] [play|put on|start] {song} [by {group}|] [in the {room}|]",
        "[i want|i would like|let me] to [hear|listen to] [something|a song|{song}] [by|from] {group} [please|]",
        "play [some|a little|] {genre} [music|] [in the {room}|for {person}|]",
        "[turn|make] the music [up|down|louder|quieter] [in the {room}|] [please|]",
    ],
    "set an alarm": [
        "[please|] wake me [up|] [at|around] {time} [{day}|]",
        "[set|make|give me] an alarm [for|at] {time} [{day}|]",
        "i [need|have] to get up [at|by] {time} [{day}|]",
    ],
    "set a timer": [
        "[set|start] a timer [for|of] {duration} [for the {item}|please|]",
        "[remind|tell|call] me in {duration}",
        "[how much time|how long] is left on the {duration} timer",
    ],
    "ask for the weather": [
        "[what is|what will be|how is] the weather [like|] in {city} [{day}|]",
        "will it [rain|snow|freeze|be sunny|be cold|be windy] in {city} [{day}|at {time}|]",
        "do i need [an umbrella|a coat|a hat] in {city} {day}",
        "[forecast|weather] [for|in] {country} [{day}|]",
    ],
    "call somebody": [
        "[please|could you|] [call|phone|ring] {person} [at {time}|now|]",
        "[get|put] {person} on the phone [please|]",
        "i [want|need] to [speak|talk] to {person} [{day}|now|]",
    ],
    "send a message": [
        "[send|write] [a message|an email|a note] to {person} [please|now|]",
        "tell {person} [that|] i [am late|will be there at {time}|am in {city}|cannot come {day}]",
        "[text|message] {person} [about|for] the {item}",
    ],
    "control a device": [
        "[please|could you|] [turn|switch] [on|off] the {device} [in the {room}|]",
        "[turn|switch] the {device} [in the {room}|] [on|off] [at {time}|in {duration}|please|]",
        "[is|are] the {device} [in the {room}|] still on",
        "[dim|open|close|start|stop] the {device} [in the {room}|]",
    ],
    "write a list": [
        "[add|put] {item} [to|on] [the|my] shopping list [please|]",
        "[we|i] need [to buy|more|] {item} [and {item}|]",
        "[remove|take] {item} [off|from] [the|my] list",
        "what is on [the|my] list for {day}",
    ],
    "find a way": [
        "[how do i get|take me|navigate|drive me] [to|] {city} [from {city}|by {vehicle}|]",
        "how [far|long] is it [to|] {city} by {vehicle}",
        "[when|at what time] does the [next|last|] {vehicle} [to|for] {city} leave [{day}|]",
    ],
    "translate": [
        "[how do you say|what is] {item} in {language}",
        "[please|] translate {item} [from {language}|] [to|into] {language}",
        "[do they|does {person}] speak {language} [in {country}|]",
    ],
}
SLOTS = {
    "room": ["kitchen", "bedroom", "bathroom", "hall", "garden", "office", "garage", "living room", "cellar", "attic"],
    "device": ["light", "lamp", "lights", "heater", "fan", "radio", "television", "oven", "coffee machine", "blinds",
               "front door", "washing machine", "air conditioning"],
    "genre": ["jazz", "rock", "classical", "folk", "hip hop", "blues", "techno", "country", "heavy metal", "reggae"],
    "day": ["today", "tomorrow", "tonight", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
            "sunday", "next week", "next friday", "this weekend", "tomorrow morning", "monday evening"],
    "vehicle": ["car", "train", "bus", "bicycle", "taxi", "plane", "ferry", "tram"],
    "person": [
        "anna", "peter", "maria", "john", "laura", "david", "emma", "tom", "sofia", "lucas", "mia", "noah", "elena",
        "oscar", "nina", "felix", "clara", "hugo", "alice", "max", "julia", "leo", "sara", "paul", "eva", "simon",
        "lena", "jan", "ida", "erik", "marta", "ivan", "olga", "victor", "rosa", "daniel", "ines", "martin", "zoe",
        "adam", "mum", "dad", "grandma", "grandpa", "doctor meyer", "uncle bob", "aunt mary", "my boss",
        "my sister", "my brother", "the dentist",
    ],
    "item": [
        "milk", "bread", "butter", "eggs", "cheese", "apples", "pasta", "rice", "tea", "coffee", "sugar", "salt",
        "soap", "tomatoes", "potatoes", "onions", "bananas", "chocolate", "water", "juice", "flour", "honey",
        "lemons", "paper", "batteries", "candles", "flowers", "yoghurt", "olive oil", "orange juice",
        "toilet paper", "dog food", "washing powder", "brown bread", "pizza", "soup", "cake", "invoice", "meeting",
        "tickets",
    ],
}
COLOURS = ["blue", "golden", "silent", "broken", "electric", "summer", "midnight", "lonely", "crazy", "velvet"]
NOUNS = ["river", "heart", "moon", "train", "dreams", "garden", "rain", "road", "tigers", "stones", "city", "fire"]
ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
# fmt: on
OPEN = ("city", "country", "language", "person", "song", "group", "item")
SHARE_IN_TEST_ALONE = 0.2


def slot_values() -> dict[str, list[str]]:
    """The values of each slot, in lower case."""
    english = Locale.parse("en")
    cities = [name["city"] for name in english.time_zones.values() if "city" in name]
    values = SLOTS | {
        "city": ["london", "paris", "berlin", "madrid", *cities],
        "country": [name for code, name in english.territories.items() if len(code) == 2],
        "language": list(english.languages.values()),
        "song": [" ".join(words) for words in product(["", "my", "the"], COLOURS, NOUNS)],
        "group": [f"the {' '.join(words)}" for words in product(COLOURS, NOUNS)]
        + [f"{n} {c}" for n, c in product(NOUNS, COLOURS)],
        "time": [
            f"{hour}{rest}" for hour in [*ONES, *map(str, range(1, 13))] for rest in ("", " am", " pm", " thirty")
        ],
        "duration": [
            f"{number} {unit}"
            for number in [*ONES, "twenty", "thirty", "45", "90"]
            for unit in ("minutes", "seconds", "hours")
        ],
    }
    return {
        name: sorted({" ".join(value.lower().split()) for value in of_slot if re.fullmatch(r"[\w .'’-]+", value)})
        for name, of_slot in values.items()
    }


def draw_command(generator: random.Random, values: dict[str, list[str]]) -> dict[str, Any]:
    """A command by chance: its words, a label of each in the BIO scheme, and its intent."""
    intent = generator.choice(list(PATTERNS))
    pattern = generator.choice(PATTERNS[intent])
    chosen = re.sub(r"\[([^]]*)\]", lambda match: generator.choice(match[1].split("|")), pattern)
    words, labels = list[str](), list[str]()
    for part in re.findall(r"\{\w+\}|[^\s{}]+", chosen):
        slot = part.strip("{}") if part.startswith("{") else None
        spoken = [part] if slot is None else generator.choice(values[slot]).split()
        words += spoken
        labels += ["O"] if slot is None else [f"B-{slot}", *[f"I-{slot}"] * (len(spoken) - 1)]
    return {"words": words, "labels": labels, "intent": intent}


def make_splits(sizes: dict[str, int], seed: int) -> dict[str, list[dict[str, Any]]]:
    """
    Draw the commands of `"train"` and `"test"`; no command and no value held back is in both.

    Args:
        sizes: the number of commands of each.
        seed: the same seed gives the same commands.

    Raises:
        ValueError: a size is below 1.
    """
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"the size of {split} must be at least 1, got {size}")
    generator = random.Random(seed)
    values = {split: dict(slot_values()) for split in sizes}
    for slot in OPEN:
        shuffled = generator.sample(values["train"][slot], len(values["train"][slot]))
        held_back = int(SHARE_IN_TEST_ALONE * len(shuffled))
        values["test"][slot], values["train"][slot] = shuffled[:held_back], shuffled[held_back:]
    seen = set[tuple[str, ...]]()
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in sizes.items():
        splits[split] = []
        while len(splits[split]) < size:
            command = draw_command(generator, values[split])
            words = tuple(command["words"])
            if words not in seen:
                splits[split].append(command)
                seen.add(words)
    return splits


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="where the files go; made if missing")
    parser.add_argument("--train_size", type=int, default=6000, help="commands for training (%(default)s)")
    parser.add_argument("--test_size", type=int, default=1000, help="commands for the test (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same corpus (%(default)s)")
    options = parser.parse_args(arguments)
    splits = make_splits({"train": options.train_size, "test": options.test_size}, options.seed)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for split, commands in splits.items():
        with open(options.output_dir / f"{split}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(command, ensure_ascii=False) + "\n" for command in commands)
        print(f"{split}: {len(commands):,} commands, such as {' '.join(commands[0]['words'])!r}")


if __name__ == "__main__":
    main()
