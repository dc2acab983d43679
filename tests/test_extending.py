"""A cell and a score function of a user's own, each in a file, by the recipes of the documentation."""

import importlib
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from test_remote_code import run_without_the_package
from tiny import tiny_batch, tiny_config, tiny_model
from transformers import Trainer, TrainingArguments

import attention_rnn
from attention_rnn import AttentionRnnConfig, AttentionRnnForCausalLM, AttentionRnnForConditionalGeneration
from attention_rnn.models.attention import ATTENTIONS, GeneralAttention
from attention_rnn.models.cells import CELLS, Cell, register_cell

TEXT = (Path(attention_rnn.__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
# a file may have neighbours
GATES = "import torch\n\n\ndef gate(products):\n    return torch.sigmoid(products)\n"
FILES["minimal_gated_unit.py"] = (
    FILES["minimal_gated_unit.py"]
    .replace("import Cell, register_cell\n", "import Cell, register_cell\n\nfrom .gates import gate\n")
    .replace("torch.sigmoid(", "gate(")
)


@pytest.fixture(scope="module")
def extensions(tmp_path_factory):
    """A package of a user's own with these files, imported."""
    folder = tmp_path_factory.mktemp("project") / "my_project"
    folder.mkdir()
    for name, text in {"__init__.py": "", "gates.py": GATES, **FILES}.items():
        (folder / name).write_text(text)
    sys.path.insert(0, str(folder.parent))
    for name in ("minimal_gated_unit", "bounded_score"):
        importlib.import_module(f"my_project.{name}")
    yield folder
    sys.path.remove(str(folder.parent))


def make(feeding="parallel", seed=0):
    torch.manual_seed(seed)
    config = tiny_config(cell_type="minimal_gated", attention_type="bounded", context_feeding=feeding)
    model = AttentionRnnForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def test_the_recipe_is_complete(tmp_path):
    """Each block of the page as it stands, in a process of its own."""
    (folder := tmp_path / "work").mkdir()
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks[:2]:
        (folder / block.split()[1]).write_text(block)
    code = blocks[2].replace("AttentionRnnConfig(", "AttentionRnnConfig(hidden_size=6, vocab_size=9, ")
    code += (
        "print(model(input_ids=model.dummy_inputs['input_ids'] % 9, labels=model.dummy_inputs['input_ids'] % 9).loss)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


@pytest.mark.parametrize("feeding", ["parallel", "input", "conditional", "output"])
def test_they_train_and_generate_by_the_fast_loop(extensions, feeding, monkeypatch):
    model = make(feeding)
    batch = tiny_batch(model)
    model(**batch).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    assert model._steps_as_written()
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "max_new_tokens": 8}
    for options in ({}, {"num_beams": 3}):
        fast = model.generate(**inputs, **options)
        with monkeypatch.context() as patch:
            patch.setattr(type(model), "_covers", lambda *args: False)
            assert torch.equal(fast, model.generate(**inputs, **options))


def test_they_travel_with_a_checkpoint(extensions, tmp_path):
    model = make()
    model.save_pretrained(tmp_path / "checkpoint")
    batch = tiny_batch(model)
    torch.save({"batch": batch, "logits": model(**batch).logits.detach()}, tmp_path / "case.pt")
    code = """
        from transformers import AutoModelForSeq2SeqLM

        case = torch.load(f"{work}/case.pt")
        for path in (folder, f"{work}/again"):
            model = AutoModelForSeq2SeqLM.from_pretrained(path, trust_remote_code=True).eval()
            torch.testing.assert_close(model(**case["batch"]).logits, case["logits"])
            model.save_pretrained(f"{work}/again")
    """
    run_without_the_package(code, tmp_path / "checkpoint", tmp_path)
    loaded = AttentionRnnForConditionalGeneration.from_pretrained(tmp_path / "again").eval()
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)


OPEN_ELSEWHERE = """
import sys
from transformers import AutoModelForSeq2SeqLM

folder, how = sys.argv[1:]
if how == "trusted":
    AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    sys.exit("attention_rnn" in sys.modules)
import attention_rnn
if how == "imported":
    sys.path.insert(0, folder + "/..")
    import my_project.minimal_gated_unit, my_project.bounded_score
AutoModelForSeq2SeqLM.from_pretrained(folder)
"""


def test_they_open_as_the_documentation_says_where_the_package_is_installed(extensions, tmp_path):
    make().save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "my_project").symlink_to(extensions)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    errors = {}
    for how in ("trusted", "imported", "forgotten"):
        command = [sys.executable, "-c", OPEN_ELSEWHERE, tmp_path / "checkpoint", how]
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
        if run.returncode:
            errors[how] = run.stderr
    assert list(errors) == ["forgotten"], errors
    *_, message = errors["forgotten"].splitlines()
    assert message.startswith("ValueError: `cell_type` must be one of ['gru', ")
    for way in ("import the file that registers it", "`attention_rnn_extension_<name>.py`", "`trust_remote_code=True`"):
        assert way in message
    assert (tmp_path / "checkpoint" / "attention_rnn_extension_minimal_gated_unit.py").is_file()


class SalienceAttention(GeneralAttention):
    """A position can be worth looking at by itself."""

    def __init__(self, config):
        super().__init__(config)
        self.salience = torch.nn.Linear(config.memory_size, 1)

    def score(self, query, memory, alignment):
        return super().score(query, memory, alignment) + self.salience(memory.values).transpose(1, 2)[:, None]


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_a_score_may_read_the_values(options, monkeypatch):
    monkeypatch.setitem(ATTENTIONS, "general", SalienceAttention)
    model = tiny_model(attention_type="general")
    batch = tiny_batch(model)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "max_new_tokens": 8}
    fast = model.generate(**inputs, **options)
    monkeypatch.setattr(type(model), "_covers", lambda *args: False)
    assert torch.equal(fast, model.generate(**inputs, **options))


def test_the_users_own_file_is_not_written_over(extensions, tmp_path, monkeypatch):
    model = make()
    before = {file: file.read_text() for file in extensions.glob("*.py")}
    model.save_pretrained(extensions)
    assert {file: file.read_text() for file in before} == before


def test_a_checkpoint_of_another_model_does_not_carry_them(extensions, tmp_path):
    AttentionRnnForCausalLM(tiny_config()).save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*minimal_gated*"))


CELL = """
import torch
{imports}
from attention_rnn.models.cells import Cell, register_cell


@register_cell("{name}")
class {name}(Cell):
    gates = 1

    def forward(self, input_products, state, recurrent_mask=None):
        return torch.tanh(input_products + self.hidden_products(state, recurrent_mask))
"""


def import_cell(root, monkeypatch, file, imports=""):
    """A cell of a user's own in a file of a package, both named after the folder of the test."""
    name = "Cell" + root.name.replace("-", "_")
    folder = root / f"package_{name}"
    for path, text in {
        "__init__.py": "",
        "dropout.py": "x = 1\n",
        "part/__init__.py": "x = 1\n",
        "part/half.py": "x = 1\n",
        file: CELL.format(name=name, imports=imports),
    }.items():
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_text(text)
    monkeypatch.syspath_prepend(root)
    importlib.import_module(f"{folder.name}.{file.removesuffix('.py').replace('/', '.')}")
    return AttentionRnnForCausalLM(AttentionRnnConfig(vocab_size=9, hidden_size=4, cell_type=name))


@pytest.mark.parametrize(
    ("file", "imports"),
    [("cells.py", ""), ("configuration_attention_rnn.py", ""), ("own.py", "from .dropout import x")],
)
def test_names_of_a_users_files_may_be_those_of_ours(file, imports, tmp_path, monkeypatch):
    model = import_cell(tmp_path, monkeypatch, file, imports)
    model.save_pretrained(tmp_path / "checkpoint")
    code = """
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        assert type(model.model.layers[0].cell).__name__ == model.config.cell_type
    """
    run_without_the_package(code, tmp_path / "checkpoint", tmp_path)


@pytest.mark.parametrize(
    ("file", "imports"),
    [
        ("own.py", "from . import dropout"),
        ("own.py", "from .part import x"),
        ("own.py", "from .part.half import x"),
        ("part/own.py", "from ..dropout import x"),
    ],
)
def test_a_relative_import_that_cannot_travel_is_named(file, imports, tmp_path, monkeypatch):
    model = import_cell(tmp_path, monkeypatch, file, imports)
    with pytest.raises(ValueError, match=f"own.py must import files beside it .* got `{imports}"):
        model.save_pretrained(tmp_path / "checkpoint")


def test_a_class_of_a_module_that_is_not_imported_as_such(tmp_path):
    """`importlib.util.spec_from_file_location`, as tools load a file that is given by its path."""
    scope = {"__name__": "loaded_by_its_path"}
    exec(CELL.format(name="ByPath", imports=""), scope)
    with pytest.raises(ValueError, match="ByPath must be in a file, which travels with the checkpoint"):
        AttentionRnnForCausalLM(tiny_config(cell_type="ByPath")).save_pretrained(tmp_path)
    subclass = type("Subclass", (AttentionRnnForCausalLM,), {"__module__": "loaded_by_its_path"})
    subclass(tiny_config()).save_pretrained(tmp_path)
    assert (tmp_path / "modeling_attention_rnn_causal.py").exists()


def test_a_file_that_imports_what_does_not_travel_is_named(tmp_path, monkeypatch):
    text = FILES["minimal_gated_unit.py"].replace("from .gates import gate", "gate = torch.sigmoid")
    text = text.replace("minimal_gated", "impossible").replace(
        "import torch\n", "import torch\nfrom attention_rnn.metrics import load_metric\n", 1
    )
    (tmp_path / "impossible_cell.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("impossible_cell")
    model = AttentionRnnForCausalLM(AttentionRnnConfig(vocab_size=9, hidden_size=4, cell_type="impossible"))
    with pytest.raises(ValueError, match=r"impossible_cell.py must import .*got `from attention_rnn.metrics import"):
        model.save_pretrained(tmp_path / "checkpoint")


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match=r"`name` must be new, but 'gru' is .*GRUCell already"):
        register_cell("gru")(type("Other", (Cell,), {}))
    with pytest.raises(TypeError, match="must decorate a subclass of Cell"):
        register_cell("other")(torch.nn.GRUCell)
    assert "other" not in CELLS


@pytest.fixture(scope="module")
def rating():
    module = types.ModuleType("rating")
    exec(compile(FILES["rating.py"], "rating.py", "exec"), module.__dict__)
    return module


def test_a_head_trains_by_any_trainer_and_opens_what_it_saves(rating, tmp_path):
    model = rating.AttentionRnnForRating(tiny_config(is_encoder_decoder=False))
    rows = [{"input_ids": [5, 6, 7], "labels": 1.0}, {"input_ids": [5, 6, 8], "labels": 2.0}] * 4
    arguments = TrainingArguments(
        tmp_path,
        max_steps=30,
        learning_rate=0.05,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 10
    model.save_pretrained(tmp_path)
    read = rating.AttentionRnnForRating.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(read.eval()(ids).logits, model.eval()(ids).logits)


def test_accumulated_batches_of_a_head_make_the_loss_of_one(rating):
    model = rating.AttentionRnnForRating(tiny_config(is_encoder_decoder=False)).eval()
    ids, labels = torch.tensor([[5, 6, 7], [5, 6, 8], [9, 6, 8]]), torch.tensor([1.0, 2.0, 0.5])
    whole = model(ids, labels=labels).loss
    parts = sum(model(ids[rows], labels=labels[rows], num_items_in_batch=3).loss for rows in ([0], [1, 2]))
    torch.testing.assert_close(parts, whole)
