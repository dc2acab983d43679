"""`attention-rnn recipes`: what recipes there are, and what one holds."""

from collections.abc import Sequence

from ..recipes import FOLDER, RECIPES, describe_recipe
from . import CommandParser, UsageError, did_you_mean


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("recipes", "List the recipes, or show one: attention-rnn recipes g2p > mine.yaml")
    parser.add_argument("name", nargs="?", help="the recipe to show")
    name = parser.parse_args(list(arguments)).name
    if name is None:
        for recipe, task in RECIPES.items():
            print(f"{recipe:20} {task:18} {describe_recipe(recipe)}")
        print("\nattention-rnn train chooses one by the data; --recipe NAME takes another, or a file of your own.")
    elif name in RECIPES:
        print((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), end="")
    else:
        raise UsageError(f"there is no recipe {name!r}{did_you_mean(name, RECIPES)}")
