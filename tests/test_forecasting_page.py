"""Every command and every block of Python of `docs/forecasting.md`, one after the other in one folder."""

import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from attention_rnn import cli

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import forecast_file
import run_forecasting

TEXT = (Path(__file__).parents[1] / "docs" / "forecasting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SCRIPTS = {"run_forecasting.py": run_forecasting, "forecast_file.py": forecast_file}
TINY = """
--config_overrides hidden_size=8 --max_steps 3 --use_cpu --disable_tqdm True --num_pictures 0
"""


@pytest.mark.skipif(find_spec("attention_rnn.examples") is None, reason="the package is not installed")
def test_the_page_is_true(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    days = pd.date_range("2024-01-01", periods=120)
    frames = [
        pd.DataFrame({"item_id": name, "timestamp": days, "target": np.arange(120) % 7 + level})
        for name, level in (("bern", 10.0), ("genf", 20.0))
    ]
    pd.concat(frames).to_csv("sales.csv", index=False)
    pd.concat(frames).to_csv("newer.csv", index=False)
    assert [kind for kind, _ in BLOCKS] == ["bash", "bash", "python", "bash", "python", "bash", *["python"] * 4]
    blocks = {}
    for kind, block in BLOCKS:
        if kind == "bash":
            words = shlex.split(block.replace("\\\n", " "))
            if words[0] == "attention-rnn":
                cli.main([*words[1:], *([] if "--model" in words else TINY.split())])
                shutil.rmtree("runs") if "--model" not in words else Path("forecast.csv").unlink()
                continue
            script = next(word for word in words if word.endswith(".py"))
            tiny = TINY.split() if script.endswith("run_forecasting.py") else []
            SCRIPTS[Path(script).name].main([*words[words.index(script) + 1 :], *tiny])
        else:
            names = {}
            exec(block, names)
            blocks |= dict.fromkeys({"Windows", "fit_readout"} & names.keys(), names)
    assert pd.read_csv("forecast.csv").columns.tolist() == ["item_id", "timestamp", "target", "0.1", "0.5", "0.9"]
    assert blocks["Windows"]["batch"]["past_values"].shape == (2, blocks["Windows"]["settings"].context_length)
    assert "3" in capsys.readouterr().out.splitlines()  # where the value is that was made unlikely
    wave, model = (blocks["fit_readout"][name] for name in ("wave", "model"))
    path = model.generate(wave[:, :900], prediction_length=50).sequences[:, 0]
    torch.testing.assert_close(path, wave[:, 900:950], atol=0.1, rtol=0)
    assert len(pd.read_csv("runs/sales/scores_by_series.csv")) == 2


def test_nothing_beats_the_last_value_on_a_random_walk(capsys):
    names = {}
    exec(next(block for kind, block in BLOCKS if "repeat_last" in block), names)
    last, mean = names["errors"].values()
    assert last < 0.7 * mean
    assert last == pytest.approx(np.mean(np.sqrt(2 / np.pi * np.arange(1, 11))), rel=0.05)
