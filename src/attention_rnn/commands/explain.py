"""`attention-rnn explain`: where a model looks in texts of one's own."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..alignment import Alignment
from ..inspection import read_text_lines
from . import CommandParser
from .models import Model, Source, tell_unknown

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
    parser.add_argument("--file", type=Path, help="a file with a text a line")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where pictures and page go (explained/NAME)"
    )
    options = parser.parse_args(list(arguments))
    texts = list(options.texts)
    if options.file is not None:
        texts += [line.rstrip("\r\n") for line in read_text_lines(str(options.file))]
    texts = [text for text in texts if text.strip()]
    if not texts:
        parser.error("give a text, or --file")
    from ..heat_maps import draw_heat_maps

    output = options.output or Path("explained", Path(options.model).resolve().name)
    model = Model(options.model)
    pictures = draw_heat_maps(output, alignments_of(model, texts))
    if not pictures:
        raise ValueError(f"{options.model} has no attention that could be shown")
    number = "a picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
    print(f"{number} and a page: {output / 'attention_maps' / 'attention.html'}")
    if told := tell_unknown(model, texts):
        print(told, file=sys.stderr)


def alignments_of(model: Model, texts: Sequence[Source]) -> Iterable[Alignment]:
    """Where the model looks in each text."""
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
        pairs = [(source if isinstance(source, tuple) else (source,), None) for source in sources]
        return heat_maps.classification_alignments(network, tokenizer, pairs, longest)
    if model.task == "token-classification":
        return heat_maps.labelling_alignments(network, tokenizer, [source.split() for source in sources], longest)
    if model.task == "question-answering":
        asked = [(q, c, model.pipeline(question=q, context=c)) for c, q in sources]
        return heat_maps.qa_alignments(network, tokenizer, asked)
    return []
