"""
Makes the model types of this package known to the Auto classes of transformers, and our pipelines to `pipeline`.

The Auto classes take classes, not names, and importing a model class costs seconds. So each registration waits until
transformers imports the Auto class in question; where that has already happened, it is done at once.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO_CONFIG = "transformers.models.auto.configuration_auto"
_AUTO_MODELS = "transformers.models.auto.modeling_auto"
_AUTO_TOKENIZERS = "transformers.models.auto.tokenization_auto"
_AUTO_FEATURE_EXTRACTORS = "transformers.models.auto.feature_extraction_auto"
_AUTO_PROCESSORS = "transformers.models.auto.processing_auto"
_PIPELINES = "transformers.pipelines"
_MODEL_BASE = "transformers.modeling_utils"
_OWN_MODELS, _OWN_PIPELINES = f"{__package__}.models", f"{__package__}.pipelines"


# a configuration for each kind of input, and for each kind of output that transformers tells by it
_CONFIGURATIONS = [
    ("configuration_attention_rnn", "AttentionRnnConfig"),
    ("configuration_attention_rnn_speech", "AttentionRnnSpeechConfig"),
    ("configuration_attention_rnn_speech", "AttentionRnnCTCConfig"),
    ("configuration_attention_rnn_time_series", "AttentionRnnTimeSeriesConfig"),
]


def _own(file: str, name: str) -> Any:
    return getattr(importlib.import_module(f"{_OWN_MODELS}.{file}"), name)


def _register_config() -> None:
    auto = sys.modules[_AUTO_CONFIG]
    for file, name in _CONFIGURATIONS:
        config_class = _own(file, name)
        auto.AutoConfig.register(config_class.model_type, config_class, exist_ok=True)


def _register_models() -> None:
    auto = sys.modules[_AUTO_MODELS]
    for file, name in _CONFIGURATIONS:
        config_class = _own(file, name)
        for auto_class, reference in config_class.auto_classes.items():
            if auto_class != "AutoConfig":
                getattr(auto, auto_class).register(config_class, _own(*reference.split(".")), exist_ok=True)
    # a table of transformers without an Auto class
    auto.MODEL_FOR_TIME_SERIES_CLASSIFICATION_MAPPING.register(
        _own("configuration_attention_rnn_time_series", "AttentionRnnTimeSeriesConfig"),
        _own("modeling_attention_rnn_time_series_classification", "AttentionRnnForTimeSeriesClassification"),
        exist_ok=True,
    )
    # the Trainer smoothes shifted labels for the classes that stand here
    auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["attention_rnn"] = "AttentionRnnForCausalLM"
    # the pipeline of speech recognition runs as CTC what does not stand here
    auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES["attention_rnn_speech"] = "AttentionRnnForSpeechSeq2Seq"


def _register_tokenizer() -> None:
    from .models.configuration_attention_rnn import AttentionRnnConfig
    from .models.tokenization_attention_rnn import AttentionRnnTokenizer
    from .models.tokenization_attention_rnn_words import AttentionRnnWordTokenizer

    auto = sys.modules[_AUTO_TOKENIZERS]
    # the last one is taken where a folder does not name its tokenizer
    for tokenizer_class in (AttentionRnnWordTokenizer, AttentionRnnTokenizer):
        auto.AutoTokenizer.register(AttentionRnnConfig, tokenizer_class=tokenizer_class, exist_ok=True)


def _register_feature_extractor() -> None:
    from .models.feature_extraction_attention_rnn import AttentionRnnFeatureExtractor

    auto = sys.modules[_AUTO_FEATURE_EXTRACTORS]
    for config_class in _speech_configurations():
        auto.AutoFeatureExtractor.register(config_class, AttentionRnnFeatureExtractor, exist_ok=True)


def _register_processor() -> None:
    from .models.processing_attention_rnn import AttentionRnnSpeechProcessor

    auto = sys.modules[_AUTO_PROCESSORS]
    for config_class in _speech_configurations():
        auto.AutoProcessor.register(config_class, AttentionRnnSpeechProcessor, exist_ok=True)


def _speech_configurations() -> list[Any]:
    return [_own(file, name) for file, name in _CONFIGURATIONS if file == "configuration_attention_rnn_speech"]


def _register_pipelines() -> None:
    from .pipelines import register_pipelines

    register_pipelines()


def _register_quantizer() -> None:
    importlib.import_module(f"{__package__}.quantization")


_waiting: dict[str, Callable[[], None]] = {
    _AUTO_CONFIG: _register_config,
    _AUTO_MODELS: _register_models,
    _AUTO_TOKENIZERS: _register_tokenizer,
    _AUTO_FEATURE_EXTRACTORS: _register_feature_extractor,
    _AUTO_PROCESSORS: _register_processor,
    _PIPELINES: _register_pipelines,
    _MODEL_BASE: _register_quantizer,
}


_executed: set[str] = set()  # modules that are whole, though their import may not have ended
_thread = threading.local()


def register_imported() -> None:
    """
    Register with the Auto classes that have been imported since the last call.

    No lock is held meanwhile: what is imported here may wait for another thread, and that one for the lock. So two
    threads may register the same, which is harmless. What another thread has half imported is left to its own call.
    """
    tried = set[str]()
    with _import_under_way():
        # what is registered may import the next one
        while due := {
            name: register for name, register in list(_waiting.items()) if name not in tried and _is_whole(name)
        }:
            for name, register in due.items():
                tried.add(name)
                try:
                    register()
                except (ImportError, AttributeError):
                    if threading.active_count() == 1:
                        raise
                else:
                    _waiting.pop(name, None)


def _is_whole(name: str) -> bool:
    if name not in sys.modules:
        return False
    return name in _executed or not getattr(sys.modules[name].__spec__, "_initializing", False)


@contextmanager
def _import_under_way() -> Iterator[bool]:
    """Whether this import is the outermost of its thread."""
    is_outermost = not getattr(_thread, "is_importing", False)
    _thread.is_importing = True
    try:
        yield is_outermost
    finally:
        _thread.is_importing = not is_outermost


class _RegisterAfterImport(importlib.abc.MetaPathFinder):
    """
    Leaves finding a module to the finders beside it and registers after its import.

    Our own files import transformers' Auto classes on their way, when they are themselves half imported; so it waits
    until the outermost import of its thread that it has seen is done.
    """

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
            with _import_under_way() as is_outermost:
                execute(module)
            _executed.add(fullname)
            if is_outermost:
                register_imported()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_on_import() -> None:
    """Register with the Auto classes that are there, and with the others as they come."""
    if not any(isinstance(finder, _RegisterAfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisterAfterImport())
    register_imported()
