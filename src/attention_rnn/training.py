"""What the training scripts under `examples/` share: config files, config overrides, and the folder of a run."""

import ast
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedConfig
from transformers.trainer_utils import get_last_checkpoint

from .models.configuration_attention_rnn import AttentionRnnConfig


def expand_config_file(argv: list[str]) -> list[str]:
    """Turn a config file at the start of the command line into arguments, so that argparse converts the values."""
    if not argv or not argv[0].endswith((".json", ".yaml", ".yml")):
        return argv
    settings = yaml.safe_load(Path(argv[0]).read_text(encoding="utf-8"))  # JSON is YAML too
    if not isinstance(settings, dict):
        raise ValueError(f"{argv[0]} must map arguments to values, got {settings!r}")
    expanded = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            expanded += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in values)]
    return expanded + argv[1:]


def parse_config_overrides(overrides: str | None) -> dict[str, Any]:
    """`"hidden_size=256,bidirectional=[True,False]"` as a dict."""
    set_by_tokenizer = ("vocab_size", "source_vocab_size")
    allowed = {
        name
        for name in {f.name for f in fields(AttentionRnnConfig)} - {f.name for f in fields(PreTrainedConfig)}
        if name not in set_by_tokenizer and not name.endswith("_token_id")
    }
    values = {}
    for override in re.split(r",(?=\w+=)", overrides) if overrides else []:
        name, _, value = override.partition("=")
        if name not in allowed:
            raise ValueError(
                f"--config_overrides must be name=value,... with the names {sorted(allowed)}, got {override!r}"
            )
        try:
            values[name] = ast.literal_eval({"true": "True", "false": "False", "null": "None"}.get(value, value))
        except (ValueError, SyntaxError):
            values[name] = value  # a plain word, such as gru
    return values


def find_checkpoint(output_dir: Path, resume_from_checkpoint: str | None, overwrite_output_dir: bool) -> str | None:
    """The checkpoint to resume from, if any. Refuses to write over an earlier run."""
    checkpoint = resume_from_checkpoint
    if checkpoint is not None:
        if checkpoint.lower() == "true":
            checkpoint = get_last_checkpoint(str(output_dir)) if output_dir.is_dir() else None
        if checkpoint is None or not Path(checkpoint, "trainer_state.json").is_file():
            raise ValueError(
                "--resume_from_checkpoint must be a folder of a checkpoint, or True for the last one in --output_dir "
                f"{output_dir}, got {resume_from_checkpoint!r} where there is none"
            )
    elif not overwrite_output_dir and (files := files_of_run(output_dir)):
        raise ValueError(
            f"--output_dir must not hold a run already, got {output_dir} with {files[0].name}: name another folder, "
            "continue by --resume_from_checkpoint True, or replace the run by --overwrite_output_dir"
        )
    return checkpoint


def files_of_run(output_dir: Path) -> list[Path]:
    """What tells that a run has been here."""
    return [path for pattern in ("checkpoint-*", "config.json", "*_results.json") for path in output_dir.glob(pattern)]


def delete_run(output_dir: Path) -> None:
    """Delete an earlier run, and nothing else that may lie in its folder."""
    for path in (*files_of_run(output_dir), *output_dir.glob("*tokenizer*.json"), *output_dir.glob("attention_maps")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
