"""
Makes the model type `attention_rnn` known to the Auto classes of transformers, and our pipelines to `pipeline`.

The Auto classes take classes, not names, and importing a model class costs seconds. So each registration waits until
transformers imports the Auto class in question; where that has already happened, it is done at once.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO_CONFIG = "transformers.models.auto.configuration_auto"
_AUTO_MODELS = "transformers.models.auto.modeling_auto"
_AUTO_TOKENIZERS = "transformers.models.auto.tokenization_auto"
_PIPELINES = "transformers.pipelines"
_OWN_MODELS, _OWN_PIPELINES = f"{__package__}.models", f"{__package__}.pipelines"


# a configuration for each kind of input
_CONFIGURATIONS = {"configuration_attention_rnn": "AttentionRnnConfig"}


def _own(file: str, name: str) -> Any:
    return getattr(importlib.import_module(f"{_OWN_MODELS}.{file}"), name)


def _register_config() -> None:
    auto = sys.modules[_AUTO_CONFIG]
    for file, name in _CONFIGURATIONS.items():
        config_class = _own(file, name)
        auto.AutoConfig.register(config_class.model_type, config_class, exist_ok=True)


def _register_models() -> None:
    auto = sys.modules[_AUTO_MODELS]
    for file, name in _CONFIGURATIONS.items():
        config_class = _own(file, name)
        for auto_class, reference in _own(file, "AUTO_MAP").items():
            if auto_class != "AutoConfig":
                getattr(auto, auto_class).register(config_class, _own(*reference.split(".")), exist_ok=True)
    # the Trainer smoothes shifted labels for the classes that stand here
    auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["attention_rnn"] = "AttentionRnnForCausalLM"


def _register_tokenizer() -> None:
    from .models.configuration_attention_rnn import AttentionRnnConfig
    from .models.tokenization_attention_rnn import AttentionRnnTokenizer
    from .models.tokenization_attention_rnn_words import AttentionRnnWordTokenizer

    auto = sys.modules[_AUTO_TOKENIZERS]
    # the last one is taken where a folder does not name its tokenizer
    for tokenizer_class in (AttentionRnnWordTokenizer, AttentionRnnTokenizer):
        auto.AutoTokenizer.register(AttentionRnnConfig, tokenizer_class=tokenizer_class, exist_ok=True)


def _register_pipelines() -> None:
    from .pipelines import register_pipelines

    register_pipelines()


_waiting: dict[str, Callable[[], None]] = {
    _AUTO_CONFIG: _register_config,
    _AUTO_MODELS: _register_models,
    _AUTO_TOKENIZERS: _register_tokenizer,
    _PIPELINES: _register_pipelines,
}


# imports of several threads may end at the same time
_lock = threading.RLock()


def register_imported() -> None:
    """Register with the Auto classes that have been imported since the last call."""
    with _lock:
        for name in list(_waiting):
            if name in sys.modules and (register := _waiting.pop(name, None)):
                register()


class _RegisterAfterImport(importlib.abc.MetaPathFinder):
    """
    Leaves finding a module to the finders beside it and registers after its import.

    Our own files import transformers' Auto classes on their way, when they are themselves half imported; so it waits
    until the outermost import of its thread that it has seen is done.
    """

    def __init__(self) -> None:
        self.of_thread = threading.local()

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _waiting and not fullname.startswith((_OWN_MODELS, _OWN_PIPELINES)):
            return None
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            under_way = getattr(self.of_thread, "imports_under_way", 0)
            self.of_thread.imports_under_way = under_way + 1
            try:
                execute(module)
            finally:
                self.of_thread.imports_under_way = under_way
            if under_way == 0:
                register_imported()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_on_import() -> None:
    """Register with the Auto classes that are there, and with the others as they come."""
    if not any(isinstance(finder, _RegisterAfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisterAfterImport())
    register_imported()
