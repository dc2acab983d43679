r"""Train a recurrent language model on a text, evaluate it and let it write.

    python examples/run_clm.py --do_train --do_eval --output_dir runs/shakespeare --train_file input.txt \
        --validation_split_percentage 10 --config_overrides hidden_size=512,embedding_size=128

The text is laid out as parallel streams. A batch is the next piece of each stream; the state after it is handed to the
next batch, without gradients (truncated back-propagation through time). So the model learns to use a past that is
longer than a piece. At the end the whole validation text is read as one stream: each token is predicted once, from all
that stands before it.

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the curve of the loss, a text
that the model has written and a model card. Needs `pip install 'attention-rnn[train,plot]'`.
"""

import logging
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from attention_rnn import AttentionRnnConfig
from attention_rnn.arguments import (
    ScriptDataArguments,
    ScriptModelArguments,
    ScriptTrainingArguments,
    check_choice,
    check_model,
    check_values,
    option,
    parse_config_overrides,
    wanted_splits,
)
from attention_rnn.checkpoints import open_config
from attention_rnn.data import read_lines
from attention_rnn.language_modelling import EXPLANATIONS, Streams, StreamTrainer, Text
from attention_rnn.tokenizer_training import TokenizerKind
from attention_rnn.training import (
    address_of_model,
    load_or_train_tokenizer,
    load_split,
    origin,
    special_token_ids,
    start_run,
    train_new_tokenizer,
)
from attention_rnn.usage import CLM_LIMITS, clm_usage

logger = logging.getLogger("run_clm")

SMALLEST_VALUES = {"block_size": 1, "sample_length": 1}
SCORES = ("perplexity", "nats_per_character", "bits_per_character")


@dataclass
class ModelArguments(ScriptModelArguments):
    """Which model: train `model_name_or_path` further, or a new one from scratch."""

    model_name_or_path: str | None = option(
        None, "Checkpoint of an AttentionRnnForCausalLM to train further or to evaluate."
    )
    tokenizer: str = option("character", "Tokenizer to train: character, bpe, unigram or word.")


@dataclass
class DataArguments(ScriptDataArguments):
    """What to read, and what to write at the end."""

    train_file: str | None = option(None, "Text, UTF-8. May be compressed (.gz).")
    validation_split_percentage: int | None = option(
        None, "Validate on that last part of the training text, without a validation_file."
    )
    text_column: str = option("text", "The data set's column of text; rows follow each other as lines.")
    line_by_line: bool = option(
        False,
        "Let </s> take the place of line ends, and leave out empty lines. For tokenizers other than "
        "character, to which a line end is a space, or nothing.",
    )
    block_size: int = option(128, "Tokens of each stream in a batch, through which gradients flow back.")
    prompt: str = option("", "Beginning of the text to write at the end.")
    sample_length: int = option(500, "Tokens to write at the end.")
    temperature: float = option(0.8, "Temperature of sampling them.")


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one is kept.
    """

    learning_rate: float = option(2e-3, "Highest learning rate.")
    num_train_epochs: float = option(None, "Epochs to train. Default: 20.")
    per_device_train_batch_size: int = option(
        None, "Parallel streams of the training text. Default: 64, or fewer of a short text."
    )
    per_device_eval_batch_size: int = option(
        16,
        "Parallel streams of the validation text within training, where the beginning of a stream lacks "
        "its past. The final evaluation has one stream, and so the right numbers.",
    )
    logging_first_step: bool = option(True, "Whether to report that of the first step.")

    def __post_init__(self):
        self.settle_evaluation(lower_is_better=SCORES)
        self.settle_length(epochs=20, batch_size=64)
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    run = start_run("run_clm.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)

    texts = read_splits(data_args, training_args)
    with run.prepare():
        tokenizer = make_tokenizer(run.pretrained, texts, model_args, data_args, training_args)
    model = make_model(run.pretrained, tokenizer, model_args)
    encoded = {split: encode(split, text, tokenizer, data_args) for split, text in texts.items()}
    if "train" in encoded:
        training_args.suit_length(len(encoded["train"].ids) // data_args.block_size)

    def lay_out(split: str, streams: int, seed: int | None = None) -> Streams | None:
        if split not in encoded:
            return None
        text = encoded[split]
        if split == "train" and len(text.ids) < streams:
            raise ValueError(f"the train text must have a token for each of {streams} streams, got {len(text.ids)}")
        return Streams(text, tokenizer.bos_token_id, min(streams, len(text.ids)), data_args.block_size, seed)

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        result = trainer.evaluate(lay_out(split, streams=1), metric_key_prefix=prefix)
        return result, {score: result[f"{prefix}_{score}"] for score in SCORES}

    trainer = StreamTrainer(
        model=model,
        args=training_args,
        train_dataset=lay_out("train", training_args.train_batch_size * training_args.world_size, training_args.seed),
        eval_dataset=lay_out("validation", training_args.per_device_eval_batch_size),
        processing_class=tokenizer,
    )
    scores = run.train_and_evaluate(trainer, evaluate)

    sample = write_sample(trainer, data_args)  # by all processes, among which the model may be divided
    if trainer.is_world_process_zero():
        Path(run.output_dir, "sample.txt").write_text(sample, encoding="utf-8")
    sizes = {split: f"{len(text.ids):,} tokens, {text.characters:,} characters" for split, text in encoded.items()}
    run.finish(
        trainer,
        task="text-generation",
        usage=clm_usage(address_of_model(trainer), data_args.prompt, data_args.temperature, sample),
        limits=CLM_LIMITS,
        data={split: (f"{part_of(split, data_args)}: {sizes[split]}", 1) for split in encoded},
        explanations=EXPLANATIONS,
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    splits = wanted_splits(training_args)
    percentage = data_args.validation_split_percentage
    if percentage is not None:
        if not 1 <= percentage <= 99:
            raise ValueError(f"--validation_split_percentage must be from 1 to 99, got {percentage}")
        if data_args.validation_file is not None or data_args.dataset_name is not None:
            raise ValueError("--validation_split_percentage takes the validation text from --train_file alone")
    for split, action in splits.items():
        file = file_argument(split, data_args)
        if (getattr(data_args, file) is None) == (data_args.dataset_name is None):
            part = ", or --validation_split_percentage" if split == "validation" else ""
            raise ValueError(f"{action} needs either --{file} or --dataset_name{part}")
    check_values(data_args, training_args, SMALLEST_VALUES)
    if not data_args.temperature > 0:
        raise ValueError(f"--temperature must be above 0, got {data_args.temperature}")
    if training_args.label_smoothing_factor:
        raise ValueError(
            "--label_smoothing_factor must be 0, since the loss tells the perplexity, got "
            f"{training_args.label_smoothing_factor}"
        )
    if training_args.n_gpu > 1:
        raise ValueError(f"each process needs a GPU of its own, got {training_args.n_gpu}: start them by torchrun")

    check_model(model_args, training_args)
    if model_args.model_name_or_path is not None:
        config = open_config(model_args.model_name_or_path, trust_remote_code=model_args.trust_remote_code)
        if config.model_type != AttentionRnnConfig.model_type:
            raise ValueError(
                f"--model_name_or_path must be an {AttentionRnnConfig.model_type} model, whose state can be handed on, "
                f"got {config.model_type}"
            )
    else:
        check_choice("tokenizer", model_args.tokenizer, get_args(TokenizerKind))
        config = AttentionRnnConfig(**parse_config_overrides(model_args.config_overrides), is_encoder_decoder=False)
    if config.past_attention_window == "all":
        raise ValueError("past_attention_window must be a number: the state that is handed on would grow without end")


def file_argument(split: str, data_args: DataArguments) -> str:
    """Which argument names the file that a split is read from."""
    takes_part = split == "validation" and data_args.validation_split_percentage is not None
    return "train_file" if takes_part else f"{split}_file"


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, str]:
    texts = {}
    percentage = data_args.validation_split_percentage
    for split in wanted_splits(training_args):
        text = read_text(split, data_args)
        if percentage is not None and split != "test":
            end_of_train = len(text) * (100 - percentage) // 100
            text = text[:end_of_train] if split == "train" else text[end_of_train:]
        if not text.strip():
            raise ValueError(f"the {split} text must not be empty, got {text!r} from {part_of(split, data_args)}")
        texts[split] = text
        logger.info(f"{split}: {len(text):,} characters of {part_of(split, data_args)}")
    return texts


def read_text(split: str, data_args: DataArguments) -> str:
    """The text that a split is, or is a part of, in Unicode's form NFC as our tokenizers give it back."""
    if data_args.dataset_name is not None:
        dataset = load_split(split, data_args)
        if data_args.text_column not in dataset.column_names:
            raise ValueError(
                f"--dataset_name {data_args.dataset_name} must have the split {split!r} with the column "
                f"{data_args.text_column!r}, got {dataset.column_names}"
            )
        text = "".join(row.removesuffix("\n") + "\n" for row in dataset[data_args.text_column])
    else:
        text = "".join(read_lines(getattr(data_args, file_argument(split, data_args)))).replace("\r\n", "\n")
    return unicodedata.normalize("NFC", text)


def part_of(split: str, data_args: DataArguments) -> str:
    """What a split is read from, and which part of it."""
    percentage = data_args.validation_split_percentage
    if percentage is None or split == "test":
        return origin(split, data_args)
    part = f"first {100 - percentage}" if split == "train" else f"last {percentage}"
    return f"the {part} % of {origin('train', data_args)}"


def make_tokenizer(
    pretrained: str | None,
    texts: dict[str, str],
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
) -> PreTrainedTokenizerBase:
    def train() -> PreTrainedTokenizerBase:
        parts = passages(texts["train"], data_args)
        return train_new_tokenizer("text", lambda: parts, model_args.tokenizer, model_args, causal=True)

    tokenizer = load_or_train_tokenizer(pretrained, model_args, training_args, train)
    for token in ("bos_token", "eos_token") if data_args.line_by_line else ("bos_token",):
        if getattr(tokenizer, token) is None:
            raise ValueError(f"the tokenizer of {tokenizer.name_or_path} must have a {token}, got None")
    return tokenizer


def make_model(
    pretrained: str | None, tokenizer: PreTrainedTokenizerBase, model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None:
        return AutoModelForCausalLM.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
    config = AttentionRnnConfig(
        **parse_config_overrides(model_args.config_overrides),
        vocab_size=len(tokenizer),
        is_encoder_decoder=False,
        **special_token_ids(tokenizer),
        decoder_start_token_id=tokenizer.bos_token_id,
    )
    return AutoModelForCausalLM.from_config(config)


def passages(text: str, data_args: DataArguments) -> list[str]:
    """What is turned into tokens by itself: each line, or the whole."""
    return [line for line in text.split("\n") if line.strip()] if data_args.line_by_line else [text]


def encode(split: str, text: str, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments) -> Text:
    """Turn a text into ids, and warn of what the vocabulary lacks."""
    parts = passages(text, data_args)
    end = [tokenizer.eos_token_id] if data_args.line_by_line else []
    encoded = tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"]
    ids = torch.tensor([token_id for part in encoded for token_id in part + end], dtype=torch.long)
    if unknown := int((ids == tokenizer.unk_token_id).sum()) if tokenizer.unk_token_id is not None else 0:
        logger.warning(
            f"{unknown:,} of {len(ids):,} tokens of the {split} text are not in the vocabulary. They all count as "
            f"{tokenizer.unk_token}, which is easier to predict."
        )
    return Text(ids, characters=sum(len(part) + len(end) for part in parts))


def write_sample(trainer: StreamTrainer, data_args: DataArguments) -> str:
    """What the model writes after the prompt."""
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    prompt = tokenizer(data_args.prompt, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.bos_token_id, *prompt]], device=model.device)
    options = {"do_sample": True, "temperature": data_args.temperature, "top_k": 0}
    # what stands in a text of its own is not to end this one
    written = model.generate(ids, max_new_tokens=data_args.sample_length, eos_token_id=None, **options)
    sample = tokenizer.decode(written[0], skip_special_tokens=True)
    logger.info(sample)
    return sample


if __name__ == "__main__":
    main()
