r"""Train an attention RNN, or fine-tune any other sequence-to-sequence model, on pairs of strings.

    python examples/run_seq2seq.py --do_train --do_eval --do_predict --output_dir runs/g2p \
        --train_file train.tsv --validation_file dev.tsv --test_file test.tsv --column_names word phones \
        --source_tokenizer character --target_tokenizer word --metrics exact_match wer

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the predictions, heat maps of
the attention and a model card. Needs `pip install attention-rnn[train,plot]`.
"""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    EvalPrediction,
    HfArgumentParser,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

from attention_rnn import AttentionRnnConfig
from attention_rnn.alignment import Alignment, alignment_from_outputs
from attention_rnn.copying import CopyVocabulary, DataCollatorForCopying
from attention_rnn.data import choose_columns, drop_empty, get_text, read_rows
from attention_rnn.hub import write_model_card
from attention_rnn.metrics import METRICS, TextMetric, load_metric
from attention_rnn.plotting import plot_alignment, write_alignment_page
from attention_rnn.tokenization import TokenizerKind, pair_tokenizers, train_tokenizer
from attention_rnn.training import (
    ScriptTrainer,
    ScriptTrainingArguments,
    check_files,
    check_values,
    delete_run,
    expand_config_file,
    find_checkpoint,
    is_hub_name,
    load_split,
    origin,
    parse_config_overrides,
    special_token_ids,
    train_and_save,
    wanted_splits,
)

logger = logging.getLogger("run_seq2seq")

LOWER_IS_BETTER = ("loss", "wer", "cer")
SMALLEST_VALUES = {
    "max_source_length": 2,
    "max_target_length": 2,
    "max_train_samples": 1,
    "max_eval_samples": 1,
    "max_predict_samples": 1,
    "num_beams": 1,
    "num_heat_maps": 0,
}
SHUFFLE_BUFFER = 10_000  # streamed examples to shuffle among
TOKENIZER_SAMPLE = 200_000  # streamed examples to train a tokenizer on

USAGE = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoModelForSeq2SeqLM.from_pretrained({name})
inputs = tokenizer([{source}], return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))
"""
COPY_USAGE = """

To copy words that the vocabulary lacks as well, let it be extended by those of each source:

```python
from attention_rnn.copying import CopyVocabulary

copying = CopyVocabulary(tokenizer, model.config.vocab_size)
inputs, unknown_words = copying.encode_sources([{source}], return_tensors="pt")
print(copying.batch_decode(model.generate(**inputs), unknown_words))
```"""
REMOTE_CODE_USAGE = """Without `import attention_rnn`, the code that the checkpoint carries does the same:

```python
tokenizer = AutoTokenizer.from_pretrained({name}, trust_remote_code=True)
model = AutoModelForSeq2SeqLM.from_pretrained({name}, trust_remote_code=True)
```"""
LIMITS = """The model turns texts like the sources of its training data into texts like their targets. On other texts
expect worse than the scores above. It saw at most {max_source_length} tokens of a source in training, and reads what
its vocabulary lacks as `<unk>`. It repeats the errors and biases of its training data, and nothing was tested beyond
the scores above."""


@dataclass
class ModelArguments:
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint to fine-tune, of any AutoModelForSeq2SeqLM."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with that checkpoint."})
    config_overrides: str | None = field(
        default=None,
        metadata={"help": "Fields of AttentionRnnConfig for a new model: hidden_size=256,encoder_layers=2"},
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Existing tokenizer for a new model."})
    source_tokenizer: str = field(
        default="bpe", metadata={"help": "Tokenizer to train on the sources: bpe, unigram, word or character."}
    )
    target_tokenizer: str | None = field(
        default=None, metadata={"help": "The same for the targets. Default: as the source's."}
    )
    shared_vocabulary: bool = field(default=False, metadata={"help": "Train one tokenizer on both sides together."})
    vocab_size: int = field(default=10_000, metadata={"help": "Largest vocabulary of a trained tokenizer."})
    source_vocab_size: int | None = field(default=None, metadata={"help": "The same for the source, if different."})
    min_frequency: int = field(default=1, metadata={"help": "Occurrences that a unit of a trained tokenizer needs."})
    lowercase: bool = field(default=False, metadata={"help": "Whether trained tokenizers lower-case the text."})
    source_normalization: str = field(
        default="NFC",
        metadata={"help": "Unicode form that a tokenizer of sources alone brings them to; NFD takes letters apart."},
    )


@dataclass
class DataArguments:
    """What to read, and what to do with it."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": "csv, tsv, json or jsonl with one pair a row, or, with train_target_file, text with one source a "
            "line. May be compressed (.gz). A tsv file has no quoting."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_file: str | None = field(default=None, metadata={"help": "The same for testing."})
    train_target_file: str | None = field(default=None, metadata={"help": "Text with one target a line."})
    validation_target_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_target_file: str | None = field(default=None, metadata={"help": "The same for testing."})
    file_format: str | None = field(
        default=None, metadata={"help": "csv, tsv, json or jsonl. Default: the extension of each file."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub with the splits train, validation, test; or a folder."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    streaming: bool = field(
        default=False, metadata={"help": "Read the training data while training. Needs --max_steps."}
    )
    column_names: list[str] | None = field(
        default=None, metadata={"help": "Columns of csv and tsv files that have no header."}
    )
    source_column: str | None = field(
        default=None,
        metadata={"help": "Column of the source; translation.en is the entry en in the column translation."},
    )
    target_column: str | None = field(
        default=None, metadata={"help": "Column of the target. Default for both: the first columns."}
    )
    source_prefix: str = field(default="", metadata={"help": "Text to put before each source."})
    max_source_length: int = field(default=256, metadata={"help": "Longer sources are cut to that many tokens."})
    max_target_length: int = field(default=256, metadata={"help": "Longer targets are cut to that many tokens."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use that many training examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use that many validation examples."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use that many test examples."})
    bleu_tokenize: str = field(default="13a", metadata={"help": "How sacrebleu tokenizes for BLEU."})
    num_beams: int = field(
        default=5,
        metadata={"help": "Beams of the final evaluation and test; within training --generation_num_beams counts."},
    )
    num_heat_maps: int = field(default=4, metadata={"help": "Test items of which to draw the attention."})
    task: str = field(default="translation", metadata={"help": "The task as the model card tells the Hub."})
    language: list[str] | None = field(default=None, metadata={"help": "Languages for the card, ISO 639 codes."})
    license: str | None = field(default=None, metadata={"help": "Licence for the card, the Hub's identifier."})


@dataclass
class TrainingArguments(ScriptTrainingArguments, Seq2SeqTrainingArguments):
    """The arguments of Seq2SeqTrainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by the first of `metrics` is kept.
    """

    num_train_epochs: float = field(default=20.0, metadata={"help": "Epochs to train."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Training examples per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Evaluation examples per device and step."})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "Which examples form a batch: random, group_by_length, ..."}
    )
    predict_with_generate: bool = field(default=True, metadata={"help": "Evaluate what is generated."})
    generation_num_beams: int | None = field(default=1, metadata={"help": "Beams of evaluations within training."})
    metrics: list[str] = field(
        default_factory=lambda: ["chrf", "exact_match"],
        metadata={"help": f"Any of {', '.join(METRICS)}; the first one selects the best model."},
    )

    def __post_init__(self):
        if not self.predict_with_generate:
            raise ValueError("--predict_with_generate must stay True: the metrics need generated text")
        self.settle_evaluation()
        if self.metric_for_best_model is None and self.load_best_model_at_end:
            self.metric_for_best_model = self.metrics[0]
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") not in LOWER_IS_BETTER
        super().__post_init__()


class Trainer(ScriptTrainer, Seq2SeqTrainer):
    """Evaluates what the model generates."""


def main(argv: list[str] | None = None) -> dict[str, dict[str, float | str]]:
    argv = expand_config_file(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments), allow_abbrev=False)
    model_args, data_args, training_args = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO if training_args.process_index == 0 else logging.ERROR)

    check_arguments(model_args, data_args, training_args)
    metrics = {
        name: load_metric(name, **({"tokenize": data_args.bleu_tokenize} if name == "bleu" else {}))
        for name in training_args.metrics
    }
    output_dir = Path(training_args.output_dir)
    checkpoint = find_checkpoint(output_dir, training_args.resume_from_checkpoint, training_args.overwrite_output_dir)
    pretrained = checkpoint or model_args.model_name_or_path
    pairs = read_splits(data_args, training_args)

    set_seed(training_args.seed)
    with training_args.main_process_first(local=False, desc="preparing the output folder"):
        if training_args.overwrite_output_dir and checkpoint is None and training_args.process_index == 0:
            delete_run(output_dir)
        tokenizer = make_tokenizer(pretrained, pairs, model_args, training_args)
    model = make_model(pretrained, tokenizer, model_args)
    model.generation_config.num_beams = data_args.num_beams
    # one more than the labels, for the decoder's start token
    model.generation_config.max_length = training_args.generation_max_length or data_args.max_target_length + 1
    copying = CopyVocabulary(tokenizer, model.config.vocab_size) if getattr(model.config, "copy", False) else None
    encoded = {split: encode(split, examples, tokenizer, copying, data_args) for split, examples in pairs.items()}

    def evaluate(split: str, generated: np.ndarray) -> tuple[dict[str, float | str], list[str]]:
        predictions = decode(generated, pairs[split], encoded[split], tokenizer, copying)
        return score(predictions, pairs[split], metrics), predictions

    def compute_metrics(output: EvalPrediction) -> dict[str, float]:
        scores, _ = evaluate("validation", output.predictions)
        return {name: value for name, value in scores.items() if not isinstance(value, str)}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorForCopying(tokenizer, model=model),
        compute_metrics=compute_metrics,
    )
    if training_args.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(training_args.early_stopping_patience))

    training_seconds = None
    if training_args.do_train:
        training_seconds = train_and_save(trainer, checkpoint)

    all_scores = {}
    trainer.compute_metrics = None  # it knows the references of the validation alone, and drops the signatures
    for split, name in (("validation", "eval"), ("test", "predict")):
        if split not in pairs:
            continue
        output = trainer.predict(encoded[split], metric_key_prefix=name, num_beams=data_args.num_beams)
        all_scores[split], predictions = evaluate(split, output.predictions)
        result = output.metrics | {f"{name}_{metric}": value for metric, value in all_scores[split].items()}
        trainer.log_metrics(name, result)
        trainer.save_metrics(name, result)
        if split == "test" and trainer.is_world_process_zero():
            write_predictions(output_dir, pairs[split], predictions)

    if trainer.is_world_process_zero():
        shown = pairs.get("test", pairs.get("validation"))
        pictures = (
            draw_attention(trainer, shown, copying, data_args) if shown is not None and trainer.has_whole_model else []
        )
        if training_args.do_train:
            write_card(trainer, pairs, all_scores, training_seconds, pictures, argv, model_args, data_args)
        logger.info(f"All results lie in {training_args.output_dir}.")
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return all_scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    splits = wanted_splits(training_args)
    check_files(data_args, training_args)
    if data_args.streaming and "train" in splits and training_args.max_steps < 1:
        raise ValueError(f"--streaming needs --max_steps of at least 1, got {training_args.max_steps}")
    check_values(data_args, training_args, SMALLEST_VALUES)
    for name in training_args.metrics:
        if name not in METRICS:
            raise ValueError(f"--metrics must be among {', '.join(METRICS)}, got {name!r}")
    best = training_args.metric_for_best_model
    if best is not None and best.removeprefix("eval_") not in ("loss", *training_args.metrics):
        raise ValueError(
            f"--metric_for_best_model must be loss or one of --metrics {training_args.metrics}, got {best!r}"
        )

    if model_args.model_name_or_path is not None:
        if model_args.config_overrides is not None or model_args.tokenizer_name is not None:
            raise ValueError(
                "--model_name_or_path brings its config and tokenizer: no --config_overrides, --tokenizer_name"
            )
        return
    if "train" not in splits:
        raise ValueError("--do_eval and --do_predict without --do_train need --model_name_or_path")
    config = AttentionRnnConfig(**parse_config_overrides(model_args.config_overrides))
    if config.copy and not model_args.shared_vocabulary and model_args.tokenizer_name is None:
        raise ValueError(
            "--config_overrides copy=True needs --shared_vocabulary: what is copied must be a target token"
        )
    if model_args.source_normalization != "NFC" and model_args.shared_vocabulary:
        raise ValueError(
            f"--source_normalization {model_args.source_normalization} needs a vocabulary of the source alone: "
            "no --shared_vocabulary"
        )
    kinds = get_args(TokenizerKind)
    for name in ("source_tokenizer", "target_tokenizer"):
        if getattr(model_args, name) not in (*kinds, None):
            raise ValueError(f"--{name} must be one of {', '.join(kinds)}, got {getattr(model_args, name)!r}")
    if model_args.shared_vocabulary and (
        model_args.target_tokenizer not in (None, model_args.source_tokenizer)
        or model_args.source_vocab_size is not None
    ):
        raise ValueError("--shared_vocabulary makes one tokenizer: no other --target_tokenizer, no --source_vocab_size")


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset | IterableDataset]:
    """The pairs of each split, in the columns `source` and `target`."""
    limits = {
        "train": data_args.max_train_samples,
        "validation": data_args.max_eval_samples,
        "test": data_args.max_predict_samples,
    }
    splits = wanted_splits(training_args)
    for split in splits:
        settle_columns(split, data_args)
    pairs: dict[str, Dataset | IterableDataset] = {}
    for split in splits:
        examples = partial(read_pairs, split, data_args, limits[split])
        if data_args.streaming and split == "train":
            stream = IterableDataset.from_generator(examples)
            pairs[split] = stream.shuffle(seed=training_args.seed, buffer_size=SHUFFLE_BUFFER)
        else:
            pairs[split] = Dataset.from_list(list(examples()))
            logger.info(f"{split}: {len(pairs[split]):,} examples of {origin(split, data_args)}")
    return pairs


def settle_columns(split: str, data_args: DataArguments) -> None:
    """Choose the columns of the source and the target, where the arguments do not name them."""
    place, row = next(read_split(split, data_args), ("", None))
    if row is None:
        raise ValueError(f"the {split} data must hold at least one example, got none in {origin(split, data_args)}")
    given = {"source": data_args.source_column, "target": data_args.target_column}
    data_args.source_column, data_args.target_column = choose_columns(row, place, **given)


def read_pairs(split: str, data_args: DataArguments, limit: int | None) -> Iterator[dict[str, str]]:
    def pairs() -> Iterator[dict[str, str]]:
        for place, row in islice(read_split(split, data_args), limit):
            source, target = (get_text(row, name, place) for name in (data_args.source_column, data_args.target_column))
            yield {"source": source and data_args.source_prefix + source, "target": target}

    yield from drop_empty(pairs(), ["source", "target"], origin(split, data_args)) if split == "train" else pairs()


def read_split(split: str, data_args: DataArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a split with their places, of the files or of the data set on the Hub."""
    if data_args.dataset_name is None:
        yield from read_rows(
            getattr(data_args, f"{split}_file"),
            getattr(data_args, f"{split}_target_file"),
            file_format=data_args.file_format,
            column_names=data_args.column_names,
            wanted_columns=[data_args.source_column, data_args.target_column],
        )
        return
    dataset = load_split(split, data_args, data_args.streaming)
    for number, row in enumerate(dataset, start=1):
        yield f"{data_args.dataset_name}, {split}, row {number}", row


def make_tokenizer(
    pretrained: str | None,
    pairs: dict[str, Dataset | IterableDataset],
    model_args: ModelArguments,
    training_args: TrainingArguments,
) -> PreTrainedTokenizerBase:
    name = pretrained or model_args.tokenizer_name
    if name is not None:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=model_args.trust_remote_code)
    # the main process trains and saves, so that all processes load the same tokens
    if training_args.process_index == 0:
        train_tokenizers(pairs["train"], model_args).save_pretrained(training_args.output_dir)
    return AutoTokenizer.from_pretrained(training_args.output_dir)


def train_tokenizers(examples: Dataset | IterableDataset, model_args: ModelArguments) -> PreTrainedTokenizerBase:
    if isinstance(examples, IterableDataset):
        examples = examples.take(TOKENIZER_SAMPLE)

    def texts(side: str) -> Iterator[str]:
        return (example[side] for example in examples)

    kinds = {
        "source": model_args.source_tokenizer,
        "target": model_args.target_tokenizer or model_args.source_tokenizer,
    }
    sizes = {"source": model_args.source_vocab_size or model_args.vocab_size, "target": model_args.vocab_size}
    options = {"min_frequency": model_args.min_frequency, "lowercase": model_args.lowercase}
    if model_args.shared_vocabulary:
        return train_tokenizer(chain(texts("source"), texts("target")), kinds["source"], sizes["target"], **options)
    forms = {"source": model_args.source_normalization, "target": "NFC"}
    source, target = (
        train_tokenizer(texts(side), kinds[side], sizes[side], normalization=forms[side], **options) for side in kinds
    )
    return pair_tokenizers(source, target)


def make_model(
    pretrained: str | None, tokenizer: PreTrainedTokenizerBase, model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None:
        return AutoModelForSeq2SeqLM.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
    target_tokenizer = getattr(tokenizer, "target", tokenizer)
    has_bos = tokenizer.bos_token_id is not None
    config = AttentionRnnConfig(
        **parse_config_overrides(model_args.config_overrides),
        vocab_size=len(target_tokenizer),
        source_vocab_size=len(tokenizer) if target_tokenizer is not tokenizer else None,
        **special_token_ids(tokenizer),
        decoder_start_token_id=tokenizer.bos_token_id if has_bos else tokenizer.pad_token_id,
    )
    return AutoModelForSeq2SeqLM.from_config(config)


def encode(
    split: str,
    examples: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    copying: CopyVocabulary | None,
    data_args: DataArguments,
) -> Dataset | IterableDataset:
    """Turn text into ids, and warn once of what is cut."""
    sides = {
        "source": ("input_ids", "text", data_args.max_source_length),
        "target": ("labels", "text_target", data_args.max_target_length),
    }
    too_long: Counter[str] = Counter()

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        columns = {}
        for side, (column, argument, max_length) in sides.items():
            columns[column] = tokenizer(**{argument: batch[side]})["input_ids"]
            if excess := sum(len(ids) > max_length for ids in columns[column]):
                too_long[side] += excess
                cut = tokenizer(**{argument: batch[side]}, truncation=True, max_length=max_length)
                columns[column] = cut["input_ids"]
        if copying is not None:
            unknown_words = copying.unknown_words(batch["source"], columns["input_ids"])
            columns["copy_ids"] = copying.extend(batch["source"], columns["input_ids"], unknown_words)
            columns["labels"] = copying.extend(batch["target"], columns["labels"], unknown_words)
        return columns

    options = {} if isinstance(examples, IterableDataset) else {"desc": f"tokenizing {split}"}
    encoded = examples.map(tokenize, batched=True, remove_columns=["source", "target"], **options)
    for side, count in too_long.items():
        logger.warning(
            f"{count:,} of {len(examples):,} {side}s of the {split} data are longer than --max_{side}_length "
            f"{sides[side][2]} and were cut."
        )
    return encoded


def decode(
    generated: np.ndarray,
    examples: Dataset,
    encoded: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    copying: CopyVocabulary | None,
) -> list[str]:
    """The text of generated ids."""
    # the Trainer fills up with -100, and several processes with repeated examples at the end
    generated = np.where(generated < 0, tokenizer.pad_token_id, generated)[: len(examples)]
    if copying is None:
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
    else:
        texts = copying.batch_decode(generated, copying.unknown_words(examples["source"], encoded["input_ids"]))
    return [text.strip() for text in texts]


def score(predictions: list[str], examples: Dataset, metrics: dict[str, TextMetric]) -> dict[str, float | str]:
    references = list(examples["target"])
    scores: dict[str, float | str] = {}
    for metric in metrics.values():
        scores |= metric.compute(predictions=predictions, references=references)
    return scores


def write_predictions(output_dir: Path, examples: Dataset, predictions: list[str]) -> None:
    with open(output_dir / "generated_predictions.jsonl", "w", encoding="utf-8") as file:
        for example, prediction in zip(examples, predictions, strict=True):
            row = {"source": example["source"], "prediction": prediction, "reference": example["target"]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def draw_attention(
    trainer: Trainer, examples: Dataset, copying: CopyVocabulary | None, data_args: DataArguments
) -> list[str]:
    """
    Draw the attention over the first examples, each as a picture and all on one page to point at; returns the pictures,
    relative to the output folder.
    """
    model, tokenizer, pictures, alignments = trainer.model.eval(), trainer.processing_class, [], []
    folder = Path(trainer.args.output_dir, "attention_maps")
    model.set_attn_implementation("eager")  # others do not return the weights
    for number, source in enumerate(examples["source"][: data_args.num_heat_maps]):
        options = {"truncation": True, "max_length": data_args.max_source_length, "return_tensors": "pt"}
        if copying is None:
            inputs = tokenizer([source], **options)
        else:
            inputs, (unknown_words,) = copying.encode_sources([source], **options)
        outputs = model.generate(**inputs.to(model.device), output_attentions=True, return_dict_in_generate=True)
        if not outputs.cross_attentions or not len(outputs.cross_attentions[0]):
            break  # a model without attention
        if copying is None:
            source_tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
            target_tokens = getattr(tokenizer, "target", tokenizer).convert_ids_to_tokens(outputs.sequences[0, 1:])
        else:
            source_tokens = copying.convert_ids_to_tokens(inputs["copy_ids"][0], unknown_words)
            target_tokens = copying.convert_ids_to_tokens(outputs.sequences[0, 1:], unknown_words)
        alignments.append(Alignment(alignment_from_outputs(outputs)[0], source_tokens, target_tokens))
        pictures.append(f"{folder.name}/{number}.png")
        folder.mkdir(exist_ok=True)
        plot_alignment(*alignments[-1][:3]).savefig(folder / f"{number}.png")
    if alignments:
        write_alignment_page(folder / "attention.html", alignments)
    return pictures


def write_card(
    trainer: Trainer,
    pairs: dict[str, Dataset | IterableDataset],
    scores: dict[str, dict[str, float | str]],
    training_seconds: float | None,
    pictures: list[str],
    argv: list[str],
    model_args: ModelArguments,
    data_args: DataArguments,
) -> None:
    name = trainer.hub_model_id if trainer.args.push_to_hub else Path(trainer.args.output_dir).resolve().name
    example = next(iter(pairs[list(pairs)[-1]]))["source"]
    values = {"name": json.dumps(name), "source": json.dumps(example, ensure_ascii=False)}
    usage = USAGE.format(**values)
    if trainer.model.config.model_type == AttentionRnnConfig.model_type:
        usage = f"```python\nimport attention_rnn  # pip install attention-rnn\n{usage}```\n\n"
        usage += REMOTE_CODE_USAGE.format(**values) + (COPY_USAGE.format(**values) if trainer.model.config.copy else "")
    else:
        usage = f"```python\n{usage}```"
    write_model_card(
        trainer.args.output_dir,
        model=trainer.model,
        name=name,
        task=data_args.task,
        usage=usage,
        limits=LIMITS.format(max_source_length=data_args.max_source_length),
        results=scores,
        data={
            split: (origin(split, data_args), None if isinstance(examples, IterableDataset) else len(examples))
            for split, examples in pairs.items()
        },
        dataset_name=data_args.dataset_name if is_hub_name(data_args.dataset_name) else None,
        dataset_config_name=data_args.dataset_config_name,
        command=["python", "run_seq2seq.py", *argv],
        training_args=trainer.args,
        training_seconds=training_seconds,
        base_model=model_args.model_name_or_path if is_hub_name(model_args.model_name_or_path) else None,
        language=data_args.language,
        license=data_args.license,
        picture=pictures[0] if pictures else None,
    )


if __name__ == "__main__":
    main()
