"""What the commands do where the packages of their extras are not installed."""

import re
import sys

import pytest
import tomllib
from command_line import refused, run

from attention_rnn import AttentionRnnConfig, cli
from attention_rnn.commands.demo import _gradio_version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import pip._vendor.tomli as tomllib


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_help_needs_no_extra(capsys, monkeypatch, name):
    for package in ("fastapi", "uvicorn", "prometheus_client", "gradio", "onnxruntime", "onnx", "soundfile"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "attention_rnn.server", raising=False)
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: attention-rnn {name}")


def test_what_a_server_lacks_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "attention_rnn.server", raising=False)
    assert "pip install 'attention-rnn[onnx,serve]'" in refused("serve", "x")


def test_the_gradio_of_a_space_is_that_of_the_extra(pytestconfig):
    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", _gradio_version(project["optional-dependencies"]["demo"]))


def test_a_space_holds_the_model_and_an_app(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    model = tmp_path / "model"
    AttentionRnnConfig(architectures=["AttentionRnnForConditionalGeneration"]).save_pretrained(model)
    (model / "model.safetensors").write_text("{}")
    for name in ("training_args.bin", "generated_predictions.jsonl", "predictions.tsv"):
        (model / name).write_text("private")
    (model / "command.json").write_text('{"arguments": ["/home/me/words.tsv"], "task": null}')
    run(capsys, "space", model, "-o", tmp_path / "space")
    names = {str(path.relative_to(tmp_path / "space")) for path in (tmp_path / "space").rglob("*")}
    assert {"app.py", "requirements.txt", "README.md", "model/config.json", "model/model.safetensors"} <= names
    compile((tmp_path / "space" / "app.py").read_text(), "app.py", "exec")
    assert re.search(r"^sdk_version: \d[\d.]*$", (tmp_path / "space" / "README.md").read_text(), re.MULTILINE)
    texts = [path.read_bytes() for path in (tmp_path / "space").rglob("*") if path.is_file()]
    assert not any(b"private" in text or b"/home/me" in text for text in texts)
    with pytest.raises(SystemExit, match="holds something already"):
        run(capsys, "space", model, "-o", tmp_path / "space")
