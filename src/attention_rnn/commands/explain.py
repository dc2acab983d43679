"""`attention-rnn explain`: where a model looks in texts of one's own."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import CommandParser, add_reading_arguments, at_least
from .models import Model, Source, tell_unknown
from .reading import Texts, read_texts

if TYPE_CHECKING:
    from ..alignment import Alignment

_DESCRIPTION = """Show where a model looks: pictures, and a page to point at.

  attention-rnn explain runs/words "hello" "yellow"
  attention-rnn explain runs/words --file words.txt -o words-explained
  attention-rnn explain runs/reader "$(printf 'A context.\\tA question?')"

A model that answers questions is given a context, a tab and a question; where one of the two ends in a question mark,
it is taken for the question. A model of two texts is given both with a tab between."""


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("explain", _DESCRIPTION)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument("texts", nargs="*", help="the texts; two that belong together with a tab between")
    parser.add_argument("--file", help="a file that attention-rnn predict reads")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where pictures and page go (explained/NAME)"
    )
    parser.add_argument(
        "--most",
        type=at_least(1),
        default=50,
        metavar="N",
        help="pictures: of the first texts; of a classifier of those that it gets wrong, then of those that it is "
        "least certain of (%(default)s)",
    )
    add_reading_arguments(parser)
    options = parser.parse_args(list(arguments))
    model = Model(options.model)
    texts: list[Source] = list(options.texts)
    labels: list[str | None] = [None] * len(texts)
    if options.file is not None:
        read = read_texts(model, options)
        if read.columns:
            print(f"reads {' + '.join(read.columns)} of {options.file}", file=sys.stderr)
        if read.faults:
            print(read.tell_faults(), file=sys.stderr)
        texts += read.readable
        labels += labels_of(model, read)
    filled = [index for index, text in enumerate(texts) if not model.is_empty(text)]
    texts, labels = [texts[index] for index in filled], [labels[index] for index in filled]
    if not texts:
        parser.error("give a text, or --file")
    shown = list(range(len(texts)))
    if len(texts) > options.most:
        shown, what = choose(model, texts, labels, options.most)
        print(f"of {len(texts):,} texts {what} are shown: --most {len(texts)} shows all", file=sys.stderr)
    from ..heat_maps import draw_heat_maps

    output = options.output or Path("explained", Path(options.model).resolve().name)
    alignments = alignments_of(model, [texts[index] for index in shown], [labels[index] for index in shown])
    pictures = draw_heat_maps(output, alignments)
    if not pictures:
        raise ValueError(f"{options.model} has no attention that could be shown")
    number = "a picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
    print(f"{number} and a page: {output / 'attention_maps' / 'attention.html'}")
    if told := tell_unknown(model, texts):
        print(told, file=sys.stderr)


def labels_of(model: Model, texts: Texts) -> list[str | None]:
    """The label of each text, of a table for a classifier that holds them."""
    (column,) = model.data_task.columns.get("label", [""]) if model.data_task else [""]
    if model.problem_type != "single_label_classification" or not texts.others:
        return [None] * len(texts.sources)
    return [None if row.get(column) in (None, "") else str(row[column]).strip() for row in texts.others]


def choose(model: Model, texts: Sequence[Source], labels: Sequence[str | None], most: int) -> tuple[list[int], str]:
    """Which texts to show where they are more than that, and what these are."""
    if model.task != "text-classification" or model.problem_type != "single_label_classification":
        return list(range(most)), f"the first {most}"
    answers = [best for best, *_ in model.answers(texts)]

    def how_sure(index: int) -> tuple[bool, float]:
        return labels[index] in (None, answers[index].value), answers[index].score or 0.0

    what = "wrong or least certain" if any(label is not None for label in labels) else "least certain"
    return sorted(range(len(texts)), key=how_sure)[:most], f"the {most} {what}"


def alignments_of(
    model: Model, texts: Sequence[Source], labels: Sequence[str | None] | None = None
) -> "Iterable[Alignment]":
    """Where the model looks in each text; of a classifier beside its label, if that is known."""
    from .. import heat_maps
    from ..copy_vocabulary import CopyVocabulary

    network: Any = model.pipeline.model
    tokenizer = model.pipeline.tokenizer
    sources: list[Any] = [model.source(text) if isinstance(text, str) else text for text in texts]
    longest = min(tokenizer.model_max_length, 512)
    if model.task == "text2text-generation":
        copying = (
            CopyVocabulary(tokenizer, network.config.vocab_size) if getattr(network.config, "copy", False) else None
        )
        return heat_maps.seq2seq_alignments(network, tokenizer, sources, copying=copying)
    if model.task == "text-classification":
        parts = [source if isinstance(source, tuple) else (source,) for source in sources]
        pairs = list(zip(parts, labels or [None] * len(parts), strict=True))
        return heat_maps.classification_alignments(network, tokenizer, pairs, longest)
    if model.task == "token-classification":
        words = [source.split() if isinstance(source, str) else source for source in sources]
        return heat_maps.labelling_alignments(network, tokenizer, words, longest)
    if model.task == "question-answering":
        asked = [(q, c, model.pipeline(question=q, context=c)) for c, q in sources]
        return heat_maps.qa_alignments(network, tokenizer, asked)
    return []
