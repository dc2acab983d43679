"""Phonemes of a text for a text-to-speech engine, without torch: those of a lexicon, and of a model where it has none.

    attention-rnn train lexicon.tsv --recipe g2p
    attention-rnn export runs/lexicon
    python examples/pronounce.py runs/lexicon-onnx lexicon.tsv "Hello, Xanthippe!"

The lexicon has a word, a tab and its phonemes on each line, as for the training. Words are looked up as they are
written and in lower case; each unknown one is read by the model once. What stands between words is kept, so that an
engine sees where a sentence ends. With no text, the lines of the standard input are read.

A model passes the licence of its lexicon on to you: CMUdict allows every use, WikiPron is CC BY-SA.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attention_rnn import OnnxRunner

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="an exported model that reads words and writes phonemes")
    parser.add_argument("lexicon", type=Path, help="a file of words and phonemes")
    parser.add_argument("texts", nargs="*", help="what to pronounce")
    parser.add_argument("--num_beams", type=int, default=4, help="of the search for unknown words (%(default)s)")
    options = parser.parse_intermixed_args(arguments)
    runner = OnnxRunner.from_pretrained(options.folder)
    texts = options.texts or (line.rstrip("\r\n") for line in sys.stdin)
    for line in pronounce(texts, read_lexicon(options.lexicon), runner, options.num_beams):
        print(line, flush=True)


def read_lexicon(file: Path) -> dict[str, str]:
    """
    The first pronunciation of each word.

    Raises:
        ValueError: a line has no tab.
    """
    lexicon: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        word, tab, phonemes = line.partition("\t")
        if not tab:
            raise ValueError(f"{file}, line {number}, must hold a word, a tab and its phonemes, got {line[:60]!r}")
        lexicon.setdefault(word, phonemes)
    return lexicon


def pronounce(texts: Iterable[str], lexicon: Mapping[str, str], runner: Any, num_beams: int = 4) -> Iterator[str]:
    """Each text with its words replaced by their phonemes."""
    known = dict(lexicon)
    for text in texts:
        words = dict.fromkeys(WORD.findall(text))
        unknown = list(dict.fromkeys(w.lower() for w in words if w not in known and w.lower() not in known))
        if unknown:
            results = runner(unknown, num_beams=num_beams)
            known.update(zip(unknown, (result["text"].strip() for result in results), strict=True))
        yield WORD.sub(lambda match: known.get(match[0]) or known[match[0].lower()], text)


if __name__ == "__main__":
    main()
