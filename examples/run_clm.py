r"""Train a recurrent language model on a text, evaluate it and let it write.

    python examples/run_clm.py --do_train --do_eval --output_dir runs/shakespeare --train_file input.txt \
        --validation_split_percentage 10 --config_overrides hidden_size=512,embedding_size=128

The text is laid out as parallel streams. A batch is the next piece of each stream; the state after it is handed to the
next batch, without gradients (truncated back-propagation through time). So the model learns to use a past that is
longer than a piece. At the end the whole validation text is read as one stream: each token is predicted once, from all
that stands before it.

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its tokenizer, the metrics, the curve of the loss, a text
that the model has written and a model card. Needs `pip install attention-rnn[train,plot]`.
"""

import json
import logging
import math
import sys
import time
import unicodedata
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from datasets import load_dataset
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Cache,
    EarlyStoppingCallback,
    HfArgumentParser,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_utils import speed_metrics

from attention_rnn import AttentionRnnConfig
from attention_rnn.data import read_lines
from attention_rnn.hub import write_model_card
from attention_rnn.tokenization import TokenizerKind, train_tokenizer
from attention_rnn.training import (
    ScriptTrainer,
    ScriptTrainingArguments,
    check_values,
    delete_run,
    expand_config_file,
    find_checkpoint,
    is_hub_name,
    origin,
    parse_config_overrides,
    special_token_ids,
    train_and_save,
    wanted_splits,
)

logger = logging.getLogger("run_clm")

IGNORED_LABEL = -100
SMALLEST_VALUES = {"block_size": 1, "sample_length": 1}

USAGE = """```python
import attention_rnn  # pip install attention-rnn
from transformers import pipeline

write = pipeline("text-generation", {name})
print(write({prompt}, max_new_tokens=300, do_sample=True, temperature=0.8)[0]["generated_text"])
```

Without `import attention_rnn`, the code that the checkpoint carries does the same with
`pipeline("text-generation", {name}, trust_remote_code=True)`.

With a temperature of {temperature} it has written:

```
{sample}
```

![The loss in the course of the training](loss.png)"""
LIMITS = """The model continues texts like that of its training, and scores how likely a text is. What it writes need
not be true. It repeats the errors and biases of its training data, and nothing was tested beyond the scores above."""


@dataclass
class ModelArguments:
    """Which model: train `model_name_or_path` further, or a new one from scratch."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint of an AttentionRnnForCausalLM to train further or to evaluate."}
    )
    config_overrides: str | None = field(
        default=None, metadata={"help": "Fields of AttentionRnnConfig for a new model: hidden_size=256,cell_type=lstm"}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Existing tokenizer for a new model."})
    tokenizer: str = field(
        default="character", metadata={"help": "Tokenizer to train: character, bpe, unigram or word."}
    )
    vocab_size: int = field(default=10_000, metadata={"help": "Largest vocabulary of a trained tokenizer."})
    min_frequency: int = field(default=1, metadata={"help": "Occurrences that a unit of a trained tokenizer needs."})
    lowercase: bool = field(default=False, metadata={"help": "Whether a trained tokenizer lower-cases the text."})


@dataclass
class DataArguments:
    """What to read, and what to write at the end."""

    train_file: str | None = field(default=None, metadata={"help": "Text, UTF-8. May be compressed (.gz)."})
    validation_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_file: str | None = field(default=None, metadata={"help": "The same for testing."})
    validation_split_percentage: int | None = field(
        default=None, metadata={"help": "Validate on that last part of the training text, without a validation_file."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub with the splits train, validation, test; or a folder."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    text_column: str = field(default="text", metadata={"help": "Its column of text; rows follow each other as lines."})
    line_by_line: bool = field(
        default=False,
        metadata={
            "help": "Let </s> take the place of line ends, and leave out empty lines. For tokenizers other than "
            "character, to which a line end is a space, or nothing."
        },
    )
    block_size: int = field(
        default=128, metadata={"help": "Tokens of each stream in a batch, through which gradients flow back."}
    )
    prompt: str = field(default="", metadata={"help": "Beginning of the text to write at the end."})
    sample_length: int = field(default=500, metadata={"help": "Tokens to write at the end."})
    temperature: float = field(default=0.8, metadata={"help": "Temperature of sampling them."})
    language: list[str] | None = field(default=None, metadata={"help": "Languages for the card, ISO 639 codes."})
    license: str | None = field(default=None, metadata={"help": "Licence for the card, the Hub's identifier."})


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one is kept.
    """

    learning_rate: float = field(default=2e-3, metadata={"help": "Highest learning rate."})
    num_train_epochs: float = field(default=20.0, metadata={"help": "Epochs to train."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Parallel streams of the training text."})
    per_device_eval_batch_size: int = field(
        default=16,
        metadata={
            "help": "Parallel streams of the validation text within training, where the beginning of a stream lacks "
            "its past. The final evaluation has one stream, and so the right numbers."
        },
    )
    logging_first_step: bool = field(default=True, metadata={"help": "Whether to report that of the first step."})

    def __post_init__(self):
        self.settle_evaluation()
        super().__post_init__()


class Text(NamedTuple):
    """A text as tokens, without special tokens at its beginning."""

    ids: Tensor  # (tokens,)
    characters: int


class Streams(Dataset):
    """
    A text as parallel streams, cut into blocks. Each stream begins with `start_token_id`, from which its first token is
    predicted; where the last stream is shorter, nothing is predicted at its end.

    Item by item it is the first block of each stream, the second block of each stream, and so on: read in order, a
    batch continues the one before it.

    Args:
        text: the text.
        start_token_id: what each stream begins with.
        streams: their number.
        block_size: tokens of a block; the last one may be shorter.
        seed: of the place at which the text is opened to be laid out, another one in each epoch, so that blocks begin
            at other tokens. `None`: its beginning, always.
    """

    def __init__(self, text: Text, start_token_id: int, streams: int, block_size: int, seed: int | None = None) -> None:
        self.text, self.start_token_id, self.seed = text, start_token_id, seed
        self.streams, self.block_size = streams, block_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        ids = self.text.ids
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            ids = ids.roll(int(torch.randint(len(ids), (), generator=generator)))
        missing = -len(ids) % self.streams
        self.targets = torch.nn.functional.pad(ids, (0, missing), value=IGNORED_LABEL).view(self.streams, -1)
        start = self.targets.new_full((self.streams, 1), self.start_token_id)
        inputs = torch.cat([start, self.targets[:, :-1]], dim=1)
        self.inputs = inputs.where(inputs != IGNORED_LABEL, self.start_token_id)

    def __len__(self) -> int:
        return self.streams * math.ceil(self.targets.shape[1] / self.block_size)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        block, stream = divmod(index, self.streams)
        part = slice(block * self.block_size, (block + 1) * self.block_size)
        targets = self.targets[stream, part]
        # Trainer counts `labels` over all processes and divides the loss by their number
        return {"input_ids": self.inputs[stream, part], "labels": targets, "shift_labels": targets}


class Trainer(ScriptTrainer):
    """Hands the state from batch to batch; the data sets are `Streams`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.carried: Cache | None = None
        self.add_callback(Forget(self))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        inputs = {**inputs, "past_key_values": self.carried, "use_cache": True}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        # a state that has led to a loss of NaN would lead to the next one
        self.carried = detach(outputs["past_key_values"]) if loss.isfinite() else None
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Streams | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The loss per token and per character, and the perplexity per token."""
        streams: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        start, nats = time.time(), self.score(streams)
        tokens, characters = len(streams.text.ids), streams.text.characters
        scores = {
            "loss": nats / tokens,
            "perplexity": math.exp(nats / tokens),
            "nats_per_character": nats / characters,
            "bits_per_character": nats / characters / math.log(2),
        }
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        metrics |= speed_metrics(metric_key_prefix, start, num_tokens=tokens)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def score(self, streams: Streams) -> float:
        """The negative log likelihood of a text in nats."""
        model, state, nats = self.model.eval().to(self.args.device), None, 0.0
        blocks = zip(
            streams.inputs.split(streams.block_size, dim=1),
            streams.targets.split(streams.block_size, dim=1),
            strict=True,
        )
        with torch.no_grad(), self.accelerator.autocast():
            for inputs, targets in blocks:
                if (targets == IGNORED_LABEL).all():
                    break  # what fills up the last stream may be longer than a block
                outputs = model(
                    inputs.to(self.args.device),
                    shift_labels=targets.to(self.args.device),
                    past_key_values=state,
                    use_cache=True,
                    num_items_in_batch=1,  # the sum
                )
                state, nats = outputs.past_key_values, nats + outputs.loss.item()
        return nats


class Forget(TrainerCallback):
    """
    An epoch begins with other text than the last one ended with. And a run that is resumed from a checkpoint has no
    state to go on with, so one that goes on after it has none either.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.carried = None

    on_save = on_epoch_begin


def detach(state: Cache) -> Cache:
    """The state without the graph that it came from."""
    for layer in state.layers:
        layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
    return state


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
        tokenizer = make_tokenizer(pretrained, texts, model_args, data_args, training_args)
    model = make_model(pretrained, tokenizer, model_args)
    encoded = {split: encode(split, text, tokenizer, data_args) for split, text in texts.items()}

    def lay_out(split: str, streams: int, seed: int | None = None) -> Streams | None:
        if split not in encoded:
            return None
        text = encoded[split]
        if split == "train" and len(text.ids) < streams:
            raise ValueError(f"the train text must have a token for each of {streams} streams, got {len(text.ids)}")
        return Streams(text, tokenizer.bos_token_id, min(streams, len(text.ids)), data_args.block_size, seed)

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=lay_out("train", training_args.train_batch_size * training_args.world_size, training_args.seed),
        eval_dataset=lay_out("validation", training_args.per_device_eval_batch_size),
        processing_class=tokenizer,
    )
    if training_args.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(training_args.early_stopping_patience))

    training_seconds = None
    if training_args.do_train:
        training_seconds = train_and_save(trainer, checkpoint)
        if trainer.is_world_process_zero():
            draw_loss(trainer, output_dir / "loss.png")

    all_scores = {}
    for split, name in (("validation", "eval"), ("test", "predict")):
        if split in encoded:
            result = trainer.evaluate(lay_out(split, streams=1), metric_key_prefix=name)
            trainer.log_metrics(name, result)
            trainer.save_metrics(name, result)
            scores = ("perplexity", "nats_per_character", "bits_per_character")
            all_scores[split] = {score: result[f"{name}_{score}"] for score in scores}

    sample = write_sample(trainer, data_args)  # by all processes, among which the model may be divided
    if trainer.is_world_process_zero():
        if training_args.do_train:
            write_card(trainer, encoded, all_scores, training_seconds, sample, argv, model_args, data_args)
        logger.info(f"All results lie in {training_args.output_dir}.")
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return all_scores


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
            raise ValueError(f"{action} needs either --{file} or --dataset_name")
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
    if training_args.do_train and find_spec("matplotlib") is None:
        raise ImportError("the curve of the loss needs matplotlib: pip install attention-rnn[plot]")

    if model_args.model_name_or_path is not None:
        if model_args.config_overrides is not None or model_args.tokenizer_name is not None:
            raise ValueError(
                "--model_name_or_path brings its config and tokenizer: no --config_overrides, --tokenizer_name"
            )
        config = AutoConfig.from_pretrained(model_args.model_name_or_path)
        if config.model_type != AttentionRnnConfig.model_type:
            raise ValueError(
                f"--model_name_or_path must be an {AttentionRnnConfig.model_type} model, whose state can be handed on, "
                f"got {config.model_type}"
            )
    else:
        if "train" not in splits:
            raise ValueError("--do_eval and --do_predict without --do_train need --model_name_or_path")
        config = AttentionRnnConfig(**parse_config_overrides(model_args.config_overrides), is_encoder_decoder=False)
        if model_args.tokenizer not in get_args(TokenizerKind):
            raise ValueError(
                f"--tokenizer must be one of {', '.join(get_args(TokenizerKind))}, got {model_args.tokenizer!r}"
            )
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
        dataset = load_dataset(data_args.dataset_name, data_args.dataset_config_name)
        if split not in dataset or data_args.text_column not in dataset[split].column_names:
            raise ValueError(
                f"--dataset_name {data_args.dataset_name} must have the split {split!r} with the column "
                f"{data_args.text_column!r}, got {dataset.column_names}"
            )
        text = "".join(row.removesuffix("\n") + "\n" for row in dataset[split][data_args.text_column])
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
    name = pretrained or model_args.tokenizer_name or training_args.output_dir
    # the main process trains and saves, so that all processes load the same tokens
    if name == training_args.output_dir and training_args.process_index == 0:
        tokenizer = train_tokenizer(
            passages(texts["train"], data_args),
            model_args.tokenizer,
            model_args.vocab_size,
            min_frequency=model_args.min_frequency,
            lowercase=model_args.lowercase,
            causal=True,
        )
        tokenizer.save_pretrained(name)
    tokenizer = AutoTokenizer.from_pretrained(name)
    for token in ("bos_token", "eos_token") if data_args.line_by_line else ("bos_token",):
        if getattr(tokenizer, token) is None:
            raise ValueError(f"the tokenizer of {name} must have a {token}, got None")
    return tokenizer


def make_model(
    pretrained: str | None, tokenizer: PreTrainedTokenizerBase, model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None:
        return AutoModelForCausalLM.from_pretrained(pretrained, dtype=torch.float32)
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
    return [line for line in text.splitlines() if line.strip()] if data_args.line_by_line else [text]


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


def write_sample(trainer: Trainer, data_args: DataArguments) -> str:
    """Let the model continue the prompt, and keep what it writes."""
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    prompt = tokenizer(data_args.prompt, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.bos_token_id, *prompt]], device=model.device)
    options = {"do_sample": True, "temperature": data_args.temperature, "top_k": 0}
    # what stands in a text of its own is not to end this one
    written = model.generate(ids, max_new_tokens=data_args.sample_length, eos_token_id=None, **options)
    sample = tokenizer.decode(written[0], skip_special_tokens=True)
    if trainer.is_world_process_zero():
        Path(trainer.args.output_dir, "sample.txt").write_text(sample, encoding="utf-8")
    logger.info(sample)
    return sample


def draw_loss(trainer: Trainer, file: Path) -> None:
    """Draw the loss per token over the epochs."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    for name, label in (("loss", "training, with dropout"), ("eval_loss", "validation")):
        points = [(entry["epoch"], entry[name]) for entry in trainer.state.log_history if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)
    axes.set(xlabel="epoch", ylabel="nats per token")
    axes.legend()
    axes.figure.savefig(file, dpi=150)


def write_card(
    trainer: Trainer,
    encoded: dict[str, Text],
    scores: dict[str, dict[str, float]],
    training_seconds: float | None,
    sample: str,
    argv: list[str],
    model_args: ModelArguments,
    data_args: DataArguments,
) -> None:
    name = trainer.hub_model_id if trainer.args.push_to_hub else Path(trainer.args.output_dir).resolve().name
    usage = USAGE.format(
        name=json.dumps(name),
        prompt=json.dumps(data_args.prompt, ensure_ascii=False),
        temperature=data_args.temperature,
        sample=sample.replace("`" * 3, "'" * 3),
    )
    sizes = {split: f"{len(text.ids):,} tokens, {text.characters:,} characters" for split, text in encoded.items()}
    write_model_card(
        trainer.args.output_dir,
        model=trainer.model,
        name=name,
        task="text-generation",
        usage=usage,
        limits=LIMITS,
        results=scores,
        data={split: (f"{part_of(split, data_args)}: {sizes[split]}", 1) for split in encoded},
        dataset_name=data_args.dataset_name if is_hub_name(data_args.dataset_name) else None,
        dataset_config_name=data_args.dataset_config_name,
        command=["python", "run_clm.py", *argv],
        training_args=trainer.args,
        training_seconds=training_seconds,
        base_model=model_args.model_name_or_path if is_hub_name(model_args.model_name_or_path) else None,
        language=data_args.language,
        license=data_args.license,
    )


if __name__ == "__main__":
    main()
