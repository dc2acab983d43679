r"""Train an attention RNN that writes what it hears, by joint CTC and attention.

    python examples/run_speech_seq2seq.py --do_train --do_eval --do_predict --output_dir runs/digits \
        --train_file train.tsv --validation_file dev.tsv --test_file test.tsv --column_names audio text

A row names a recording, relative to the folder of the table, and its text. --help lists all arguments. They may also
stand in a .json or .yaml file that comes first on the command line; what follows it wins. The output folder receives
the model with its processor, the metrics, the predictions, pictures of attention and CTC, and a model card. Needs
`pip install 'attention-rnn[audio,train,plot]'`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, EvalPrediction, PreTrainedModel

from attention_rnn import (
    AttentionRnnSpeechConfig,
    AttentionRnnSpeechProcessor,
    ReliableSeq2SeqTrainer,
    ReliableSeq2SeqTrainingArguments,
)
from attention_rnn.arguments import (
    ScriptModelArguments,
    ScriptTrainingArguments,
    check_choice,
    check_shared_arguments,
    option,
    parse_config_overrides,
    settle_sizes,
    wanted_splits,
)
from attention_rnn.data import drop_empty, get_text, write_json_lines
from attention_rnn.metrics import LOWER_IS_BETTER, METRICS, describe_metrics, load_metric, score_texts
from attention_rnn.run_folder import PREPARED
from attention_rnn.speech.data import (
    AscendingFirst,
    SpeechCollator,
    SpeechDataArguments,
    SpeechExamples,
    SpeechFeatureArguments,
    check_features,
    check_speech_arguments,
    feature_fields,
    make_feature_extractor,
    measure,
    read_recordings,
    settle_speech_columns,
    without_long,
)
from attention_rnn.speech.pictures import draw_transcriptions
from attention_rnn.speech.word_times import fit_emission_delay
from attention_rnn.tokenizer_training import TokenizerKind, lowercases, warn_of_poor_tokens
from attention_rnn.training import (
    Run,
    address_of_model,
    load_or_train_tokenizer,
    origin,
    read_examples,
    special_token_ids,
    start_run,
    train_new_tokenizer,
)
from attention_rnn.usage import speech_limits, transcription_usage

try:
    from datasets import Dataset
except ImportError as error:
    raise ImportError(
        f"run_speech_seq2seq.py needs more packages ({error}): pip install 'attention-rnn[audio,train]'"
    ) from error

logger = logging.getLogger("run_speech_seq2seq")

LEAST_STEPS = 3_000
LOOKAHEAD_SECONDS = 0.4  # the length of a word
RECORDINGS_FOR_DELAY = 100
SIZES_FOR_FEW_EXAMPLES: dict[str, Any] = {
    "hidden_size": 128,
    "embedding_size": 64,
    "num_mel_bins": 40,
    "subsampling_channels": [16, 16],
    "hidden_dropout": 0.1,
    "readout_dropout": 0.1,
}


@dataclass
class ModelArguments(SpeechFeatureArguments, ScriptModelArguments):
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    config_class: ClassVar = AttentionRnnSpeechConfig
    of_any_tokenizer: ClassVar = (*ScriptModelArguments.of_any_tokenizer, "sampling_rate", "normalization")

    model_name_or_path: str | None = option(None, "Checkpoint to go on from, of this script.")
    tokenizer: str = option("character", "Tokenizer to train: character, bpe, unigram or word.")


@dataclass
class DataArguments(SpeechDataArguments):
    """What to read, and what to do with it."""

    transcript_column: str | None = option(
        None, "Column of the text. Default: transcript, text, sentence, ...; else the first that is left."
    )
    num_beams: int = option(4, "Beams of the final evaluation and test; within training --generation_num_beams counts.")


@dataclass
class TrainingArguments(ScriptTrainingArguments, ReliableSeq2SeqTrainingArguments):
    """The arguments of Seq2SeqTrainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by the first of `metrics` is kept. The first
    epoch hears the shortest recordings first.
    """

    num_train_epochs: float = option(
        None, f"Epochs to train. Default: 20, or more for few examples, so that there are {LEAST_STEPS:,} steps."
    )
    per_device_train_batch_size: int = option(
        None, "Training examples per device and step. Default: 32, or fewer for few examples."
    )
    per_device_eval_batch_size: int = option(32, "Evaluation examples per device and step.")
    learning_rate: float = option(3e-3, "Highest learning rate.")
    lr_scheduler_type: str = option("cosine", "How the learning rate falls.")
    warmup_steps: float = option(100, "Steps in which the learning rate rises.")
    max_grad_norm: float = option(5.0, "Gradients that are longer are cut to that norm.")
    predict_with_generate: bool = option(True, "Evaluate what is generated.")
    generation_num_beams: int | None = option(1, "Beams of evaluations within training.")
    metrics: list[str] = field(
        default_factory=lambda: ["wer", "cer"],
        metadata={"help": f"Any of {', '.join(METRICS)}; the first one selects the best model."},
    )

    def __post_init__(self):
        if not self.predict_with_generate:
            raise ValueError("--predict_with_generate must stay True: the metrics need generated text")
        self.settle_evaluation(self.metrics[0], LOWER_IS_BETTER)
        self.settle_length(epochs=20, batch_size=32)
        super().__post_init__()


class Trainer(AscendingFirst, ReliableSeq2SeqTrainer):
    """Hears the shortest recordings first."""


def main(argv: list[str] | None = None) -> dict[str, dict[str, float | str]]:
    run = start_run("run_speech_seq2seq.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)
    metrics = {name: load_metric(name) for name in training_args.metrics}

    examples = read_splits(data_args, training_args)
    values = settle_sizes(
        model_args.config_overrides, len(examples.get("train", ())), SIZES_FOR_FEW_EXAMPLES, AttentionRnnSpeechConfig
    )
    with run.prepare():
        processor = make_processor(run, examples, values)
    model = make_model(run.pretrained, values, processor, model_args)
    model.generation_config.num_beams = data_args.num_beams
    measured = {split: measure(of_split, processor.feature_extractor, split) for split, of_split in examples.items()}
    if "train" in measured:
        measured["train"] = without_long(measured["train"], data_args)
        training_args.suit_length(len(measured["train"]), LEAST_STEPS)
    encoded = {split: encode(split, of_split, processor, data_args) for split, of_split in measured.items()}

    def score_generated(split: str, generated: np.ndarray) -> tuple[dict[str, float | str], list[str]]:
        padding = processor.tokenizer.pad_token_id
        tokens = np.where(generated < 0, padding, generated)
        predictions = [text.strip() for text in processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        return score_texts(predictions, measured[split]["text"], metrics, lowercases(processor.tokenizer)), predictions

    def compute_metrics(output: EvalPrediction) -> dict[str, float]:
        scores, _ = score_generated("validation", output.predictions)
        return {name: value for name, value in scores.items() if not isinstance(value, str)}

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float | str]]:
        output = trainer.predict(encoded[split], metric_key_prefix=prefix, num_beams=data_args.num_beams)
        scores, predictions = score_generated(split, output.predictions)
        if split == "test" and trainer.is_world_process_zero():
            write_predictions(run.output_dir, measured[split], predictions)
        return output.metrics, scores

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=processor,
        data_collator=SpeechCollator(processor.feature_extractor),
        compute_metrics=compute_metrics,
    )
    scores = run.train_and_evaluate(trainer, evaluate)
    if "train" in encoded and trainer.has_whole_model and trainer.is_world_process_zero():
        keep_emission_delay(run.output_dir, trainer.model, processor, encoded["train"])

    last = list(examples)[-1]
    pictures: list[str] = []
    if trainer.has_whole_model and trainer.is_world_process_zero():
        shown = range(min(data_args.num_heat_maps, len(encoded[last])))
        recordings = ((encoded[last].samples(index), measured[last][index]["text"]) for index in shown)
        pictures = draw_transcriptions(run.output_dir, trainer.model, processor, recordings)
    run.finish(
        trainer,
        task="automatic-speech-recognition",
        usage=transcription_usage(address_of_model(trainer), pictures[:1]),
        limits=speech_limits(processor.feature_extractor.sampling_rate),
        data={split: (origin(split, data_args), len(of_split)) for split, of_split in examples.items()},
        explanations=describe_metrics(metrics),
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    for name in training_args.metrics:
        check_choice("metrics", name, METRICS)
    check_shared_arguments(model_args, data_args, training_args, {"num_beams": 1}, training_args.metrics)
    check_choice("tokenizer", model_args.tokenizer, get_args(TokenizerKind))
    check_speech_arguments(data_args)
    check_features(parse_config_overrides(model_args.config_overrides, AttentionRnnSpeechConfig), model_args)


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The examples of each split, in the columns `audio`, `recording`, `text` and `place`."""
    splits = list(wanted_splits(training_args))
    for split in splits:
        data_args.transcript_column = settle_speech_columns(split, data_args, transcript=data_args.transcript_column)
    return read_examples(splits, partial(read_transcribed, data_args=data_args), data_args)


def read_transcribed(split: str, data_args: DataArguments) -> Iterator[dict[str, Any]]:
    def transcribed() -> Iterator[dict[str, Any]]:
        for place, row, recording in islice(read_recordings(split, data_args), data_args.limit(split)):
            yield {**recording, "text": get_text(row, data_args.transcript_column, place), "place": place}

    yield from drop_empty(transcribed(), ["text"], origin(split, data_args)) if split == "train" else transcribed()


def make_processor(run: Run, examples: dict[str, Dataset], values: dict[str, Any]) -> Any:
    """The processor of a checkpoint, or a new one that the main process makes and saves."""
    model_args = run.model_args
    if run.pretrained is None:

        def train() -> Any:
            texts = examples["train"]["text"]
            return train_new_tokenizer("transcripts", lambda: texts, model_args.tokenizer, model_args, is_target=True)

        tokenizer = load_or_train_tokenizer(None, model_args, run.training_args, train)
        if run.training_args.process_index == 0:
            extractor = make_feature_extractor(examples["train"], values, model_args)
            AttentionRnnSpeechProcessor(extractor, tokenizer).save_pretrained(run.output_dir / PREPARED)
    return AutoProcessor.from_pretrained(
        run.pretrained or run.output_dir / PREPARED, trust_remote_code=model_args.trust_remote_code
    )


def make_model(
    pretrained: str | None, values: dict[str, Any], processor: Any, model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None:
        return AutoModelForSpeechSeq2Seq.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
    tokenizer = processor.tokenizer
    config = AttentionRnnSpeechConfig(
        **{**values, **feature_fields(processor.feature_extractor)},
        vocab_size=len(tokenizer),
        **special_token_ids(tokenizer),
        decoder_start_token_id=tokenizer.bos_token_id,
    )
    if set(config.encoder_directions) == {1} and "lookahead" not in values:
        config.lookahead = round(LOOKAHEAD_SECONDS * config.sampling_rate / config.inputs_to_logits_ratio)
        logger.info(
            f"The memory looks {config.lookahead} positions ahead, since layers that read forwards alone have to hear "
            "a word before they write it: --config_overrides lookahead=... says how many"
        )
    return AutoModelForSpeechSeq2Seq.from_config(config)


def encode(split: str, examples: Dataset, processor: Any, data_args: DataArguments) -> SpeechExamples:
    """The tokens of each text, beside its recording."""
    tokens = processor.tokenizer(list(examples["text"]))["input_ids"]
    warn_of_poor_tokens(f"transcripts of the {split} data", tokens, processor.tokenizer)
    return SpeechExamples(examples, tokens, processor.feature_extractor, data_args if split == "train" else None)


def keep_emission_delay(output_dir: Path, model: Any, processor: Any, examples: SpeechExamples) -> None:
    """Write into the config how late a model of this package hears, for the times that it tells."""
    if not hasattr(model, "token_times"):
        return
    model.eval()
    few = range(0, len(examples), max(1, len(examples) // RECORDINGS_FOR_DELAY))
    recordings = ((examples.samples(index), examples.labels[index]) for index in few)
    model.config.emission_delay = fit_emission_delay(model, processor, recordings)
    model.config.save_pretrained(output_dir)
    logger.info(f"Words are heard {model.config.emission_delay:.2f} s late, which is taken off their times.")


def write_predictions(output_dir: Path, examples: Dataset, predictions: list[str]) -> None:
    rows = (
        {"audio": example["audio"], "prediction": prediction, "reference": example["text"]}
        for example, prediction in zip(examples, predictions, strict=True)
    )
    write_json_lines(output_dir / "generated_predictions.jsonl", rows)


if __name__ == "__main__":
    main()
