"""`attention-rnn card`: the model card of a folder, with what only its author knows."""

import re
from collections.abc import Sequence
from pathlib import Path

from . import CommandParser, UsageError, near_to

_DESCRIPTION = """Show the model card of a folder, or say in it what only you know.

  attention-rnn card runs/words
  attention-rnn card runs/words --license cc-by-4.0 --language de"""

# what the Hub calls the licences, which checks a card when it is sent; it may have learned of others since
_LICENSES = """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc intel-research h-research lppl-1.3c ms-pl mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0
postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2
llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma apple-amlr apple-ascl unknown other"""
_LANGUAGE = re.compile(r"([a-z]{2,3})(-[A-Za-z0-9]{2,8})*|multilingual|code")


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("card", _DESCRIPTION)
    parser.add_argument("model", type=Path, metavar="FOLDER", help="a folder that a training left")
    parser.add_argument("--language", nargs="+", help="languages of the data, ISO 639 codes")
    parser.add_argument("--license", help="licence of the model, as the Hub calls it")
    parser.add_argument(
        "--tags", nargs="+", metavar="TAG", help="what the Hub is to find it by, beside what stands there"
    )
    options = parser.parse_args(list(arguments))
    check_languages(options.language or ())
    file = options.model / "README.md"
    if not file.exists():
        raise FileNotFoundError(f"there is no card in {options.model}: a training writes README.md when it ends")
    if not (options.language or options.license or options.tags):
        print(file.read_text(encoding="utf-8"), end="")
        return
    from huggingface_hub import ModelCard

    card = ModelCard.load(file)
    if options.language:
        card.data.language = options.language
    if options.license:
        card.data.license = options.license
        if options.license not in _LICENSES.split():
            near = near_to(options.license, _LICENSES.split())
            print(f"the Hub may not know the licence {options.license!r}{near}")
    if options.tags:
        card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *options.tags]))
    card.save(file)
    print(f"{file} is changed")


def check_languages(languages: Sequence[str]) -> None:
    """Refuse what the Hub would refuse once the card is sent."""
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            raise UsageError(f"--language must be ISO 639 codes of two or three letters, such as de, got {language!r}")
