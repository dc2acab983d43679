"""
Extractive question answering outside of the model: SQuAD's files, windows over long contexts, and answers from logits.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from .data import brief
from .models.tokenization_attention_rnn import whole_offsets

_UNLIMITED = 10**9  # transformers writes 10**30 for a tokenizer without a limit


class Window(NamedTuple):
    """
    What a model says of one window of a context.

    Attributes:
        start_logits, end_logits (`torch.Tensor` of shape (source,)): as the model returns them, without padding. The
            first token stands for "no answer here".
        offsets (`list[tuple[int, int] | None]`): for each token of the context where it stands there, in characters;
            `None` for the other tokens.
    """

    start_logits: Tensor
    end_logits: Tensor
    offsets: Sequence[tuple[int, int] | None]


def read_examples(rows: Iterable[tuple[str, dict[str, Any]]], may_be_empty: bool = False) -> Iterator[dict[str, Any]]:
    """
    Questions with their contexts and answers, from rows as SQuAD has them (Rajpurkar et al., 2016,
    https://arxiv.org/abs/1606.05250).

    Args:
        rows (`Iterable[tuple[str, dict]]`):
            Places and rows, as [`~data.read_rows`] yields them. A row may be a whole data set (`data`), an article
            (`paragraphs`), a paragraph (`context` and `qas`) or one question (`question`, `context`, `answers`, where
            `answers` is a list of `{"text", "answer_start"}` or a dict of two lists; or `answer`, a text, which is
            looked for in the context).
        may_be_empty (`bool`, *optional*, defaults to `False`):
            Whether a question or a context may be empty or white space alone.

    Yields:
        `dict`: `id`, `question`, `context`, `answers` (`{"text": list[str], "answer_start": list[int]}`, empty lists
        where there is no answer), and `place` for messages. A question without an id is numbered.

    Raises:
        ValueError: a question or a context is missing or empty, an answer is empty or does not stand at its
            `answer_start`, two questions have one id, or what should be a list or an object is none.
    """
    seen: set[str] = set()
    for place, question, context in _questions(rows):
        identifier = str(question.get("id", len(seen)))
        place = f"{place}, question {identifier}"
        if identifier in seen:
            raise ValueError(f"{place}: every question must have an id of its own, got this one twice")
        seen.add(identifier)
        for name, text in (("question", question.get("question")), ("context", context)):
            if not isinstance(text, str) or not (text.strip() or may_be_empty):
                raise ValueError(f"{place}: `{name}` must be a text that is not empty, got {brief(text)}")
        answers = _answers(place, question.get("answers", question.get("answer", [])), context)
        if question.get("is_impossible"):
            answers = {"text": [], "answer_start": []}
        yield {
            "id": identifier,
            "question": question["question"].strip(),
            "context": context if context.strip() else "",
            "answers": answers,
            "place": place,
        }


def _questions(rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    for place, row in rows:
        nested = next((name for name in ("data", "paragraphs", "qas") if name in row), None)
        if nested is None:
            yield place, row, row.get("context")
            continue
        parts = row[nested]
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise ValueError(f"{place}: `{nested}` must be a list of objects, got {brief(parts)}")
        if nested == "qas":
            yield from ((place, question, row.get("context")) for question in parts)
        else:
            yield from _questions((place, part) for part in parts)


def _answers(place: str, answers: Any, context: str) -> dict[str, list]:
    if isinstance(answers, str):  # in a table
        text = answers.strip()
        if text not in context:
            raise ValueError(f"{place}: the answer {brief(text)} must stand in the context, got {brief(context)}")
        answers = [{"text": text, "answer_start": context.index(text)}] if text else []
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise ValueError(f"{place}: `text` and `answer_start` must be lists of one length, got {brief(answers)}")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise ValueError(f"{place}: `answers` must be a list of answers or two lists, got {brief(answers)}")
    found: dict[str, list] = {"text": [], "answer_start": []}
    for answer in answers:
        text, start = answer.get("text"), answer.get("answer_start")
        if not isinstance(text, str) or not text.strip() or isinstance(start, bool) or not isinstance(start, int):
            raise ValueError(f"{place}: an answer must have a `text` and an `answer_start`, got {brief(answer)}")
        if start < 0 or context[start : start + len(text)] != text:
            raise ValueError(
                f"{place}: the answer {brief(text)} must stand at its `answer_start` {start} in the context, where "
                f"there is {brief(context[max(start, 0) : max(start, 0) + len(text)])}"
            )
        # no token holds the white space around an answer
        found["text"].append(text.strip())
        found["answer_start"].append(start + len(text) - len(text.lstrip()))
    return found


def window_length(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The most tokens of a window, `None` where a tokenizer sets no bound."""
    return tokenizer.model_max_length if tokenizer.model_max_length < _UNLIMITED else None


def encode_windows(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_length: int | None = None,
    max_question_length: int | None = None,
    stride: int = 0,
) -> BatchEncoding:
    """
    Encode questions with their contexts; a context too long for one sequence is read in windows that overlap.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            A fast one.
        questions, contexts (`list[str]`):
            As many of each.
        max_length (`int`, *optional*):
            Tokens of a window, question included. `None`: every context is one window.
        max_question_length (`int`, *optional*):
            Tokens to which a longer question is cut; `None` takes half of `max_length`.
        stride (`int`, *optional*, defaults to 0):
            Tokens of the context that a window shares with the next one.

    Returns:
        `BatchEncoding`: as the tokenizer makes it, one sequence a window, and `context_offsets` in place of the
        offset mapping, see [`Window`], and `example`, which says whose window it is. The windows of an example follow
        each other.

    Raises:
        TypeError: the tokenizer is not a fast one.
        ValueError: a question or a context is empty, or a window has no room for its stride.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise TypeError(f"`tokenizer` must be a fast one, which knows offsets, got {type(tokenizer).__name__}.")
    for name, texts in (("questions", questions), ("contexts", contexts)):
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"`{name}` must hold texts that are not empty, got {text!r} at index {index}.")
    options: dict[str, Any] = {}
    if max_length is not None:
        if max_question_length is None:
            max_question_length = max_length // 2
        room = max_length - max_question_length - tokenizer.num_special_tokens_to_add(pair=True)
        if not 0 <= stride < room or max_question_length < 1:
            raise ValueError(
                f"A window of `max_length` {max_length} leaves {max(room, 0)} tokens to the context, besides "
                f"`max_question_length` {max_question_length} and the special tokens; `stride` must be from 0 to less "
                f"than that, got {stride}."
            )
        questions = [_cut(tokenizer, question, max_question_length) for question in questions]
        options = {"truncation": "only_second", "max_length": max_length, "stride": stride}
    encoding = tokenizer(
        list(questions), list(contexts), return_overflowing_tokens=True, return_offsets_mapping=True, **options
    )
    encoding["example"] = encoding.pop("overflow_to_sample_mapping", list(range(len(questions))))
    encoding["context_offsets"] = [
        _context_offsets(contexts[example], offsets, encoding.sequence_ids(window))
        for window, (example, offsets) in enumerate(
            zip(encoding["example"], encoding.pop("offset_mapping"), strict=True)
        )
    ]
    return encoding


def _context_offsets(
    context: str, offsets: Sequence[tuple[int, int]], sequence_ids: Sequence[int | None]
) -> list[tuple[int, int] | None]:
    of_context = [offset for offset, sequence in zip(offsets, sequence_ids, strict=True) if sequence == 1]
    whole = iter(whole_offsets(context, of_context))
    return [next(whole) if sequence == 1 else None for sequence in sequence_ids]


def _cut(tokenizer: PreTrainedTokenizerBase, question: str, max_length: int) -> str:
    encoding = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoding["offset_mapping"]
    return question if len(offsets) <= max_length else question[: whole_offsets(question, offsets)[max_length - 1][1]]


def answer_positions(
    offsets: Sequence[tuple[int, int] | None], answer_start: int, answer_end: int
) -> tuple[int, int] | None:
    """
    The first and the last token of an answer in a window.

    Args:
        offsets: those of a window.
        answer_start, answer_end (`int`): where the answer stands in the context, in characters, the end exclusive.

    Returns:
        `tuple[int, int]` or `None`: `None` if the window does not hold all of the answer.
    """
    tokens = [(index, *offset) for index, offset in enumerate(offsets) if offset is not None]
    if not tokens or answer_start < tokens[0][1] or answer_end > tokens[-1][2]:
        return None
    inside = [index for index, start, end in tokens if end > answer_start and start < answer_end]
    return (inside[0], inside[-1]) if inside else None


def find_answers(
    context: str,
    windows: Sequence[Window],
    top_k: int = 1,
    max_answer_length: int = 30,
    allow_no_answer: bool = False,
) -> list[dict[str, Any]]:
    """
    The most probable answers of a context.

    In a window, P(span) = P(start) P(end), both over the tokens of the context and the first token, which stands for
    "no answer here". So a window in which nothing answers the question gives little to each of its spans. That there is
    no answer at all is as probable as it is in the window where it is least so.

    Args:
        context (`str`):
            The text that all windows show a part of.
        windows (`list[Window]`):
            At least one.
        top_k (`int`, *optional*, defaults to 1):
            How many answers to return; there may be fewer.
        max_answer_length (`int`, *optional*, defaults to 30):
            Tokens that an answer has at most.
        allow_no_answer (`bool`, *optional*, defaults to `False`):
            Whether no answer is one of them: an empty text.

    Returns:
        `list[dict]`: `score`, from 0 to 1; `start` and `end` in characters, the end exclusive; `answer`, which is
        `context[start:end]`. The best one first.

    Raises:
        ValueError: a number below 1, or no window.
    """
    for name, value in (("top_k", top_k), ("max_answer_length", max_answer_length), ("windows", len(windows))):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    scores: dict[tuple[int, int], float] = {}
    no_answer = 0.0
    for window in windows:
        start_scores, end_scores = (_log_probabilities(logits, window) for logits in window[:2])
        no_answer = min(no_answer, float(start_scores[0] + end_scores[0]))
        for span, score in _best_spans(start_scores, end_scores, context, window, top_k, max_answer_length):
            scores[span] = max(score, scores.get(span, score))
    if allow_no_answer:
        scores[0, 0] = no_answer
    best = sorted(scores, key=lambda span: -scores[span])[:top_k]
    return [
        {"score": math.exp(scores[start, end]), "start": start, "end": end, "answer": context[start:end]}
        for start, end in best
    ]


def _log_probabilities(logits: Tensor, window: Window) -> Tensor:
    is_context = torch.tensor([offset is not None for offset in window.offsets])
    is_context[0] = True  # not of the context, and yet one of the choices
    return logits.float().masked_fill(~is_context, -torch.inf).log_softmax(dim=0)


def _best_spans(
    start_scores: Tensor, end_scores: Tensor, context: str, window: Window, top_k: int, max_answer_length: int
) -> Iterator[tuple[tuple[int, int], float]]:
    # an answer neither begins nor ends with white space
    is_text = torch.tensor([offset is not None and bool(context[slice(*offset)].strip()) for offset in window.offsets])
    starts, ends = (scores.masked_fill(~is_text, -torch.inf) for scores in (start_scores, end_scores))
    length = min(max_answer_length, len(ends))
    padded = torch.cat([ends, ends.new_full((length - 1,), -torch.inf)])
    spans = starts[:, None] + padded.unfold(0, length, 1)  # (start, end - start)
    for score, index in zip(*spans.flatten().topk(min(top_k, spans.numel())), strict=True):
        if score > -torch.inf:
            start, more = divmod(int(index), length)
            first, last = window.offsets[start] or (0, 0), window.offsets[start + more] or (0, 0)
            text = context[first[0] : last[1]]  # with the space that a subword brings
            yield (last[1] - len(text.lstrip()), first[0] + len(text.rstrip())), float(score)
