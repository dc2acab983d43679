"""`attention-rnn serve`: a model behind a port."""

import argparse
from collections.abc import Sequence

from ..limits import Limits
from ..onnx import WEIGHTS
from . import CommandParser, at_least

_DESCRIPTION = """Serve a model over HTTP, without torch.

  attention-rnn serve runs/words-onnx --workers 2
  curl localhost:8000/generate -H 'Content-Type: application/json' \\
    -d '{"texts": ["hello"], "num_beams": 5}'

A checkpoint is exported first. SIGHUP opens the model anew, SIGTERM ends when what has come is answered; a worker that
dies is replaced. /docs describes the requests."""


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("serve", _DESCRIPTION)
    parser.add_argument("model", help="an exported folder, or a checkpoint; or a name on the Hub")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all that reach this machine (%(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="(%(default)s)")
    parser.add_argument("--workers", type=at_least(1), default=1, help="processes (%(default)s)")
    parser.add_argument("--threads", type=at_least(1), default=1, help="of each worker (%(default)s)")
    parser.add_argument(
        "--weights", choices=WEIGHTS, default="float32", help="of a checkpoint; see export (%(default)s)"
    )
    for name, default in Limits()._asdict().items():
        kind = _seconds if name == "seconds" else at_least(1)
        parser.add_argument(f"--max_{name}", type=kind, default=default, help="(%(default)s)")
    options = vars(parser.parse_args(list(arguments)))
    try:
        from ..server import serve
    except ImportError as error:
        raise ImportError(f"serving needs {error.name}: pip install 'attention-rnn[onnx,serve]'") from error
    limits = Limits(**{name: options.pop(f"max_{name}") for name in Limits._fields})
    serve(options.pop("model"), **options, limits=limits)


def _port(text: str) -> int:
    if not 0 <= (port := int(text)) < 2**16:
        raise argparse.ArgumentTypeError(f"{port} is no port, which are from 0 to 65535")
    return port


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not above 0, and a day at most")
    return seconds


_port.__name__, _seconds.__name__ = "int", "float"  # what argparse calls them where they are no numbers
