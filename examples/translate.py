"""Put strings through a trained encoder-decoder and print `source<TAB>output`, one pair a line. Use:

    python examples/translate.py runs/my_model "3. März 1998" "1998年3月3日"
    python examples/translate.py runs/my_model --num_beams 5 < sources.txt

The strings are those of the command line or, where it has none, the lines of the standard input.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from attention_rnn.copying import CopyVocabulary  # importing attention_rnn registers it with the Auto classes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder that a training run or `save_pretrained` left, or a name on the Hub")
    parser.add_argument("sources", nargs="*", help="the strings to put through")
    parser.add_argument("--num_beams", type=int, help="beams of the search, 1 for greedy (the model's own setting)")
    parser.add_argument("--max_new_tokens", type=int, help="longest output, in tokens (the model's own setting)")
    parser.add_argument("--batch_size", type=int, default=32, help="strings decoded at once (%(default)s)")
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        parser.error(f"argument --batch_size: {options.batch_size} is below 1")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model).to(device).eval()
    copying = CopyVocabulary(tokenizer, model.config.vocab_size) if getattr(model.config, "copy", False) else None
    generation_options = {
        name: value for name in ("num_beams", "max_new_tokens") if (value := getattr(options, name)) is not None
    }

    sources = iter(options.sources or map(str.strip, sys.stdin))
    while batch := list(islice(sources, options.batch_size)):
        if copying is None:
            inputs = tokenizer(batch, padding=True, return_tensors="pt").to(device)
            outputs = tokenizer.batch_decode(model.generate(**inputs, **generation_options), skip_special_tokens=True)
        else:
            inputs, unknown_words = copying.encode_sources(batch, padding=True, return_tensors="pt")
            outputs = copying.batch_decode(model.generate(**inputs.to(device), **generation_options), unknown_words)
        for source, output in zip(batch, outputs, strict=True):
            print(source, output, sep="\t", flush=True)


if __name__ == "__main__":
    main()
