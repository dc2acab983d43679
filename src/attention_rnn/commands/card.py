"""`attention-rnn card`: the model card of a folder, with what only its author knows."""

from collections.abc import Sequence
from pathlib import Path

from . import CommandParser

_DESCRIPTION = """Show the model card of a folder, or say in it what only you know.

  attention-rnn card runs/words
  attention-rnn card runs/words --license cc-by-4.0 --language de"""


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("card", _DESCRIPTION)
    parser.add_argument("model", type=Path, metavar="FOLDER", help="a folder that a training left")
    parser.add_argument("--language", nargs="+", help="languages of the data, ISO 639 codes")
    parser.add_argument("--license", help="licence of the model, as the Hub calls it")
    parser.add_argument(
        "--tags", nargs="+", metavar="TAG", help="what the Hub is to find it by, beside what stands there"
    )
    options = parser.parse_args(list(arguments))
    file = options.model / "README.md"
    if not file.exists():
        raise FileNotFoundError(f"there is no card in {options.model}: a training writes README.md when it ends")
    from huggingface_hub import ModelCard

    card = ModelCard.load(file)
    if options.language:
        card.data.language = options.language
    if options.license:
        card.data.license = options.license
    if options.tags:
        card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *options.tags]))
    if options.language or options.license or options.tags:
        card.save(file)
        print(f"{file} is changed")
    else:
        print(file.read_text(encoding="utf-8"), end="")
