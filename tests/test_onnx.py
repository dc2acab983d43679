"""Exported folders give what the models give, by graphs alone."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from exports import LABELS, NAMED, SMALL, SOURCES, WORDS, characters, random_model  # noqa: E402
from tiny import tiny_model  # noqa: E402

from attention_rnn import OnnxRunner, cli, export_onnx  # noqa: E402
from attention_rnn.commands.models import COMMAND, Model  # noqa: E402
from attention_rnn.copy_vocabulary import CopyVocabulary  # noqa: E402
from attention_rnn.tasks import Task  # noqa: E402
from attention_rnn.tokenizer_training import train_tokenizer  # noqa: E402

INFLECTION = Task("pairs", {"source": ["lemma", "features"], "target": ["form"]}, "", spelt=True)


def generate(export, texts, **options):
    """Token ids up to the end, and scores, of each hypothesis, by torch."""
    options = {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True, **options}
    tokenizer, config = export.tokenizer, export.model.config
    if config.copy:
        copying = CopyVocabulary(tokenizer, config.vocab_size)
        inputs, _ = copying.encode_sources(texts, padding=True, return_tensors="pt")
    else:
        inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    outputs = export.model.generate(**inputs, **options)
    start = 1 if config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return [up_to_end(row[start:].tolist()) for row in outputs.sequences], outputs


def up_to_end(tokens):
    return tokens[: tokens.index(2) + 1] if 2 in tokens else tokens


def hypotheses(results):
    return [one for result in results for one in (result if isinstance(result, list) else [result])]


GENERATORS = ["parallel", "copying", "two vocabularies", "chunks", "subwords", "language model"]
every_generator = pytest.mark.parametrize("variant", GENERATORS)


def texts_for(variant):
    return WORDS if variant == "copying" else SOURCES


@every_generator
def test_greedy_decoding_gives_the_tokens_of_generate(exported, variant):
    export, texts = exported(variant), texts_for(variant)
    expected, _ = generate(export, texts, max_new_tokens=9)
    assert [result["token_ids"] for result in export.runner(texts, max_new_tokens=9)] == expected


@pytest.mark.parametrize("variant", ["parallel", "language model"])
def test_a_model_without_a_limit_writes_as_many_tokens_as_generate(exported, variant):
    export = exported(variant)
    (expected,), _ = generate(export, SOURCES[1:2])
    assert export.runner(SOURCES[1])["token_ids"] == expected


@every_generator
@pytest.mark.parametrize(
    "options",
    [{}, {"length_penalty": 0.3, "early_stopping": True, "min_new_tokens": 4}, {"early_stopping": "never"}],
    ids=["plain", "early stopping", "never"],
)
def test_beam_search_gives_the_tokens_and_scores_of_generate(exported, variant, options):
    export, texts = exported(variant), texts_for(variant)
    options = {"num_beams": 4, "num_return_sequences": 3, "max_new_tokens": 9, **options}
    expected, outputs = generate(export, texts, **options)
    found = hypotheses(export.runner(texts, **options))
    assert [one["token_ids"] for one in found] == expected
    torch.testing.assert_close(
        torch.tensor([one["score"] for one in found]), outputs.sequences_scores, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("variant", ["parallel", "copying", "two vocabularies"])
def test_the_attention_is_that_of_generate(exported, variant):
    export, texts = exported(variant), texts_for(variant)
    _, outputs = generate(export, texts, max_new_tokens=5)
    for row, result in enumerate(export.runner(texts, max_new_tokens=5, return_attention=True)):
        attention, length = result["attention"], len(result["token_ids"])
        assert attention.shape == (length, len(result["source_tokens"]))
        expected = torch.stack([step[0][row].mean(dim=0)[0] for step in outputs.cross_attentions[:length]])
        np.testing.assert_allclose(attention, expected[:, : attention.shape[1]], atol=1e-5)


@every_generator
def test_one_graph_decodes_greedily(exported, variant):
    export, texts = exported(variant), texts_for(variant)
    encoded = export.runner.tokenizer.encode_batch(texts)
    longest = max(len(encoding.ids) for encoding in encoded)
    ids = np.array([encoding.ids + [0] * (longest - len(encoding.ids)) for encoding in encoded])
    mask = np.array([[1] * len(encoding.ids) + [0] * (longest - len(encoding.ids)) for encoding in encoded])
    inputs = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": np.array(7)}
    if variant == "copying":
        _, inputs["copy_ids"] = export.runner.unknown.extend(texts, ids)
    session = onnxruntime.InferenceSession(export.folder / "generate.onnx")
    sequences = session.run(["sequences"], inputs)[0]
    for row, result in enumerate(export.runner(texts, max_new_tokens=7)):
        begin = len(encoded[row].ids) if variant == "language model" else 0
        assert up_to_end(sequences[row, begin : begin + 7].tolist()) == result["token_ids"]


def test_what_a_vocabulary_lacks_is_copied(exported):
    export = exported("copying")
    copying = CopyVocabulary(export.tokenizer, export.model.config.vocab_size)
    inputs, unknown_words = copying.encode_sources(WORDS, padding=True, return_tensors="pt")
    words_found, copy_ids = export.runner.unknown.extend(WORDS, inputs["input_ids"].numpy())
    assert words_found == unknown_words == [[], [], ["Xyzzy", "Plugh"]]
    assert (
        copy_ids[inputs["attention_mask"].bool()] == inputs["copy_ids"][inputs["attention_mask"].bool()].numpy()
    ).all()
    sequences = export.model.generate(**inputs, num_beams=3, max_new_tokens=6)
    expected = copying.batch_decode(sequences, unknown_words)
    assert [result["text"] for result in export.runner(WORDS, num_beams=3, max_new_tokens=6)] == expected


@pytest.mark.parametrize("variant", ["parallel", "language model"])
def test_a_text_is_streamed_in_pieces(exported, variant):
    runner = exported(variant).runner
    pieces = list(runner("abc", max_new_tokens=9, min_new_tokens=9, stream=True))
    whole = runner("abc", max_new_tokens=9, min_new_tokens=9)["text"]
    assert len(pieces) > 1
    assert "".join(pieces) == (whole if variant == "parallel" else whole[len("abc") :])


def test_the_examples_of_the_card_run(exported):
    folder = exported("parallel").folder
    card = (folder / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        assert run(example, cwd=folder).strip()
    for name in ("encoder.onnx", "step.onnx", "generate.onnx"):
        assert f"### {name}" in card
    assert "| input | `attention_mask` | int64 | (batch, source) |" in card


def has_header_of_cpp():
    """Whether there is a compiler and where it looks ONNX Runtime's header (`CPLUS_INCLUDE_PATH` adds folders)."""
    if shutil.which("g++") is None:
        return False
    source = "#include <onnxruntime_cxx_api.h>"
    return not subprocess.run(["g++", "-x", "c++", "-E", "-"], input=source, text=True, capture_output=True).returncode


@pytest.mark.skipif(not has_header_of_cpp(), reason="onnxruntime_cxx_api.h is not there, as of libonnxruntime-dev")
def test_the_example_in_cpp_writes_what_python_writes(exported, tmp_path):
    export = exported("parallel")
    (example,) = re.findall(r"```cpp\n(.*?)```", (export.folder / "README.md").read_text(), re.DOTALL)
    (tmp_path / "example.cpp").write_text(example)
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    command = ["g++", "-std=c++17", "example.cpp", f"-L{tmp_path}", f"-Wl,-rpath,{tmp_path}", "-lonnxruntime"]
    subprocess.run([*command, "-o", tmp_path / "example"], cwd=tmp_path, check=True)
    written = subprocess.run([tmp_path / "example"], cwd=export.folder, capture_output=True, text=True, check=True)
    length = int(re.search(r"length\{(\d+)\}", example)[1])
    expected = export.runner("a text", max_new_tokens=length)["token_ids"]
    assert [int(token) for token in written.stdout.split()] == expected


def test_an_ensemble_takes_the_mean_of_probabilities(exported):
    export = exported("parallel")
    together = OnnxRunner.from_pretrained([export.folder, export.folder])
    options = {"num_beams": 3, "max_new_tokens": 6, "return_attention": True}
    for one, both in zip(export.runner(SOURCES, **options), together(SOURCES, **options), strict=True):
        assert both["token_ids"] == one["token_ids"]
        assert both["score"] == pytest.approx(one["score"], abs=1e-5)
        np.testing.assert_allclose(both["attention"], one["attention"], atol=1e-6)


def test_models_of_other_tokens_are_not_joined(exported, tmp_path):
    folder = exported("parallel").folder
    other = shutil.copytree(folder, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    (first, one), (second, two), *others = reversed(tokenizer["model"]["vocab"].items())
    tokenizer["model"]["vocab"] = {first: two, second: one, **dict(others)}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="must have the tokens of"):
        OnnxRunner.from_pretrained([folder, other])


def test_threads_share_a_runner(exported):
    runner = exported("parallel").runner
    texts = [source * times for times in (1, 2, 3) for source in SOURCES]
    expected = runner(texts, num_beams=2, max_new_tokens=8, batch_size=1)
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: runner(texts[i], num_beams=2, max_new_tokens=8)}))
        for i in range(len(texts))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index]["token_ids"] for index in range(len(texts))] == [result["token_ids"] for result in expected]


def test_a_text_is_classified(exported):
    export = exported("classifier")
    inputs = export.tokenizer(SOURCES, padding=True, return_tensors="pt", return_token_type_ids=False)
    expected = export.model(**inputs).logits.softmax(dim=-1)
    for row, result in enumerate(export.runner(SOURCES)):
        assert [one["score"] for one in result] == sorted((one["score"] for one in result), reverse=True)
        for one in result:
            assert one["score"] == pytest.approx(float(expected[row, LABELS.index(one["label"])]), abs=1e-5)


def test_words_are_labelled_as_by_the_pipeline(exported):
    from transformers import pipeline

    export = exported("tagger")
    texts = ["to be  or kind", "Xyzzy not", "be"]
    tagger = pipeline("token-classification", model=export.model, tokenizer=export.tokenizer)
    chunks = [tagger(text, aggregation_strategy="simple") for text in texts]
    inputs = export.tokenizer(
        [text.split() for text in texts], is_split_into_words=True, padding=True, return_tensors="pt",
        return_token_type_ids=False,
    )  # fmt: skip
    intents = export.model(**inputs).intent_logits.argmax(dim=-1)
    assert any(chunks)
    for text, expected, result, intent in zip(texts, chunks, export.runner(texts), intents, strict=True):
        assert result["intent"] == ["x", "y"][intent]
        assert [word["word"] for word in result["words"]] == text.split()
        in_chunk = {
            position: chunk["entity_group"] for chunk in expected for position in range(chunk["start"], chunk["end"])
        }
        for word in result["words"]:
            assert text[word["start"] : word["end"]] == word["word"]
            assert in_chunk.get(word["start"], "O") == word["label"].split("-")[-1]


def test_a_question_is_answered_as_by_the_pipeline(exported):
    from transformers import pipeline

    export = exported("reader")
    reader = pipeline("question-answering", model=export.model, tokenizer=export.tokenizer)
    examples = [
        {"question": "to be", "context": "or not to be kind ."},
        {"question": "kind", "context": "be or"},
    ]
    for example, result in zip(examples, export.runner(examples), strict=True):
        expected = reader(**example)
        assert result["score"] == pytest.approx(expected["score"], abs=1e-4)
        assert {name: result[name] for name in ("answer", "start", "end")} == {
            name: expected[name] for name in ("answer", "start", "end")
        }


def run(code, *arguments, cwd=None, **options):
    return subprocess.run(
        [sys.executable, *options.pop("flags", []), "-c", code, *map(str, arguments)],
        check=True, capture_output=True, text=True, cwd=cwd,
    ).stdout  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory is read from there")
def test_the_runner_loads_no_torch_and_little_memory(exported):
    code = """
import sys
from attention_rnn import OnnxRunner
print(OnnxRunner.from_pretrained(sys.argv[1])("abc", max_new_tokens=5)["token_ids"])
print({"torch", "transformers", "onnx"} & set(sys.modules))
status = dict(line.split(":") for line in open("/proc/self/status") if line.count(":") == 1)
print(int(status["VmHWM"].split()[0]) // 1024)
"""
    export = exported("parallel")
    tokens, modules, megabytes = run(code, export.folder).splitlines()
    assert json.loads(tokens) == export.runner("abc", max_new_tokens=5)["token_ids"]
    assert modules == "set()"
    assert int(megabytes) < 100


def test_a_folder_runs_without_the_package(exported, tmp_path):
    export = exported("copying")
    folder = shutil.copytree(export.folder, tmp_path / "elsewhere")
    output = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {[p for p in sys.path if 'site-packages' in p]!r}\n"
         f"sys.argv = ['run_onnx.py', *{WORDS!r}, '--max_new_tokens', '6', '--num_beams', '3']\n"
         "import runpy; runpy.run_path('run_onnx.py', run_name='__main__')\n"
         "assert 'attention_rnn' not in sys.modules"],
        check=True, capture_output=True, text=True, cwd=folder, env={},
    ).stdout  # fmt: skip
    found = [json.loads(line)["text"] for line in output.splitlines()]
    assert found == [result["text"] for result in export.runner(WORDS, max_new_tokens=6, num_beams=3)]


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported("parallel").folder, tmp_path / "copied")


def rewritten(file, change):
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def declare_newer(file):
    import onnx

    graph = onnx.load(file)
    graph.opset_import[0].version = 999
    onnx.save(graph, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "must be a folder that `export_onnx` has written"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "must be of the format"),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values.pop("states")),
            "it lacks \\['states'\\]",
        ),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values.update(format_version=99)),
            "has the version 99",
        ),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values.update(vocab_size="many")),
            "it lacks \\['vocab_size'\\], or has something else there",
        ),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values.update(task="../../etc")),
            "must be for one of the tasks .*, got '../../etc'",
        ),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values.pop("max_source_length")),
            "it lacks \\['max_source_length'\\]",
        ),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values["special_tokens"].pop("pad")),
            "`special_tokens` lacks \\['pad'\\]",
        ),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values["special_tokens"].update(start=-1)),
            "`special_tokens` lacks \\['start'\\], or has something else there",
        ),
        (
            lambda folder: rewritten(folder / "config.json", lambda values: values["special_tokens"].update(eos=[99])),
            "`special_tokens` lacks \\['eos'\\]",
        ),
        (lambda folder: (folder / "step.onnx").unlink(), "must hold step.onnx"),
        (lambda folder: (folder / "step.onnx").write_bytes(b"no graph"), "step.onnx is damaged or no ONNX graph"),
        (
            lambda folder: (folder / "step.onnx").write_bytes((folder / "step.onnx").read_bytes()[:999]),
            "step.onnx is damaged or no ONNX graph",
        ),
        (lambda folder: shutil.copy(folder / "step.onnx", folder / "encoder.onnx"), "encoder.onnx is of another model"),
        (lambda folder: declare_newer(folder / "step.onnx"), "step.onnx needs a newer onnxruntime"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "must hold tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "tokenizer.json is damaged"),
        (
            lambda folder: train_tokenizer(["abc xyz 0123456789 ABC"], "character").backend_tokenizer.save(
                str(folder / "tokenizer.json")
            ),
            "does not fit the model, which knows 19 tokens",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(copied, damage, message):
    damage(copied)
    with pytest.raises(ValueError, match=message):
        OnnxRunner.from_pretrained(copied)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ("", {}, ValueError, "must be a text that is not empty"),
        ([" "], {}, ValueError, "must be a text that is not empty"),
        ([3], {}, TypeError, "must be a text, got 3"),
        ("\ud800", {}, ValueError, "valid Unicode"),
        ("abc", {"num_beams": 0}, ValueError, "`num_beams` must be a whole number of at least 1"),
        ("abc", {"num_return_sequences": 2}, ValueError, "must be at most `num_beams`"),
        ("abc", {"max_new_tokens": 1.5}, ValueError, "`max_new_tokens` must be a whole number"),
        ("abc", {"length_penalty": 99}, ValueError, "`length_penalty` must be from -10 to 10"),
        ("abc", {"early_stopping": 1}, ValueError, "`early_stopping` must be a bool or 'never', got 1"),
        ("abc", {"temperature": 2}, TypeError, "knows no option 'temperature'"),
        (["a", "b"], {"stream": True}, ValueError, "`stream` needs one text"),
        ("a", {"stream": True, "num_beams": 2}, ValueError, "`stream` needs `num_beams=1`, got 2"),
        ("abc", {"length_penalty": "x"}, ValueError, "`length_penalty` must be from -10 to 10, got 'x'"),
        (None, {}, TypeError, "`inputs` must be a text or a list, got None"),
    ],
)
def test_bad_input_is_refused(exported, inputs, options, error, message):
    with pytest.raises(error, match=message):
        exported("parallel").runner(inputs, **options)


def test_a_whole_length_penalty_is_the_number(exported):
    runner, options = exported("parallel").runner, {"max_new_tokens": 100, "min_new_tokens": 99}
    for whole in (10, -1):
        assert runner("abc", length_penalty=whole, **options) == runner("abc", length_penalty=float(whole), **options)


def with_generation(folder, **settings):
    return rewritten(folder / "config.json", lambda values: values["generation"].update(settings))


def test_a_model_that_decodes_with_beams_streams_greedily(copied):
    with_generation(copied, num_beams=3, num_return_sequences=2)
    runner = OnnxRunner.from_pretrained(copied)
    greedy = runner("abc", num_beams=1, num_return_sequences=1)["text"]
    assert "".join(runner("abc", stream=True)) == "".join(runner("abc", stream=True, num_beams=None)) == greedy


def test_a_runner_that_only_reads_knows_no_search(exported):
    with pytest.raises(TypeError, match="A runner for text-classification knows no option 'num_beams'"):
        exported("classifier").runner("abc", num_beams=2)
    with pytest.raises(TypeError, match="A runner for question-answering knows no option 'stop'"):
        exported("reader").runner({"question": "a", "context": "a"}, stop=True)


def test_what_is_not_asked_for_can_be_limited(copied):
    with_generation(copied, num_beams=4, num_return_sequences=2, max_new_tokens=9, min_new_tokens=9)
    runner = OnnxRunner.from_pretrained(copied)
    assert len(runner("abc")) == 2
    runner.limit(num_beams=1, new_tokens=3)
    limited = runner("abc")
    assert len(limited["token_ids"]) == 3
    assert limited == runner("abc", num_beams=1, max_new_tokens=3)


def test_how_long_a_text_becomes_does_not_depend_on_others(exported, tmp_path):
    folder = shutil.copytree(exported("language model").folder, tmp_path / "model")
    rewritten(folder / "config.json", lambda values: values.update(max_length=12))
    with_generation(folder, max_new_tokens=None, min_new_tokens=11)
    runner = OnnxRunner.from_pretrained(folder)
    short, long = "a", "abcdefgh"
    assert runner([short, long]) == [runner(short), runner(long)]
    assert len(runner(short)["token_ids"]) > len(runner(long)["token_ids"])


def test_a_language_model_goes_on_from_the_prompt_as_it_is(exported):
    runner = exported("language model").runner
    prompt = "a🙂b"
    text = runner(prompt, max_new_tokens=5, min_new_tokens=5)["text"]
    assert text.startswith(prompt)
    assert prompt + "".join(runner(prompt, max_new_tokens=5, min_new_tokens=5, stream=True)) == text


def test_a_prompt_that_leaves_no_room_is_refused(exported, tmp_path):
    folder = shutil.copytree(exported("language model").folder, tmp_path / "model")
    rewritten(folder / "config.json", lambda values: values.update(max_length=3))
    with_generation(folder, max_new_tokens=None)
    with pytest.raises(ValueError, match="The prompt may have 2 tokens, got"):
        OnnxRunner.from_pretrained(folder)("abcabc")


def test_what_the_end_has_cut_off_is_streamed_too(exported, monkeypatch):
    runner = exported("parallel").runner
    monkeypatch.setattr(
        runner, "_decode", lambda tokens, words: "a\ufffd" if len(tokens) == 3 else "a" * len(tokens[:1])
    )
    assert "".join(runner("abc", max_new_tokens=3, min_new_tokens=3, stream=True)) == "a\ufffd"


def test_a_model_of_weights_that_are_no_numbers_is_not_exported(tmp_path):
    model = random_model("AttentionRnnForConditionalGeneration")
    with torch.no_grad():
        model.lm_head.weight[0] = float("nan")
    with pytest.raises(ValueError, match="must have finite weights, got NaN or infinite ones in"):
        export_onnx(model, characters(), tmp_path / "model")


def test_a_single_label_is_as_likely_as_the_pipeline_says(exported):
    from transformers import pipeline

    export = exported("single label")
    classify = pipeline("text-classification", model=export.model, tokenizer=export.tokenizer)
    assert export.runner("abc")[0]["score"] == pytest.approx(classify("abc")[0]["score"], abs=1e-5)


@pytest.mark.parametrize(
    ("task", "other", "message"),
    [
        ("classifier", "tagger", "holds files of two models: model.onnx is not for text-classification"),
        ("classifier", "regression", "holds files of two models: model.onnx tells 1 labels, config.json 5"),
    ],
)
def test_a_graph_of_another_model_is_refused(exported, tmp_path, task, other, message):
    folder = shutil.copytree(exported(task).folder, tmp_path / "model")
    if other == "regression":
        model = random_model("AttentionRnnForSequenceClassification", num_labels=1, problem_type="regression")
        source = export_onnx(model, characters(), tmp_path / "other")
    else:
        source = exported(other).folder
    shutil.copy(source / "model.onnx", folder / "model.onnx")
    with pytest.raises(ValueError, match=message):
        OnnxRunner.from_pretrained(folder)


@pytest.mark.parametrize("text", ["abcdef", "bcdefghi jklm nopq"])  # fewer, and as many
def test_a_vocabulary_of_another_model_is_refused(copied, text):
    train_tokenizer([text], "character", vocab_size=19).backend_tokenizer.save(str(copied / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"tokenizer.json does not fit the model: it is of another vocabulary"):
        OnnxRunner.from_pretrained(copied)


@pytest.mark.parametrize(
    ("task", "other", "file", "message"),
    [
        ("parallel", "subwords", "step.onnx", "log_probabilities"),
        ("parallel", "two vocabularies", "encoder.onnx", "keys"),
        ("language model", "parallel", "step.onnx", "keys"),
    ],
)
def test_graphs_of_two_models_are_refused(exported, tmp_path, task, other, file, message):
    folder = shutil.copytree(exported(task).folder, tmp_path / "model")
    shutil.copy(exported(other).folder / file, folder / file)
    with pytest.raises(ValueError, match=f"two models: .*{message}|is of another model"):
        OnnxRunner.from_pretrained(folder)


def test_an_export_leaves_nothing_of_an_earlier_one(exported, tmp_path):
    folder = shutil.copytree(exported("two vocabularies").folder, tmp_path / "model")
    export = exported("classifier")
    export_onnx(export.model, export.tokenizer, folder)
    assert {file.name for file in folder.iterdir()} == {
        *("model.onnx", "config.json", "tokenizer.json", "README.md", "run_onnx.py")
    }
    assert OnnxRunner.from_pretrained(folder)("abc") == export.runner("abc")


def test_a_checkpoint_is_not_written_over(tmp_path):
    for part in (tiny_model(**SMALL), characters()):
        part.save_pretrained(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for flags in ([], ["--web"]):
        with pytest.raises(SystemExit, match="holds a checkpoint, which an export would destroy"):
            cli.main(["export", str(tmp_path), "-o", str(tmp_path), *flags])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_an_export_deletes_nothing_that_is_not_of_one(exported, tmp_path):
    (tmp_path / "own.onnx").write_bytes(b"mine")
    export = exported("classifier")
    export_onnx(export.model, export.tokenizer, tmp_path)
    assert (tmp_path / "own.onnx").read_bytes() == b"mine"


@pytest.mark.parametrize("place", ["_next", "checkpoint-5", "model"])
def test_a_training_that_runs_is_not_written_over(tmp_path, place):
    (tmp_path / "out" / place).mkdir(parents=True)
    for part in (tiny_model(**SMALL), characters()):
        part.save_pretrained(tmp_path / "from")
    (tmp_path / "out" / place / "config.json").write_text('{"model_type": "attention_rnn"}')
    flags = ["--web"] if place == "model" else []
    with pytest.raises(SystemExit, match="holds a checkpoint, which an export would destroy"):
        cli.main(["export", str(tmp_path / "from"), "-o", str(tmp_path / "out"), *flags])


def test_a_text_beyond_the_limit_is_refused(exported):
    runner = OnnxRunner.from_pretrained(exported("parallel").folder, max_source_length=5)
    runner("abcd")
    with pytest.raises(ValueError, match="may have 5 tokens, got one of 6"):
        runner("abcde")


@pytest.mark.parametrize("name", ["no/such/folder", "../../etc", "no folder"])
def test_a_name_that_is_neither_folder_nor_repository_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must be a folder or a repository of the Hub"):
        OnnxRunner.from_pretrained(name)


def test_what_has_no_form_in_a_folder_is_not_exported(tmp_path):
    model, tokenizer = tiny_model(**SMALL), characters()
    for arguments, error, message in [
        ((model.model, tokenizer, tmp_path), TypeError, "`model` must be one of"),
        ((model, "characters", tmp_path), TypeError, "`tokenizer` must be a PreTrainedTokenizerFast"),
        ((model, tokenizer, tmp_path, "int4"), ValueError, "`weights` must be one of float32, int8, stored-int8"),
        ((model, train_tokenizer(["abcdefghijklmnopqrstuvwxyz"], "character"), tmp_path), ValueError, "does not fit"),
    ]:
        with pytest.raises(error, match=message):
            export_onnx(*arguments)
    model.generation_config.repetition_penalty = 2.0
    with pytest.raises(ValueError, match="sets \\['repetition_penalty'\\], which the exported model does not know"):
        export_onnx(model, tokenizer, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("weights", ["int8", "stored-int8"])
def test_rounded_weights_are_near_and_small(exported, tmp_path, weights, monkeypatch):
    export = exported("parallel")
    monkeypatch.setattr("attention_rnn.onnx.weights.MIN_SIDE", 4)
    monkeypatch.setattr("attention_rnn.onnx.weights.MIN_STORED", 16)
    import onnx

    from attention_rnn.onnx.weights import round_products, store_rounded

    folder = shutil.copytree(export.folder, tmp_path / "rounded")
    change = round_products if weights == "int8" else store_rounded
    for file in folder.glob("*.onnx"):
        onnx.save(change(onnx.load(file)), file)
    if weights == "int8":
        assert "MatMulInteger" in {node.op_type for node in onnx.load(folder / "step.onnx").graph.node}
    else:
        assert all(file.stat().st_size < (export.folder / file.name).stat().st_size for file in folder.glob("*.onnx"))
    options = {"max_new_tokens": 1, "min_new_tokens": 1}
    exact, near = (runner(SOURCES, **options) for runner in (export.runner, OnnxRunner([folder])))
    differences = [abs(a["score"] - b["score"]) for a, b in zip(exact, near, strict=True)]
    assert 0 < max(differences) < 0.1


def test_a_folder_is_served(exported):
    httpx = pytest.importorskip("httpx")
    from attention_rnn.server import create_app

    runner = exported("parallel").runner
    app = create_app(runner)

    async def ask():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            return await client.post("/generate", json={"texts": SOURCES, "num_beams": 2, "max_new_tokens": 5})

    assert asyncio.run(ask()).json() == {"results": runner(SOURCES, num_beams=2, max_new_tokens=5)}


def test_the_command_exports_a_checkpoint(tmp_path, monkeypatch, capsys):
    def write(model, tokenizer, folder, weights, spelt):
        given.append((type(model).__name__, model.config.vocab_size, len(tokenizer), weights, spelt))
        folder.mkdir()
        (folder / "step.onnx").write_bytes(b"0" * 30_000)

    given = []
    monkeypatch.setattr("attention_rnn.onnx.export.export_onnx", write)
    for part in (tiny_model(**SMALL), characters()):
        part.save_pretrained(tmp_path / "words")
    (tmp_path / "words" / COMMAND).write_text(json.dumps({"task": vars(INFLECTION)}), encoding="utf-8")
    cli.main(["export", str(tmp_path / "words"), "--weights", "stored-int8"])
    assert given == [("AttentionRnnForConditionalGeneration", 19, 19, "stored-int8", True)]
    output = capsys.readouterr().out
    assert f"0.03 MB  {tmp_path}/words-onnx/step.onnx" in output


def test_a_model_of_inflection_reads_and_writes_as_the_command_does(exported, tmp_path):
    export = exported("inflection")
    for part in (export.model, export.tokenizer):
        part.save_pretrained(tmp_path)
    (tmp_path / COMMAND).write_text(json.dumps({"task": vars(INFLECTION)}), encoding="utf-8")
    texts = ["ab cé V;PST", "ab cé\tN;PL", " dad  N"]
    expected = [answer.text for (answer,) in Model(str(tmp_path)).answers(texts, num_beams=2)]
    assert [found["text"] for found in export.runner(texts, num_beams=2)] == expected
    alone = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, export.folder / "run_onnx.py", *texts, "--num_beams", "2"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, env=alone).stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == expected
    whole = export.runner(texts[0])["text"]
    assert "".join(export.runner(texts[0], stream=True)) == whole
    with pytest.raises(ValueError, match="a lemma and its features, such as 'gehen V;PST', got 'ab cé'"):
        export.runner("ab cé")


def test_a_checkpoint_of_another_kind_is_not_exported(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    with pytest.raises(SystemExit, match=r"must be a checkpoint of one of .*, got BertModel"):
        cli.main(["export", str(tmp_path)])


def test_attention_that_looks_back_from_each_word_of_a_text_is_refused(tmp_path):
    model = random_model("AttentionRnnForTokenClassification", attention_type="location", bidirectional=False, **NAMED)
    with pytest.raises(ValueError, match="`model` must not attend to a text by scores that look back"):
        export_onnx(model, characters(), tmp_path)


def test_large_matrices_are_exported_as_they_are():
    from attention_rnn.models.prepared_linear import MIN_WEIGHTS, PreparedLinear
    from attention_rnn.onnx.graphs import TokenStep, prepare_for_export, trace

    model = tiny_model(hidden_size=160, encoder_layers=1, decoder_layers=2, bidirectional=False)
    prepared = prepare_for_export(model)
    large = [module for module in prepared.decoder.modules() if isinstance(module, PreparedLinear)]
    assert max(module.weight.numel() for module in large) >= MIN_WEIGHTS  # which are laid out anew in `generate()`
    memory = {"keys": torch.randn(2, 7, 7), "values": torch.randn(2, 7, 3 * 160 + 6), "mask": torch.ones(2, 7).bool()}
    step = TokenStep(model, prepared, {**memory, "state_0": torch.randn(2, 160), "state_1": torch.randn(2, 160)})
    session = onnxruntime.InferenceSession(trace(step).SerializeToString())
    inputs = step.inputs().examples
    found = session.run(["log_probabilities"], {name: value.numpy() for name, value in inputs.items()})[0]
    np.testing.assert_allclose(found, step.example_outputs()["log_probabilities"], atol=1e-4)
