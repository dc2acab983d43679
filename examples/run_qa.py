r"""Train an attention RNN, or fine-tune any other reader, to answer questions by a span of a context.

    python examples/run_qa.py --do_train --do_eval --output_dir runs/qa --train_file train.json \
        --validation_file dev.json

Files are as SQuAD has them: one json file, or jsonl with a paragraph (`context`, `qas`) or a question (`question`,
`context`, `answers`) a line. A context longer than --max_seq_length is read in windows that overlap. For a language
that writes no spaces give --tokenizer character --answer_unit character.

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the answers, heat maps of the
attention and a model card. Needs `pip install attention-rnn[train,plot]`.
"""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from attention_rnn import AttentionRnnConfig, ReliableTrainer
from attention_rnn.alignment import Alignment
from attention_rnn.arguments import (
    ScriptTrainingArguments,
    check_files,
    check_values,
    expand_config_file,
    parse_config_overrides,
    wanted_splits,
)
from attention_rnn.data import read_rows
from attention_rnn.hub import write_model_card
from attention_rnn.metrics import load_metric
from attention_rnn.plotting import plot_alignment, write_alignment_page
from attention_rnn.question_answering import Window, answer_positions, encode_windows, find_answers, read_examples
from attention_rnn.tokenization import TokenizerKind, train_tokenizer
from attention_rnn.training import (
    delete_run,
    find_checkpoint,
    is_hub_name,
    load_split,
    origin,
    special_token_ids,
    train_and_save,
)

logger = logging.getLogger("run_qa")

METRICS = ("answer_f1", "answer_exact_match")
SMALLEST_VALUES = {
    "max_seq_length": 8,
    "max_question_length": 1,
    "doc_stride": 0,
    "max_answer_length": 1,
    "n_best": 1,
    "max_train_samples": 1,
    "max_eval_samples": 1,
    "max_predict_samples": 1,
    "num_heat_maps": 0,
}
HEAT_MAP_MARGIN = 12  # tokens of the context on either side of the answer

USAGE = """from transformers import pipeline

reader = pipeline("question-answering", {name})
print(reader(question={question}, context={context}))
"""
REMOTE_CODE_USAGE = """Without `import attention_rnn`, transformers 5 has no pipeline of that name. The model itself
opens there, by the code that the checkpoint carries:

```python
model = AutoModelForQuestionAnswering.from_pretrained({name}, trust_remote_code=True)
```"""
ATTENTION_USAGE = """

How the tokens around an answer look at the question:

![Each row is a token of the context, each column one of the question]({picture})"""
LIMITS = """The model points at the part of a context that answers a question best, of at most {max_answer_length}
tokens. {no_answer} It was trained on texts like those named below; on others expect worse than the scores above. It
reads what its vocabulary lacks as `<unk>`, and reads a question up to {max_question_length} tokens. It repeats the
errors and biases of its training data, and nothing was tested beyond the scores above."""


@dataclass
class ModelArguments:
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to fine-tune, of any AutoModelForQuestionAnswering; of an attention RNN that "
            "translates, the encoder is taken."
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with that checkpoint."})
    config_overrides: str | None = field(
        default=None,
        metadata={"help": "Fields of AttentionRnnConfig for a new model: hidden_size=128,question_attention=False"},
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Existing tokenizer for a new model."})
    tokenizer: str = field(default="bpe", metadata={"help": "Tokenizer to train: bpe, unigram, word or character."})
    vocab_size: int = field(default=10_000, metadata={"help": "Largest vocabulary of a trained tokenizer."})
    min_frequency: int = field(default=1, metadata={"help": "Occurrences that a unit of a trained tokenizer needs."})
    lowercase: bool = field(default=False, metadata={"help": "Whether a trained tokenizer lower-cases the text."})


@dataclass
class DataArguments:
    """What to read, and what to do with it."""

    train_file: str | None = field(
        default=None, metadata={"help": "json or jsonl as SQuAD has it. May be compressed (.gz)."}
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_file: str | None = field(default=None, metadata={"help": "The same for testing."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub with the splits train, validation, test; or a folder."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    allow_no_answer: bool = field(
        default=False, metadata={"help": "Some questions have no answer in their context, as in SQuAD 2."}
    )
    max_seq_length: int = field(default=384, metadata={"help": "Tokens of a window, its question included."})
    max_question_length: int = field(default=64, metadata={"help": "Longer questions are cut to that many tokens."})
    doc_stride: int = field(default=128, metadata={"help": "Tokens that a window shares with the next one."})
    max_answer_length: int = field(default=30, metadata={"help": "Tokens of the longest answer to look for."})
    n_best: int = field(default=1, metadata={"help": "Answers to write for each question."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use that many training questions."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use that many validation questions."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use that many test questions."})
    num_heat_maps: int = field(default=4, metadata={"help": "Questions of which to draw the attention."})
    answer_unit: str = field(
        default="word", metadata={"help": "What answers are compared by: word, as SQuAD does, or character."}
    )
    task: str = field(default="question-answering", metadata={"help": "The task as the model card tells the Hub."})
    language: list[str] | None = field(default=None, metadata={"help": "Languages for the card, ISO 639 codes."})
    license: str | None = field(default=None, metadata={"help": "Licence for the card, the Hub's identifier."})


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by `answer_f1` is kept.
    """

    num_train_epochs: float = field(default=10.0, metadata={"help": "Epochs to train."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Training windows per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Evaluation windows per device and step."})
    metric_for_best_model: str | None = field(
        default=None, metadata={"help": f"{', '.join(METRICS)} or loss. Default: {METRICS[0]}."}
    )

    def __post_init__(self):
        self.settle_evaluation()
        if self.metric_for_best_model is None and self.load_best_model_at_end:
            self.metric_for_best_model = METRICS[0]
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    argv = expand_config_file(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments), allow_abbrev=False)
    model_args, data_args, training_args = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO if training_args.process_index == 0 else logging.ERROR)

    check_arguments(model_args, data_args, training_args)
    output_dir = Path(training_args.output_dir)
    checkpoint = find_checkpoint(output_dir, training_args.resume_from_checkpoint, training_args.overwrite_output_dir)
    pretrained = checkpoint or model_args.model_name_or_path
    examples = read_splits(data_args, training_args)

    set_seed(training_args.seed)
    with training_args.main_process_first(local=False, desc="preparing the output folder"):
        if training_args.overwrite_output_dir and checkpoint is None and training_args.process_index == 0:
            delete_run(output_dir)
        tokenizer = make_tokenizer(pretrained, examples, model_args, data_args, training_args)
    model = make_model(pretrained, tokenizer, model_args)
    encoded = {split: encode(split, of_split, tokenizer, data_args) for split, of_split in examples.items()}

    def evaluate(split: str, predictions: tuple[np.ndarray, ...]) -> tuple[dict[str, float], list[list[dict]]]:
        answers = answer(predictions, examples[split], encoded[split], data_args)
        return score(answers, examples[split], data_args), answers

    def compute_metrics(output: EvalPrediction) -> dict[str, float]:
        return evaluate("validation", output.predictions)[0]

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
    )

    training_seconds = None
    if training_args.do_train:
        training_seconds = train_and_save(trainer, checkpoint)

    all_scores, pictures = {}, []
    trainer.compute_metrics = None  # it knows the contexts of the validation alone
    for split, name in (("validation", "eval"), ("test", "predict")):
        if split not in examples:
            continue
        output = trainer.predict(encoded[split], metric_key_prefix=name)
        all_scores[split], answers = evaluate(split, output.predictions)
        result = output.metrics | {f"{name}_{metric}": value for metric, value in all_scores[split].items()}
        trainer.log_metrics(name, result)
        trainer.save_metrics(name, result)
        if trainer.is_world_process_zero() and split == list(examples)[-1]:
            write_predictions(output_dir, examples[split], answers)
            if trainer.has_whole_model and model.config.model_type == AttentionRnnConfig.model_type:
                pictures = draw_attention(trainer, examples[split], answers, data_args)

    if trainer.is_world_process_zero():
        if training_args.do_train:
            write_card(trainer, examples, all_scores, training_seconds, pictures, argv, model_args, data_args)
        logger.info(f"All results lie in {training_args.output_dir}.")
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return all_scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    splits = wanted_splits(training_args)
    check_files(data_args, training_args)
    check_values(data_args, training_args, SMALLEST_VALUES)
    if data_args.answer_unit not in ("word", "character"):
        raise ValueError(f"--answer_unit must be word or character, got {data_args.answer_unit!r}")
    best = training_args.metric_for_best_model
    if best is not None and best.removeprefix("eval_") not in ("loss", *METRICS):
        raise ValueError(f"--metric_for_best_model must be loss, {' or '.join(METRICS)}, got {best!r}")

    if model_args.model_name_or_path is not None:
        if model_args.config_overrides is not None or model_args.tokenizer_name is not None:
            raise ValueError(
                "--model_name_or_path brings its config and tokenizer: no --config_overrides, --tokenizer_name"
            )
        return
    if "train" not in splits:
        raise ValueError("--do_eval and --do_predict without --do_train need --model_name_or_path")
    AttentionRnnConfig(**parse_config_overrides(model_args.config_overrides))
    kinds = get_args(TokenizerKind)
    if model_args.tokenizer not in kinds:
        raise ValueError(f"--tokenizer must be one of {', '.join(kinds)}, got {model_args.tokenizer!r}")


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The questions of each split, with their contexts and answers."""
    limits = {
        "train": data_args.max_train_samples,
        "validation": data_args.max_eval_samples,
        "test": data_args.max_predict_samples,
    }
    examples = {}
    for split in wanted_splits(training_args):
        of_split = list(islice(read_examples(read_split(split, data_args)), limits[split]))
        if not of_split:
            raise ValueError(
                f"the {split} data must hold at least one question, got none in {origin(split, data_args)}"
            )
        for example in of_split:
            if not example["answers"]["text"] and not data_args.allow_no_answer:
                raise ValueError(
                    f"{example['place']}: there must be an answer; give --allow_no_answer where some questions have "
                    "none in their context"
                )
        examples[split] = Dataset.from_list(of_split)
        logger.info(f"{split}: {len(of_split):,} questions of {origin(split, data_args)}")
    return examples


def read_split(split: str, data_args: DataArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a split with their places, of the files or of the data set on the Hub."""
    if data_args.dataset_name is None:
        yield from read_rows(getattr(data_args, f"{split}_file"))
        return
    dataset = load_split(split, data_args)
    for number, row in enumerate(dataset, start=1):
        yield f"{data_args.dataset_name}, {split}, row {number}", row


def make_tokenizer(
    pretrained: str | None,
    examples: dict[str, Dataset],
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
) -> PreTrainedTokenizerBase:
    name = pretrained or model_args.tokenizer_name
    # the main process trains and saves, so that all processes load the same tokens
    if name is None and training_args.process_index == 0:
        train = examples["train"]
        texts = chain(dict.fromkeys(train["context"]), train["question"])
        options = {"min_frequency": model_args.min_frequency, "lowercase": model_args.lowercase}
        tokenizer = train_tokenizer(texts, model_args.tokenizer, model_args.vocab_size, **options)
        tokenizer.save_pretrained(training_args.output_dir)
    tokenizer = AutoTokenizer.from_pretrained(
        name or training_args.output_dir, trust_remote_code=model_args.trust_remote_code
    )
    # the pipeline takes the window's size from there
    tokenizer.model_max_length = min(tokenizer.model_max_length, data_args.max_seq_length)
    tokenizer.padding_side = "right"  # logits meet their tokens by position
    return tokenizer


def make_model(
    pretrained: str | None, tokenizer: PreTrainedTokenizerBase, model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None:
        return AutoModelForQuestionAnswering.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
    config = AttentionRnnConfig(
        **parse_config_overrides(model_args.config_overrides),
        vocab_size=len(tokenizer),
        **special_token_ids(tokenizer),
        decoder_start_token_id=None,
        is_encoder_decoder=False,
    )
    return AutoModelForQuestionAnswering.from_config(config)


def encode(split: str, examples: Dataset, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments) -> Dataset:
    """The windows of the contexts; `example` says which question each belongs to."""

    def tokenize(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        windows = encode_windows(
            tokenizer,
            batch["question"],
            batch["context"],
            tokenizer.model_max_length,
            data_args.max_question_length,
            data_args.doc_stride,
        )
        starts, ends = [], []
        for index, offsets in zip(windows["example"], windows["context_offsets"], strict=True):
            answers = batch["answers"][index]
            span = None
            if answers["text"]:
                text, start = answers["text"][0], answers["answer_start"][0]
                span = answer_positions(offsets, start, start + len(text))
            # a window without the answer points at the first token
            first, last = span or (0, 0)
            starts.append(first)
            ends.append(last)
        columns = {name: windows[name] for name in tokenizer.model_input_names if name in windows}
        return {
            **columns,
            "start_positions": starts,
            "end_positions": ends,
            "example": [indices[index] for index in windows["example"]],
            "offsets": [[offset or (-1, -1) for offset in offsets] for offsets in windows["context_offsets"]],
        }

    encoded = examples.map(
        tokenize, batched=True, with_indices=True, remove_columns=examples.column_names, desc=f"tokenizing {split}"
    )
    if len(encoded) > len(examples):
        logger.info(
            f"{split}: {len(examples):,} contexts in {len(encoded):,} windows of --max_seq_length "
            f"{tokenizer.model_max_length} tokens"
        )
    return encoded


def answer(
    predictions: tuple[np.ndarray, ...], examples: Dataset, encoded: Dataset, data_args: DataArguments
) -> list[list[dict[str, Any]]]:
    """The best answers to each question, from the logits of its windows."""
    windows: list[list[Window]] = [[] for _ in examples]
    # several processes fill up with repeated windows at the end
    for index, offsets, start_logits, end_logits in zip(
        encoded["example"], encoded["offsets"], *predictions[:2], strict=False
    ):
        logits = (torch.from_numpy(values[: len(offsets)]) for values in (start_logits, end_logits))
        windows[index].append(Window(*logits, [None if start < 0 else (start, end) for start, end in offsets]))
    return [
        find_answers(context, of_example, data_args.n_best, data_args.max_answer_length, data_args.allow_no_answer)
        for context, of_example in zip(examples["context"], windows, strict=True)
    ]


def score(answers: list[list[dict[str, Any]]], examples: Dataset, data_args: DataArguments) -> dict[str, float]:
    predictions = [of_example[0]["answer"] for of_example in answers]
    references = [of_example["text"] or [""] for of_example in examples["answers"]]
    scores: dict[str, float] = {}
    for name in METRICS:
        metric = load_metric(name, unit=data_args.answer_unit)
        scores |= metric.compute(predictions=predictions, references=references)
    return scores


def write_predictions(output_dir: Path, examples: Dataset, answers: list[list[dict[str, Any]]]) -> None:
    """`predictions.json` as SQuAD's own script reads it, and `predictions.jsonl` to be read."""
    texts = {identifier: best["answer"] for identifier, (best, *_) in zip(examples["id"], answers, strict=True)}
    (output_dir / "predictions.json").write_text(json.dumps(texts, ensure_ascii=False, indent=1), encoding="utf-8")
    with open(output_dir / "predictions.jsonl", "w", encoding="utf-8") as file:
        for example, of_example in zip(examples, answers, strict=True):
            row = {
                "id": example["id"],
                "question": example["question"],
                "prediction": of_example[0]["answer"],
                "references": example["answers"]["text"],
                "answers": of_example,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def draw_attention(
    trainer: ReliableTrainer, examples: Dataset, answers: list[list[dict[str, Any]]], data_args: DataArguments
) -> list[str]:
    """
    Draw how the context around the first answers looks at the question, each as a picture and all on one page to point
    at; returns the pictures, relative to the output folder.
    """
    model, tokenizer, pictures, alignments = trainer.model.eval(), trainer.processing_class, [], []
    folder = Path(trainer.args.output_dir, "attention_maps")
    for number, example in enumerate(examples.select(range(min(data_args.num_heat_maps, len(examples))))):
        best = answers[number][0]
        windows = encode_windows(
            tokenizer,
            [example["question"]],
            [example["context"]],
            tokenizer.model_max_length,
            data_args.max_question_length,
            data_args.doc_stride,
        )
        spans = [answer_positions(offsets, best["start"], best["end"]) for offsets in windows["context_offsets"]]
        index, span = next(((index, span) for index, span in enumerate(spans) if span is not None), (0, None))
        if span is None:
            continue  # no answer
        inputs = {name: torch.tensor([windows[name][index]]) for name in tokenizer.model_input_names if name in windows}
        with torch.no_grad():
            outputs = model(**{k: v.to(model.device) for k, v in inputs.items()}, output_attentions=True)
        if not outputs.attentions:
            break  # a model without attention
        offsets = windows["context_offsets"][index]
        tokens = tokenizer.convert_ids_to_tokens(windows["input_ids"][index])
        first = next(position for position, offset in enumerate(offsets) if offset is not None)
        question = range(first - 1)
        rows = [
            position
            for position in range(span[0] - HEAT_MAP_MARGIN, span[1] + HEAT_MAP_MARGIN + 1)
            if 0 <= position < len(offsets) and offsets[position] is not None
        ]
        weights = outputs.attentions[0][0, 0][rows][:, question]
        of_question, of_context = [tokens[i] for i in question], [tokens[i] for i in rows]
        title = f"{example['question']} {best['answer']}"
        alignments.append(Alignment(weights, of_question, of_context, title))
        pictures.append(f"{folder.name}/{number}.png")
        folder.mkdir(exist_ok=True)
        plot_alignment(weights, of_question, of_context, title=title).savefig(folder / f"{number}.png")
    if alignments:
        write_alignment_page(folder / "attention.html", alignments)
    return pictures


def write_card(
    trainer: ReliableTrainer,
    examples: dict[str, Dataset],
    scores: dict[str, dict[str, float]],
    training_seconds: float | None,
    pictures: list[str],
    argv: list[str],
    model_args: ModelArguments,
    data_args: DataArguments,
) -> None:
    name = trainer.hub_model_id if trainer.args.push_to_hub else Path(trainer.args.output_dir).resolve().name
    example = examples[list(examples)[-1]][0]
    question, context = (json.dumps(example[key], ensure_ascii=False) for key in ("question", "context"))
    usage = USAGE.format(name=json.dumps(name), question=question, context=context)
    if trainer.model.config.model_type == AttentionRnnConfig.model_type:
        usage = f"```python\nimport attention_rnn  # pip install attention-rnn\n{usage}```\n\n"
        usage += REMOTE_CODE_USAGE.format(name=json.dumps(name))
        usage += ATTENTION_USAGE.format(picture=pictures[0]) if pictures else ""
    else:
        usage = f"```python\nimport attention_rnn  # brings this pipeline back\n{usage}```"
    no_answer = "It may say that there is none." if data_args.allow_no_answer else "It always finds one."
    write_model_card(
        trainer.args.output_dir,
        model=trainer.model,
        name=name,
        task=data_args.task,
        usage=usage,
        limits=LIMITS.format(
            max_answer_length=data_args.max_answer_length,
            max_question_length=data_args.max_question_length,
            no_answer=no_answer,
        ),
        results=scores,
        data={split: (origin(split, data_args), len(of_split)) for split, of_split in examples.items()},
        dataset_name=data_args.dataset_name if is_hub_name(data_args.dataset_name) else None,
        dataset_config_name=data_args.dataset_config_name,
        command=["python", "run_qa.py", *argv],
        training_args=trainer.args,
        training_seconds=training_seconds,
        base_model=model_args.model_name_or_path if is_hub_name(model_args.model_name_or_path) else None,
        language=data_args.language,
        license=data_args.license,
    )


if __name__ == "__main__":
    main()
