"""
How models of inflection read and write: letter by letter, behind them the features. An exported folder has this file
within its own runner.
"""

import re

# the features of a form, as UniMorph writes them: V;IND;PRS;3;SG
FEATURES = re.compile(r"[A-Z0-9][\w./+{}-]*(;[\w./+{}()-]+)*")


def spell_text(text: str) -> str:
    """The characters of a text between spaces, as the recipe for inflection reads them."""
    return " ".join("␣" if character == " " else character for character in text)


def spell_lemma(lemma: str, features: str) -> str:
    """A lemma with its features: "gehen", "V;PST" as "g e h e n [V] [PST]"."""
    return " ".join([spell_text(lemma), *(f"[{feature}]" for feature in features.split(";"))])


def read_lemma(text: str) -> str:
    """
    What is read of a lemma with its features behind a tab or a space.

    Raises:
        ValueError: there are none.
    """
    lemma, separator, features = text.strip().rpartition("\t" if "\t" in text else " ")
    if not separator or not FEATURES.fullmatch(features.strip()):
        raise ValueError(f"this model needs a lemma and its features, such as {'gehen V;PST'!r}, got {text!r:.100}")
    return spell_lemma(lemma.strip(), features.strip())


def unspell_lemma(text: str) -> str:
    """A lemma and its features as they are typed: "g e h e n [V] [PST]" as "gehen V;PST"."""
    parts = text.split()
    features = [part[1:-1] for part in parts if len(part) > 2]
    return f"{unspell(' '.join(part for part in parts if len(part) <= 2))} {';'.join(features)}"


def unspell(text: str) -> str:
    """The text that was spelt."""
    return text.replace(" ", "").replace("␣", " ")
