"""Scripts without the packages that they need: what to install, and not a bare traceback of an import."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

NEEDS = [
    ("run_seq2seq", "datasets", "train"),
    ("run_qa", "datasets", "train"),
    ("run_labelling", "datasets", "train"),
    ("run_labelling", "seqeval", "train"),
    ("run_classification", "datasets", "train"),
    ("run_classification", "sklearn.metrics", "train"),
    ("generate_file", "accelerate", "train"),
    ("run_forecasting", "attention_rnn.forecasting.data", "forecasting"),  # as where pandas lacks
    ("forecast_file", "pandas", "forecasting"),
    ("date_normalisation/make_data", "babel", "demo-dates"),
    ("search_hyperparameters", "optuna", "search"),
]


@pytest.mark.parametrize(("script", "package", "extra"), NEEDS)
def test_a_script_names_the_extra_that_it_lacks(monkeypatch, script, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "attention_rnn.classification", raising=False)  # which may have imported it
    with pytest.raises(ImportError, match=rf"needs .*pip install 'attention-rnn\[{extra}\]'"):
        runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="script")


@pytest.mark.parametrize("package", ["accelerate", "datasets"])
def test_a_training_names_the_extra_that_it_lacks(monkeypatch, package):
    import run_clm

    find_spec = importlib.util.find_spec
    found = lambda name, *others: None if name == package else find_spec(name, *others)  # noqa: E731
    monkeypatch.setattr("attention_rnn.arguments.find_spec", found)
    with pytest.raises(ImportError, match=rf"a training needs {package}: pip install 'attention-rnn\[train\]'"):
        run_clm.main(["--help"])


@pytest.mark.parametrize(
    "script",
    [
        "run_seq2seq",
        "run_qa",
        "run_labelling",
        "run_classification",
        "run_clm",
        "run_forecasting",
        "search_hyperparameters",
    ],
)
def test_help_lists_the_arguments(capsys, script):
    module = importlib.import_module(script)
    with pytest.raises(SystemExit) as exit_:
        module.main(["--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    for argument in ("--train_file", "--non_finite_loss", "--early_stopping_patience", "--config_overrides"):
        assert argument in printed
