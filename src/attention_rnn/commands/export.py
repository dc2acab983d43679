"""`attention-rnn export`: a model as a folder that needs no torch."""

from collections.abc import Sequence
from pathlib import Path

from ..onnx import WEIGHTS
from . import CommandParser

_DESCRIPTION = """Write a model as ONNX graphs, which run without torch in Python, C++, Rust, JavaScript and browsers.

  attention-rnn export runs/words
  attention-rnn export runs/words --weights int8 -o words-onnx

README.md of the new folder says how it is used."""


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("export", _DESCRIPTION)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="where it goes (MODEL-onnx)")
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="float32",
        help="int8 is fastest on a processor, stored-int8 the smallest download (%(default)s)",
    )
    options = parser.parse_args(list(arguments))
    try:
        from ..onnx.export import export_checkpoint
    except ImportError as error:
        raise ImportError(f"an export needs {error.name}: pip install 'attention-rnn[onnx]'") from error
    output = options.output or Path(f"{options.model.rstrip('/')}-onnx")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} must be a folder: -o names another")
    export_checkpoint(options.model, output, options.weights)
    for file in sorted(output.glob("*.onnx")):
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file}")
    print(f"{output} holds the model: python {output}/run_onnx.py TEXT; {output}/README.md says more")
