"""Files of labelled words, one a line in columns: CoNLL and CoNLL-U."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from .data import read_lines

_WORDS = ("token", "tokens", "word", "words", "form")
_LABELS = ("label", "labels", "tag", "tags", "pos", "upos", "xpos", "ner", "ner_tag", "ner_tags", "chunk", "chunk_tag")
_CONLLU = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_CONLLU_ID = re.compile(r"\d+([-.]\d+)?")
_END_OF_SENTENCE = re.compile(r"\w[.!?,;:][\"'”’»)]*$")


class Columns:
    """
    How the lines of a CoNLL file are cut into columns.

    Args:
        lines (`Iterable[str]`): without their line feeds.

    Attributes:
        names (`list[str]`): those of the first line, of CoNLL-U, or else `column 1` and so on.
        has_header (`bool`): whether the first line names the columns, in usual names such as `token` and `label`.
        token, label (`int`): what is read if nothing else is asked for, from 0, or from -1 for the last one.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        filled = [line for line in lines if line.strip(" \t") and not line.startswith("-DOCSTART-")]
        filled = [line for line in filled if not line.startswith("#")] or filled
        self.has_tabs = 2 * sum("\t" in line for line in filled) > len(filled)
        rows = [self.split(line) for line in filled]
        self.width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
        self.is_conllu = self.has_tabs and self.width == 10 and all(_CONLLU_ID.fullmatch(row[0]) for row in rows)
        self.token, self.label = (1, 3) if self.is_conllu else (0, -1)
        # no word called word with a label called label
        self.has_header = bool(rows) and self._is_header(rows[0], rows[1:])
        self.names = [f"column {number}" for number in range(1, self.width + 1)]
        if self.has_header or self.is_conllu:
            self.names = rows[0] if self.has_header else list(_CONLLU)

    def split(self, line: str) -> list[str]:
        if self.has_tabs:
            return [part.strip(" ") for part in line.split("\t")]
        return re.split(r"[ \t]+", line.strip(" \t"))

    @staticmethod
    def _is_header(first: list[str], others: list[list[str]]) -> bool:
        is_named = len(first) > 1 and first[0].lower() in _WORDS and first[-1].lower() in _LABELS
        return is_named and all(row[-1] != first[-1] for row in others)

    def is_left_out(self, line: str) -> bool:
        is_comment = line.startswith("#") and (self.is_conllu or (self.has_tabs and "\t" not in line))
        return is_comment or line.startswith("-DOCSTART-")


def is_conll(lines: Iterable[str]) -> bool:
    """Whether lines hold a word and its label each, with empty lines between texts, as `read_conll` reads them."""
    lines = [line.strip("\r\n") for line in lines]
    columns = Columns(lines)
    words = [columns.split(line) for line in lines if line.strip(" \t") and not columns.is_left_out(line)]
    empty = sum(not line.strip(" \t") for line in lines)
    regular = [word for word in words if len(word) == columns.width]
    # a few lines may have a fault, which `read_conll` names
    if columns.width < 2 or empty < len(lines) / 200 or len(regular) < 0.98 * len(words):
        return False
    labels = {word[columns.label] for word in regular}
    is_prose = sum(map(bool, map(_END_OF_SENTENCE.search, labels))) > len(labels) / 10
    # of running text the first words of lines are no more varied than the last ones
    are_words = len({word[0] for word in regular}) >= len(labels)
    return len(labels) <= max(10, len(words) / 3) and are_words and not is_prose


def is_spaced_table(lines: Iterable[str]) -> bool:
    """
    Whether lines with tabs that look like CoNLL are a table with a few empty lines: there are texts in place of words,
    or hardly a word stands twice, as words do in texts, or a single empty line is between many rows.
    """
    lines = [line.strip("\r\n") for line in lines]
    columns = Columns(lines)
    rows = [columns.split(line) for line in lines if line.strip(" \t") and not columns.is_left_out(line)]
    words = [row[columns.token] for row in rows if len(row) == columns.width]
    between = sum(not line.strip(" \t") for line in "\n".join(lines).strip("\n\t ").split("\n"))
    are_texts = sum(" " in word for word in words) > len(words) / 4
    are_different = len(words) >= 30 and len(set(words)) > 0.95 * len(words)
    return columns.has_tabs and (are_texts or are_different or (between <= 1 and len(words) >= 50))


def read_conll(
    file: str,
    token_column: int | str | None = None,
    label_column: int | str | None = None,
    lines: Iterable[str] | None = None,
    header: bool | None = None,
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """
    Read the texts of a file with one word a line in columns, and an empty line between texts.

    Columns are separated by a tab where most lines hold one, which leaves spaces in a word, otherwise by spaces or
    tabs; other white space of Unicode is part of a word. Lines that start with `-DOCSTART-` are left out, and in a file
    with tabs those that start with `#` and hold none. In CoNLL-U, known by ten columns with tabs and numbered words,
    all that start with `#` are left out, and so are ranges of words (`1-2`) and empty nodes (`1.1`).

    Args:
        file (`str`):
            As `data.read_lines` reads it.
        token_column (`int` or `str`, *optional*):
            The number of the column of the words, from 0, or from -1 for the last one. The first one by default, in
            CoNLL-U FORM (1).
        label_column (`int` or `str`, *optional*):
            That of their labels. The last one by default, in CoNLL-U UPOS (3).
        lines (`Iterable[str]`, *optional*):
            Those of `file`, where they are read already.
        header (`bool`, *optional*):
            Whether the first line names the columns. If omitted, it does by usual names, such as `token` and `label`.

    Yields:
        `tuple[str, dict[str, list[str]]]`: the place of the text (file and line, for messages), its `tokens` and their
        `labels`.

    Raises:
        ValueError: for a column that is no number; a line that lacks one of the columns, or has not as many as most
            lines where columns are counted from the last one; an empty word or label; a file that is not UTF-8.
    """
    lines = [line.strip("\r\n").removeprefix("\ufeff") for line in (read_lines(file) if lines is None else lines)]
    of_file = Columns(lines)
    width, is_conllu = of_file.width, of_file.is_conllu
    token_column = _column_number("token_column", token_column, of_file.token)
    label_column = _column_number("label_column", label_column, of_file.label)
    needed = max(max(column + 1, -column) for column in (token_column, label_column))
    is_exact = is_conllu or min(token_column, label_column) < 0

    has_header = of_file.has_header if header is None else header
    tokens: list[str] = []
    labels: list[str] = []
    start = 0
    for number, line in enumerate([*lines, ""], start=1):
        if not line.strip(" \t"):
            if tokens:
                yield f"{file}, line {start}", {"tokens": tokens, "labels": labels}
            tokens, labels = [], []
            continue
        if of_file.is_left_out(line):
            continue
        if has_header:
            has_header = False
            continue
        columns = of_file.split(line)
        place = f"{file}, line {number}"
        if is_exact and len(columns) != width:
            raise ValueError(f"{place}: there must be {width} columns as in most lines, got {columns}")
        if len(columns) < needed:
            raise ValueError(f"{place}: there must be the columns {token_column} and {label_column}, got {columns}")
        if is_conllu and not columns[0].isdecimal():
            continue
        token, label = columns[token_column], columns[label_column]
        if token_column % len(columns) == label_column % len(columns) or not token or not label:
            raise ValueError(
                f"{place}: there must be a word in column {token_column} and its label in column {label_column}, got "
                f"{columns}"
            )
        start = start if tokens else number
        tokens.append(token)
        labels.append(label)


def _column_number(name: str, column: int | str | None, default: int) -> int:
    try:
        return default if column is None else int(column)
    except ValueError:
        raise ValueError(f"{name} must be a number for a CoNLL file, got {column!r}") from None
