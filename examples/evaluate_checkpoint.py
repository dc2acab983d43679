r"""Score a trained model on a file.

    python examples/evaluate_checkpoint.py runs/g2p test.tsv --column_names word phones --metrics exact_match per
    python examples/evaluate_checkpoint.py runs/en-de test.en --target_file test.de --metrics bleu chrf --num_beams 5
    python examples/evaluate_checkpoint.py runs/qa dev.json --metrics answer_f1 --answer_unit character
    python examples/evaluate_checkpoint.py runs/reviews test.tsv --column_names label text
    python examples/evaluate_checkpoint.py runs/chunks test.conll

The model is of this package or of transformers; what it does stands in its config. An encoder-decoder is scored on what
run_seq2seq.py reads, a table with sources and targets or two aligned text files, and a reader that answers questions on
SQuAD's format. A classifier, a tagger and a language model are scored by run_classification.py, run_labelling.py and
run_clm.py: --metrics are then those of that script, which may be left out, and what else is given goes to it. Scores
are printed as json and, with --output_dir, written there with the predictions. Needs
`pip install 'attention-rnn[train]'`.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm
from transformers import PreTrainedConfig

import attention_rnn  # registers the models and the pipelines
from attention_rnn.checkpoints import one_of, open_config, open_pipeline
from attention_rnn.conll import read_conll
from attention_rnn.data import FORMATS, choose_columns, extension, get_text, read_rows, significant, write_json_lines
from attention_rnn.metrics import METRICS, load_metric
from attention_rnn.quantization import check_int8
from attention_rnn.question_answering import read_examples

# how the name of a model's class ends
TASKS = {
    "ForQuestionAnswering": "question-answering",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
}
# what the script that trains it scores
SCRIPTS = {
    "ForSequenceClassification": "run_classification",
    "ForTokenClassification": "run_labelling",
    "ForCausalLM": "run_clm",
}
OWN_ARGUMENTS = ("model", "file", "task", "output_dir", "bleu_tokenize", "answer_unit")
# what other arguments are called there
ARGUMENTS = {"batch_size": "per_device_eval_batch_size", "max_samples": "max_predict_samples"}
CLASSIFICATION_ARGUMENTS = {"source_column": "text_columns", "target_column": "label_column"}


class Item(NamedTuple):
    source: Any  # what the pipeline reads
    references: list[str]


def main(arguments: Sequence[str] | None = None) -> dict[str, float | str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder that a training run or `save_pretrained` left, or a name on the Hub")
    parser.add_argument("file", help="the file to read")
    parser.add_argument("--metrics", nargs="+", help=f"what to compute: {', '.join(METRICS)}")
    parser.add_argument("--task", choices=sorted(set(TASKS.values())), help="what the model does (as its config says)")
    parser.add_argument(
        "--target_file", help="the targets of an encoder-decoder, line by line; the file has its sources"
    )
    parser.add_argument("--source_column", help="column of the source or the text (by its name; else the first)")
    parser.add_argument("--target_column", help="column of the target or the label (by its name; else the next)")
    parser.add_argument("--file_format", choices=FORMATS, help="of the file (from its name)")
    parser.add_argument("--column_names", nargs="+", help="columns of a csv or tsv file that has no header")
    parser.add_argument("--max_samples", type=int, help="use that many examples (all)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the checkpoint")
    parser.add_argument("--num_beams", type=int, help="beams of an encoder-decoder (the model's own setting)")
    parser.add_argument("--max_new_tokens", type=int, help="longest output, in tokens (the model's own setting)")
    parser.add_argument("--int8", action="store_true", help="decode with int8 weights, on a CPU")
    parser.add_argument("--allow_no_answer", action="store_true", help="a reader may say that there is no answer")
    parser.add_argument("--bleu_tokenize", default="13a", help="how sacrebleu tokenizes for BLEU (%(default)s)")
    parser.add_argument("--answer_unit", default="word", choices=["word", "character"], help="of answers (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=64, help="examples at once (%(default)s)")
    parser.add_argument("--output_dir", type=Path, help="where to write scores.json and predictions.jsonl")
    options, others = parser.parse_known_args(arguments)
    for name in ("batch_size", "max_samples", "num_beams", "max_new_tokens"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"argument --{name}: {value} is below 1")

    config = open_config(one_of(options.model), trust_remote_code=options.trust_remote_code)
    architecture = next(iter(config.architectures or []), None)
    task = options.task or ending_of(architecture, TASKS)
    script = None if options.task else ending_of(architecture, SCRIPTS)
    if options.target_file is not None and task != "text2text-generation":
        parser.error(f"argument --target_file: {options.model} is no encoder-decoder")
    if options.int8:
        check_int8(options.model, config)
        if script is not None:
            parser.error(f"argument --int8: {script}.py scores in full precision")
    if script == "run_classification":
        others = ["--problem_type", problem_type_of(config), *others]
    if script is not None:
        return score_by_script(script, others, options)
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if options.metrics is None:
        parser.error("the following arguments are required: --metrics")
    if task is None:
        raise ValueError(
            f"the config of {options.model} must name a model that ends in {', '.join([*TASKS, *SCRIPTS])}, got "
            f"{architecture}; give --task"
        )
    for name in options.metrics:
        if name not in METRICS:
            raise ValueError(f"--metrics for the task {task} must be among {', '.join(METRICS)}, got {name!r}")
    items = read_items(task, options)
    predictions = predict(task, items, options)
    metric_options = {
        "bleu": {"tokenize": options.bleu_tokenize},
        "answer_f1": {"unit": options.answer_unit},
        "answer_exact_match": {"unit": options.answer_unit},
    }
    scores: dict[str, float | str] = {}
    for name in options.metrics:
        metric = load_metric(name, **metric_options.get(name, {}))
        scores |= metric.compute(predictions=predictions, references=[item.references for item in items])
    show(scores, len(items))
    if options.output_dir is not None:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        (options.output_dir / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        rows = (
            {"source": item.source, "prediction": prediction, "references": item.references}
            for item, prediction in zip(items, predictions, strict=True)
        )
        write_json_lines(options.output_dir / "predictions.jsonl", rows)
    return scores


def ending_of(architecture: str | None, values: dict[str, str]) -> str | None:
    return next((value for ending, value in values.items() if (architecture or "").endswith(ending)), None)


def problem_type_of(config: PreTrainedConfig) -> str:
    """What a classifier tells of a text, as transformers understands its config."""
    if config.problem_type is not None:
        return config.problem_type
    return "regression" if config.num_labels == 1 else "single_label_classification"


def score_by_script(script: str, others: list[str], options: argparse.Namespace) -> dict[str, float | str]:
    """The scores of a training script that only tests. It gets all arguments, and refuses what it does not know."""
    names = ARGUMENTS | (CLASSIFICATION_ARGUMENTS if script == "run_classification" else {})
    with tempfile.TemporaryDirectory() as folder:
        command = ["--do_predict", "--model_name_or_path", options.model, "--test_file", options.file]
        command += ["--output_dir", str(options.output_dir or folder)]
        if options.output_dir is None:  # nobody would see what lies in the folder
            command += ["--brief", "True"]
            command += [] if script == "run_clm" else ["--num_heat_maps", "0"]
        for name, value in vars(options).items():
            if name not in OWN_ARGUMENTS and value not in (None, False):
                values = [] if value is True else value if isinstance(value, list) else [value]
                command += [f"--{names.get(name, name)}", *map(str, values)]
        scores = import_module(f".{script}" if __package__ else script, __package__).main([*command, *others])["test"]
    show(scores, None if script == "run_clm" else count_examples(script, options))
    return scores


def show(scores: dict[str, float | str], examples: int | None) -> None:
    """Print scores, and of how many examples they are; `None` of running text."""
    rounded = {name: value if isinstance(value, str) else significant(value) for name, value in scores.items()}
    print(json.dumps(rounded | ({} if examples is None else {"examples": examples}), indent=1))


def count_examples(script: str, options: argparse.Namespace) -> int:
    file_format = options.file_format or extension(options.file)
    if script == "run_labelling" and file_format not in ("json", "jsonl"):
        rows = read_conll(options.file)
    else:
        wanted = [options.source_column, options.target_column]
        rows = read_rows(
            options.file, file_format=file_format, column_names=options.column_names, wanted_columns=wanted
        )
    return sum(1 for _ in islice(rows, options.max_samples))


def read_items(task: str, options: argparse.Namespace) -> list[Item]:
    rows = read_rows(
        options.file,
        options.target_file,
        file_format=options.file_format,
        column_names=options.column_names,
        wanted_columns=[options.source_column, options.target_column],
    )
    items: list[Item] = []
    if task == "question-answering":
        for example in islice(read_examples(rows), options.max_samples):
            source = {name: example[name] for name in ("question", "context")}
            items.append(Item(source, example["answers"]["text"] or [""]))
    else:
        columns: list[str] = []
        for place, row in islice(rows, options.max_samples):
            columns = columns or choose_columns(row, place, source=options.source_column, target=options.target_column)
            source, target = (get_text(row, column, place) for column in columns)
            items.append(Item(source, [target]))
    if not items:
        raise ValueError(f"{options.file} must hold at least one example, got none")
    return items


def predict(task: str, items: list[Item], options: argparse.Namespace) -> list[str]:
    """What the model says of each item. Items of about equal length go together."""
    model = open_pipeline(
        task,
        options.model,
        trust_remote_code=options.trust_remote_code,
        device="cuda" if torch.cuda.is_available() and not options.int8 else "cpu",
        batch_size=options.batch_size,
    )
    if options.int8:
        model.model = attention_rnn.quantize(model.model)
    arguments: dict[str, Any] = {}
    if task == "question-answering":
        arguments = {"handle_impossible_answer": options.allow_no_answer}
    elif task == "text2text-generation":
        names = ("num_beams", "max_new_tokens")
        arguments = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    key = {"question-answering": "answer", "text2text-generation": "generated_text"}

    # nothing is made of an empty text
    order = [index for index, item in enumerate(items) if item.source or task != "text2text-generation"]
    order.sort(key=lambda index: len(str(items[index].source)))
    predictions = [""] * len(items)
    outputs = model((items[index].source for index in order), **arguments)
    for index, output in zip(order, tqdm(outputs, total=len(order)), strict=True):
        (best, *_) = output if isinstance(output, list) else [output]
        predictions[index] = best[key[task]].strip()
    return predictions


if __name__ == "__main__":
    main()
