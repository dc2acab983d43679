"""
Recipes: arguments of the training scripts that reached good scores, one file a kind of data.

A recipe says what does not depend on the size of the data. Tokenizers, batches and epochs that it leaves out are chosen
by the scripts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent

# what each task is, and the script of examples/ that trains it
TASKS = {
    "pairs": "run_seq2seq",
    "classification": "run_classification",
    "labelling": "run_labelling",
    "question-answering": "run_qa",
    "language-model": "run_clm",
}
# the task of each recipe, a file of this folder
RECIPES = {
    "g2p": "pairs",
    "g2p-small": "pairs",
    "transliteration": "pairs",
    "transliteration-small": "pairs",
    "normalisation": "pairs",
    "inflection": "pairs",
    "translation": "pairs",
    "summarisation": "pairs",
    "sentiment": "classification",
    "names": "classification",
    "chunking": "labelling",
    "pos-tagging": "labelling",
    "slot-filling": "labelling",
    "question-answering": "question-answering",
    "language-model": "language-model",
    "forecasting": "forecasting",
    "keyword-spotting": "audio-classification",
    "speech-recognition": "speech-recognition",
}
SHORT_NAMES = {"qa": "question-answering", "lm": "language-model", "tagging": "pos-tagging"}


FEW_PAIRS = 2_000  # below it chunks are written
LONGEST_SYMBOL = 3  # characters on average: letters, phones with their diacritics, tags


@dataclass(frozen=True)
class PairLooks:
    """
    What pairs of texts look like.

    Args:
        source_kind, target_kind (`str`): the tokenizers that suit their sides, see `choose_tokenizer`.
        source_length, target_length (`float`): characters on average.
        kept (`float`): the part of the characters of a target that stand in its source too, on average.
        target_unit_length (`float`): characters of what stands between the spaces of targets, on average.
        is_aligned (`bool`): of few pairs, whether the targets are in the order of their sources, see `can_be_aligned`.
    """

    source_kind: str
    target_kind: str
    source_length: float
    target_length: float
    kept: float
    target_unit_length: float
    is_aligned: bool


def full_name(name: str) -> str:
    """The name of a recipe that may be given by a short one."""
    return SHORT_NAMES.get(name, name)


def load_recipe(name: str) -> dict[str, Any]:
    """The arguments of a recipe of this folder, or of a file of one's own."""
    file = FOLDER / f"{name}.yaml" if name in RECIPES else Path(name)
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def describe_recipe(name: str) -> str:
    """What a recipe is for, as the first sentence of its file says."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return text.removeprefix("# ").split(". ", 1)[0].replace("\n# ", " ")


def as_arguments(settings: Mapping[str, Any]) -> list[str]:
    """Arguments as the words of a command line; without those that are `None`."""
    words = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in values)]
    return words


def choose_pair_recipe(looks: PairLooks) -> tuple[str, str]:
    """The recipe for such pairs, and why."""
    kinds = (looks.source_kind, looks.target_kind)
    has_words = kinds != ("bpe", "word") or looks.target_unit_length > LONGEST_SYMBOL
    if "bpe" in kinds and has_words:
        if looks.source_length > 250 and looks.target_length < looks.source_length / 3:
            return "summarisation", "long texts and short ones"
        return "translation", "texts of many words"
    if kinds == ("word", "word") and looks.kept > 0.6:
        return "inflection", "symbols between spaces, most of which stay"
    is_copied = looks.kept > 0.75
    # of few words, of which new ones can be written letter by letter
    if looks.target_kind == "word" and not (is_copied and looks.target_unit_length > LONGEST_SYMBOL):
        if looks.is_aligned:
            return "g2p-small", "few short texts, and symbols between spaces in the same order"
        return "g2p", "short texts, and symbols between spaces"
    if looks.is_aligned:
        return "transliteration-small", "few short texts, and others in the same order"
    if is_copied:
        return "normalisation", "short texts, and most characters stay"
    return "transliteration", "short texts in different letters"
