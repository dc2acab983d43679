r"""Train an attention RNN, or fine-tune any other sequence-to-sequence model, on pairs of strings.

    python examples/run_seq2seq.py --do_train --do_eval --do_predict --output_dir runs/g2p \
        --train_file train.tsv --validation_file dev.tsv --test_file test.tsv --column_names word phones \
        --metrics exact_match per

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the predictions, heat maps of
the attention and a model card. Needs `pip install 'attention-rnn[train,plot]'`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from attention_rnn import AttentionRnnConfig, AttentionRnnEnsemble, ReliableSeq2SeqTrainingArguments
from attention_rnn.arguments import (
    ScriptModelArguments,
    ScriptTrainingArguments,
    TableDataArguments,
    check_choice,
    check_shared_arguments,
    option,
    parse_config_overrides,
    settle_sizes,
    wanted_splits,
)
from attention_rnn.augmentation import recombine
from attention_rnn.checkpoints import members_of, one_of, open_config
from attention_rnn.chunks import TargetChunks, writes_chunks
from attention_rnn.confusion import count_confusions, write_confusions
from attention_rnn.copy_vocabulary import CopyVocabulary, DataCollatorForCopying
from attention_rnn.data import drop_empty, get_text, write_json_lines
from attention_rnn.distillation import (
    DistillationArguments,
    DistillationTrainer,
    check_same_steps,
    check_same_tokens,
    open_teacher,
    write_targets,
)
from attention_rnn.heat_maps import seq2seq_alignments
from attention_rnn.metrics import LOWER_IS_BETTER, METRICS, describe_metrics, load_metric, score_texts
from attention_rnn.pairs import decode_pairs, encode_pairs, train_pair_tokenizers
from attention_rnn.tokenizer_training import TARGET_KINDS, TokenizerKind, are_symbols, lowercases
from attention_rnn.trainer import EndlessStream
from attention_rnn.training import (
    address_of_model,
    load_or_train_tokenizer,
    number_of,
    origin,
    read_examples,
    read_split,
    settle_columns,
    special_token_ids,
    start_run,
)
from attention_rnn.usage import seq2seq_limits, seq2seq_usage
from attention_rnn.vocabulary_extension import extend_tokenizer, fit_embeddings

try:
    from datasets import Dataset, IterableDataset
except ImportError as error:
    raise ImportError(f"run_seq2seq.py needs more packages ({error}): pip install 'attention-rnn[train]'") from error

logger = logging.getLogger("run_seq2seq")

TASKS = ("translation", "summarization", "text2text-generation")  # their pipelines open an encoder-decoder
SMALLEST_VALUES = {"max_source_length": 2, "max_target_length": 2, "num_beams": 1}
SHUFFLE_BUFFER = 10_000  # streamed examples to shuffle among
LEAST_STEPS = 3_400
# fewer examples than these take small steps, and not many more than the least of them
SMALL_DATA, SMALL_BATCH, MOST_STEPS_OF_SMALL_DATA = 20_000, 32, 4_500
SIZES_FOR_FEW_EXAMPLES: dict[str, float] = {
    "hidden_size": 256,
    "embedding_size": 128,
    "embedding_dropout": 0.3,
    "hidden_dropout": 0.3,
    "readout_dropout": 0.3,
}


@dataclass
class ModelArguments(ScriptModelArguments):
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    of_any_model: ClassVar[tuple[str, ...]] = (*ScriptModelArguments.of_any_model, "extend_vocabulary")

    model_name_or_path: str | None = option(None, "Checkpoint to fine-tune, of any AutoModelForSeq2SeqLM.")
    source_tokenizer: str = option(
        "auto", "Tokenizer to train on the sources: bpe, unigram, word or character; auto decides by the data."
    )
    target_tokenizer: str | None = option(
        None,
        "The same for the targets, or chunk, for attention_type=aligned: what each token of a source becomes. "
        "Default: as for the sources.",
    )
    shared_vocabulary: bool = option(False, "Train one tokenizer on both sides together.")
    source_vocab_size: int | None = option(None, "The vocab_size of the source, if different.")
    extend_vocabulary: bool = option(
        False, "Fine-tune with what the checkpoint's vocabulary lacks of the training data."
    )
    source_normalization: str = option(
        "NFC",
        "Unicode form that a tokenizer of sources alone brings them to; NFD takes letters apart, auto does so where "
        "many are rare.",
    )


@dataclass
class DataArguments(TableDataArguments):
    """What to read, and what to do with it."""

    train_file: str | None = option(
        None,
        "csv, tsv, json or jsonl with one pair a row, or, with train_target_file, text with one source a "
        "line. May be compressed (.gz). A tsv file has no quoting.",
    )
    train_target_file: str | None = option(None, "Text with one target a line.")
    validation_target_file: str | None = option(None, "The same for validation.")
    test_target_file: str | None = option(None, "The same for testing.")
    streaming: bool = option(
        False, "Read the training data while training. Needs --max_steps; evaluations come at steps."
    )
    source_column: str | None = option(
        None, "Column of the source; translation.en is the entry en in the column translation."
    )
    target_column: str | None = option(None, "Column of the target. Default for both: the first columns.")
    source_prefix: str = option("", "Text to put before each source.")
    augment_to: int = option(
        0,
        "Fewer training pairs than these are recombined, up to so many, where sources stand in their targets in part.",
    )
    max_source_length: int = option(256, "Longer sources are cut to that many tokens.")
    max_target_length: int = option(256, "Longer targets are cut to that many tokens.")
    bleu_tokenize: str = option("13a", "How sacrebleu tokenizes for BLEU.")
    num_beams: int = option(5, "Beams of the final evaluation and test; within training --generation_num_beams counts.")
    task: str = option("translation", f"The task as the model card tells the Hub: {', '.join(TASKS)}.")


@dataclass
class TrainingArguments(DistillationArguments, ScriptTrainingArguments, ReliableSeq2SeqTrainingArguments):
    """The arguments of Seq2SeqTrainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by the first of `metrics` is kept.
    """

    num_train_epochs: float = option(
        None,
        f"Epochs to train. Default: 20, or as many as make {LEAST_STEPS:,} steps or more, and of fewer than "
        f"{SMALL_DATA:,} pairs at most {MOST_STEPS_OF_SMALL_DATA:,}.",
    )
    per_device_train_batch_size: int = option(
        None,
        f"Training examples per device and step. Default: 64, or {SMALL_BATCH} and fewer of fewer than "
        f"{SMALL_DATA:,} pairs.",
    )
    per_device_eval_batch_size: int = option(64, "Evaluation examples per device and step.")
    predict_with_generate: bool = option(True, "Evaluate what is generated.")
    generation_num_beams: int | None = option(1, "Beams of evaluations within training.")
    metrics: list[str] = field(
        default_factory=lambda: ["chrf", "exact_match"],
        metadata={"help": f"Any of {', '.join(METRICS)}; the first one selects the best model."},
    )

    def __post_init__(self):
        if not self.predict_with_generate:
            raise ValueError("--predict_with_generate must stay True: the metrics need generated text")
        self.settle_evaluation(self.metrics[0], LOWER_IS_BETTER)
        self.settle_length(epochs=20, batch_size=64)
        super().__post_init__()

    def suit_pairs(self, number: int) -> None:
        """Suit epochs and batch to the number of training pairs, where the command line says nothing of them."""
        limits = (MOST_STEPS_OF_SMALL_DATA, SMALL_BATCH) if number < SMALL_DATA else ()
        self.suit_length(number, LEAST_STEPS, *limits)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float | str]]:
    run = start_run("run_seq2seq.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)
    if data_args.streaming:
        training_args.evaluate_by_steps()
    metrics = {
        name: load_metric(name, **({"tokenize": data_args.bleu_tokenize} if name == "bleu" else {}))
        for name in training_args.metrics
    }

    teachers = training_args.teacher_models or []
    teacher, of_teacher = None, None
    if teachers:
        teacher, of_teacher = open_teacher(teachers, trust_remote_code=model_args.trust_remote_code)
    pairs = read_splits(data_args, training_args)
    aligned_steps = steps_at_a_token(run.pretrained, model_args)
    with run.prepare():
        tokenizer = make_tokenizer(run.pretrained, pairs, aligned_steps, model_args, training_args)
    if training_args.teaches_words:
        check_same_tokens(tokenizer, of_teacher, pairs["train"], teachers[0])
        if writes_chunks(tokenizer):
            check_same_steps(aligned_steps, teacher, teachers[0])
    model = make_model(run.pretrained, tokenizer, number_of(pairs.get("train")), model_args)
    model.generation_config.num_beams = data_args.num_beams
    copying = CopyVocabulary(tokenizer, model.config.vocab_size) if getattr(model.config, "copy", False) else None
    taught = dict(pairs)
    lengths = (data_args.max_source_length, data_args.max_target_length)
    if writes_chunks(tokenizer):  # as many for each token of a source
        sources = (tokenizer(list(examples["source"]))["input_ids"] for examples in pairs.values())
        longest = max(map(len, chain.from_iterable(sources)))
        lengths = (lengths[0], max(lengths[1], aligned_steps * min(longest, lengths[0])))
    # one more than the labels, for the decoder's start token
    model.generation_config.max_length = training_args.generation_max_length or lengths[1] + 1
    if "train" in pairs:
        taught["train"] = augment(pairs["train"], data_args.augment_to, training_args.seed)
    if training_args.teaches_sequences:
        settings = {"num_beams": data_args.num_beams, "max_length": model.generation_config.max_length}
        written = write_targets(teacher.to(training_args.device), of_teacher, taught["train"]["source"], **settings)
        taught["train"] = with_targets(taught["train"], written)
    if writes_chunks(tokenizer):
        chunks = TargetChunks(next(iter(taught.values())), tokenizer, aligned_steps)
        taught = {split: examples.map(chunks, batched=True) for split, examples in taught.items()}
    encoded = {split: encode_pairs(examples, tokenizer, *lengths, copying, split) for split, examples in taught.items()}
    if data_args.streaming and "train" in encoded:
        encoded["train"] = EndlessStream(encoded["train"])
    elif "train" in encoded:
        training_args.suit_pairs(len(encoded["train"]))
        if getattr(model.config, "attention_type", None) == "aligned":
            warn_of_unequal_lengths(encoded["train"], aligned_steps)

    def score_generated(split: str, generated: np.ndarray) -> tuple[dict[str, float | str], list[str]]:
        predictions = decode_pairs(generated, pairs[split], encoded[split], tokenizer, copying)
        return score_texts(predictions, pairs[split]["target"], metrics, lowercases(tokenizer)), predictions

    def compute_metrics(output: EvalPrediction) -> dict[str, float]:
        scores, _ = score_generated("validation", output.predictions)
        return {name: value for name, value in scores.items() if not isinstance(value, str)}

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float | str]]:
        output = trainer.predict(encoded[split], metric_key_prefix=prefix, num_beams=data_args.num_beams)
        scores, predictions = score_generated(split, output.predictions)
        if split == "test" and trainer.is_world_process_zero():
            write_predictions(run.output_dir, pairs[split], predictions)
            of_symbols = {"per": True, "cer": False}
            for of_words in (of_symbols[name] for name in training_args.metrics if name in of_symbols):
                write_confusions(run.output_dir, count_confusions(pairs[split]["target"], predictions, of_words))
        return output.metrics, scores

    trainer = DistillationTrainer(
        teacher=teacher if training_args.teaches_words else None,
        distillation_weight=training_args.distillation_weight,
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorForCopying(tokenizer, model=model),
        compute_metrics=compute_metrics,
    )
    scores = run.train_and_evaluate(trainer, evaluate)

    shown = islice(pairs.get("test", pairs.get("validation", ())), data_args.num_heat_maps)
    shown = [(example["source"], example["target"]) for example in shown]
    options = {"max_source_length": data_args.max_source_length, "copying": copying}
    alignments = seq2seq_alignments(
        trainer.model, tokenizer, [source for source, _ in shown], references=[target for _, target in shown], **options
    )
    example = next(iter(pairs[list(pairs)[-1]]))
    run.finish(
        trainer,
        task=data_args.task,
        usage=seq2seq_usage(trainer.model, address_of_model(trainer), example["source"]),
        limits=seq2seq_limits(data_args.max_source_length, lowercases(tokenizer), data_args.num_beams),
        data={split: (origin(split, data_args), number_of(examples)) for split, examples in pairs.items()},
        picture=run.draw_heat_maps(trainer, alignments),
        explanations=describe_metrics(metrics),
        details=training_args.describe_distillation() or describe_augmentation(pairs, taught),
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    if data_args.streaming and training_args.do_train and training_args.max_steps < 1:
        raise ValueError(f"--streaming needs --max_steps of at least 1, got {training_args.max_steps}")
    for name in training_args.metrics:
        check_choice("metrics", name, METRICS)
    check_shared_arguments(model_args, data_args, training_args, SMALLEST_VALUES, training_args.metrics)
    if training_args.do_train and model_args.model_name_or_path and members_of(model_args.model_name_or_path):
        raise ValueError(f"--do_train needs a single model, and {model_args.model_name_or_path} holds an ensemble")
    check_choice("task", data_args.task, TASKS)
    training_args.check_distillation()
    if training_args.teacher_models and not training_args.do_train:
        raise ValueError("--teacher_models needs --do_train")
    if data_args.streaming and training_args.teaches_sequences:
        raise ValueError(f"--distillation {training_args.distillation} needs data that are not read by --streaming")
    check_choice("source_tokenizer", model_args.source_tokenizer, (*get_args(TokenizerKind), "auto"))
    check_choice("target_tokenizer", model_args.target_tokenizer, (*TARGET_KINDS, "auto", None))
    if data_args.augment_to < 0 or (data_args.augment_to and data_args.streaming):
        raise ValueError(f"--augment_to must be a number of pairs, without --streaming, got {data_args.augment_to}")
    if model_args.target_tokenizer == "chunk" and data_args.streaming:
        raise ValueError("--target_tokenizer chunk needs data that are not read by --streaming")
    config = AttentionRnnConfig(**parse_config_overrides(model_args.config_overrides))
    if config.copy and not model_args.shared_vocabulary and model_args.tokenizer_name is None:
        raise ValueError(
            "--config_overrides copy=True needs --shared_vocabulary: what is copied must be a target token"
        )
    of_one_side = ("target_tokenizer", "source_vocab_size", "source_normalization")
    defaults = (None, None, "NFC")
    given = [name for name, default in zip(of_one_side, defaults, strict=True) if getattr(model_args, name) != default]
    if model_args.shared_vocabulary and given:
        raise ValueError(f"--shared_vocabulary makes one tokenizer for both sides: no --{', --'.join(given)}")


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset | IterableDataset]:
    """The pairs of each split, in the columns `source` and `target`."""
    splits = list(wanted_splits(training_args))
    for split in splits:
        settle_columns(split, data_args, "source", "target")
    pairs: dict[str, Dataset | IterableDataset] = {}
    if data_args.streaming and "train" in splits:
        splits.remove("train")
        stream = IterableDataset.from_generator(partial(read_pairs, "train", data_args))
        pairs["train"] = stream.shuffle(seed=training_args.seed, buffer_size=SHUFFLE_BUFFER)
    return pairs | read_examples(splits, partial(read_pairs, data_args=data_args), data_args)


def read_pairs(split: str, data_args: DataArguments) -> Iterator[dict[str, str]]:
    def pairs() -> Iterator[dict[str, str]]:
        for place, row in islice(read_split(split, data_args), data_args.limit(split)):
            source, target = (get_text(row, name, place) for name in (data_args.source_column, data_args.target_column))
            yield {"source": source and data_args.source_prefix + source, "target": target}

    yield from drop_empty(pairs(), ["source", "target"], origin(split, data_args)) if split == "train" else pairs()


def steps_at_a_token(pretrained: str | None, model_args: ModelArguments) -> int:
    """How many tokens of a target a model with attention_type=aligned writes for each one of its source."""
    if pretrained is None:
        return AttentionRnnConfig(**parse_config_overrides(model_args.config_overrides)).aligned_steps
    config = open_config(one_of(pretrained), trust_remote_code=model_args.trust_remote_code)
    return getattr(config, "aligned_steps", 1)


def make_tokenizer(
    pretrained: str | None,
    pairs: dict[str, Dataset | IterableDataset],
    aligned_steps: int,
    model_args: ModelArguments,
    training_args: TrainingArguments,
) -> PreTrainedTokenizerBase:
    def train() -> PreTrainedTokenizerBase:
        return train_pair_tokenizers(pairs["train"], model_args, aligned_steps)

    tokenizer = load_or_train_tokenizer(pretrained and one_of(pretrained), model_args, training_args, train)
    if model_args.extend_vocabulary and "train" in pairs:
        examples = pairs["train"]
        if writes_chunks(tokenizer):
            tokenizer = extend_tokenizer(tokenizer, examples["source"])
            chunks = TargetChunks(examples, tokenizer, aligned_steps)
            if chunks.are_words and not are_symbols(examples["target"]):
                raise ValueError(
                    f"{pretrained} writes symbols between spaces, such as phones, got targets that are none, such as "
                    f"{examples['target'][0]!r:.60}"
                )
            examples = examples.map(chunks, batched=True)
        tokenizer = extend_tokenizer(tokenizer, examples["source"], examples["target"])
    return tokenizer


def make_model(
    pretrained: str | None, tokenizer: PreTrainedTokenizerBase, examples: int | None, model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None and (members := members_of(pretrained)):
        return AttentionRnnEnsemble.from_pretrained(members, dtype=torch.float32)
    if pretrained is not None:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
        if model_args.extend_vocabulary:
            fit_embeddings(model, tokenizer)
        return model
    target_tokenizer = getattr(tokenizer, "target", tokenizer)
    has_bos = tokenizer.bos_token_id is not None
    config = AttentionRnnConfig(
        **settle_sizes(model_args.config_overrides, examples, SIZES_FOR_FEW_EXAMPLES),
        vocab_size=len(target_tokenizer),
        source_vocab_size=len(tokenizer) if target_tokenizer is not tokenizer else None,
        **special_token_ids(tokenizer),
        decoder_start_token_id=tokenizer.bos_token_id if has_bos else tokenizer.pad_token_id,
    )
    return AutoModelForSeq2SeqLM.from_config(config)


def warn_of_unequal_lengths(encoded: Dataset, aligned_steps: int) -> None:
    """Tell how many targets a model cannot write whose attention is at the first token of the source, the second ..."""
    pairs = zip(encoded["input_ids"], encoded["labels"], strict=True)
    # each ends with </s>
    if unequal := sum(len(target) - 1 != aligned_steps * (len(source) - 1) for source, target in pairs):
        logger.warning(
            f"{unequal:,} of {len(encoded):,} targets have more or fewer tokens than their sources, and "
            f"attention_type=aligned writes {aligned_steps} for each: --target_tokenizer chunk makes them so, another "
            "attention_type needs no such tokens."
        )


def augment(examples: Dataset, number: int, seed: int) -> Dataset:
    """Training examples, and others made of their parts until there are so many."""
    if number == 0 or len(examples) >= number:
        return examples
    made = recombine(examples.to_list(), number - len(examples), seed)
    # also where brief, as the steps count them
    logger.warning(f"{len(made):,} pairs are made of parts of the {len(examples):,} to train on.")
    return Dataset.from_list([*examples, *made])


def describe_augmentation(pairs: dict[str, Any], taught: dict[str, Any]) -> str | None:
    """A sentence for the model card, if `augment` has made pairs."""
    known, number = (number_of(of_splits.get("train")) or 0 for of_splits in (pairs, taught))
    if number <= known:
        return None
    return f"To the {known:,} pairs {number - known:,} were added that are made of their parts."


def with_targets(examples: Dataset, targets: list[str]) -> Dataset:
    """Training examples, and their sources with other targets too, unless these are empty."""
    others = [{"source": s, "target": t} for s, t in zip(examples["source"], targets, strict=True) if t]
    return Dataset.from_list([*examples, *others])


def write_predictions(output_dir: Path, examples: Dataset, predictions: list[str]) -> None:
    rows = (
        {"source": example["source"], "prediction": prediction, "reference": example["target"]}
        for example, prediction in zip(examples, predictions, strict=True)
    )
    write_json_lines(output_dir / "generated_predictions.jsonl", rows)


if __name__ == "__main__":
    main()
