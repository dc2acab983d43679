r"""Put every line or row of a file, of any size, through an encoder-decoder, and write the outputs in the same order.

    python examples/generate_file.py runs/g2p words.txt phones.jsonl --num_beams 5
    accelerate launch --num_processes 4 examples/generate_file.py runs/en-de news.jsonl news.de.jsonl \
        --source_column en --num_beams 5 --num_return_sequences 3 --scores --alignments

The input is csv, tsv or jsonl with the texts in one column, or plain text with one a line; it may be compressed (.gz).
The output is jsonl, one object for each text: `source`, `prediction`, and with --num_return_sequences, --scores or
--alignments `n_best`, the best first. An empty text gives an empty prediction, so that lines meet their outputs.

The file is read piece by piece and never held in memory. Finished parts lie in OUTPUT.parts; when the command was
interrupted, the same command continues behind them, also with another number of processes, and the output is the same
as without the interruption, sampling included. Needs `pip install 'attention-rnn[train]'`.
"""

import argparse
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import pipeline

import attention_rnn  # registers the models and the pipeline
from attention_rnn.alignment import to_pharaoh
from attention_rnn.checkpoints import one_of, open_config, open_encoder_decoder
from attention_rnn.data import (
    FORMATS,
    choose_columns,
    distinct,
    extension,
    get_text,
    json_lines,
    read_lines,
    read_rows,
    significant,
)
from attention_rnn.parts import contents_of, merge, parts_of, prepare, write_whole
from attention_rnn.quantization import check_int8

try:
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import set_seed
except ImportError as error:
    raise ImportError(f"generate_file.py needs more packages ({error}): pip install 'attention-rnn[train]'") from error

NOT_OF_THE_OUTPUT = ("address", "workers", "cpus_per_worker", "gpus_per_worker")  # arguments of generate_ray.py
PATIENCE = timedelta(days=30)  # of processes that have finished for those that have not


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(make_parser(__doc__), arguments)
    on_cpu = options.int8 or not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    total = count_texts(options)
    folder = parts_of(options.output)
    if accelerator.is_main_process:
        prepare(options.output, settings_of(options, total), options.overwrite)
    accelerator.wait_for_everyone()

    generator = open_generator(options, accelerator.device)
    texts = read_texts(options)
    parts = range(0, total, options.part_size)
    with tqdm(total=total, unit=" texts", disable=not accelerator.is_main_process) as progress:
        for number, _ in enumerate(parts):
            part = list(islice(texts, options.part_size))
            file = folder / f"{number:08}.jsonl"
            if number % accelerator.num_processes == accelerator.process_index and not file.exists():
                write_part(generator, part, number, options)
            progress.update(len(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        merge(options.output)
    accelerator.end_training()


def make_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder that a training run or `save_pretrained` left, or a name on the Hub")
    parser.add_argument("input", help="the file to read")
    parser.add_argument("output", type=Path, help="the jsonl file to write")
    parser.add_argument("--source_column", help="column of the texts (called source, text, ...; else the first)")
    parser.add_argument("--file_format", choices=[*FORMATS, "txt"], help="of the input (from its name; else txt)")
    parser.add_argument("--column_names", nargs="+", help="columns of a csv or tsv file that has no header")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the checkpoint")
    parser.add_argument("--num_beams", type=int, help="beams of the search, 1 for greedy (the model's own setting)")
    parser.add_argument(
        "--num_return_sequences",
        type=int,
        default=1,
        help="outputs for each text; fewer where some are the same (%(default)s)",
    )
    parser.add_argument("--max_new_tokens", type=int, help="longest output, in tokens (the model's own setting)")
    parser.add_argument("--do_sample", action="store_true", help="sample; how is the model's own setting")
    parser.add_argument("--scores", action="store_true", help="write the log probabilities")
    parser.add_argument("--alignments", action="store_true", help="write tokens and what each looked at most (i-j)")
    parser.add_argument("--int8", action="store_true", help="decode with int8 weights, on a CPU")
    parser.add_argument("--seed", type=int, default=42, help="of sampling (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=32, help="texts decoded at once (%(default)s)")
    parser.add_argument("--part_size", type=int, default=2048, help="texts of a part (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="begin anew, whatever an earlier command has left")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    options = parser.parse_args(arguments)
    for name in ("batch_size", "part_size", "num_beams", "num_return_sequences", "max_new_tokens"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"argument --{name}: {value} is below 1")
    return options


def count_texts(options: argparse.Namespace) -> int:
    """How many texts there are; looks at every row before any work is done."""
    return sum(1 for _ in read_texts(options))


def settings_of(options: argparse.Namespace, texts: int) -> dict[str, Any]:
    """What decides the output of a command: parts of others are not continued."""
    left_out = ("overwrite", "output", *NOT_OF_THE_OUTPUT)
    settings = {name: value for name, value in vars(options).items() if name not in left_out}
    return settings | {"texts": texts, **contents_of(options.model, options.input)}


def open_generator(options: argparse.Namespace, device: Any) -> Any:
    """The pipeline that writes the outputs."""
    if options.int8:
        check_int8(options.model, open_config(one_of(options.model), trust_remote_code=options.trust_remote_code))
    model, tokenizer = open_encoder_decoder(options.model, trust_remote_code=options.trust_remote_code)
    if options.int8:
        model = attention_rnn.quantize(model)
    return pipeline("text2text-generation", model=model, tokenizer=tokenizer, device=device)


def write_part(generator: Any, texts: list[str], number: int, options: argparse.Namespace) -> None:
    set_seed(options.seed + number)  # so that a part does not depend on those before it
    write_whole(parts_of(options.output) / f"{number:08}.jsonl", json_lines(generate(generator, texts, options)))


def read_texts(options: argparse.Namespace) -> Iterator[str]:
    """The texts one by one, also empty ones."""
    suffix = extension(options.input)
    file_format = options.file_format or (suffix if suffix in FORMATS else "txt")
    if file_format == "txt":
        yield from map(str.strip, read_lines(options.input))
        return
    column = options.source_column
    rows = read_rows(options.input, file_format=file_format, column_names=options.column_names, wanted_columns=[column])
    for place, row in rows:
        column = column or choose_columns(row, place, source=None)[0]
        yield get_text(row, column, place)


def generate(generator: Any, texts: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows to write for these texts. Texts of about equal length go together."""
    order = sorted((index for index, text in enumerate(texts) if text), key=lambda index: len(texts[index]))
    arguments = {
        "batch_size": options.batch_size,
        "num_return_sequences": options.num_return_sequences,
        "return_scores": options.scores,
        "return_alignments": options.alignments,
        **{
            name: getattr(options, name)
            for name in ("num_beams", "max_new_tokens", "do_sample")
            if getattr(options, name)
        },
    }
    nothing: dict[str, Any] = {"generated_text": ""}
    if options.scores:
        nothing["score"] = 0.0
    if options.alignments:
        nothing |= {"source_tokens": [], "target_tokens": [], "alignment": []}
    hypotheses = [[nothing] for _ in texts]
    outputs = generator([texts[index] for index in order], **arguments)
    for index, of_text in zip(order, outputs, strict=True):
        hypotheses[index] = of_text if isinstance(of_text, list) else [of_text]
    rows = []
    for text, of_text in zip(texts, hypotheses, strict=True):
        row: dict[str, Any] = {"source": text, "prediction": of_text[0]["generated_text"]}
        if options.num_return_sequences > 1 or options.scores or options.alignments:
            if not (options.do_sample or options.alignments):  # several tokenizations may be of one text
                of_text = distinct(of_text, itemgetter("generated_text"))
            row["n_best"] = [hypothesis_row(hypothesis) for hypothesis in of_text]
        rows.append(row)
    return rows


def hypothesis_row(hypothesis: dict[str, Any]) -> dict[str, Any]:
    row = {"prediction": hypothesis["generated_text"]}
    if "score" in hypothesis:
        row["score"] = significant(hypothesis["score"])
    if "alignment" in hypothesis:
        row |= {name: hypothesis[name] for name in ("source_tokens", "target_tokens")}
        row["alignment"] = to_pharaoh([hypothesis["alignment"]])[0] if hypothesis["alignment"] else ""
    return row


if __name__ == "__main__":
    main()
