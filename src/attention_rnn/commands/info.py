"""`attention-rnn info`: what a folder holds, and what it reached."""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path

from . import CommandParser
from .folder import command_of, is_whole
from .models import COMMAND, read_settings, task_of
from .train import make_parser


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("info", "Tell what a folder of a model holds and what it reached.")
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    name = parser.parse_args(list(arguments)).model
    unfinished = tell_unfinished(Path(name))
    from ..checkpoints import members_of, one_of, open_config

    folder, members = Path(name), members_of(name)
    if unfinished and not members and not (folder / "config.json").exists():  # it has checkpoints alone
        print(f"{name}: unfinished, {unfinished}")
        return
    task = task_of(name)
    from safetensors import safe_open

    model = one_of(name)
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
    if unfinished:
        print(f"{'unfinished':10} {unfinished}")
    if settings := read_settings(folder):
        print(f"made by    {command_of(settings)}")
    names = ("README.md", "predictions.tsv", "forecast.csv", "forecast.png", "training.png")
    files = [folder / name for name in (*names, "attention_maps/attention.html")]
    if shown := [str(file) for file in files if file.exists()]:
        print(f"look at    {', '.join(shown)}")


def tell_unfinished(folder: Path) -> str | None:
    """How far a training has come that did not end, and its best score so far."""
    from ..checkpoints import CARD, MEMBERS, TEACHERS, checkpoints_of

    if not (folder / COMMAND).exists() or is_whole(folder):
        return None
    files = [place / "trainer_state.json" for place in (folder, *checkpoints_of(folder))]
    states = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    if not states:
        members = [folder / MEMBERS, folder / TEACHERS / MEMBERS]
        if not any(place.is_dir() for place in members):
            return None
        trained = sum((member / CARD).exists() for place in members for member in place.glob("*"))
        number = make_parser().parse_known_args(read_settings(folder)["arguments"])[0].num_models
        return f"{trained} of {number} models are trained; the same command goes on"
    state = max(states, key=lambda state: state["global_step"])
    told = f"a training that stopped at step {state['global_step']:,} of {state['max_steps']:,}"
    best, step = state.get("best_metric"), state.get("best_global_step")
    if best is not None and step is not None and not read_settings(folder).get("keeps_last"):
        evaluations = [entry for entry in state["log_history"] if entry["step"] == step]
        # what it chose the best model by, or what is as high there
        names = [key.removeprefix("eval_") for entry in evaluations for key, value in entry.items() if value == best]
        if names:
            told += f", best {' and '.join(dict.fromkeys(names))} so far {best:.2f} at step {step:,}"
    return f"{told}; the same command goes on"
