r"""Train an attention RNN, or fine-tune any other token classifier, to label the words of a text: parts of speech,
chunks, entities, slots; with --intent_column also the intent of the whole text.

    python examples/run_labelling.py --do_train --do_eval --do_predict --output_dir runs/chunks \
        --train_file train.conll --validation_file dev.conll --test_file test.conll --lowercase --min_frequency 2 \
        --config_overrides cell_type=lstm,hidden_size=200,attention_type=None,character_size=64,crf=True

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the predictions, heat maps of
the attention and a model card. Needs `pip install 'attention-rnn[train,plot]'`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any, get_args

import torch
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attention_rnn import AttentionRnnConfig, AttentionRnnWordTokenizer, ReliableTrainer
from attention_rnn.arguments import (
    ExampleDataArguments,
    ScriptModelArguments,
    ScriptTrainingArguments,
    check_choice,
    check_shared_arguments,
    option,
    parse_config_overrides,
    settle_sizes,
    wanted_splits,
)
from attention_rnn.classes import check_labels, check_recurrence, label_fields, list_labels, merge_labels, with_labels
from attention_rnn.conll import read_conll
from attention_rnn.data import drop_empty, extension, get_text, read_rows
from attention_rnn.heat_maps import labelling_alignments
from attention_rnn.labelling import (
    EXPLANATIONS,
    absent,
    best_classes,
    decode_labels,
    get_labelled_words,
    label_tokens,
    piece_labels,
    score_labels,
    settle_labels,
    texts_against_scheme,
    write_labels,
)
from attention_rnn.models.crf import is_chunk_scheme
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
from attention_rnn.usage import LABELLING_LIMITS, labelling_usage

try:
    import seqeval  # noqa: F401  # scores chunks, when the training is over
    from datasets import Dataset
except ImportError as error:
    raise ImportError(f"run_labelling.py needs more packages ({error}): pip install 'attention-rnn[train]'") from error

logger = logging.getLogger("run_labelling")

METRICS = ("f1", "precision", "recall", "accuracy", "intent_accuracy", "sentence_accuracy")
IGNORED_LABEL = -100
LEAST_STEPS = 600
SIZES_FOR_FEW_EXAMPLES = {"hidden_size": 150, "embedding_size": 200}


@dataclass
class ModelArguments(ScriptModelArguments):
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    model_name_or_path: str | None = option(None, "Checkpoint to fine-tune, of any AutoModelForTokenClassification.")
    config_overrides: str | None = option(None, "Fields of the config of a new model: character_size=64,crf=True")
    tokenizer: str = option("word", "Tokenizer to train: word, bpe, unigram or character.")
    vocab_size: int = option(50_000, "Largest vocabulary of the trained tokenizer.")
    lowercase: bool = option(False, "Whether the trained tokenizer lower-cases the text. Characters keep their case.")
    max_word_length: int = option(32, "Bytes of a word that a model with character_size reads.")


@dataclass
class DataArguments(ExampleDataArguments):
    """What to read, and what to do with it."""

    train_file: str | None = option(
        None,
        "A word a line with its label and an empty line between texts (CoNLL), or json or jsonl with a list of words "
        "and one of labels in each row. May be compressed (.gz).",
    )
    file_format: str | None = option(None, "conll, json or jsonl. Default: the extension, and conll for any other.")
    token_column: str | None = option(None, "Column of the words. Default: tokens; in CoNLL 0, in CoNLL-U 1 (FORM).")
    label_column: str | None = option(None, "Column of the labels. Default: labels; in CoNLL -1, in CoNLL-U 3 (UPOS).")
    intent_column: str | None = option(None, "Column of the intent of the text; the model then tells it too.")
    extra_labels: list[str] = field(
        default_factory=list, metadata={"help": "Labels that the training data lack and other data hold."}
    )
    max_length: int = option(512, "Longer texts are cut to that many tokens.")


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one is kept: by f1 where the labels are chunks
    (BIO, BIOES, BILOU, BMES), otherwise by accuracy, and with intents by sentence_accuracy.
    """

    num_train_epochs: float = option(None, f"Epochs to train. Default: 15, or as many as make {LEAST_STEPS} steps.")
    per_device_train_batch_size: int = option(None, "Training examples per device and step. Default: 16 or fewer.")
    per_device_eval_batch_size: int = option(64, "Evaluation examples per device and step.")

    def __post_init__(self):
        self.settle_evaluation()
        self.settle_length(epochs=15, batch_size=16)
        self.chooses_metric = self.metric_for_best_model is None and self.load_best_model_at_end
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    run = start_run("run_labelling.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)

    texts = read_splits(data_args, training_args)
    with run.prepare():
        tokenizer = make_tokenizer(run.pretrained, texts, model_args, training_args)
    model = make_model(run.pretrained, tokenizer, texts, model_args, data_args)
    if training_args.label_smoothing_factor and getattr(model.config, "crf", False):
        raise ValueError("--label_smoothing_factor smoothes labels one by one, and crf=True scores sequences of them")
    labels, intents = list_labels(model.config), list_labels(model.config, of_texts=True)
    if bool(intents) != (data_args.intent_column is not None):
        raise ValueError(f"--intent_column must be given if the model tells intents, and only then; it tells {intents}")
    hint = " --extra_labels may name others" if "train" in texts else ""
    for row in chain.from_iterable(texts.values()):
        check_labels(row["labels"], labels, row["place"], f"of the model.{hint}")
        if intents:
            check_labels([row["intent"]], intents, row["place"], "of the model", kind="intent")
    encoded = {split: encode(split, rows, tokenizer, model, data_args) for split, rows in texts.items()}
    if "train" in encoded:
        training_args.suit_length(len(encoded["train"]), LEAST_STEPS)
    if intents:
        training_args.label_names = ["labels", "intent_ids"]
    if training_args.chooses_metric:
        best = "f1" if is_chunk_scheme(labels) else "accuracy"
        training_args.metric_for_best_model = "sentence_accuracy" if intents else best
        training_args.greater_is_better = True

    def score_predicted(split: str, predictions: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
        rows = decode_labels(predictions, texts[split], encoded[split], labels, intents)
        return score_labels(texts[split], rows, is_chunk_scheme(labels)), rows

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        output = trainer.predict(encoded[split], metric_key_prefix=prefix)
        scores, rows = score_predicted(split, output.predictions)
        if split == "test" and trainer.is_world_process_zero():
            write_labels(run.output_dir, texts[split], rows)
        return output.metrics, scores

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=lambda output: score_predicted("validation", output.predictions)[0],
        preprocess_logits_for_metrics=best_classes,
    )
    scores = run.train_and_evaluate(trainer, evaluate)

    shown = islice(texts.get("test", texts.get("validation", ())), data_args.num_heat_maps)
    words = (row["tokens"] for row in shown)
    alignments = labelling_alignments(trainer.model, tokenizer, words, data_args.max_length)
    text = " ".join(texts[list(texts)[-1]][0]["tokens"])
    run.finish(
        trainer,
        task="token-classification",
        usage=labelling_usage(trainer.model, address_of_model(trainer), text),
        limits=LABELLING_LIMITS,
        data={split: (origin(split, data_args), len(rows)) for split, rows in texts.items()},
        picture=run.draw_heat_maps(trainer, alignments),
        explanations=EXPLANATIONS,
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    check_shared_arguments(model_args, data_args, training_args, {"max_length": 2}, METRICS)
    check_choice("tokenizer", model_args.tokenizer, get_args(TokenizerKind))


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The texts of each split, in the columns `tokens`, `labels`, and `intent` if there is one, with their `place`."""
    return read_examples(wanted_splits(training_args), partial(read_texts, data_args=data_args), data_args)


def read_texts(split: str, data_args: DataArguments) -> Iterator[dict[str, Any]]:
    """The texts of a split, checked, without empty ones to train on."""
    token_column, label_column = data_args.token_column or "tokens", data_args.label_column or "labels"
    file = getattr(data_args, f"{split}_file")
    if data_args.dataset_name is not None:
        rows = read_split(split, data_args)
    else:
        file_format = data_args.file_format or extension(file)
        if file_format in ("json", "jsonl"):
            rows = read_rows(file, file_format=file_format)
        elif data_args.intent_column is None:
            rows = read_conll(file, data_args.token_column, data_args.label_column)
            token_column, label_column = "tokens", "labels"
        else:
            raise ValueError("--intent_column needs data in json or jsonl: there is no such column in a CoNLL file")

    def texts() -> Iterator[dict[str, Any]]:
        for place, row in islice(rows, data_args.limit(split)):
            text = get_labelled_words(row, token_column, label_column, place)
            if data_args.intent_column is not None:
                text["intent"] = get_text(row, data_args.intent_column, place)
                if not text["intent"]:
                    raise ValueError(f"{place}: column {data_args.intent_column!r} must hold an intent, got none")
            yield text

    yield from drop_empty(texts(), ["tokens"], origin(split, data_args)) if split == "train" else texts()


def make_tokenizer(
    pretrained: str | None, texts: dict[str, Dataset], model_args: ModelArguments, training_args: TrainingArguments
) -> PreTrainedTokenizerBase:
    def train() -> PreTrainedTokenizerBase:
        words = texts["train"]["tokens"]
        tokenizer = train_new_tokenizer("texts", lambda: map(" ".join, words), model_args.tokenizer, model_args)
        if parse_config_overrides(model_args.config_overrides).get("character_size"):
            return AttentionRnnWordTokenizer.from_tokenizer(tokenizer, model_args.max_word_length)
        return tokenizer

    tokenizer = load_or_train_tokenizer(pretrained, model_args, training_args, train)
    tokenizer.padding_side = "right"  # predictions meet their tokens by position
    return tokenizer


def make_model(
    pretrained: str | None,
    tokenizer: PreTrainedTokenizerBase,
    texts: dict[str, Dataset],
    model_args: ModelArguments,
    data_args: DataArguments,
) -> PreTrainedModel:
    overrides = settle_sizes(model_args.config_overrides, len(texts.get("train", ())), SIZES_FOR_FEW_EXAMPLES)
    intents: list[str] = []
    if "train" in texts and data_args.intent_column is not None:
        check_recurrence(texts["train"]["intent"], "intent")
        intents = sorted(set(texts["train"]["intent"]))
    if pretrained is None:
        labels = settle_labels([], texts, data_args.extra_labels, tokenizer, overrides.get("crf", False))
        config = AttentionRnnConfig(
            **{**overrides, **label_fields(labels), **({"intents": intents} if intents else {})},
            vocab_size=len(tokenizer),
            **special_token_ids(tokenizer),
        )
        return AutoModelForTokenClassification.from_config(config)
    model = AutoModelForTokenClassification.from_pretrained(
        pretrained, dtype=torch.float32, trust_remote_code=model_args.trust_remote_code
    )
    if "train" not in texts:
        return model
    known, has_field = list_labels(model.config), getattr(model.config, "crf", False)
    model = with_labels(model, settle_labels(known, texts, data_args.extra_labels, tokenizer, has_field))
    if intents:
        if not hasattr(model.config, "intents"):
            raise ValueError(f"--intent_column needs an attention RNN, got a model of type {model.config.model_type}")
        intents = merge_labels(list_labels(model.config, of_texts=True), intents, "intents")
        model = with_labels(model, intents, of_texts=True)
    return model


def encode(
    split: str, texts: Dataset, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, data_args: DataArguments
) -> Dataset:
    """Turn words into ids, and warn once of what is cut."""
    labels, intents = list_labels(model.config), list_labels(model.config, of_texts=True)
    ids = {label: index for index, label in enumerate(labels)}
    # a conditional random field labels every piece of a word, others the first one
    pieces = piece_labels(labels) if getattr(model.config, "crf", False) else None
    cut = 0
    is_constrained = getattr(model.config, "constrained_decoding", False)
    if is_constrained and (forbidden := texts_against_scheme(texts["labels"], labels)):
        logger.warning(
            f"{len(forbidden):,} of {len(texts):,} texts of the {split} data have labels in an order that their scheme "
            f"forbids and constrained_decoding never predicts, first {texts[forbidden[0]]['place']}"
        )

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        nonlocal cut
        columns = tokenizer(batch["tokens"], is_split_into_words=True, truncation=True, max_length=data_args.max_length)
        columns["labels"], columns["tokens_of_words"] = [], []
        for index, of_words in enumerate(batch["labels"]):
            of_tokens, tokens_of_words = label_tokens(columns.word_ids(index), of_words, pieces)
            cut += not all(tokens_of_words)
            columns["labels"].append([ids.get(label, IGNORED_LABEL) for label in of_tokens])
            columns["tokens_of_words"].append(tokens_of_words)
        if intents:
            columns["intent_ids"] = [intents.index(intent) for intent in batch["intent"]]
        return dict(columns)

    encoded = texts.map(tokenize, batched=True, remove_columns=texts.column_names, desc=f"tokenizing {split}")
    if not getattr(model.config, "character_size", None):  # which read any word
        warn_of_poor_tokens(f"words of the {split} data", encoded["input_ids"], tokenizer)
    if cut:
        logger.warning(
            f"{cut:,} of {len(texts):,} texts of the {split} data are longer than --max_length {data_args.max_length} "
            f"tokens and were cut, or hold words without a token. What is missing is predicted as {absent(labels)}."
        )
    return encoded


if __name__ == "__main__":
    main()
