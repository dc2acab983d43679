"""`attention-rnn export`: a model as a folder that needs no torch."""

from collections.abc import Sequence
from pathlib import Path

from ..onnx import WEIGHTS
from . import CommandParser

_DESCRIPTION = """Write a model as ONNX graphs, which run without torch in Python, C++, Rust, JavaScript and browsers.

  attention-rnn export runs/words
  attention-rnn export runs/words --weights int8 -o words-onnx
  attention-rnn export runs/words --web

README.md of the new folder says how it is used. With --web it is a page that runs the model in a browser, for any host
of static files."""


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("export", _DESCRIPTION)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        type=Path,
        help="where it goes, in the place of an earlier export (MODEL-onnx, MODEL-web)",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="int8 is fastest on a processor, stored-int8 the smallest download (float32, of a page stored-int8)",
    )
    parser.add_argument("--web", action="store_true", help="write a page that runs the model; needs npm")
    options = parser.parse_args(list(arguments))
    try:
        from ..onnx.export import export_checkpoint
        from ..onnx.hearing import RECORDING
        from ..onnx.site import export_site
    except ImportError as error:
        raise ImportError(f"an export needs {error.name}: pip install 'attention-rnn[onnx]'") from error
    output = options.output or Path(f"{options.model.rstrip('/')}-{'web' if options.web else 'onnx'}")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} must be a folder: -o names another")
    if options.web:
        export_site(options.model, output, options.weights or "stored-int8")
        print(f"{output} holds the page: python -m http.server --directory {output} shows it at http://localhost:8000")
        return
    export_checkpoint(options.model, output, options.weights or "float32")
    for file in sorted(output.glob("*.onnx")):
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file}")
    what = "FILE.wav" if (output / RECORDING).exists() else "TEXT"
    print(f"{output} holds the model: python {output}/run_onnx.py {what}; {output}/README.md says more")
