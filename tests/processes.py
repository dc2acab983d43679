"""
What `test_several_processes.py` compares: the same training, evaluation and generation in one process, and in several
where this file is launched as `processes.py FOLDER NUMBER_OF_PROCESSES`.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from tiny import tiny_config
from transformers import DataCollatorForSeq2Seq, HfArgumentParser, Seq2SeqTrainer, Seq2SeqTrainingArguments, set_seed

from attention_rnn import AttentionRnnForConditionalGeneration
from attention_rnn.tokenizer_training import train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import forecast_file
import generate_file
import run_clm
import run_forecasting
import run_seq2seq

# the model in each process, and divided among them
KINDS: dict[str, list[str]] = {"ddp": [], "fsdp": ["--fsdp"]}
GLOBAL_BATCH = 4
# 11, so that the last batch is smaller than the others; of unequal lengths, so that processes pad to other lengths
WORDS = ["abc", "ba", "cabba", "bc", "acab", "b", "cba", "abcabc", "c", "abccbaab", "aa"]
TEXT = "".join(f"{number} men went to mow,\nwent to mow a meadow.\n" for number in ("One", "Two", "Ten", "No"))

LARGE = {"hidden_size": 160, "encoder_layers": 1, "decoder_layers": 2}  # weights that are laid out anew for oneDNN
MODELS: dict[str, dict[str, Any]] = {
    "parallel": {"logits_in_training": False},
    "large-conditional": {"context_feeding": "conditional", **LARGE},
    "lstm-input-copy": {"context_feeding": "input", "cell_type": "lstm", "copy": True, "unk_token_id": 3},
    # FSDP, as accelerate sets it up, knows only an lm_head that is tied to the embedding of the source
    "two-vocabularies": {"source_vocab_size": 21, "tie_word_embeddings": False},
}
COMMON = "--use_cpu --disable_tqdm True --report_to none --train_sampling_strategy sequential --num_train_epochs 2"
COMMON += " --optim sgd"
TRAINER = "--learning_rate 0.1 --logging_steps 1 --save_strategy no --predict_with_generate --generation_max_length 12"
SCRIPTS = "--do_train --do_eval --load_best_model_at_end False --learning_rate 1"
SCRIPTS += " --config_overrides embedding_size=8,hidden_size=12,embedding_dropout=0,hidden_dropout=0,readout_dropout=0"
SEQ2SEQ = "--do_predict --max_train_samples 8 --num_beams 2 --max_target_length 14 --metrics chrf wer --num_heat_maps 1"
SEQ2SEQ += " --source_tokenizer character --shared_vocabulary"
FORECASTING = "--do_train --do_eval --do_predict --load_best_model_at_end False --learning_rate 0.1 --num_pictures 0"
FORECASTING += " --prediction_length 4 --context_length 12 --patch_length 4 --season 4 --fit_highway"
FORECASTING += " --config_overrides hidden_size=8,readout_dropout=0"
CLM = "--validation_split_percentage 20 --block_size 17 --sample_length 9"


def write_data(folder: Path) -> Path:
    rows = [json.dumps({"source": word, "target": word[::-1] * 2}) for word in WORDS]
    (folder / "pairs.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    values = [f"{name},{10 * math.sin(step * step) + step:.3f}\n" for name in "abcd" for step in range(41)]
    (folder / "series.csv").write_text("".join(["item_id,target\n", *values]), encoding="utf-8")
    return folder


def train_all(data: Path, folder: Path, num_processes: int, arguments: list[str]) -> None:
    arguments = [*COMMON.split(), *arguments]
    for name in ("train", "eval"):
        arguments += [f"--per_device_{name}_batch_size", str(GLOBAL_BATCH // num_processes)]
    for name, overrides in MODELS.items():
        train_and_predict(folder / name, overrides, arguments)
    uneven = ["--accelerator_config", '{"even_batches": false}']  # else accelerate repeats examples in the last batch
    train(folder / "uneven-batch", {}, len(WORDS), [*arguments, *uneven])

    if "--fsdp" not in arguments:
        files = [f"--train_file={data / 'series.csv'}", f"--output_dir={folder / 'forecasting'}"]
        run_forecasting.main([*arguments, *files, *FORECASTING.split()])
    arguments = [*arguments, *SCRIPTS.split()]
    files = [f"--{split}_file={data / 'pairs.jsonl'}" for split in ("train", "validation", "test")]
    run_seq2seq.main([*arguments, *files, f"--output_dir={folder / 'seq2seq'}", *SEQ2SEQ.split()])
    run_clm.main([*arguments, f"--train_file={data / 'text.txt'}", f"--output_dir={folder / 'clm'}", *CLM.split()])


def train(folder: Path, overrides: dict[str, Any], num_examples: int, arguments: list[str]) -> Seq2SeqTrainer:
    if "--fsdp" in arguments and "context_feeding" in overrides:
        arguments = [*arguments, "--fsdp_config", '{"transformer_layer_cls_to_wrap": ["AttentionRnnEncoderLayer"]}']
    (training_args,) = HfArgumentParser(Seq2SeqTrainingArguments).parse_args_into_dataclasses(
        [f"--output_dir={folder}", *TRAINER.split(), *arguments]
    )
    set_seed(0)
    tokenizer = train_tokenizer(WORDS, kind="character")
    model = AttentionRnnForConditionalGeneration(tiny_config(vocab_size=len(tokenizer), **overrides))
    data = [
        {"input_ids": tokenizer(word)["input_ids"], "labels": tokenizer(text_target=word[::-1] * 2)["input_ids"]}
        for word in WORDS
    ]
    trainer = Seq2SeqTrainer(
        model=model,
        args=training_args,
        train_dataset=data[:num_examples],
        eval_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    return trainer


def train_and_predict(folder: Path, overrides: dict[str, Any], arguments: list[str]) -> None:
    trainer = train(folder, overrides, 2 * GLOBAL_BATCH, arguments)
    result: dict[str, Any] = {"losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]}
    for num_beams in (1, 2):
        predictions = trainer.predict(trainer.eval_dataset, num_beams=num_beams).predictions
        # Seq2SeqTrainer leaves it to the user to drop what accelerate repeats at the end
        texts = trainer.processing_class.batch_decode(predictions[: len(WORDS)], skip_special_tokens=True)
        result[f"predictions-{num_beams}"] = texts
    if trainer.is_world_process_zero():
        (folder / "result.json").write_text(json.dumps(result))


def write_for_files(data: Path, model: Path) -> None:
    with patch.object(Accelerator, "end_training"):  # the other script goes on in the same processes
        files = [str(data / "pairs.jsonl"), str(data / "generated.jsonl")]
        generate_file.main([str(model), *files, "--part_size", "3", "--num_beams", "2"])
    forecaster = str(model.with_name("forecasting"))
    forecast_file.main([forecaster, str(data / "series.csv"), str(data / "forecast.csv"), "--part_size", "2"])


def allow_fsdp_on_cpus() -> None:
    """Accelerate takes up FSDP on accelerators alone; torch has it on CPUs as well."""
    init = AcceleratorState.__init__

    def init_with_fsdp(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        plugin = fsdp_plugin or vars(self).get("fsdp_plugin")
        if plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin

    AcceleratorState.__init__ = init_with_fsdp


def main(data: Path, num_processes: int) -> None:
    allow_fsdp_on_cpus()
    for kind, arguments in KINDS.items():
        train_all(data, data / kind, num_processes, arguments)
    write_for_files(data, data / "ddp" / "seq2seq")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
