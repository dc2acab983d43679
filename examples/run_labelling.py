r"""Train an attention RNN, or fine-tune any other token classifier, to label the words of a text: parts of speech,
chunks, entities, slots; with --intent_column also the intent of the whole text.

    python examples/run_labelling.py --do_train --do_eval --do_predict --output_dir runs/chunks \
        --train_file train.conll --validation_file dev.conll --test_file test.conll --lowercase --min_frequency 2 \
        --config_overrides cell_type=lstm,hidden_size=200,attention_type=None,character_size=64,crf=True

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the predictions, heat maps of
the attention and a model card. Needs `pip install attention-rnn[train,plot]`.
"""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    HfArgumentParser,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from attention_rnn import AttentionRnnConfig, AttentionRnnWordTokenizer, ReliableTrainer
from attention_rnn.arguments import (
    ScriptModelArguments,
    ScriptTrainingArguments,
    check_choice,
    check_files,
    check_model,
    check_values,
    expand_config_file,
    parse_config_overrides,
    wanted_splits,
)
from attention_rnn.classes import list_labels, merge_labels, with_labels
from attention_rnn.data import get_text, read_rows
from attention_rnn.hub import write_model_card
from attention_rnn.labelling import (
    complete_labels,
    cuts_words,
    get_words,
    label_tokens,
    marks_ends,
    piece_labels,
    read_conll,
    score_chunks,
    texts_against_scheme,
    word_label,
)
from attention_rnn.models.crf import is_chunk_scheme
from attention_rnn.plotting import plot_alignment
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

try:
    import seqeval  # noqa: F401  # scores chunks, when the training is over
    from datasets import Dataset
except ImportError as error:
    raise ImportError(f"run_labelling.py needs more packages ({error}): pip install attention-rnn[train]") from error

logger = logging.getLogger("run_labelling")

IGNORED_LABEL = -100
PREDICTIONS = "predictions.conll"
INTENT_PREDICTIONS = "intent_predictions.tsv"
SMALLEST_VALUES = {
    "max_length": 2,
    "max_train_samples": 1,
    "max_eval_samples": 1,
    "max_predict_samples": 1,
    "num_heat_maps": 0,
}

USAGE = """from transformers import pipeline

tagger = pipeline("token-classification", {name}, aggregation_strategy="{strategy}")
print(tagger({text}))
"""
INTENT_USAGE = """
inputs = tagger.tokenizer({text}, return_tensors="pt")
intent = tagger.model(**inputs).intent_logits.argmax()
print(tagger.model.config.intents[intent])
"""
LIMITS = """The model labels texts like those of its training data, split into words by spaces as they are, punctuation
marks being words of their own. On other texts expect worse than the scores above. It repeats the errors and biases of
its training data, and nothing was tested beyond the scores above."""


@dataclass
class ModelArguments:
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    of_any_model: ClassVar[tuple[str, ...]] = ScriptModelArguments.of_any_model
    of_any_tokenizer: ClassVar[tuple[str, ...]] = ScriptModelArguments.of_any_tokenizer

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint to fine-tune, of any AutoModelForTokenClassification."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with that checkpoint."})
    config_overrides: str | None = field(
        default=None,
        metadata={"help": "Fields of AttentionRnnConfig for a new model: hidden_size=200,character_size=64,crf=True"},
    )
    tokenizer: str = field(default="word", metadata={"help": "Tokenizer to train: word, bpe, unigram or character."})
    vocab_size: int = field(default=50_000, metadata={"help": "Largest vocabulary of the trained tokenizer."})
    min_frequency: int = field(default=1, metadata={"help": "Occurrences that a unit of the trained tokenizer needs."})
    lowercase: bool = field(
        default=False,
        metadata={"help": "Whether the trained tokenizer lower-cases the text. Characters keep their case."},
    )
    max_word_length: int = field(
        default=32, metadata={"help": "Bytes of a word that a model with character_size reads."}
    )


@dataclass
class DataArguments:
    """What to read, and what to do with it."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": "A word a line with its label and an empty line between texts (CoNLL), or json or jsonl with a "
            "list of words and one of labels in each row. May be compressed (.gz)."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_file: str | None = field(default=None, metadata={"help": "The same for testing."})
    file_format: str | None = field(
        default=None, metadata={"help": "conll, json or jsonl. Default: the extension, and conll for any other."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub with the splits train, validation, test; or a folder."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    token_column: str | None = field(
        default=None,
        metadata={"help": "Column of the words, a number in CoNLL files. Default: tokens, or 0, in CoNLL-U 1 (FORM)."},
    )
    label_column: str | None = field(
        default=None,
        metadata={"help": "Column of their labels. Default: labels, or -1, the last one, in CoNLL-U 3 (UPOS)."},
    )
    intent_column: str | None = field(
        default=None, metadata={"help": "Column of the intent of the text; the model then tells it too."}
    )
    extra_labels: list[str] = field(
        default_factory=list, metadata={"help": "Labels that the training data lack and other data hold."}
    )
    max_length: int = field(default=512, metadata={"help": "Longer texts are cut to that many tokens."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use that many training examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use that many validation examples."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use that many test examples."})
    num_heat_maps: int = field(default=4, metadata={"help": "Test items of which to draw the attention."})
    language: list[str] | None = field(default=None, metadata={"help": "Languages for the card, ISO 639 codes."})
    license: str | None = field(default=None, metadata={"help": "Licence for the card, the Hub's identifier."})


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one is kept: by f1 where the labels are chunks
    (BIO, BIOES, BILOU, BMES), otherwise by accuracy, and with intents by sentence_accuracy.
    """

    num_train_epochs: float = field(default=20.0, metadata={"help": "Epochs to train."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Training examples per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Evaluation examples per device and step."})

    def __post_init__(self):
        self.settle_evaluation()
        self.chooses_metric = self.metric_for_best_model is None and self.load_best_model_at_end
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
    texts = read_splits(data_args, training_args)

    set_seed(training_args.seed)
    with training_args.main_process_first(local=False, desc="preparing the output folder"):
        if training_args.overwrite_output_dir and checkpoint is None and training_args.process_index == 0:
            delete_run(output_dir)
    tokenizer = make_tokenizer(pretrained, texts, model_args)
    model = make_model(pretrained, tokenizer, texts, model_args, data_args)
    if training_args.label_smoothing_factor and getattr(model.config, "crf", False):
        raise ValueError("--label_smoothing_factor smoothes labels one by one, and crf=True scores sequences of them")
    labels, intents = list_labels(model.config), list_labels(model.config, of_texts=True)
    if bool(intents) != (data_args.intent_column is not None):
        raise ValueError(f"--intent_column must be given if the model tells intents, and only then; it tells {intents}")
    check_labels(texts, labels, intents)
    encoded = {split: encode(split, rows, tokenizer, model, data_args) for split, rows in texts.items()}
    if intents:
        training_args.label_names = ["labels", "intent_ids"]
    if training_args.chooses_metric:
        best = "f1" if is_chunk_scheme(labels) else "accuracy"
        training_args.metric_for_best_model = "sentence_accuracy" if intents else best
        training_args.greater_is_better = True

    def evaluate(split: str, predictions: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
        rows = decode(predictions, texts[split], encoded[split], labels, intents)
        return score(texts[split], rows, is_chunk_scheme(labels)), rows

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=lambda output: evaluate("validation", output.predictions)[0],
        preprocess_logits_for_metrics=best_classes,
    )

    training_seconds = None
    if training_args.do_train:
        training_seconds = train_and_save(trainer, checkpoint)

    all_scores = {}
    trainer.compute_metrics = None  # it knows the references of the validation alone
    for split, name in (("validation", "eval"), ("test", "predict")):
        if split not in texts:
            continue
        output = trainer.predict(encoded[split], metric_key_prefix=name)
        all_scores[split], rows = evaluate(split, output.predictions)
        result = output.metrics | {f"{name}_{metric}": value for metric, value in all_scores[split].items()}
        trainer.log_metrics(name, result)
        trainer.save_metrics(name, result)
        if split == "test" and trainer.is_world_process_zero():
            write_predictions(output_dir, texts[split], rows)

    if trainer.is_world_process_zero():
        shown = texts.get("test", texts.get("validation"))
        pictures = draw_attention(trainer, shown, data_args) if shown is not None and trainer.has_whole_model else []
        if training_args.do_train:
            write_card(trainer, texts, all_scores, training_seconds, pictures, argv, model_args, data_args)
        logger.info(f"All results lie in {training_args.output_dir}.")
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return all_scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    check_files(data_args, training_args)
    check_values(data_args, training_args, SMALLEST_VALUES)
    check_model(model_args, training_args)
    check_choice("tokenizer", model_args.tokenizer, get_args(TokenizerKind))


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The texts of each split, in the columns `tokens`, `labels`, and `intent` if there is one, with their `place`."""
    limits = {
        "train": data_args.max_train_samples,
        "validation": data_args.max_eval_samples,
        "test": data_args.max_predict_samples,
    }
    texts = {}
    for split in wanted_splits(training_args):
        rows = list(islice(read_split(split, data_args), limits[split]))
        if not rows:
            raise ValueError(f"the {split} data must hold at least one text, got none in {origin(split, data_args)}")
        texts[split] = Dataset.from_list(rows)
        logger.info(f"{split}: {len(rows):,} texts of {origin(split, data_args)}")
    return texts


def read_split(split: str, data_args: DataArguments) -> Iterator[dict[str, Any]]:
    """The texts of a split, checked."""
    token_column, label_column = data_args.token_column or "tokens", data_args.label_column or "labels"
    file = getattr(data_args, f"{split}_file")
    if data_args.dataset_name is not None:
        rows = read_dataset(split, data_args)
    else:
        file_format = data_args.file_format or Path(file.removesuffix(".gz")).suffix.removeprefix(".")
        if file_format in ("json", "jsonl"):
            rows = read_rows(file, file_format=file_format)
        elif data_args.intent_column is None:
            rows = read_conll(file, data_args.token_column, data_args.label_column)
            token_column, label_column = "tokens", "labels"
        else:
            raise ValueError("--intent_column needs data in json or jsonl: there is no such column in a CoNLL file")
    for place, row in rows:
        text = {"place": place, "tokens": get_words(row, token_column, place)}
        text["labels"] = get_words(row, label_column, place)
        if data_args.intent_column is not None:
            text["intent"] = get_text(row, data_args.intent_column, place)
            if not text["intent"]:
                raise ValueError(f"{place}: column {data_args.intent_column!r} must hold an intent, got an empty text")
        if len(text["tokens"]) != len(text["labels"]):
            raise ValueError(
                f"{place}: there must be one label for each word, got {len(text['labels'])} for {len(text['tokens'])}"
            )
        yield text


def read_dataset(split: str, data_args: DataArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a data set of the Hub, classes by their names."""
    dataset = load_split(split, data_args)
    features = dataset.features
    names = {column: getattr(getattr(kind, "feature", kind), "names", None) for column, kind in features.items()}
    for number, row in enumerate(dataset, start=1):
        for column, classes in names.items():
            if classes is not None:
                value = row[column]
                row[column] = [classes[index] for index in value] if isinstance(value, list) else classes[value]
        yield f"{data_args.dataset_name}, {split}, row {number}", row


def make_tokenizer(
    pretrained: str | None, texts: dict[str, Dataset], model_args: ModelArguments
) -> PreTrainedTokenizerBase:
    if pretrained is not None:
        return AutoTokenizer.from_pretrained(pretrained, trust_remote_code=model_args.trust_remote_code)
    tokenizer = train_tokenizer(
        (" ".join(tokens) for tokens in texts["train"]["tokens"]),
        model_args.tokenizer,
        model_args.vocab_size,
        model_args.min_frequency,
        model_args.lowercase,
    )
    if parse_config_overrides(model_args.config_overrides).get("character_size"):
        return AttentionRnnWordTokenizer.from_tokenizer(tokenizer, model_args.max_word_length)
    return tokenizer


def make_model(
    pretrained: str | None,
    tokenizer: PreTrainedTokenizerBase,
    texts: dict[str, Dataset],
    model_args: ModelArguments,
    data_args: DataArguments,
) -> PreTrainedModel:
    overrides = parse_config_overrides(model_args.config_overrides)
    intents = sorted(set(texts["train"]["intent"])) if "train" in texts and data_args.intent_column is not None else []
    if pretrained is None:
        labels = settle_labels([], texts, tokenizer, overrides.get("crf", False), data_args)
        classes = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
        config = AttentionRnnConfig(
            **{**overrides, **classes, **({"intents": intents} if intents else {})},
            vocab_size=len(tokenizer),
            **special_token_ids(tokenizer),
        )
        return AutoModelForTokenClassification.from_config(config)
    model = AutoModelForTokenClassification.from_pretrained(
        pretrained, dtype=torch.float32, trust_remote_code=model_args.trust_remote_code
    )
    if "train" not in texts:
        return model
    has_field = getattr(model.config, "crf", False)
    model = with_labels(model, settle_labels(list_labels(model.config), texts, tokenizer, has_field, data_args))
    if intents:
        if not hasattr(model.config, "intents"):
            raise ValueError(f"--intent_column needs an attention RNN, got a model of type {model.config.model_type}")
        intents, what = merge_labels(list_labels(model.config, of_texts=True), intents)
        logger.info(f"intents: {what}")
        model = with_labels(model, intents, of_texts=True)
    return model


def settle_labels(
    known: list[str],
    texts: dict[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    has_field: bool,
    data_args: DataArguments,
) -> list[str]:
    """The labels to train on, in the order of their ids: of the checkpoint, of the data, of pieces of words."""
    labels = sorted({*chain.from_iterable(texts["train"]["labels"]), *data_args.extra_labels})
    if known:
        labels, what = merge_labels(known, labels)
        logger.info(f"labels: {what}")
    if has_field and cuts_words(tokenizer, chain.from_iterable(chain(*(rows["tokens"] for rows in texts.values())))):
        completed = complete_labels(labels)
        if added := completed[len(labels) :]:
            logger.info(f"labels: pieces of words need {len(added)} more, {', '.join(added)}")
        return completed
    return labels


def check_labels(texts: dict[str, Dataset], labels: list[str], intents: list[str]) -> None:
    for split, rows in texts.items():
        for row in rows:
            for name, values, known in (("label", row["labels"], labels), ("intent", [row.get("intent")], intents)):
                if known and (unknown := [value for value in values if value not in known]):
                    raise ValueError(
                        f"{row['place']}: the {name} of the {split} data must be one that the model knows, {known}, "
                        f"got {unknown[0]!r}. Labels that the training data lack may be given by --extra_labels."
                    )


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
    if cut:
        logger.warning(
            f"{cut:,} of {len(texts):,} texts of the {split} data are longer than --max_length {data_args.max_length} "
            f"tokens and were cut, or hold words without a token. What is missing is predicted as {absent(labels)}."
        )
    return encoded


def absent(labels: list[str]) -> str:
    """The label of a word that the model did not see."""
    return "O" if "O" in labels else labels[0]


def best_classes(logits: Any, labels: Any) -> Any:
    """What to keep of the logits of a batch."""
    return tuple(of_kind.argmax(dim=-1) for of_kind in logits[:2]) if isinstance(logits, tuple) else logits.argmax(-1)


def decode(
    predictions: Any, texts: Dataset, encoded: Dataset, labels: list[str], intents: list[str]
) -> list[dict[str, Any]]:
    """The labels of the words of each text, and its intent if the model tells it."""
    of_tokens, of_texts = predictions if isinstance(predictions, tuple) else (predictions, None)
    rows = []
    for index, tokens_of_words in enumerate(encoded["tokens_of_words"]):  # several processes repeat examples at the end
        of_words = [[labels[of_tokens[index][token]] for token in tokens] for tokens in tokens_of_words]
        row = {"labels": [word_label(pieces) if pieces else absent(labels) for pieces in of_words]}
        if intents:
            row["intent"] = intents[of_texts[index]]
        rows.append(row)
    return rows


def score(texts: Dataset, predictions: list[dict[str, Any]], is_chunks: bool) -> dict[str, float]:
    """
    Percentages: `f1`, `precision` and `recall` of chunks, as conlleval counts them; `accuracy` of words; with intents,
    `intent_accuracy`, and `sentence_accuracy` of texts with everything right.
    """
    references, predicted = list(texts["labels"]), [row["labels"] for row in predictions]
    scores = score_chunks(references, predicted) if is_chunks else {}
    pairs = list(zip(chain.from_iterable(references), chain.from_iterable(predicted), strict=True))
    scores["accuracy"] = sum(reference == prediction for reference, prediction in pairs) / len(pairs)
    if "intent" in predictions[0]:
        is_right = [
            (row["labels"] == labels, row["intent"] == intent)
            for row, labels, intent in zip(predictions, references, texts["intent"], strict=True)
        ]
        scores["intent_accuracy"] = float(np.mean([intent for _, intent in is_right]))
        scores["sentence_accuracy"] = float(np.mean([all(both) for both in is_right]))
    return {name: 100 * value for name, value in scores.items()}


def write_predictions(output_dir: Path, texts: Dataset, predictions: list[dict[str, Any]]) -> None:
    """Word, reference and prediction in each line, as conlleval reads them; intents in a file of their own."""
    with open(output_dir / PREDICTIONS, "w", encoding="utf-8") as file:
        for text, row in zip(texts, predictions, strict=True):
            columns = zip(text["tokens"], text["labels"], row["labels"], strict=True)
            file.write("".join(f"{' '.join(column)}\n" for column in columns) + "\n")
    if "intent" in predictions[0]:
        with open(output_dir / INTENT_PREDICTIONS, "w", encoding="utf-8") as file:
            for reference, row in zip(texts["intent"], predictions, strict=True):
                file.write(f"{reference}\t{row['intent']}\n")


def draw_attention(trainer: ReliableTrainer, texts: Dataset, data_args: DataArguments) -> list[str]:
    """
    Draw where each token looks in the first texts and, in the last row, what tells the intent; returns the pictures,
    relative to the output folder.
    """
    model, tokenizer, pictures = trainer.model.eval(), trainer.processing_class, []
    folder = Path(trainer.args.output_dir, "attention_maps")
    model.set_attn_implementation("eager")  # others do not return the weights
    options = {"is_split_into_words": True, "truncation": True, "max_length": data_args.max_length}
    for number, words in enumerate(texts["tokens"][: data_args.num_heat_maps]):
        inputs = tokenizer(words, return_tensors="pt", **options).to(model.device)
        with torch.no_grad():
            outputs = model(**inputs, output_attentions=True)
        tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
        weights, names = [attention[0].mean(dim=0) for attention in outputs.attentions[-1:]], list(tokens)
        if getattr(outputs, "intent_attentions", None) is not None:
            weights.append(outputs.intent_attentions[0].mean(dim=0))
            names = [*(names if len(weights) > 1 else []), model.config.intents[outputs.intent_logits.argmax()]]
        if not weights:
            break  # a model without attention
        pictures.append(f"{folder.name}/{number}.png")
        folder.mkdir(exist_ok=True)
        plot_alignment(torch.cat(weights), tokens, names).savefig(folder / f"{number}.png")
    return pictures


def write_card(
    trainer: ReliableTrainer,
    texts: dict[str, Dataset],
    scores: dict[str, dict[str, float]],
    training_seconds: float | None,
    pictures: list[str],
    argv: list[str],
    model_args: ModelArguments,
    data_args: DataArguments,
) -> None:
    name = trainer.hub_model_id if trainer.args.push_to_hub else Path(trainer.args.output_dir).resolve().name
    labels, intents = list_labels(trainer.model.config), list_labels(trainer.model.config, of_texts=True)
    text = " ".join(texts[list(texts)[-1]][0]["tokens"])
    is_own = trainer.model.config.model_type == AttentionRnnConfig.model_type
    # the pipeline of transformers labels every piece of a word by itself, which trains the first one here
    strategy = ("simple" if is_own else "first") if is_chunk_scheme(labels) else "none"
    values = {"name": json.dumps(name), "text": json.dumps(text, ensure_ascii=False), "strategy": strategy}
    usage = USAGE.format(**values) + (INTENT_USAGE.format(**values) if intents else "")
    if is_own:
        usage = (
            f"import attention_rnn  # pip install attention-rnn; or give the pipeline trust_remote_code=True\n{usage}"
        )
    elif marks_ends(labels):
        usage = f"import attention_rnn  # pip install attention-rnn; it lets the pipeline join these chunks\n{usage}"
    write_model_card(
        trainer.args.output_dir,
        model=trainer.model,
        name=name,
        task="token-classification",
        usage=f"```python\n{usage}```",
        limits=LIMITS,
        results=scores,
        data={split: (origin(split, data_args), len(rows)) for split, rows in texts.items()},
        dataset_name=data_args.dataset_name if is_hub_name(data_args.dataset_name) else None,
        dataset_config_name=data_args.dataset_config_name,
        command=["python", "run_labelling.py", *argv],
        training_args=trainer.args,
        training_seconds=training_seconds,
        base_model=model_args.model_name_or_path if is_hub_name(model_args.model_name_or_path) else None,
        language=data_args.language,
        license=data_args.license,
        picture=pictures[0] if pictures else None,
    )


if __name__ == "__main__":
    main()
