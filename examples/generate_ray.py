r"""Put every text of a file through an encoder-decoder on the machines of a Ray cluster.

    python examples/generate_ray.py runs/en-de news.jsonl news.de.jsonl --address auto --workers 16 --num_beams 5

Input, output and arguments are those of generate_file.py. Ray Data hands out the numbers of the parts to a pool of
actors, each of which holds the model, reads its parts of the input and writes them into OUTPUT.parts; so the model, the
input and the output must lie where all machines see them. A part whose machine is lost is given to another one, and
after an interruption the same command goes on with the parts that are missing, also when generate_file.py has begun
them, and on more or fewer machines. Needs `pip install 'attention-rnn[train]' 'ray[data]'`.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from attention_rnn.examples import generate_file

from attention_rnn.parts import merge, parts_of, prepare

try:
    import ray
except ImportError as error:
    raise ImportError(f"generate_ray.py needs Ray ({error}): pip install 'ray[data]'") from error


def main(arguments: Sequence[str] | None = None) -> None:
    parser = generate_file.make_parser(__doc__)
    parser.add_argument("--address", help="of the cluster, auto for that of this machine (one is started here)")
    parser.add_argument("--workers", type=int, default=1, help="actors, each with a model (%(default)s)")
    parser.add_argument("--cpus_per_worker", type=int, default=1, help="cores of an actor (%(default)s)")
    parser.add_argument(
        "--gpus_per_worker", type=float, default=0, help="GPUs of an actor, or a part of one (%(default)s)"
    )
    options = generate_file.parse(parser, arguments)
    for name in ("workers", "cpus_per_worker"):
        if (value := getattr(options, name)) < 1:
            parser.error(f"argument --{name}: {value} is below 1")
    options.output = options.output.resolve()  # actors work in other folders
    total = generate_file.count_texts(options)
    prepare(options.output, generate_file.settings_of(options, total), options.overwrite)
    missing = [number for number in range(-(-total // options.part_size)) if not part_file(options, number).exists()]
    if missing:
        ray.init(address=options.address, ignore_reinit_error=True)
        parts = ray.data.from_items([{"number": number} for number in missing], override_num_blocks=len(missing))
        written = parts.map_batches(
            Generator,
            fn_constructor_args=(options,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=options.workers),
            num_cpus=options.cpus_per_worker,
            num_gpus=options.gpus_per_worker,
        )
        for count, _ in enumerate(written.iter_rows(), start=1):
            print(f"{count:,} of {len(missing):,} parts are written", flush=True)
    merge(options.output)


def part_file(options: argparse.Namespace, number: int) -> Any:
    return parts_of(options.output) / f"{number:08}.jsonl"


class Generator:
    """An actor: the model, and the input read as far as its parts have come."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.set_num_threads(options.cpus_per_worker)
        self.options = options
        self.pipeline = generate_file.open_generator(options, "cuda" if options.gpus_per_worker else "cpu")
        self.texts: Iterator[str] = iter(())
        self.next = -1  # the part that follows in them

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for number in batch["number"].tolist():
            generate_file.write_part(self.pipeline, self.read(number), number, self.options)
        return batch

    def read(self, number: int) -> list[str]:
        if not 0 <= self.next <= number:
            self.texts, self.next = generate_file.read_texts(self.options), 0
        size = self.options.part_size
        passed = islice(self.texts, (number - self.next) * size, (number - self.next + 1) * size)
        self.next = number + 1
        return list(passed)


if __name__ == "__main__":
    main()
