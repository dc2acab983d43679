r"""Train an attention RNN, or fine-tune any other reader, to answer questions by a span of a context.

    python examples/run_qa.py --do_train --do_eval --output_dir runs/qa --train_file train.json \
        --validation_file dev.json

Files are as SQuAD has them: one json file, or jsonl with a paragraph (`context`, `qas`) or a question (`question`,
`context`, `answers`) a line. A context longer than --max_seq_length is read in windows that overlap. For a language
that writes no spaces give --tokenizer character --answer_unit character.

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the answers, heat maps of the
attention and a model card. Needs `pip install 'attention-rnn[train,plot]'`.
"""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attention_rnn import AttentionRnnConfig, ReliableTrainer
from attention_rnn.arguments import (
    ExampleDataArguments,
    ScriptModelArguments,
    ScriptTrainingArguments,
    check_choice,
    check_shared_arguments,
    option,
    settle_sizes,
    wanted_splits,
)
from attention_rnn.data import drop_empty, write_json_lines
from attention_rnn.heat_maps import qa_alignments
from attention_rnn.metrics import describe_metrics, load_metric, score_texts
from attention_rnn.question_answering import Window, answer_positions, encode_windows, find_answers
from attention_rnn.question_answering import read_examples as read_questions
from attention_rnn.tokenizer_training import TokenizerKind, warn_of_poor_tokens
from attention_rnn.training import (
    address_of_model,
    load_or_train_tokenizer,
    origin,
    read_examples,
    read_split,
    special_token_ids,
    start_run,
    train_new_tokenizer,
)
from attention_rnn.usage import qa_limits, qa_usage

try:
    from datasets import Dataset
except ImportError as error:
    raise ImportError(f"run_qa.py needs more packages ({error}): pip install 'attention-rnn[train]'") from error

logger = logging.getLogger("run_qa")

METRICS = ("answer_f1", "answer_exact_match")
SMALLEST_VALUES = {
    "max_seq_length": 8,
    "max_question_length": 1,
    "doc_stride": 0,
    "max_answer_length": 1,
    "n_best": 1,
}
SIZES_FOR_FEW_EXAMPLES = {"hidden_size": 128, "embedding_size": 128}
STEPS_ON_A_CPU = 1_000
NO_ANSWER = {"answer": "", "score": 1.0, "start": 0, "end": 0}  # to what is empty


@dataclass
class ModelArguments(ScriptModelArguments):
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    model_name_or_path: str | None = option(
        None,
        "Checkpoint to fine-tune, of any AutoModelForQuestionAnswering; of an attention RNN that translates, the "
        "encoder is taken.",
    )
    tokenizer: str = option(
        "auto", "Tokenizer to train: bpe, unigram, word or character; auto decides by the contexts."
    )


@dataclass
class DataArguments(ExampleDataArguments):
    """What to read, and what to do with it."""

    train_file: str | None = option(None, "json or jsonl as SQuAD has it. May be compressed (.gz).")
    allow_no_answer: bool = option(False, "Some questions have no answer in their context, as in SQuAD 2.")
    max_seq_length: int = option(384, "Tokens of a window, its question included.")
    max_question_length: int = option(64, "Longer questions are cut to that many tokens.")
    doc_stride: int = option(128, "Tokens that a window shares with the next one.")
    max_answer_length: int = option(30, "Tokens of the longest answer to look for.")
    n_best: int = option(1, "Answers to write for each question.")
    answer_unit: str = option("word", "What answers are compared by: word, as SQuAD does, or character.")
    task: str = option("question-answering", "The task as the model card tells the Hub.")


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by `answer_f1` is kept.
    """

    num_train_epochs: float = option(
        None, "Epochs to train. Default: 10; on a CPU as many as make 1,000 steps, and at least 2."
    )
    per_device_train_batch_size: int = option(
        None, "Training windows per device and step. Default: 32, or fewer for few windows."
    )
    per_device_eval_batch_size: int = option(64, "Evaluation windows per device and step.")
    metric_for_best_model: str | None = option(None, f"{', '.join(METRICS)} or loss. Default: {METRICS[0]}.")

    def __post_init__(self):
        self.settle_evaluation(METRICS[0])
        self.settle_length(epochs=10, batch_size=32)
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    run = start_run("run_qa.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)

    examples = read_splits(data_args, training_args)
    with run.prepare():
        tokenizer = make_tokenizer(run.pretrained, examples, model_args, data_args, training_args)
    model = make_model(run.pretrained, tokenizer, len(examples.get("train", ())), model_args)
    encoded = {split: encode(split, of_split, tokenizer, data_args) for split, of_split in examples.items()}
    if "train" in encoded:
        most_steps = STEPS_ON_A_CPU if training_args.use_cpu else math.inf
        training_args.suit_length(len(encoded["train"]), most_steps=most_steps)

    metrics = {name: load_metric(name, unit=data_args.answer_unit) for name in METRICS}
    answers: dict[str, list[list[dict[str, Any]]]] = {}

    def score(split: str, logits: tuple[np.ndarray, ...]) -> dict[str, float]:
        answers[split] = answer(logits, examples[split], encoded[split], data_args)
        references = [of_example["text"] or [""] for of_example in examples[split]["answers"]]
        return score_texts([best["answer"] for best, *_ in answers[split]], references, metrics)

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        output = trainer.predict(encoded[split], metric_key_prefix=prefix)
        return output.metrics, score(split, output.predictions)

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda output: score("validation", output.predictions),
    )
    scores = run.train_and_evaluate(trainer, evaluate)

    picture, shown = None, list(examples)[-1]
    if shown in answers and trainer.is_world_process_zero():
        write_predictions(run.output_dir, examples[shown], answers[shown])
        first = zip(range(data_args.num_heat_maps), examples[shown], answers[shown], strict=False)
        asked = [(example["question"], example["context"], best) for _, example, (best, *_) in first]
        options = (data_args.max_question_length, data_args.doc_stride)
        picture = run.draw_heat_maps(trainer, qa_alignments(trainer.model, tokenizer, asked, *options))
    example = next(filter(is_whole, examples[shown]), {"question": "?", "context": "."})
    lengths = (data_args.max_question_length, data_args.max_answer_length)
    run.finish(
        trainer,
        task=data_args.task,
        usage=qa_usage(trainer.model, address_of_model(trainer), example["question"], example["context"], picture),
        limits=qa_limits(*lengths, data_args.allow_no_answer),
        data={split: (origin(split, data_args), len(of_split)) for split, of_split in examples.items()},
        explanations=describe_metrics(METRICS),
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    check_shared_arguments(model_args, data_args, training_args, SMALLEST_VALUES, METRICS)
    check_choice("answer_unit", data_args.answer_unit, ("word", "character"))
    check_choice("tokenizer", model_args.tokenizer, (*get_args(TokenizerKind), "auto"))


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The questions of each split, with their contexts and answers."""
    return read_examples(wanted_splits(training_args), partial(read_questions_of, data_args=data_args), data_args)


def read_questions_of(split: str, data_args: DataArguments) -> Iterator[dict[str, Any]]:
    examples = islice(read_questions(read_split(split, data_args), may_be_empty=True), data_args.limit(split))
    if split == "train":
        examples = drop_empty(examples, ["question", "context"], origin(split, data_args))
    for example in examples:
        if is_whole(example) and not example["answers"]["text"] and not data_args.allow_no_answer:
            raise ValueError(
                f"{example['place']}: there must be an answer; give --allow_no_answer where some questions have none "
                "in their context"
            )
        yield example


def is_whole(example: dict[str, Any]) -> bool:
    """Whether there is something to read; otherwise the answer is empty."""
    return bool(example["question"] and example["context"])


def make_tokenizer(
    pretrained: str | None,
    examples: dict[str, Dataset],
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
) -> PreTrainedTokenizerBase:
    def train() -> PreTrainedTokenizerBase:
        texts = [*dict.fromkeys(examples["train"]["context"]), *examples["train"]["question"]]
        return train_new_tokenizer("contexts and questions", lambda: texts, model_args.tokenizer, model_args)

    tokenizer = load_or_train_tokenizer(pretrained, model_args, training_args, train)
    # the pipeline takes the window's size from there
    tokenizer.model_max_length = min(tokenizer.model_max_length, data_args.max_seq_length)
    tokenizer.padding_side = "right"  # logits meet their tokens by position
    return tokenizer


def make_model(
    pretrained: str | None, tokenizer: PreTrainedTokenizerBase, examples: int | None, model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None:
        return AutoModelForQuestionAnswering.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
    config = AttentionRnnConfig(
        **settle_sizes(model_args.config_overrides, examples, SIZES_FOR_FEW_EXAMPLES),
        vocab_size=len(tokenizer),
        **special_token_ids(tokenizer),
        decoder_start_token_id=None,
        is_encoder_decoder=False,
    )
    return AutoModelForQuestionAnswering.from_config(config)


def encode(split: str, examples: Dataset, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments) -> Dataset:
    """The windows of the contexts; `example` says which question each belongs to."""
    positions = [position for position, example in enumerate(examples) if is_whole(example)]
    lengths = (tokenizer.model_max_length, data_args.max_question_length, data_args.doc_stride)

    def tokenize(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        windows = encode_windows(tokenizer, batch["question"], batch["context"], *lengths)
        spans = []
        for index, offsets in zip(windows["example"], windows["context_offsets"], strict=True):
            answers = batch["answers"][index]
            span = None
            if answers["text"]:
                text, start = answers["text"][0], answers["answer_start"][0]
                span = answer_positions(offsets, start, start + len(text))
            spans.append(span or (0, 0))  # a window without the answer points at the first token
        columns = {name: windows[name] for name in tokenizer.model_input_names if name in windows}
        return {
            **columns,
            "start_positions": [first for first, _ in spans],
            "end_positions": [last for _, last in spans],
            "example": [positions[indices[index]] for index in windows["example"]],
            "offsets": [[offset or (-1, -1) for offset in offsets] for offsets in windows["context_offsets"]],
        }

    options = {"batched": True, "with_indices": True, "remove_columns": examples.column_names}
    encoded = examples.select(positions).map(tokenize, desc=f"tokenizing {split}", **options)
    warn_of_poor_tokens(f"questions and contexts of the {split} data", encoded["input_ids"], tokenizer)
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
    options = (data_args.n_best, data_args.max_answer_length, data_args.allow_no_answer)
    return [
        find_answers(context, of_example, *options) if of_example else [NO_ANSWER]
        for context, of_example in zip(examples["context"], windows, strict=True)
    ]


def write_predictions(output_dir: Path, examples: Dataset, answers: list[list[dict[str, Any]]]) -> None:
    """`predictions.json` as SQuAD's own script reads it, and `predictions.jsonl` to be read."""
    texts = {identifier: best["answer"] for identifier, (best, *_) in zip(examples["id"], answers, strict=True)}
    (output_dir / "predictions.json").write_text(json.dumps(texts, ensure_ascii=False, indent=1), encoding="utf-8")
    rows = (
        {
            "id": example["id"],
            "question": example["question"],
            "prediction": of_example[0]["answer"],
            "references": example["answers"]["text"],
            "answers": of_example,
        }
        for example, of_example in zip(examples, answers, strict=True)
    )
    write_json_lines(output_dir / "predictions.jsonl", rows)


if __name__ == "__main__":
    main()
