"""
Makes the model type `attention_rnn` known to the Auto classes of transformers, and our pipelines to `pipeline`.

The Auto classes take classes, not names, and importing a model class costs seconds. So each registration waits until
transformers imports the Auto class in question; where that has already happened, it is done at once.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO_CONFIG = "transformers.models.auto.configuration_auto"
_AUTO_MODELS = "transformers.models.auto.modeling_auto"
_AUTO_TOKENIZERS = "transformers.models.auto.tokenization_auto"
_PIPELINES = "transformers.pipelines"
_OWN_MODELS, _OWN_PIPELINES = f"{__package__}.models", f"{__package__}.pipelines"


def _register_config() -> None:
    from .models.configuration_attention_rnn import AttentionRnnConfig

    auto = sys.modules[_AUTO_CONFIG]
    auto.AutoConfig.register(AttentionRnnConfig.model_type, AttentionRnnConfig, exist_ok=True)


def _register_models() -> None:
    from .models.configuration_attention_rnn import AUTO_MAP, AttentionRnnConfig

    auto = sys.modules[_AUTO_MODELS]
    for auto_class, reference in AUTO_MAP.items():
        file, name = reference.split(".")
        if auto_class != "AutoConfig":
            model_class = getattr(importlib.import_module(f"{_OWN_MODELS}.{file}"), name)
            getattr(auto, auto_class).register(AttentionRnnConfig, model_class, exist_ok=True)


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


def register_imported() -> None:
    """Register with the Auto classes that have been imported since the last call."""
    for name in list(_waiting):
        if name in sys.modules and name in _waiting:
            _waiting.pop(name)()


class _RegisterAfterImport(importlib.abc.MetaPathFinder):
    """
    Leaves finding a module to the finders behind it and registers after its import.

    Our own files import transformers' Auto classes on their way, when they are themselves half imported; so it waits
    until the outermost import that it has seen is done.
    """

    imports_under_way = 0

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _waiting and not fullname.startswith((_OWN_MODELS, _OWN_PIPELINES)):
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
            self.imports_under_way += 1
            try:
                execute(module)
            finally:
                self.imports_under_way -= 1
            if self.imports_under_way == 0:
                register_imported()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_on_import() -> None:
    """Register with the Auto classes that are there, and with the others as they come."""
    if not any(isinstance(finder, _RegisterAfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisterAfterImport())
    register_imported()
