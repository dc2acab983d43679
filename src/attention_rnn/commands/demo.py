"""`attention-rnn demo` and `attention-rnn space`: a model to try in the browser, here or on the Hub."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import CommandParser
from .models import COMMAND, read_settings, text_task_of

_DEMO = """Try a model in the browser: what it says of a text, its next best answers, and where it looked.

  attention-rnn demo runs/words

Needs pip install 'attention-rnn[demo]'."""
_SPACE = """Write the files of a Space of the Hub that shows a model: app.py, requirements.txt, its card, and the model.

  attention-rnn space runs/words -o words-space
  hf upload USER/words words-space --repo-type space"""

# what a training leaves beside its model
_NOT_OF_THE_MODEL = ("*predictions.*", "*_results.json", "confusions.tsv", "trainer_state.json", "training_args.bin")
_APP = """from attention_rnn.demo import build_demo

build_demo("model").launch()
"""
_REQUIREMENTS = """--extra-index-url https://download.pytorch.org/whl/cpu
attention-rnn[demo]=={version}
"""
_CARD = """---
title: {title}
emoji: 🔎
colorFrom: blue
colorTo: yellow
sdk: gradio
sdk_version: {sdk_version}
app_file: app.py
---

A model of attention-rnn, which shows where it looks. Its card is
[model/README.md](model/README.md).
"""


def demo(arguments: Sequence[str]) -> None:
    parser = CommandParser("demo", _DEMO)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument("--port", type=int, help="where the page is served (the first free one from 7860)")
    parser.add_argument("--host", default="127.0.0.1", help="for whom: 0.0.0.0 is for all (%(default)s)")
    parser.add_argument(
        "--int8", action="store_true", help="decode with int8 weights, on a CPU (models that write texts)"
    )
    options = parser.parse_args(list(arguments))
    from ..demo import build_demo

    build_demo(options.model, options.int8).launch(server_name=options.host, server_port=options.port)


def space(arguments: Sequence[str]) -> None:
    parser = CommandParser("space", _SPACE)
    parser.add_argument("model", type=Path, metavar="FOLDER", help="a folder that a training left")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where it goes (NAME-space)")
    options = parser.parse_args(list(arguments))
    if not (options.model / "config.json").exists():
        raise FileNotFoundError(f"there is no single model in {options.model}")
    text_task_of(str(options.model))  # a page can try what reads texts
    output = options.output or Path(f"{options.model.resolve().name}-space")
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} holds something already: -o names another folder")
    from importlib.metadata import requires

    from .. import __version__

    (output / "model").mkdir(parents=True)
    for file in options.model.iterdir():  # checkpoints and data are folders
        if file.is_file() and not any(file.match(pattern) for pattern in _NOT_OF_THE_MODEL):
            shutil.copy(file, output / "model")
    if settings := read_settings(options.model):
        public = settings | {"arguments": []}  # which name folders of this machine
        (output / "model" / COMMAND).write_text(json.dumps(public, indent=1) + "\n", encoding="utf-8")
    card = _CARD.format(
        title=options.model.resolve().name, sdk_version=_gradio_version(requires("attention-rnn") or [])
    )
    (output / "app.py").write_text(_APP, encoding="utf-8")
    (output / "requirements.txt").write_text(_REQUIREMENTS.format(version=__version__), encoding="utf-8")
    (output / "README.md").write_text(card, encoding="utf-8")
    print(f"{output} is a Space: try it by python app.py in it, and send it by hf upload")


def _gradio_version(requirements: Sequence[str]) -> str:
    """The oldest that the extra `demo` allows."""
    (version,) = (found[1] for line in requirements if (found := re.match(r"gradio *>= *([\d.]+)", line)))
    return version
