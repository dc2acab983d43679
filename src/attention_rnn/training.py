"""
What the training scripts under `examples/` share: the run of one, from its command line to its model card.

A script is read from top to bottom: its arguments, which extend those of `arguments.py`; `main`; then the steps that
`main` names, in their order. `main` reads

    run = start_run("run_seq2seq.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)
    examples = read_examples(...)                       # the data of each split
    with run.prepare():
        tokenizer = make_tokenizer(...)
    model = make_model(...)
    encoded = {split: encode(...) for split, ...}
    trainer = ReliableTrainer(model, training_args, ...)
    scores = run.train_and_evaluate(trainer, evaluate)  # `evaluate` scores a split and writes what was predicted
    run.finish(trainer, ...)                            # the card, and the Hub

What only shows a model stands elsewhere: how it is used in `usage.py`, pictures of its attention in `heat_maps.py`.
"""

import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    PrinterCallback,
    ProgressCallback,
    set_seed,
)

from .alignment import Alignment
from .arguments import (
    ScriptTrainingArguments,
    expand_config_file,
    parse_arguments,
    wanted_splits,
)
from .checkpoints import TEACHERS
from .data import FORMATS, choose_columns, extension, read_rows
from .heat_maps import draw_heat_maps
from .model_card import TRAINING_CURVES, write_model_card
from .progress import Forecast, ProgressBar, StopAtStep, plot_training, stopped_by_interrupt
from .run_folder import PREPARED, check_apart, delete_prepared, delete_run, find_checkpoint
from .tokenizer_training import NORMALIZERS, TokenizerKind, choose_tokenizer, train_tokenizer
from .trainer import ReliableTrainer

logger = logging.getLogger(__name__)

Scores = dict[str, float | str]


@dataclass
class Run:
    """
    A run of a training script.

    Attributes:
        script (`str`): its file.
        argv (`list[str]`): its command line, a config file in full.
        model_args, data_args, training_args: its arguments.
        checkpoint (`str`, *optional*): what it goes on from.
        scores (`dict[str, Scores]`): what the model reached on each split.
        training_seconds (`float`, *optional*): how long the training took.
    """

    script: str
    argv: list[str]
    model_args: Any
    data_args: Any
    training_args: ScriptTrainingArguments
    checkpoint: str | None = None
    scores: dict[str, Scores] = field(default_factory=dict)
    training_seconds: float | None = None

    @property
    def arguments(self) -> tuple[Any, Any, ScriptTrainingArguments]:
        return self.model_args, self.data_args, self.training_args

    @property
    def output_dir(self) -> Path:
        return Path(str(self.training_args.output_dir))

    @property
    def pretrained(self) -> str | None:
        """The folder or the name of what the model and its tokenizer are loaded from; `None` for a new model."""
        return self.checkpoint or self.model_args.model_name_or_path

    @contextmanager
    def prepare(self) -> Iterator[None]:
        """
        Sow the seed. What is written within, to `PREPARED`, the main process writes before others read it. An earlier
        run stays until the training begins, as its data may still turn out to be wrong.
        """
        set_seed(self.training_args.seed)
        with self.training_args.main_process_first(local=False, desc="preparing the training"):
            if self.training_args.process_index == 0:
                delete_prepared(self.output_dir)
            yield

    @property
    def _replaces(self) -> bool:
        return self.training_args.overwrite_output_dir and self.checkpoint is None

    @property
    def _scores_its_folder(self) -> bool:
        name = self.model_args.model_name_or_path
        return not self.training_args.do_train and bool(name) and Path(name).resolve() == self.output_dir.resolve()

    def check_folder(self) -> None:
        """
        Refuse to delete what the run begins with.

        Raises:
            ValueError: an earlier run is to be deleted, and the model, the tokenizer or a teacher lies in its folder.
        """
        if not self._replaces or self._scores_its_folder:
            return
        inputs = {
            "--model_name_or_path": [self.model_args.model_name_or_path],
            "--tokenizer_name": [getattr(self.model_args, "tokenizer_name", None)],
            "--teacher_models": getattr(self.training_args, "teacher_models", None) or [],
        }
        check_apart(self.output_dir, "--output_dir", inputs, self.output_dir / TEACHERS)

    def train_and_evaluate(
        self, trainer: ReliableTrainer, evaluate: Callable[[str, str], tuple[dict[str, float], Scores]]
    ) -> dict[str, Scores]:
        """
        Train and score, as far as the arguments ask for it, and save the model and all numbers. An earlier run is
        deleted first, if that is wanted.

        Args:
            trainer (`ReliableTrainer`):
                With the model and the data.
            evaluate:
                (split, prefix of the names of its metrics) to the metrics that the trainer measured, and the scores.

        Returns:
            `dict[str, Scores]`: the scores of each split.
        """
        is_main = trainer.is_world_process_zero()
        if is_main and self._replaces and not self._scores_its_folder:
            delete_run(self.output_dir)
        if self.training_args.do_train:
            try:
                self.training_seconds = train_and_save(trainer, self.checkpoint)
            finally:
                if is_main:
                    delete_prepared(self.output_dir)
            if is_main and find_spec("matplotlib") is not None:
                metric = self.training_args.metric_for_best_model
                is_smoothed = bool(self.training_args.label_smoothing_factor)
                plot_training(self.output_dir / TRAINING_CURVES, trainer.state.log_history, metric, is_smoothed)
        trainer.compute_metrics = None  # it knows the references of the validation alone
        for split, prefix in (("validation", "eval"), ("test", "predict")):
            if split in wanted_splits(self.training_args):
                measured, self.scores[split] = evaluate(split, prefix)
                result = measured | {f"{prefix}_{name}": value for name, value in self.scores[split].items()}
                if not self.training_args.brief:
                    trainer.log_metrics(prefix, result)
                trainer.save_metrics(prefix, result)
        return self.scores

    def draw_heat_maps(self, trainer: ReliableTrainer, alignments: Iterable[Alignment]) -> str | None:
        """Draw what `heat_maps.py` finds in a trained model, and return the first picture, if any, for the card."""
        if not (trainer.has_whole_model and trainer.is_world_process_zero()):
            return None
        return next(iter(draw_heat_maps(self.output_dir, alignments)), None)

    def finish(
        self,
        trainer: ReliableTrainer,
        *,
        task: str,
        usage: str,
        limits: str,
        data: Mapping[str, tuple[str, int | None]],
        picture: str | None = None,
        explanations: Mapping[str, str] | None = None,
        details: str | None = None,
    ) -> None:
        """
        Write the card of a model that was trained, and send it to the Hub if that is wanted. See `write_model_card`
        for the arguments.
        """
        if trainer.is_world_process_zero():
            if self.training_args.do_train:
                model: Any = trainer.model
                base_model = self.model_args.model_name_or_path
                dataset_name = self.data_args.dataset_name
                write_model_card(
                    self.output_dir,
                    model=model,
                    name=name_of_model(trainer),
                    task=task,
                    usage=usage,
                    limits=limits,
                    results=self.scores,
                    data=data,
                    dataset_name=dataset_name if is_hub_name(dataset_name) else None,
                    dataset_config_name=self.data_args.dataset_config_name,
                    command=shlex.split(self.data_args.command or "") or ["python", self.script, *self.argv],
                    training_args=trainer.args,
                    training_seconds=self.training_seconds,
                    base_model=base_model if is_hub_name(base_model) else None,
                    base_folder=None if is_hub_name(base_model) or not base_model else Path(base_model).resolve().name,
                    language=self.data_args.language,
                    license=self.data_args.license,
                    picture=picture,
                    explanations=explanations,
                    details=details,
                )
            logger.info(f"All results lie in {self.output_dir}.")
        if self.training_args.push_to_hub:
            trainer.push_to_hub()


def start_run(script: str, argv: Sequence[str] | None, *kinds: type) -> Run:
    """
    Read a command line, `None` for that of this process, into arguments of three kinds: of the model, of the data and
    of the training. Looks for the checkpoint to resume from, and lets the main process alone tell what it does.
    """
    argv = expand_config_file(list(sys.argv[1:] if argv is None else argv))
    model_args, data_args, training_args = parse_arguments(argv, *kinds)
    logging.basicConfig(format="%(message)s")
    level = logging.ERROR if training_args.process_index > 0 else logging.INFO
    if training_args.brief:
        level = max(level, logging.WARNING)
    for name in (__package__, Path(script).stem):
        logging.getLogger(name).setLevel(level)
    checkpoint = find_checkpoint(
        Path(training_args.output_dir), training_args.resume_from_checkpoint, training_args.overwrite_output_dir
    )
    run = Run(script, argv, model_args, data_args, training_args, checkpoint)
    run.check_folder()
    return run


def train_and_save(trainer: ReliableTrainer, checkpoint: str | None) -> float:
    """
    Train, from a checkpoint if there is one, and save the model and the metrics; returns the seconds it took.

    Raises:
        KeyboardInterrupt: Ctrl-C has ended the training. The best model so far is saved, and a checkpoint to resume.
    """
    is_brief = getattr(trainer.args, "brief", False)
    if is_brief:
        for callback in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(callback)
    trainer.add_callback(ProgressBar() if is_brief else Forecast())
    stop = StopAtStep()
    trainer.add_callback(stop)
    with stopped_by_interrupt(stop):
        result = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    trainer.save_state()
    if stop.wanted:
        raise KeyboardInterrupt(f"Stopped at step {trainer.state.global_step:,} of {trainer.state.max_steps:,}.")
    if not is_brief:
        trainer.log_metrics("train", result)
    trainer.save_metrics("train", result)
    return result["train_runtime"]


def load_or_train_tokenizer(
    pretrained: str | None,
    model_args: Any,
    training_args: ScriptTrainingArguments,
    train: Callable[[], PreTrainedTokenizerBase],
) -> Any:
    """
    The tokenizer of a checkpoint, or that of `--tokenizer_name`, or else a new one: the main process trains and saves
    it, so that all processes load the same tokens.
    """
    name = pretrained or model_args.tokenizer_name
    if name is None:
        name = f"{training_args.output_dir}/{PREPARED}"
        if training_args.process_index == 0:
            train().save_pretrained(str(name))
    return AutoTokenizer.from_pretrained(name, trust_remote_code=model_args.trust_remote_code)


def train_new_tokenizer(
    what: str,
    texts: Callable[[], Iterable[str]],
    kind: str,
    model_args: Any,
    *,
    vocab_size: int | None = None,
    is_target: bool = False,
    normalization: str = "NFC",
    causal: bool = False,
) -> PreTrainedTokenizerFast:
    """
    Train a tokenizer, of the kind that suits the texts if `kind` is `"auto"`, and say which that is.

    Args:
        what (`str`): what the texts are, for messages.
        texts: gives the training texts, each time it is called.
        kind (`str`): as of `train_tokenizer`, or `"auto"`.
        model_args (`ScriptModelArguments`): of the tokenizer.
        vocab_size (`int`, *optional*): the most tokens to have, if not those of the arguments.
        is_target (`bool`): whether the model is to write such texts.
        normalization (`str`), causal (`bool`): as of `train_tokenizer`.
    """
    asked = size = vocab_size or model_args.vocab_size
    is_chosen = kind == "auto"
    if is_chosen:
        prepared = (
            NORMALIZERS[normalization]().normalize_str(text.lower() if model_args.lowercase else text)
            for text in texts()
        )
        choice = choose_tokenizer(prepared, is_target)
        kind, size = choice.kind, size or choice.vocab_size
        logger.info(f"tokenizer of the {what}: {kind} (chosen for {choice.reason})")
    tokenizer = train_tokenizer(
        texts(),
        cast(TokenizerKind, kind),
        size or 10_000,
        min_frequency=model_args.min_frequency,
        lowercase=model_args.lowercase,
        normalization=normalization,
        causal=causal,
    )
    if is_chosen and asked and kind != "bpe" and len(tokenizer) < asked:
        logger.warning(
            f"A vocabulary of {asked:,} has no effect on the tokenizer of the {what}: of the kind {kind} there are "
            f"{len(tokenizer):,} tokens. Those of bpe and unigram are as many as you ask for."
        )
    return tokenizer


def read_examples(
    splits: Iterable[str], read: Callable[[str], Iterator[dict[str, Any]]], data_args: Any
) -> dict[str, Any]:
    """
    The examples of each split.

    Args:
        splits: those to read.
        read: a split to its examples.
        data_args (`ScriptDataArguments`): where they are read from.

    Returns:
        `dict[str, datasets.Dataset]`: by split.

    Raises:
        ValueError: a split has no example.
    """
    from datasets import Dataset

    examples = {}
    for split in splits:
        of_split = list(read(split))
        if not of_split:
            raise _no_example(split, data_args)
        examples[split] = Dataset.from_list(of_split)
        logger.info(f"{split}: {len(of_split):,} examples of {origin(split, data_args)}")
    return examples


def read_split(split: str, data_args: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a split with their places, of tables or of the data set on the Hub, classes by their names."""
    if data_args.dataset_name is None:
        wanted = [value for name, value in vars(data_args).items() if name.endswith("_column")]
        wanted += getattr(data_args, "text_columns", None) or []
        file, file_format = getattr(data_args, f"{split}_file"), getattr(data_args, "file_format", None)
        targets = f"{split}_target_file"
        if getattr(data_args, targets, "") is None and (file_format or extension(file)) not in FORMATS:
            raise ValueError(
                f"--{split}_file must be {', '.join(FORMATS)}, by its name or --file_format, or plain text with "
                f"--{targets} beside it, got {file}"
            )
        yield from read_rows(
            file,
            getattr(data_args, targets, None),
            file_format=file_format,
            column_names=getattr(data_args, "column_names", None),
            wanted_columns=wanted,
        )
        return
    dataset = load_split(split, data_args, getattr(data_args, "streaming", False))
    kinds = {column: getattr(kind, "feature", kind) for column, kind in (dataset.features or {}).items()}
    names = {column: kind.names for column, kind in kinds.items() if hasattr(kind, "names")}
    for number, row in enumerate(dataset, start=1):
        for column, of_column in names.items():
            ids = row[column]
            if isinstance(ids, list):
                row[column] = [of_column[index] for index in ids]
            elif ids >= 0:  # -1 is no class
                row[column] = of_column[ids]
        yield f"{data_args.dataset_name}, {split}, row {number}", row


def number_of(examples: Any) -> int | None:
    """How many examples there are; `None` of a stream, and of none."""
    return len(examples) if hasattr(examples, "__len__") else None


def first_row(split: str, data_args: Any) -> tuple[str, dict[str, Any]]:
    """The first row of a split with its place."""
    for place, row in read_split(split, data_args):
        return place, row
    raise _no_example(split, data_args)


def settle_columns(split: str, data_args: Any, *roles: str) -> None:
    """Choose the columns of these roles, see `choose_columns`, where the arguments `ROLE_column` name none."""
    place, row = first_row(split, data_args)
    given = {role: getattr(data_args, f"{role}_column") for role in roles}
    for role, column in zip(roles, choose_columns(row, place, **given), strict=True):
        setattr(data_args, f"{role}_column", column)


def _no_example(split: str, data_args: Any) -> ValueError:
    return ValueError(f"the {split} data must hold at least one example, got none in {origin(split, data_args)}")


def load_split(split: str, data_args: Any, streaming: bool = False) -> Any:
    """A split of the data set on the Hub, or in a folder, that `--dataset_name` tells."""
    name = data_args.dataset_name
    dataset = _load_dataset_once(name, data_args.dataset_config_name, streaming)
    if split not in dataset:
        raise ValueError(f"--dataset_name {name} must have the split {split!r}, got {list(dataset)}")
    return dataset[split]


@cache
def _load_dataset_once(name: str, config_name: str | None, streaming: bool) -> Any:
    from datasets import Audio, load_dataset  # takes seconds, and files need none of it

    dataset = load_dataset(name, config_name, streaming=streaming)
    for split in dataset.values():
        for column in [column for column, kind in (split.features or {}).items() if isinstance(kind, Audio)]:
            # `datasets` decodes by other packages than ours, which `read_audio` does without
            dataset = dataset.cast_column(column, Audio(decode=False))
    return dataset


def origin(split: str, data_args: Any) -> str:
    """What a split is read from, without the folders of this machine."""
    if data_args.origins:
        return dict(zip(("train", "validation", "test"), data_args.origins, strict=True))[split]
    name = data_args.dataset_name
    if name is not None:
        return name if is_hub_name(name) else Path(name).name
    files = (getattr(data_args, f"{split}_file"), getattr(data_args, f"{split}_target_file", None))
    return " and ".join(Path(file).name for file in files if file is not None)


def is_hub_name(name: str | None) -> bool:
    return name is not None and not Path(name).exists()


def name_of_model(trainer: ReliableTrainer) -> str:
    """Its id on the Hub if it goes there, otherwise the name of its folder."""
    return str(trainer.hub_model_id if trainer.args.push_to_hub else Path(str(trainer.args.output_dir)).resolve().name)


def address_of_model(trainer: ReliableTrainer) -> str:
    """What opens it: its id on the Hub if it goes there, otherwise its folder, without those of this machine."""
    return name_of_model(trainer) if trainer.args.push_to_hub else address_of_folder(str(trainer.args.output_dir))


def address_of_folder(folder: str | Path) -> str:
    """A folder without those of this machine in which it lies."""
    return Path(folder).name if Path(folder).is_absolute() else str(folder)


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """The ids of the special tokens as `AttentionRnnConfig` takes them."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk")}
