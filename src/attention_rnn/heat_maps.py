"""Pictures of where a trained model looked, for each task of the scripts."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .alignment import Alignment, alignment_from_outputs
from .copy_vocabulary import CopyVocabulary
from .models.configuration_attention_rnn import AttentionRnnConfig
from .plotting import certainty, from_to, plot_alignment, write_alignment_page
from .question_answering import answer_positions, encode_windows, window_length

_MARGIN = 12  # tokens of a context to show on either side of the answer


def draw_heat_maps(output_dir: str | Path, alignments: Iterable[Alignment]) -> list[str]:
    """
    Draw each alignment as a picture, and all of them on one page to point at, in the folder `attention_maps`, the least
    certain one first.

    Returns:
        `list[str]`: the pictures, relative to `output_dir`; none without alignments.
    """
    folder = Path(output_dir, "attention_maps")
    for earlier in folder.glob("[0-9]*.png"):
        earlier.unlink()
    pictures, drawn = [], []
    for number, alignment in enumerate(sorted(alignments, key=certainty)):  # in the order of the page
        folder.mkdir(parents=True, exist_ok=True)
        weights, source_tokens, target_tokens, title, *_ = alignment
        picture = plot_alignment(weights, source_tokens, target_tokens, title=title, kind=alignment.kind)
        picture.savefig(folder / f"{number}.png")
        pictures.append(f"{folder.name}/{number}.png")
        drawn.append(alignment)
    if drawn:
        write_alignment_page(folder / "attention.html", drawn)
    return pictures


def seq2seq_alignments(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    *,
    max_source_length: int | None = None,
    copying: CopyVocabulary | None = None,
    references: Sequence[str] | None = None,
) -> Iterator[Alignment]:
    """
    Where a sequence-to-sequence model of transformers or of this package looks in each source, for each token that it
    generates; nothing of a model without attention. The title is what it makes of the source and, with `references`,
    what is right.
    """
    model.eval()
    model.set_attn_implementation("eager")  # others do not return the weights
    options: dict[str, Any] = {"return_tensors": "pt"}
    if max_source_length is not None:
        options |= {"truncation": True, "max_length": max_source_length}
    target_tokenizer = getattr(tokenizer, "target", tokenizer)
    for index, source in enumerate(sources):
        if copying is None:
            inputs = tokenizer([source], **options)
        else:
            inputs, (unknown_words,) = copying.encode_sources([source], **options)
        outputs = model.generate(
            **inputs.to(model.device), output_attentions=True, output_scores=True, return_dict_in_generate=True
        )
        if not outputs.cross_attentions or not len(outputs.cross_attentions[0]):
            return
        if copying is None:
            source_tokens = visible_tokens(tokenizer, inputs, [source])
            target_tokens = target_tokenizer.convert_ids_to_tokens(outputs.sequences[0, 1:])
            text = tokenizer.batch_decode(outputs.sequences, skip_special_tokens=True)[0].strip()
        else:
            source_tokens = copying.convert_ids_to_tokens(inputs["copy_ids"][0], unknown_words)
            target_tokens = copying.convert_ids_to_tokens(outputs.sequences[0, 1:], unknown_words)
            text = copying.batch_decode(outputs.sequences, [unknown_words])[0].strip()
        title, is_right = from_to(source, text), None
        if references is not None:
            is_right = text == references[index]
            title += "" if is_right else f" (reference: {references[index]})"
        scores = getattr(outputs, "sequences_scores", None)
        score = None if scores is None else float(scores[0])
        weights = alignment_from_outputs(outputs)[0]
        yield Alignment(weights, source_tokens, target_tokens, title, score, is_right)


def qa_alignments(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    asked: Iterable[tuple[str, str, dict[str, Any]]],
    max_question_length: int | None = None,
    stride: int = 0,
) -> Iterator[Alignment]:
    """
    How the context around an answer looks at the question; nothing of a model without attention, of another model, and
    of no answer.

    Args:
        model: an `AttentionRnnForQuestionAnswering`.
        tokenizer: its tokenizer, with the size of a window as `model_max_length`, if it has a bound.
        asked: questions, their contexts and answers with `start`, `end` and `answer`, as `find_answers` gives them.
        max_question_length, stride: of the windows, as of `encode_windows`.
    """
    if model.config.model_type != AttentionRnnConfig.model_type:
        return
    model.eval()
    for question, context, answer in asked:
        if answer["start"] == answer["end"]:
            continue
        options = (window_length(tokenizer), max_question_length, stride)
        windows = encode_windows(tokenizer, [question], [context], *options)
        spans = [answer_positions(offsets, answer["start"], answer["end"]) for offsets in windows["context_offsets"]]
        index, (first, last) = next((index, span) for index, span in enumerate(spans) if span is not None)
        inputs = {name: torch.tensor([windows[name][index]]) for name in tokenizer.model_input_names if name in windows}
        with torch.no_grad():
            outputs = model(**{k: v.to(model.device) for k, v in inputs.items()}, output_attentions=True)
        if not outputs.attentions:
            return
        offsets = windows["context_offsets"][index]
        tokens = [
            context[slice(*offset)] if id_ == tokenizer.unk_token_id and offset is not None else token
            for id_, offset, token in zip(
                windows["input_ids"][index],
                offsets,
                tokenizer.convert_ids_to_tokens(windows["input_ids"][index]),
                strict=True,
            )
        ]
        question_end = next(position for position, offset in enumerate(offsets) if offset is not None) - 1
        around = range(max(0, first - _MARGIN), min(len(offsets), last + _MARGIN + 1))
        rows = [position for position in around if offsets[position] is not None]
        weights = outputs.attentions[0][0, 0][rows][:, :question_end]
        asked_tokens = visible_tokens(tokenizer, tokenizer([question]), [question])[:question_end]
        asked_tokens += tokens[len(asked_tokens) : question_end]
        yield Alignment(
            weights,
            asked_tokens,
            [tokens[position] for position in rows],
            from_to(question, answer["answer"]),
            answer.get("score"),
            kind="question-answering",
            text=context,
        )


def classification_alignments(
    model: Any, tokenizer: PreTrainedTokenizerBase, examples: Iterable[tuple[Sequence[str], Any]], max_length: int
) -> Iterator[Alignment]:
    """
    Which tokens an `AttentionRnnForSequenceClassification` looks at, head by head, in each text, or pair of texts, that
    comes with its label, or `None`; what it says of them is the title. Nothing of another model.
    """
    if model.config.model_type != AttentionRnnConfig.model_type:
        return
    model.eval()
    for texts, label in examples:
        inputs = tokenizer(*texts, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs.to(model.device), output_attentions=True)
        weights = outputs.attentions[0][0, :, 0]  # (heads, words)
        tokens = visible_tokens(tokenizer, inputs, texts)
        heads = ["attention"] if len(weights) == 1 else [f"head {head}" for head in range(len(weights))]
        said, score = _said(outputs.logits[0].float().cpu(), model.config)
        is_right = None
        if label is not None and model.config.problem_type != "regression":
            is_right = set(said) == set(label if isinstance(label, list) else [str(label)])
        reference = label if not isinstance(label, list) else ", ".join(label) or "none"
        title = f"predicted: {', '.join(said) or 'none'}" + ("" if label is None else f"; label: {reference}")
        text = " | ".join(texts)
        yield Alignment(weights, tokens, heads, title, score, is_right, "classification", text)


def _said(logits: Tensor, config: Any) -> tuple[list[str], float | None]:
    """The labels, or the number, and the probability of a single label."""
    if config.problem_type == "regression":
        return [f"{logits[0]:.3g}"], None
    if config.problem_type == "multi_label_classification":
        return [config.id2label[index] for index in logits.gt(0).nonzero().flatten().tolist()], None
    best = int(logits.argmax())
    return [config.id2label[best]], float(logits.softmax(dim=-1)[best])


def labelling_alignments(
    model: Any, tokenizer: PreTrainedTokenizerBase, texts: Iterable[Sequence[str]], max_length: int
) -> Iterator[Alignment]:
    """
    Where a token classifier of transformers or of this package looks in the words of each text, for each token, and
    what tells the intent, in the last row; nothing of a model without attention.
    """
    model.eval()
    model.set_attn_implementation("eager")  # others do not return the weights
    options = {"is_split_into_words": True, "truncation": True, "max_length": max_length}
    for words in texts:
        inputs = tokenizer(words, return_tensors="pt", **options).to(model.device)
        with torch.no_grad():
            outputs = model(**inputs, output_attentions=True)
        tokens = visible_tokens(tokenizer, inputs, words, are_words=True)
        weights, names = [attention[0].mean(dim=0) for attention in outputs.attentions[-1:]], list(tokens)
        if getattr(outputs, "intent_attentions", None) is not None:
            weights.append(outputs.intent_attentions[0].mean(dim=0))
            names = [*(names if len(weights) > 1 else []), model.config.intents[outputs.intent_logits.argmax()]]
        if not weights:
            return
        yield Alignment(torch.cat(weights), tokens, names, kind="labelling")


def visible_tokens(
    tokenizer: PreTrainedTokenizerBase, inputs: Any, texts: Sequence[str], are_words: bool = False
) -> list[str]:
    """
    The tokens of a text, where what the vocabulary lacks stands as it is in the text.

    Args:
        tokenizer, inputs: what `tokenizer` makes of `texts`.
        texts: a text, or the two of a pair; with `are_words` the words of one that is split into them.
    """
    ids = [int(id_) for id_ in inputs["input_ids"][0]]
    tokens = list(tokenizer.convert_ids_to_tokens(ids))
    if not inputs.is_fast or tokenizer.unk_token_id not in ids:
        return tokens
    numbers = inputs.word_ids(0) if are_words else inputs.sequence_ids(0)
    for position, (id_, number) in enumerate(zip(ids, numbers, strict=True)):
        if id_ == tokenizer.unk_token_id and number is not None:
            start, end = inputs.token_to_chars(0, position)
            tokens[position] = texts[number][start:end]
    return tokens
