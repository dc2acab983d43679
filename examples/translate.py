"""Put strings through a trained encoder-decoder and print `source<TAB>output`, one pair a line. Use:

    python examples/translate.py runs/my_model "3. März 1998" "1998年3月3日"
    python examples/translate.py runs/my_model --num_beams 5 < sources.txt

The strings are those of the command line or, where it has none, the lines of the standard input. A line is answered at
once, together with those that have come by then; an empty one by nothing.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from queue import Queue
from threading import Thread

import torch

from attention_rnn.checkpoints import open_encoder_decoder
from attention_rnn.copy_vocabulary import CopyVocabulary


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder that a training run or `save_pretrained` left, or a name on the Hub")
    parser.add_argument("sources", nargs="*", help="the strings to put through")
    parser.add_argument("--num_beams", type=int, help="beams of the search, 1 for greedy (the model's own setting)")
    parser.add_argument("--max_new_tokens", type=int, help="longest output, in tokens (the model's own setting)")
    parser.add_argument("--batch_size", type=int, default=32, help="strings decoded at once (%(default)s)")
    options = parser.parse_intermixed_args(arguments)
    for name in ("num_beams", "max_new_tokens", "batch_size"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"argument --{name}: {value} is below 1")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = open_encoder_decoder(options.model)
    model.to(device)
    copying = CopyVocabulary(tokenizer, model.config.vocab_size) if getattr(model.config, "copy", False) else None
    generation_options = {
        name: value for name in ("num_beams", "max_new_tokens") if (value := getattr(options, name)) is not None
    }

    for batch in read_batches(options.sources or sys.stdin, options.batch_size):
        texts = [source for source in batch if source]
        if not texts:
            outputs = []
        elif copying is None:
            inputs = tokenizer(texts, padding=True, return_tensors="pt").to(device)
            outputs = tokenizer.batch_decode(model.generate(**inputs, **generation_options), skip_special_tokens=True)
        else:
            inputs, unknown_words = copying.encode_sources(texts, padding=True, return_tensors="pt")
            outputs = copying.batch_decode(model.generate(**inputs.to(device), **generation_options), unknown_words)
        remaining = iter(outputs)
        for source in batch:
            print(source, next(remaining) if source else "", sep="\t", flush=True)


def read_batches(lines: Iterable[str], batch_size: int) -> Iterator[list[str]]:
    """The lines that have come, without the white space around them, so that none waits for one that has not."""
    queue: Queue = Queue(batch_size)

    def read() -> None:
        end = None
        try:
            for line in lines:
                queue.put(line.strip())
        except Exception as error:
            end = error
        queue.put(end)

    Thread(target=read, daemon=True).start()
    come: list[str | Exception | None] = [""]
    while isinstance(come[-1], str):
        come = [queue.get()]
        while len(come) < batch_size and not queue.empty():
            come.append(queue.get())
        yield [line for line in come if isinstance(line, str)]
    if come[-1] is not None:
        raise come[-1]


if __name__ == "__main__":
    main()
