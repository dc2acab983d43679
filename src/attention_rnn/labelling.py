"""
Labels of words: how they mark chunks, what becomes of them where words are cut into pieces, and how they are scored.

The schemes are BIO (also its variant that marks a beginning only where two chunks touch), BIOES, BILOU and BMES.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .classes import check_recurrence, list_labels, merge_labels
from .models.crf import allowed_transitions, continues_chunk, is_chunk_scheme, split_label

logger = logging.getLogger(__name__)

EXPLANATIONS = {
    "f1": "F1 of chunks, the harmonic mean of precision and recall, in percent, as conlleval counts them",
    "precision": "Percentage of the predicted chunks that are right, in their bounds and their type",
    "recall": "Percentage of the right chunks that were found",
    "accuracy": "Percentage of words with the right label",
    "intent_accuracy": "Percentage of texts with the right intent",
    "sentence_accuracy": "Percentage of texts with the right intent and the right label of every word",
}


def marks_ends(labels: Collection[str]) -> bool:
    """Whether labels mark chunks and their ends, as BIOES, BILOU and BMES do."""
    return is_chunk_scheme(labels) and any(split_label(label)[0] in ("E", "S") for label in labels)


def piece_labels(labels: Collection[str]) -> dict[str, tuple[str, str, str]]:
    """
    What becomes of each label where its word is cut into pieces: the labels of the first, of each inner and of the last
    piece. They are valid by the scheme of the labels: `S-LOC` of BIOES becomes `B-LOC`, `I-LOC`, `E-LOC`; `B-LOC`
    becomes `B-LOC`, `I-LOC`, `I-LOC`. Labels that mark no chunks stay what they are.
    """
    if not is_chunk_scheme(labels):
        return {label: (label, label, label) for label in labels}
    inside = "M" if any(label.partition("-")[0] == "M" for label in labels) else "I"
    pieces = {}
    for label in labels:
        prefix, rest = label[0], label[1:]
        role, _ = split_label(label)
        first = {"S": "B", "E": inside}.get(role, prefix)
        last = {"S": "L" if prefix == "U" else "E", "B": inside}.get(role, prefix)
        pieces[label] = (first + rest, label if role == "O" else inside + rest, last + rest)
    return pieces


def complete_labels(labels: Iterable[str]) -> list[str]:
    """The labels, and behind them those that pieces of words need besides: no `S-LOC` without a `B-LOC`."""
    labels = list(labels)
    return list(dict.fromkeys([*labels, *(label for of_word in piece_labels(labels).values() for label in of_word)]))


def word_label(pieces: Sequence[str]) -> str:
    """
    The label of a word by those of its pieces, the reverse of `piece_labels`. Where they contradict each other, the
    chunk of the first piece counts.
    """
    last = pieces[0]
    for label in pieces[1:]:
        if not continues_chunk(last, label):
            break
        last = label
    if split_label(last)[0] != "E":
        return pieces[0]
    return ("U" if last[0] == "L" else "S") + last[1:] if split_label(pieces[0])[0] == "B" else last


def cuts_words(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> bool:
    """Whether a tokenizer makes several tokens of any of these words."""
    ids = tokenizer(sorted(set(words)), is_split_into_words=True, verbose=False).word_ids()
    words_of_tokens = [word for word in ids if word is not None]
    return len(set(words_of_tokens)) < len(words_of_tokens)


def settle_labels(
    known: Sequence[str],
    texts: Mapping[str, Any],
    extra_labels: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    has_field: bool,
) -> list[str]:
    """
    The labels to train on, in the order of their ids: of the checkpoint, of the data, of pieces of words.

    Args:
        known: those of the checkpoint, none of a new model.
        texts: by split, with the columns `tokens` and `labels`.
        extra_labels: what the training data lack.
        tokenizer, has_field: of the model; a conditional random field labels each piece of a word.

    Raises:
        ValueError: no two words have the same label.
    """
    check_recurrence(chain.from_iterable(texts["train"]["labels"]))
    labels = merge_labels(known, sorted({*chain.from_iterable(texts["train"]["labels"]), *extra_labels}))
    words = chain.from_iterable(chain.from_iterable(of_split["tokens"] for of_split in texts.values()))
    if not has_field or not cuts_words(tokenizer, words):
        return labels
    completed = complete_labels(labels)
    if added := completed[len(labels) :]:
        logger.info(f"labels: pieces of words need {len(added)} more, {', '.join(added)}")
    return completed


def label_tokens(
    word_ids: Sequence[int | None], labels: Sequence[str], pieces: dict[str, tuple[str, str, str]] | None
) -> tuple[list[str | None], list[list[int]]]:
    """
    Labels of the tokens of a text.

    Args:
        word_ids: of each token, the word that it is of, as `BatchEncoding.word_ids` tells it.
        labels: of each word.
        pieces: what `piece_labels` returns; `None` to label the first piece of a word alone.

    Returns:
        The label of each token, `None` for one without a label; and of each word the tokens that are labelled, from
        which `word_label` tells its label, none if the word was cut off.
    """
    tokens: list[list[int]] = [[] for _ in labels]
    for position, word in enumerate(word_ids):
        if word is not None and (pieces is not None or not tokens[word]):
            tokens[word].append(position)
    of_tokens: list[str | None] = [None] * len(word_ids)
    for label, positions in zip(labels, tokens, strict=True):
        names = [label]
        if pieces is not None and len(positions) > 1:
            first, inner, last = pieces[label]
            names = [first, *[inner] * (len(positions) - 2), last]
        for position, name in zip(positions, names, strict=False):
            of_tokens[position] = name
    return of_tokens, tokens


def texts_against_scheme(texts: Iterable[Sequence[str]], labels: Sequence[str]) -> list[int]:
    """Which texts have labels in an order that their scheme forbids, see `models.crf.allowed_transitions`."""
    allowed = allowed_transitions(tuple(labels)).tolist()
    ids = {label: index for index, label in enumerate(labels)}
    paths = ([-1, *(ids[label] for label in text), -1] for text in texts)
    return [
        index
        for index, path in enumerate(paths)
        if not all(allowed[before + 1][after] for before, after in pairwise(path))
    ]


def score_chunks(references: list[list[str]], predictions: list[list[str]]) -> dict[str, float]:
    """
    `f1`, `precision` and `recall` of chunks, from 0 to 1, as conlleval counts them: a chunk that its labels do not
    begin or end as the scheme says begins and ends where its type does.

    Args:
        references, predictions: the labels of each text, in any scheme of this module.
    """
    from seqeval.metrics import f1_score, precision_score, recall_score

    # seqeval knows the letters of BIOES alone
    normalized = [[[_in_bioes(label) for label in text] for text in texts] for texts in (references, predictions)]
    metrics = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
    return {name: float(metric(*normalized, zero_division=0)) for name, metric in metrics.items()}


def _in_bioes(label: str) -> str:
    role, _ = split_label(label)
    return role + label[1:]


def get_words(row: dict[str, Any], column: str, place: str) -> list[str]:
    """
    The words, or their labels, in a column of a row.

    Args:
        row, place: as `data.read_rows` yields them.
        column: the name of the column.

    Raises:
        ValueError: if the row has no such column, or no list of words there.
    """
    if column not in row:
        raise ValueError(f"{place}: there must be a column {column!r}, got the columns {list(row)}")
    words = row[column]
    if not (isinstance(words, list) and all(isinstance(word, str) and word.strip() for word in words)):
        raise ValueError(f"{place}: column {column!r} must hold a list of words, got {words!r}")
    return words


def get_labelled_words(row: dict[str, Any], token_column: str, label_column: str, place: str) -> dict[str, Any]:
    """
    The words of a row as `tokens`, their `labels`, and their `place`; see `get_words`.

    Raises:
        ValueError: if there is not one label for each word.
    """
    tokens, labels = (get_words(row, column, place) for column in (token_column, label_column))
    if len(tokens) != len(labels):
        raise ValueError(f"{place}: there must be one label for each word, got {len(labels)} for {len(tokens)}")
    return {"place": place, "tokens": tokens, "labels": labels}


def absent(labels: list[str]) -> str:
    """The label of a word that the model did not see."""
    return "O" if "O" in labels else labels[0]


def best_classes(logits: Any, labels: Any) -> Any:
    """What to keep of the logits of a batch."""
    return tuple(of_kind.argmax(dim=-1) for of_kind in logits[:2]) if isinstance(logits, tuple) else logits.argmax(-1)


def decode_labels(
    predictions: Any, texts: Any, encoded: Any, labels: list[str], intents: list[str]
) -> list[dict[str, Any]]:
    """The labels of the words of each text, and its intent if the model tells it."""
    of_tokens, of_texts = predictions if isinstance(predictions, tuple) else (predictions, None)
    rows = []
    for index, tokens_of_words in enumerate(encoded["tokens_of_words"]):  # several processes repeat examples at the end
        of_words = [[labels[of_tokens[index][token]] for token in tokens] for tokens in tokens_of_words]
        row = {"labels": [word_label(pieces) if pieces else absent(labels) for pieces in of_words]}
        if intents:
            row["intent"] = intents[of_texts[index]]
        rows.append(row)
    return rows


def predict_labels(
    model: Any, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """The labels of the words of each text, and its intent if the model tells it, as `decode_labels` gives them."""
    labels, intents = list_labels(model.config), list_labels(model.config, of_texts=True)
    pieces = piece_labels(labels) if getattr(model.config, "crf", False) else None
    inputs = tokenizer(
        [list(words) for words in texts], is_split_into_words=True, truncation=True, padding=True, return_tensors="pt"
    )
    # any label will do, to tell the tokens that bear one
    tokens = [
        label_tokens(inputs.word_ids(index), labels[:1] * len(words), pieces)[1] for index, words in enumerate(texts)
    ]
    model.eval()
    with torch.no_grad():
        outputs = model(**inputs.to(model.device))
    told = (outputs.logits, outputs.intent_logits) if intents else outputs.logits
    return decode_labels(best_classes(told, None), texts, {"tokens_of_words": tokens}, labels, intents)


def score_labels(texts: Any, predictions: list[dict[str, Any]], is_chunks: bool) -> dict[str, float]:
    """
    Percentages: `f1`, `precision` and `recall` of chunks, as conlleval counts them; `accuracy` of words; with intents,
    `intent_accuracy`, and `sentence_accuracy` of texts with everything right.
    """
    references, predicted = list(texts["labels"]), [row["labels"] for row in predictions]
    scores = score_chunks(references, predicted) if is_chunks else {}
    pairs = list(zip(chain.from_iterable(references), chain.from_iterable(predicted), strict=True))
    scores["accuracy"] = sum(reference == prediction for reference, prediction in pairs) / len(pairs)
    if "intent" in predictions[0]:
        is_right = [
            (row["labels"] == labels, row["intent"] == intent)
            for row, labels, intent in zip(predictions, references, texts["intent"], strict=True)
        ]
        scores["intent_accuracy"] = float(np.mean([intent for _, intent in is_right]))
        scores["sentence_accuracy"] = float(np.mean([all(both) for both in is_right]))
    return {name: 100 * value for name, value in scores.items()}


def write_labels(output_dir: Path, texts: Any, predictions: list[dict[str, Any]]) -> None:
    """Word, reference and prediction in each line, as conlleval reads them; intents in a file of their own."""
    with open(output_dir / "predictions.conll", "w", encoding="utf-8") as file:
        for text, row in zip(texts, predictions, strict=True):
            columns = zip(text["tokens"], text["labels"], row["labels"], strict=True)
            file.write("".join(f"{' '.join(column)}\n" for column in columns) + "\n")
    if "intent" in predictions[0]:
        with open(output_dir / "intent_predictions.tsv", "w", encoding="utf-8") as file:
            for reference, row in zip(texts["intent"], predictions, strict=True):
                file.write(f"{reference}\t{row['intent']}\n")
