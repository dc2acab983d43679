r"""Search good hyper-parameters for run_classification.py with Optuna, through the Trainer.

    python examples/search_hyperparameters.py --n_trials 20 --output_dir runs/search \
        --train_file train.tsv --validation_file dev.tsv --column_names label text --tokenizer word --num_train_epochs 5
    python examples/run_classification.py runs/search/best.yaml --do_train --do_eval --output_dir runs/best \
        --train_file train.tsv --validation_file dev.tsv --column_names label text --tokenizer word --num_train_epochs 5

All arguments but --n_trials and --timeout are those of run_classification.py. What is tried stands in `training_space`
and `config_space` below: change them as you like. Each trial trains a new model; one that is worse than most others
after as many evaluations is stopped early. The output folder receives the best values as arguments, in best.yaml (its
config_overrides hold those of the command too), and all trials in trials.db, to which the same command adds more.
Needs `pip install 'attention-rnn[search]'`.
"""

import logging
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from run_classification import (
    DataArguments,
    ModelArguments,
    TrainingArguments,
    check_arguments,
    encode,
    make_model,
    make_tokenizer,
    read_splits,
)
from transformers import DataCollatorWithPadding, HfArgumentParser, PreTrainedModel, set_seed

from attention_rnn import ReliableTrainer
from attention_rnn.arguments import expand_config_file
from attention_rnn.classification import score_predictions, settle_labels
from attention_rnn.training import find_checkpoint, origin

try:
    import optuna
except ImportError as error:
    raise ImportError(
        f"search_hyperparameters.py needs more packages ({error}): pip install 'attention-rnn[search]'"
    ) from error

logger = logging.getLogger("search_hyperparameters")


def training_space(trial: optuna.Trial) -> dict[str, Any]:
    """Arguments of the training to try."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", [16, 32, 64]),
    }


def config_space(trial: optuna.Trial) -> dict[str, Any]:
    """Fields of AttentionRnnConfig to try."""
    dropout = trial.suggest_float("dropout", 0.1, 0.6, step=0.1)  # the same everywhere: fewer dimensions to search
    return {
        "hidden_size": trial.suggest_categorical("hidden_size", [64, 128, 256]),
        "embedding_dropout": dropout,
        "hidden_dropout": dropout,
        "readout_dropout": dropout,
        "word_dropout": trial.suggest_float("word_dropout", 0.0, 0.3, step=0.1),
    }


@dataclass
class SearchArguments:
    """How long to search."""

    n_trials: int = field(default=20, metadata={"help": "Models to train."})
    timeout: float | None = field(default=None, metadata={"help": "Start no new one after that many seconds."})


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = expand_config_file(sys.argv[1:] if argv is None else argv)
    # nothing is saved: the best values, not the best weights are searched
    argv = [*argv, "--do_train", "--do_eval", "--save_strategy", "no", "--report_to", "none"]
    parser = HfArgumentParser((SearchArguments, ModelArguments, DataArguments, TrainingArguments), allow_abbrev=False)
    search_args, model_args, data_args, training_args = parser.parse_args_into_dataclasses(
        argv, look_for_args_file=False
    )
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    if search_args.n_trials < 1:
        raise ValueError(f"--n_trials must be at least 1, got {search_args.n_trials}")
    if model_args.model_name_or_path is not None:
        raise ValueError(f"the search trains new models: no --model_name_or_path, got {model_args.model_name_or_path}")
    check_arguments(model_args, data_args, training_args)
    output_dir = Path(training_args.output_dir)
    find_checkpoint(output_dir, None, training_args.overwrite_output_dir)  # refuses the folder of a finished run

    examples = read_splits(data_args, training_args)
    labels = settle_labels([], examples, training_args.problem_type, origin("train", data_args))
    set_seed(training_args.seed)
    tokenizer = make_tokenizer(None, examples, model_args, training_args)
    encoded = {split: encode(split, of_split, tokenizer, labels, data_args) for split, of_split in examples.items()}

    def with_overrides(trial: optuna.Trial) -> str:
        values = ",".join(f"{name}={value}" for name, value in config_space(trial).items())
        return f"{model_args.config_overrides},{values}" if model_args.config_overrides else values

    def make_trial_model(trial: optuna.Trial | None) -> PreTrainedModel:
        overrides = model_args.config_overrides if trial is None else with_overrides(trial)
        return make_model(None, tokenizer, labels, replace(model_args, config_overrides=overrides), training_args)

    metric = training_args.metrics[0]
    trainer = ReliableTrainer(
        model_init=make_trial_model,
        args=training_args,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=partial(score_predictions, problem_type=training_args.problem_type, metrics=[metric]),
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    best = trainer.hyperparameter_search(
        backend="optuna",
        hp_space=training_space,
        compute_objective=lambda metrics: metrics[f"eval_{metric}"],
        direction="maximize",
        n_trials=search_args.n_trials,
        timeout=search_args.timeout,
        study_name="search",
        storage=f"sqlite:///{output_dir / 'trials.db'}",
        load_if_exists=True,
        catch=(FloatingPointError,),  # a trial whose loss becomes NaN fails alone
    )

    fixed = optuna.trial.FixedTrial(best.hyperparameters)  # gives each space the values of the best trial
    arguments = training_space(fixed) | {"config_overrides": with_overrides(fixed)}
    (output_dir / "best.yaml").write_text(yaml.safe_dump(arguments, sort_keys=False), encoding="utf-8")
    logger.info(f"best {metric}: {best.objective:.2f}, by trial {best.run_id} with {best.hyperparameters}")
    logger.info(f"python run_classification.py {output_dir / 'best.yaml'} ... trains with these values.")
    return arguments


if __name__ == "__main__":
    main()
