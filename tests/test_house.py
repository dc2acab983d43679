"""The rules of the house."""

import ast
import builtins
import importlib
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import attention_rnn
from attention_rnn import registration

ROOT = Path(__file__).parents[1]
PACKAGE = Path(attention_rnn.__file__).parent
MODELS = PACKAGE / "models"
# each file may import those of a lower level
LEVELS = [
    {"extensions", "presets", "presets_time_series", "prepared_linear", "tokenization_attention_rnn"},
    {"configuration_core", "tokenization_attention_rnn_words", "outputs", "checks", "crf", "processing_attention_rnn"},
    {"configuration_decoder", "cells", "attention", "losses", "spec_augment", "feature_extraction_attention_rnn"},
    {"configuration_attention_rnn", "configuration_attention_rnn_speech", "recurrence", "carried_code"},
    {
        "configuration_attention_rnn_time_series",
        "cache",
        "dropout",
        "pooling",
        "ctc",
        "ctc_prefixes",
        "row_convolution",
        "subsampling",
    },
    {"base", "past_attention", "beams", "readout", "generation_checks", "decoder_layer"},
    {"fronts", "classifier", "language_model_fusion", "scaling", "patches", "distributions", "series"},
    {"encoder", "decoder"},
    {
        "decoder_step",
        "encoder_decoder",
        "modeling_attention_rnn_causal",
        "modeling_attention_rnn_time_series",
        "token_times",
    },
    {"modeling_attention_rnn", "modeling_attention_rnn_speech"},
    {
        "generation",
        "modeling_attention_rnn_sequence_classification",
        "modeling_attention_rnn_token_classification",
        "modeling_attention_rnn_question_answering",
        "modeling_attention_rnn_time_series_prediction",
        "streaming",
        "modeling_attention_rnn_time_series_classification",
    },
    {
        "sequence_to_sequence",
        "speech_generation",
        "modeling_attention_rnn_ctc",
        "triggered_attention",
        "modeling_attention_rnn_audio_classification",
    },
    {"modeling_attention_rnn_seq2seq", "modeling_attention_rnn_speech_seq2seq"},
]


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("file", sorted(MODELS.glob("*.py")), ids=lambda file: file.name)
def test_what_travels_imports_torch_transformers_and_its_neighbours(file):
    for level, module in imports(file):
        if level == 0:
            root = module.split(".")[0]
            assert root in {"torch", "transformers"} or root in sys.stdlib_module_names, module
        else:
            assert level == 1, f"{file.name} imports from outside its folder"
            assert (MODELS / f"{module}.py").exists(), module


def test_models_is_flat():
    assert [path.name for path in MODELS.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


def test_imports_go_from_higher_levels_to_lower_ones():
    level_of = {name: index for index, names in enumerate(LEVELS) for name in names}
    files = {file.stem for file in MODELS.glob("*.py")} - {"__init__"}
    assert files == set(level_of)
    for name in files:
        for level, module in imports(MODELS / f"{name}.py"):
            if level:
                assert level_of[module] < level_of[name], f"{name} imports {module}"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.name)
def test_a_file_stays_small(file):
    assert len(file.read_text().splitlines()) <= 500


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_is_light():
    loaded = run("import sys, transformers, attention_rnn; print(*sorted(sys.modules), sep='\\n')").split()
    heavy = {"torch", "numpy", "matplotlib", "evaluate", "datasets", "sacrebleu", "jiwer", "torchaudio"}
    plain = run("import sys, transformers; print(*sorted(sys.modules), sep='\\n')").split()
    assert (heavy & set(loaded)) == (heavy & set(plain))


def test_training_and_predicting_need_no_extra_but_theirs():
    others = [
        "onnx",
        "onnxruntime",
        "onnxscript",
        "fastapi",
        "uvicorn",
        "gradio",
        "optuna",
        "ray",
        "soundfile",
    ]
    needed = ["examples.run_seq2seq", "examples.evaluate_checkpoint", "examples.generate_file"]
    needed += [f"commands.{name}" for name in ("train", "predict", "evaluate", "explain", "combine", "info", "card")]
    run(
        f"import sys; sys.modules |= dict.fromkeys({others}); "
        + "; ".join(f"import attention_rnn.{module}" for module in needed)
    )


@pytest.mark.parametrize(
    "imports_first",
    [
        "import attention_rnn; from transformers import AutoConfig, AutoModelForSeq2SeqLM",
        "from transformers import AutoConfig, AutoModelForSeq2SeqLM; import attention_rnn",
        "from attention_rnn import AttentionRnnModel; from transformers import AutoConfig, AutoModelForSeq2SeqLM",
        "import attention_rnn.models.decoder; from transformers import AutoConfig, AutoModelForSeq2SeqLM",
        "import attention_rnn.pipelines; from transformers import AutoConfig, AutoModelForSeq2SeqLM",
        "import attention_rnn.labelling; from transformers import AutoConfig, AutoModelForSeq2SeqLM",
        "import attention_rnn; from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, AutoConfig",
        "import attention_rnn; from transformers import AutoFeatureExtractor, AutoConfig, AutoModelForSeq2SeqLM",
        "import attention_rnn; from transformers import AutoProcessor, AutoConfig, AutoModelForSeq2SeqLM",
    ],
)
def test_the_auto_classes_know_the_models_in_any_order_of_imports(imports_first):
    code = f"""
{imports_first}
config = AutoConfig.for_model("attention_rnn", vocab_size=9, embedding_size=4, hidden_size=4)
print(type(AutoModelForSeq2SeqLM.from_config(config)).__name__)
import sys
from transformers import AutoTokenizer
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
from attention_rnn.registration import _waiting
print(type(config) in TOKENIZER_MAPPING, *set(_waiting) & set(sys.modules))
"""
    assert run(code).split() == ["AttentionRnnForConditionalGeneration", "True"]


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="AttentionRnnForWriting"):
        _ = attention_rnn.AttentionRnnForWriting


def test_every_public_name_exists():
    for name in attention_rnn.__all__:
        assert getattr(attention_rnn, name) is not None


def test_modules_are_found_in_many_threads_at_once():
    finder = next(finder for finder in sys.meta_path if type(finder).__name__ == "_RegisterAfterImport")
    errors = []

    def find():
        for _ in range(100):
            try:
                assert finder.find_spec("attention_rnn.models.cells", [str(MODELS)]) is not None
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert finder in sys.meta_path


def test_threads_that_import_what_the_other_needs_do_not_wait_for_ever(tmp_path, monkeypatch):
    """One registers and imports on its way what the other is importing, which has something to register as well."""
    (tmp_path / "auto_first.py").write_text("")
    (tmp_path / "auto_second.py").write_text("")
    (tmp_path / "imported_by_both.py").write_text("begun.set()\nmeets.wait()\nimport auto_second\n")
    monkeypatch.syspath_prepend(tmp_path)
    begun, meets, registered = threading.Event(), threading.Event(), []
    monkeypatch.setattr(builtins, "begun", begun, raising=False)
    monkeypatch.setattr(builtins, "meets", meets, raising=False)

    def register_first():
        meets.set()
        importlib.import_module("imported_by_both")
        registered.append("first")

    monkeypatch.setitem(registration._waiting, "auto_first", register_first)
    monkeypatch.setitem(registration._waiting, "auto_second", lambda: registered.append("second"))
    threads = [threading.Thread(target=importlib.import_module, args=("imported_by_both",), daemon=True)]
    threads[0].start()
    begun.wait()
    threads.append(threading.Thread(target=importlib.import_module, args=("auto_first",), daemon=True))
    threads[1].start()
    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)
    assert {*registered} == {"first", "second"}
    assert not {"auto_first", "auto_second"} & registration._waiting.keys()


def test_what_another_thread_has_half_imported_is_registered_later(monkeypatch):
    """An import that fails for that reason is no error of transformers' import, and not forgotten."""
    tries = []

    def register():
        tries.append(None)
        if len(tries) == 1:
            raise ImportError("cannot import name 'X' from partially initialized module 'y'")

    monkeypatch.setitem(registration._waiting, "threading", register)
    thread = threading.Thread(target=lambda: time.sleep(1), daemon=True)
    thread.start()
    registration.register_imported()
    assert "threading" in registration._waiting
    registration.register_imported()
    assert "threading" not in registration._waiting


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.serve"])
def test_an_image_is_built_from_all_folders_of_the_package(file):
    (places,) = re.findall(r"^package-dir = \{(.*)\}$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    folders = re.findall(r'= "(\w+)"', places)
    assert "src" in folders
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / file).read_text(), re.MULTILINE)
    assert set(folders) == set(copied)
