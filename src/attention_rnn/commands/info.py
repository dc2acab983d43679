"""`attention-rnn info`: what a folder holds, and what it reached."""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path

from . import CommandParser
from .models import read_settings, task_of


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("info", "Tell what a folder of a model holds and what it reached.")
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    name = parser.parse_args(list(arguments)).model
    task = task_of(name)
    from safetensors import safe_open

    from ..checkpoints import members_of, open_config

    folder, members = Path(name), members_of(name)
    model = next(iter(members), name)
    config = open_config(model)
    what = f"an ensemble of {len(members)}, each " if members else ""
    print(f"{name}: {what}{next(iter(config.architectures))}, for the pipeline {task}")
    if (weights := Path(model, "model.safetensors")).exists():
        with safe_open(weights, "pt") as tensors:
            sizes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118
        number = sum(map(prod, sizes))
        print(f"weights    {number:,} parameters, {weights.stat().st_size / 2**20:.1f} MiB{' each' if members else ''}")
    writes = task in ("text2text-generation", "text-generation", "automatic-speech-recognition")
    fields = ["cell_type", "hidden_size", "embedding_size", "encoder_layers", *(["decoder_layers"] if writes else [])]
    fields += ["attention_type", "copy"]
    told = [
        f"{field} {getattr(config, field)}" for field in fields if getattr(config, field, None) not in (None, False)
    ]
    print(f"model      {', '.join(told)}")
    sizes_of = {"source": getattr(config, "source_vocab_size", None), "target": getattr(config, "vocab_size", None)}
    if sizes_of["source"]:
        print(f"vocabulary {', '.join(f'{size:,} {side}' for side, size in sizes_of.items())}")
    elif sizes_of["target"]:
        print(f"vocabulary {sizes_of['target']:,}")
    for prefix, split in (("eval", "validation"), ("predict", "test")):
        file = folder / f"{prefix}_results.json"
        if file.exists():
            scores = json.loads(file.read_text(encoding="utf-8"))
            left_out = ("runtime", "samples", "steps", "loss", "model", "time", "epoch")
            told = [
                f"{key.removeprefix(f'{prefix}_')} {value:.2f}"
                for key, value in scores.items()
                if isinstance(value, float) and not any(part in key for part in left_out)
            ]
            print(f"{split:10} {', '.join(told)}")
    if settings := read_settings(folder):
        print(f"made by    attention-rnn {settings.get('command', 'train')} {' '.join(settings['arguments'])}")
    names = ("README.md", "predictions.tsv", "forecast.csv", "forecast.png", "training.png")
    files = [folder / name for name in (*names, "attention_maps/attention.html")]
    if shown := [str(file) for file in files if file.exists()]:
        print(f"look at    {', '.join(shown)}")
