"""
Pushing to the Hub and loading from it, with the real client and over HTTP.

`huggingface_hub` reads its environment when it is imported, so the client runs in processes of its own: the author's,
who has this package and a token, and the reader's, who has neither. The functions at the head of this file run there.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import pytest
from hub_server import Hub, card_errors, read_front_matter

SCRIPT = Path(__file__).parents[1] / "examples" / "run_seq2seq.py"
WORDS = ["abc", "ba", "cabba", "bc", "acab", "b", "cba", "abcabc"]
SPELLINGS = [" ".join(word.upper()) for word in WORDS]
SCRIPT_ARGUMENTS = """
--do_train --do_eval --do_predict --use_cpu --source_tokenizer character --target_tokenizer word
--config_overrides hidden_size=8 --max_steps 4 --per_device_train_batch_size 4 --num_beams 1 --num_heat_maps 1
--metrics exact_match cer --language en --license apache-2.0
"""
WEIGHTS, CODE, TARGET_VOCABULARY = "model.safetensors", "modeling_attention_rnn.py", "target_tokenizer.json"


# what runs in the processes of the client


def make_tokenizer():
    """With a vocabulary for each side, so that it has code to carry."""
    from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

    return pair_tokenizers(train_tokenizer(WORDS, kind="character"), train_tokenizer(SPELLINGS, kind="word"))


def make_model(seed):
    from tiny import tiny_model

    tokenizer = make_tokenizer()
    return tiny_model(seed, source_vocab_size=len(tokenizer), vocab_size=len(tokenizer.target))


def describe(model, tokenizer):
    """What a model makes of the words, equal to the last bit only if its weights are."""
    inputs = tokenizer(WORDS, text_target=SPELLINGS, padding=True, return_tensors="pt")
    loss = model.eval()(**inputs).loss.item()
    inputs.pop("labels")
    texts = tokenizer.batch_decode(model.generate(**inputs, max_new_tokens=9), skip_special_tokens=True)
    return {"loss": loss, "texts": texts}


def push(name, seed, **options):
    """Push a model and its tokenizer as one does by hand; returns what the model makes of the words."""
    model, tokenizer = make_model(seed), make_tokenizer()
    model.push_to_hub(name, **options)
    tokenizer.push_to_hub(name, **options)
    return describe(model, tokenizer)


def tag(name, tag):
    from huggingface_hub import create_tag

    create_tag(name, tag=tag)


def save_and_push(name, folder, seed):
    """The same by `save_pretrained`, in a folder where other code lies."""
    model, tokenizer = make_model(seed), make_tokenizer()
    Path(folder, "mine.py").write_text("SECRET = 1\n")
    model.save_pretrained(folder, push_to_hub=True, repo_id=name)
    tokenizer.save_pretrained(folder, push_to_hub=True, repo_id=name)
    return describe(model, tokenizer)


def train_and_push(name, folder):
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    model, tokenizer = make_model(seed=0), make_tokenizer()
    examples = [tokenizer(word, text_target=spelling) for word, spelling in zip(WORDS, SPELLINGS, strict=True)]
    arguments = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "epoch"}
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(folder, num_train_epochs=2, push_to_hub=True, hub_model_id=name, **arguments),
        train_dataset=examples,
        eval_dataset=examples,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.evaluate()
    trainer.push_to_hub(language="en", license="mit")
    return describe(trainer.model, tokenizer)


def push_classifier(name, folder):
    """With a card; returns the scores that `pipeline` gives the words."""
    from huggingface_hub import create_repo, upload_file
    from tiny import tiny_config
    from transformers import pipeline

    from attention_rnn import AttentionRnnForSequenceClassification
    from attention_rnn.model_card import write_model_card
    from attention_rnn.tokenizer_training import train_tokenizer

    tokenizer = train_tokenizer(WORDS, kind="character")
    model = AttentionRnnForSequenceClassification(tiny_config(vocab_size=len(tokenizer))).eval()
    write_model_card(
        folder,
        model=model,
        name=name,
        task="text-classification",
        usage="Call it.",
        limits="It was not trained.",
        results={"test": {"accuracy": 50.0, "f1": 47.5}},
        data={"test": ("author/words", len(WORDS))},
        dataset_name="author/words",
        dataset_config_name="short",
        base_model="author/trained",
        language=["en", "de"],
        license="cc-by-4.0",
    )
    create_repo(name)
    upload_file(repo_id=name, path_in_repo="README.md", path_or_fileobj=f"{folder}/README.md")
    model.push_to_hub(name)
    tokenizer.push_to_hub(name)
    return pipeline("text-classification", model=model, tokenizer=tokenizer)(WORDS)


def check_script_values(license):
    """The checks that a script makes before it trains."""
    from types import SimpleNamespace

    from attention_rnn.arguments import check_values

    training_args = SimpleNamespace(push_to_hub=True)
    check_values(SimpleNamespace(language=["en"], license=license), training_args, smallest_values={})


def load(name, cache, **options):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    options |= {"cache_dir": cache, "trust_remote_code": True}
    model = AutoModelForSeq2SeqLM.from_pretrained(name, **options)
    return describe(model, AutoTokenizer.from_pretrained(name, **options))


def load_logged_in(name, cache, token):
    """As after `hf auth login`."""
    from huggingface_hub import login, logout

    login(token)
    try:
        return load(name, cache)
    finally:
        logout()


def code_of(name, cache, **options):
    """The modules that the classes of a model and of a tokenizer come from."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    options |= {"cache_dir": cache, "trust_remote_code": True}
    loaded = [auto_class.from_pretrained(name, **options) for auto_class in (AutoModelForSeq2SeqLM, AutoTokenizer)]
    return [type(part).__module__ for part in loaded]


def load_and_push(name, cache, to, token):
    """Load a model and its tokenizer, and push them as one's own."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    for auto_class in (AutoModelForSeq2SeqLM, AutoTokenizer):
        part = auto_class.from_pretrained(name, cache_dir=cache, trust_remote_code=True)
        part.push_to_hub(to, token=token)


def classify(name, task):
    from transformers import pipeline

    return pipeline(task, model=name, trust_remote_code=True)(WORDS)


def generate_by_pipeline(name):
    from transformers import pipeline

    import attention_rnn  # noqa: F401  registers the pipeline

    outputs = pipeline("text2text-generation", model=name, max_new_tokens=9)(WORDS)
    return [output["generated_text"] for output in outputs]


def push_folder(name, folder):
    from huggingface_hub import create_repo, upload_folder

    create_repo(name, private=True)
    upload_folder(repo_id=name, folder_path=folder)


def run_graphs(name, texts, **options):
    """What an exported folder makes of texts."""
    from attention_rnn import OnnxRunner

    return OnnxRunner.from_pretrained(name, **options)(texts, num_beams=2, max_new_tokens=5)


def read_card(name):
    """The card as `huggingface_hub` reads it; the Hub has taken none that is not valid."""
    from huggingface_hub import ModelCard

    card = ModelCard.load(name)
    results = [
        (result.dataset_split, result.task_type, result.dataset_type, result.metric_type, result.metric_value)
        for result in card.data.eval_results
    ]
    return {**card.data.to_dict(), "model-index": results, "name": card.data.model_name}


def push_card(name, metadata):
    from huggingface_hub import create_repo, upload_file

    create_repo(name, exist_ok=True)
    card = f"---\n{metadata}\n---\nA card.\n"
    upload_file(repo_id=name, path_in_repo="README.md", path_or_fileobj=card.encode())


def error_of(function, *arguments, **options):
    """What a call says that must fail, and what it says was the cause."""
    with mock.patch("time.sleep"):  # between the attempts of the client
        try:
            function(*arguments, **options)
        except Exception as error:
            messages, cause = [], error
            while cause is not None:
                messages.append(f"{type(cause).__name__}: {cause}")
                cause = cause.__cause__ or cause.__context__
            return "\n".join(messages)
    raise AssertionError(f"{function.__name__} should have failed")


def forget_package():
    sys.modules["attention_rnn"] = None  # its import now raises


# the processes of the client


def environment(hub, home, token=None):
    """Of a client that knows no other Hub and has nothing in its cache."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return inherited | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **({"HF_TOKEN": token} if token else {}),
    }


class Client:
    """Calls functions of this file in a process of its own."""

    def __init__(self, executor):
        self.executor = executor

    def __call__(self, function, *arguments, **options):
        return self.executor.submit(function, *arguments, **options).result()


@contextmanager
def client(hub, home, initializer=None, token=None) -> Iterator[Client]:
    with ProcessPoolExecutor(1, get_context("spawn"), initializer) as executor:
        with mock.patch.dict(os.environ, environment(hub, home, token), clear=True):
            executor.submit(os.getpid).result()  # the process starts, and takes this environment
        yield Client(executor)


@pytest.fixture(scope="module")
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def author(hub, tmp_path_factory):
    with client(hub, tmp_path_factory.mktemp("author"), token="hf_author") as author:
        yield author


@pytest.fixture(scope="module")
def reader(hub, tmp_path_factory):
    with client(hub, tmp_path_factory.mktemp("reader"), initializer=forget_package) as reader:
        yield reader


@pytest.fixture(scope="module")
def trained(author, tmp_path_factory):
    """What the model makes of the words that `Trainer` has pushed as author/trained."""
    return author(train_and_push, "author/trained", str(tmp_path_factory.mktemp("trained")))


@pytest.fixture(scope="module")
def pushed(author):
    """What the model makes of the words that was pushed by hand as author/pushed."""
    return author(push, "author/pushed", seed=1)


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


# pushing


def test_the_trainer_pushes_at_each_checkpoint_and_at_the_end(hub, trained):
    assert hub.repositories["author/trained"].messages[0] == "initial commit"
    assert "Training in progress, epoch 1" in hub.repositories["author/trained"].messages
    assert hub.repositories["author/trained"].messages[-1] == "End of training"
    files = hub.files("author/trained")
    assert {"config.json", WEIGHTS, CODE, "tokenizer.json", TARGET_VOCABULARY, "README.md"} <= set(files)
    assert not any(path.startswith("checkpoint-") for path in files)
    metadata = read_front_matter(files["README.md"].decode())
    assert metadata["license"] == "mit"
    assert "attention-rnn" in metadata["tags"]


@pytest.mark.parametrize("name", ["trained", "pushed"])
def test_who_has_not_the_package_loads_what_was_pushed(name, request, reader, cache):
    expected = request.getfixturevalue(name)
    assert reader(load, f"author/{name}", cache) == expected


def test_save_pretrained_pushes_the_code_of_the_model_and_no_other(hub, author, reader, tmp_path, cache):
    expected = author(save_and_push, "author/saved", str(tmp_path), seed=12)
    assert "mine.py" not in hub.files("author/saved")
    assert reader(load, "author/saved", cache) == expected


def test_the_code_of_a_model_and_of_a_tokenizer_comes_from_their_repository(hub, reader, pushed, cache):
    commit = hub.repositories["author/pushed"].references["main"]
    for module in reader(code_of, "author/pushed", cache):
        assert module.startswith(f"transformers_modules.author.pushed._{commit}.") or commit in module


def test_what_was_loaded_from_the_hub_can_be_pushed_again_and_needs_its_origin_no_more(hub, author, reader, cache):
    expected = author(push, "author/origin", seed=2)
    reader(load_and_push, "author/origin", cache, to="stranger/copy", token="hf_stranger")
    del hub.repositories["author/origin"]
    assert reader(load, "stranger/copy", f"{cache}-of-another") == expected


# pipelines


@pytest.fixture(scope="module")
def classifier(author, tmp_path_factory):
    """The scores that a classifier gives the words that was pushed as author/classifier."""
    return author(push_classifier, "author/classifier", str(tmp_path_factory.mktemp("classifier")))


def test_a_pipeline_of_transformers_reads_task_and_model_from_the_hub(reader, classifier):
    assert reader(classify, "author/classifier", task=None) == classifier
    assert reader(classify, "author/classifier", task="text-classification") == classifier


def test_a_pipeline_of_this_package_generates_with_a_model_of_the_hub(author, trained):
    assert author(generate_by_pipeline, "author/trained") == trained["texts"]


# exported folders


def test_a_runner_opens_an_exported_folder_of_the_hub_without_its_code(hub, author, exported):
    pytest.importorskip("onnxscript")
    folder = exported("parallel").folder
    author(push_folder, "author/exported", str(folder))
    author(tag, "author/exported", "v1")
    expected = run_graphs(folder, ["abc", "bc a"])
    assert author(run_graphs, "author/exported", ["abc", "bc a"], revision="v1") == expected
    paths = [file.relative_to(folder).as_posix() for file in folder.iterdir()]
    assert {"run_onnx.py", "step.onnx"} <= set(paths) <= set(hub.files("author/exported"))
    error = author(error_of, run_graphs, "author/nothing", ["abc"])
    assert error.startswith("OSError: There is no folder author/nothing, and the Hub gives no such repository")


# revisions


def test_a_pinned_revision_keeps_its_weights_when_main_moves_on(hub, author, reader, cache):
    first = author(push, "author/moving", seed=3)
    commit = hub.repositories["author/moving"].references["main"]
    author(tag, "author/moving", "v1")
    second = author(push, "author/moving", seed=4)
    assert first["loss"] != second["loss"]
    for revision in (commit, "v1"):
        assert reader(load, "author/moving", cache, revision=revision) == first
    assert reader(load, "author/moving", cache) == second
    error = reader(error_of, load, "author/moving", cache, revision="v7")
    assert "v7 is not a valid git identifier" in error


def test_a_branch_is_pushed_and_loaded_by_its_name(author, reader, pushed, cache):
    on_branch = author(push, "author/pushed", seed=5, revision="large")
    assert reader(load, "author/pushed", cache, revision="large") == on_branch
    assert reader(load, "author/pushed", cache) == pushed


# private repositories


def test_a_private_repository_opens_to_its_owner_alone(hub, author, reader, cache):
    expected = author(push, "author/secret", seed=6, private=True)
    assert hub.repositories["author/secret"].private
    for options in ({}, {"token": "hf_stranger"}):
        error = reader(error_of, load, "author/secret", cache, **options)
        assert "make sure to pass a token" in error, error
    assert not any(path.is_file() for path in Path(cache).rglob("snapshots/**/*"))
    assert reader(load, "author/secret", cache, token="hf_author") == expected
    assert reader(load_logged_in, "author/secret", f"{cache}-logged-in", token="hf_author") == expected


def test_a_stranger_cannot_push_to_it(hub, author, pushed):
    error = author(error_of, push, "author/pushed", seed=7, token="hf_stranger")
    assert "403 Forbidden" in error
    assert "rights to write under author" in error


def test_a_token_is_sent_to_the_hub_alone(hub, pushed):
    assert hub.storage_headers
    assert not any("authorization" in name.lower() for headers in hub.storage_headers for name in headers)


# dropped connections


def test_an_upload_that_drops_is_sent_again(hub, author, reader, cache):
    with hub.dropping("PUT", "/objects/") as fault:
        expected = author(push, "author/dropped", seed=8)
    assert fault.times == 0
    assert reader(load, "author/dropped", cache) == expected


@pytest.mark.parametrize(("method", "path"), [("PUT", "/objects/"), ("POST", "/commit/")])
def test_an_upload_that_never_arrives_is_an_error_and_leaves_the_last_commit(
    method, path, hub, author, reader, pushed, cache
):
    files = hub.files("author/pushed")
    with hub.dropping(method, path, times=100):
        error = author(error_of, push, "author/pushed", seed=9)
    assert f"Error while uploading '{WEIGHTS}' to the Hub." in error or path == "/commit/", error
    assert any(word in error for word in ("RemoteProtocolError", "ReadError", "WriteError")), error
    assert hub.files("author/pushed") == files
    assert reader(load, "author/pushed", cache) == pushed


# each with what is said offline when it is missing
FILES = {
    WEIGHTS: "does not appear to have a file named",
    "config.json": "couldn't find them in the cached files",
    CODE: "couldn't find them in the cached files",
    TARGET_VOCABULARY: "a saved folder must hold target_tokenizer.json",
}


def test_downloads_that_drop_arrive_whole(hub, author, reader, cache):
    expected = author(push, "author/late", seed=10)
    with ExitStack() as stack:
        faults = [stack.enter_context(hub.dropping("GET", f"/{file}")) for file in FILES]
        assert reader(load, "author/late", cache) == expected
    assert [fault.times for fault in faults] == [0] * len(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_download_that_never_arrives_is_an_error_and_leaves_nothing_to_load(file, hub, author, reader, cache):
    name = f"author/lost-{Path(file).stem}"
    expected = author(push, name, seed=11)
    with hub.dropping("GET", f"/{file}", times=100):
        error = reader(error_of, load, name, cache)
    assert "peer closed connection without sending complete message body" in error
    assert not list(Path(cache).rglob(file))
    assert not list(Path(cache).rglob("*.incomplete"))
    # offline, what is there does not pass for a model
    assert FILES[file] in reader(error_of, load, name, cache, local_files_only=True)
    assert reader(load, name, cache) == expected


# the card, and a script that does it all


def test_a_script_pushes_a_model_with_a_card_that_the_hub_accepts(hub, reader, tmp_path, cache):
    data = tmp_path / "words.jsonl"
    rows = ({"word": word, "spelling": spelling} for word, spelling in zip(WORDS, SPELLINGS, strict=True))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, str(SCRIPT), *SCRIPT_ARGUMENTS.split()]
    for split in ("train", "validation", "test"):
        command += [f"--{split}_file", str(data)]
    command += ["--push_to_hub", "--hub_model_id", "author/script", "--output_dir", str(tmp_path / "run")]
    done = subprocess.run(
        command, env=environment(hub, tmp_path / "home", "hf_author"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

    assert hub.repositories["author/script"].messages[-1] == "End of training"
    files = hub.files("author/script")
    assert {WEIGHTS, CODE, "attention_maps/0.png", "generated_predictions.jsonl"} <= set(files)
    assert files[WEIGHTS] == (tmp_path / "run" / WEIGHTS).read_bytes()
    scores = {}
    for split, prefix in (("validation", "eval"), ("test", "predict")):
        results = json.loads(files[f"{prefix}_results.json"])
        scores[split] = {metric: round(results[f"{prefix}_{metric}"], 4) for metric in ("exact_match", "cer")}
    card = reader(read_card, "author/script")
    assert card == {
        "name": "author/script",
        "language": ["en"],
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "translation",
        "tags": ["attention-rnn"],
        "metrics": ["exact_match", "cer"],
        "model-index": [
            (split, "translation", "custom", metric, scores[split][metric])
            for split in ("validation", "test")
            for metric in ("exact_match", "cer")
        ],
    }


def test_a_card_keeps_its_metadata_when_model_and_tokenizer_are_pushed_after_it(reader, classifier):
    assert reader(read_card, "author/classifier") == {
        "name": "author/classifier",
        "language": ["en", "de"],
        "license": "cc-by-4.0",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["attention-rnn"],
        "datasets": ["author/words"],
        "base_model": "author/trained",
        "metrics": ["accuracy", "f1"],
        "model-index": [
            ("test", "text-classification", "author/words", "accuracy", 50.0),
            ("test", "text-classification", "author/words", "f1", 47.5),
        ],
    }


@pytest.mark.parametrize("metadata", ["license: apache", "language: English", "datasets: [my own words]"])
def test_the_hub_refuses_wrong_metadata(metadata, hub, author):
    error = author(error_of, push_card, "author/card", metadata)
    assert "Invalid metadata in README.md" in error
    assert re.search(f"{metadata.split(':')[0]}.* is not valid", error)
    assert "README.md" not in hub.files("author/card")


@pytest.mark.parametrize("missing", ["name: a, ", "type: t", "type: d, ", ", name: D", "type: m, ", ", value: 0"])
def test_the_hub_refuses_results_that_lack_what_they_need(missing):
    result = "{task: {type: t}, dataset: {type: d, name: D}, metrics: [{type: m, value: 0}]}"
    card = f"---\nmodel-index: [{{name: a, results: [{result}]}}]\n---\n"
    assert card_errors(card) == []
    (error,) = card_errors(card.replace(missing, ""))
    assert "is required" in error


@pytest.mark.skipif(
    version("huggingface_hub") < "2", reason="before 2, it asks huggingface.co alone whether a card is valid"
)
def test_a_script_refuses_a_licence_that_the_hub_does_not_know_before_it_trains(author):
    author(check_script_values, license="apache-2.0")
    error = author(error_of, check_script_values, license="Apache 2")
    assert "--license 'Apache 2'" in error
