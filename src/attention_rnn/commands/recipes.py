"""`attention-rnn recipes`: what recipes there are, and what one holds."""

from collections.abc import Sequence

from ..recipes import FOLDER, RECIPES, SHORT_NAMES, TASKS, describe_recipe, full_name
from . import CommandParser, UsageError, did_you_mean


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("recipes", "List the recipes, or show one: attention-rnn recipes g2p > mine.yaml")
    parser.add_argument("name", nargs="?", type=full_name, help="the recipe to show")
    name = parser.parse_args(list(arguments)).name
    if name is not None and full_name(name.lower()) in RECIPES:
        name = full_name(name.lower())
    if name is None:
        width = max(map(len, [*RECIPES, *RECIPES.values()]))
        for is_of_train in (True, False):
            for recipe in (recipe for recipe, task in RECIPES.items() if (task in TASKS) == is_of_train):
                print(f"{recipe:{width}}  {RECIPES[recipe]:{width}}  {describe_recipe(recipe)}")
            if is_of_train:
                short = ", ".join(f"{short} for {name}" for short, name in SHORT_NAMES.items())
                print(
                    "\nattention-rnn train chooses one of these by the data. --recipe NAME takes another, or a file of"
                )
                print(f"your own; there is also {short}.")
                print("attention-rnn forecast and the scripts for speech (docs/speech.md) have theirs:\n")
    elif name in RECIPES:
        print((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), end="")
    else:
        raise UsageError(f"there is no recipe {name!r}{did_you_mean(name, RECIPES)}")
