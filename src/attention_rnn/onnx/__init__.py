"""
Models without torch: `export_onnx` writes a folder of ONNX graphs, `OnnxRunner` runs it.

Importing this loads neither torch nor onnxruntime; `OnnxRunner` needs numpy, onnxruntime and tokenizers alone.
"""

from importlib import import_module
from typing import Any, Literal, get_args

Weights = Literal["float32", "int8", "stored-int8"]
WEIGHTS: tuple[str, ...] = get_args(Weights)
RUNNER = "run_onnx.py"  # in each folder

_PUBLIC_NAMES = {
    "OnnxRunner": "runner",
    "SpeechRunner": "hearing",
    "export_onnx": "export",
    "export_speech": "speech",
}

__all__ = ["OnnxRunner", "SpeechRunner", "export_onnx", "export_speech"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
