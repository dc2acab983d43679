"""
Makes the model type `attention_rnn` known to the Auto classes of transformers.

The Auto classes take classes, not names, and importing a model class costs seconds. So each registration waits until
transformers itself imports the Auto class in question; where that has already happened, it is done at once.
"""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _register_config(module: ModuleType) -> None:
    from .models.configuration_attention_rnn import AttentionRnnConfig

    module.AutoConfig.register(AttentionRnnConfig.model_type, AttentionRnnConfig, exist_ok=True)


def _register_models(module: ModuleType) -> None:
    from .models.configuration_attention_rnn import AUTO_MAP, AttentionRnnConfig

    for auto_class, reference in AUTO_MAP.items():
        if auto_class != "AutoConfig":
            file, model_class = reference.split(".")
            model_file = importlib.import_module(f".models.{file}", __package__)
            getattr(module, auto_class).register(AttentionRnnConfig, getattr(model_file, model_class), exist_ok=True)


_REGISTRATIONS: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_models,
}


class _RegisterAfterImport(importlib.abc.MetaPathFinder):
    """Lets the usual finders find the modules of `_REGISTRATIONS`, and runs the registration after their import."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _REGISTRATIONS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _REGISTRATIONS[fullname](module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_on_import() -> None:
    """Register with the Auto classes that are there, and with the others as they come."""
    for name, register in _REGISTRATIONS.items():
        if name in sys.modules:
            register(sys.modules[name])
    if not any(isinstance(finder, _RegisterAfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisterAfterImport())
