"""A checkpoint as a page in which it can be tried, without a server of its own or another's."""

import json
import shutil
import tempfile
from pathlib import Path

from . import Weights
from .card import begin_folder, refuse_checkpoint
from .decoding import CAUSAL, CLASSIFICATION, CONFIG, ENCODER, LABELLING, MODEL, SEQ2SEQ, STEP
from .export import export_checkpoint
from .page import vendor, write_page
from .runner import TARGET_TOKENIZER, TOKENIZER

TASKS = (SEQ2SEQ, CAUSAL, CLASSIFICATION, LABELLING)  # that js/runner.js knows


def export_site(name: str, folder: str | Path, weights: Weights = "stored-int8") -> Path:
    """
    Write a page in which a checkpoint can be tried: a folder for any host of static files, such as a Space.

    Args:
        name: the checkpoint, a folder or a name on the Hub.
        folder: where to write; what is there of the same names is written over.
        weights: as of [`export_onnx`].

    Raises:
        OSError, TypeError, ValueError: as of [`export_checkpoint`], or the model is none that the page can run.
        RuntimeError: npm, which brings what the page needs, is not there or fails.
    """
    folder = Path(folder)
    for place in (folder, folder / "model"):
        refuse_checkpoint(place)
    with tempfile.TemporaryDirectory() as temporary:
        exported = export_checkpoint(name, Path(temporary) / "model", weights)
        config = json.loads((exported / CONFIG).read_text(encoding="utf-8"))
        spells = config.get("max_word_length") and config["task"] != LABELLING
        if config["task"] not in TASKS or config["copy"] or spells:
            raise ValueError(
                f"{name} must generate without copying, classify or tag, and only a tagger may read the characters of "
                f"words, to run in a page; got a model for {config['task']}."
            )
        begin_folder(folder / "model")
        for file in (CONFIG, ENCODER, STEP, MODEL, TOKENIZER, TARGET_TOKENIZER):
            if (exported / file).exists():
                shutil.copyfile(exported / file, folder / "model" / file)
    write_page(folder, Path(name).name)
    vendor(folder / "vendor")
    return folder
