"""A checkpoint carries its code: it loads where this package cannot be imported."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
import transformers
from tiny import tiny_batch, tiny_config, tiny_model
from tiny_speech import tiny_classifier, tiny_ctc, tiny_seq2seq, tiny_speech

from attention_rnn import (
    AttentionRnnFeatureExtractor,
    AttentionRnnForConditionalGeneration,
    AttentionRnnSpeechProcessor,
)
from attention_rnn.models.configuration_attention_rnn import AUTO_MAP
from attention_rnn.tokenizer_training import train_tokenizer


def run_without_the_package(code, folder, tmp_path):
    """Run `code` where attention_rnn cannot be imported; `folder` is the checkpoint, `work` a scratch folder."""
    prelude = f"""
        import sys
        sys.modules["attention_rnn"] = None  # its import now raises
        import torch
        folder, work = {str(folder)!r}, {str(tmp_path)!r}
    """
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        check=True,
        env=environment,
        cwd=tmp_path,
    )


@pytest.mark.parametrize("context_feeding", ["parallel", "input"])
def test_a_checkpoint_loads_generates_and_is_saved_again_without_the_package(context_feeding, tmp_path):
    model = tiny_model(context_feeding=context_feeding)
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    batch = tiny_batch(model)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected = {
        "logits": model(**batch).logits.detach(),
        "greedy": model.generate(**inputs, max_new_tokens=9),
        "beam": model.generate(**inputs, max_new_tokens=9, num_beams=4),
    }
    torch.save({"batch": batch, "inputs": inputs, "expected": expected}, tmp_path / "case.pt")
    code = """
        from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

        case = torch.load(f"{work}/case.pt")
        for path in (folder, f"{work}/again"):
            model = AutoModelForSeq2SeqLM.from_pretrained(path, trust_remote_code=True).eval()
            assert type(model).__module__.startswith("transformers_modules."), type(model)
            torch.testing.assert_close(model(**case["batch"]).logits, case["expected"]["logits"])
            assert torch.equal(model.generate(**case["inputs"], max_new_tokens=9), case["expected"]["greedy"])
            beam = model.generate(**case["inputs"], max_new_tokens=9, num_beams=4)
            assert torch.equal(beam, case["expected"]["beam"])
            model.save_pretrained(f"{work}/again")
        assert AutoConfig.from_pretrained(folder, trust_remote_code=True).hidden_size == 10
        AutoModel.from_pretrained(folder, trust_remote_code=True)
    """
    run_without_the_package(code, folder, tmp_path)
    again = AttentionRnnForConditionalGeneration.from_pretrained(tmp_path / "again").eval()
    torch.testing.assert_close(again(**batch).logits, expected["logits"])


def test_code_does_not_run_untrusted(tmp_path):
    folder = tmp_path / "checkpoint"
    tiny_model().save_pretrained(folder)
    code = """
        from transformers import AutoModelForSeq2SeqLM

        try:
            AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=False)
        except ValueError as error:
            assert "attention_rnn" in str(error) or "trust_remote_code" in str(error), error
        else:
            raise SystemExit("loaded code without trust")
    """
    run_without_the_package(code, folder, tmp_path)


OF_GENERATION = {"attention_rnn_beams.py", "attention_rnn_decoder_step.py", "attention_rnn_generation.py"}


@pytest.mark.parametrize(
    ("head", "generates"),
    [("Seq2SeqLM", True), ("CausalLM", False), ("SequenceClassification", False), ("TokenClassification", False)],
)
def test_a_checkpoint_carries_what_its_class_needs_and_no_more(head, generates, tmp_path):
    auto_class = f"AutoModelFor{head}"
    getattr(transformers, auto_class).from_config(tiny_config()).save_pretrained(tmp_path)
    files = {file.name for file in tmp_path.glob("*.py")}
    assert files >= OF_GENERATION if generates else not OF_GENERATION & files
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert {"AutoConfig", auto_class} <= auto_map.keys() <= {"AutoConfig", "AutoModel", auto_class}
    for name, reference in auto_map.items():
        assert reference == AUTO_MAP[name]
        assert f"{reference.split('.')[0]}.py" in files


def test_the_names_of_what_is_carried_cannot_be_those_of_a_users_own_files(tmp_path):
    own = {"losses.py", "cells.py", "base.py", "my_training.py"}
    for name in own:
        (tmp_path / name).write_text("# mine")
    tiny_model().save_pretrained(tmp_path)
    assert all((tmp_path / name).read_text() == "# mine" for name in own)
    assert all("attention_rnn" in file.name for file in tmp_path.glob("*.py") if file.name not in own)


@pytest.mark.parametrize("head", ["CausalLM", "SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_every_head_loads_without_the_package(head, tmp_path):
    model = getattr(transformers, f"AutoModelFor{head}").from_config(tiny_config()).eval()
    model.save_pretrained(tmp_path / "checkpoint")
    ids = torch.tensor([[5, 6, 2, 7, 8], [6, 5, 2, 9, 8]])
    torch.save({"ids": ids, "logits": model(ids)[0].detach()}, tmp_path / "case.pt")
    code = f"""
        from transformers import AutoModelFor{head}

        case = torch.load(f"{{work}}/case.pt")
        model = AutoModelFor{head}.from_pretrained(folder, trust_remote_code=True).eval()
        torch.testing.assert_close(model(case["ids"])[0], case["logits"])
    """
    run_without_the_package(code, tmp_path / "checkpoint", tmp_path)


def test_local_and_carried_code_live_side_by_side(tmp_path):
    folder = tmp_path / "checkpoint"
    local = tiny_model()
    local.save_pretrained(folder)
    batch = tiny_batch(local)
    code = f"""
        import sys
        from transformers.dynamic_module_utils import get_class_from_dynamic_module
        import attention_rnn
        from transformers import AutoModelForSeq2SeqLM

        folder = {str(folder)!r}
        local = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        reference = "modeling_attention_rnn_seq2seq.AttentionRnnForConditionalGeneration"
        carried = get_class_from_dynamic_module(reference, folder).from_pretrained(folder).eval()
        assert type(local) is not type(carried)
        import torch
        inputs = {{"inputs": torch.tensor({batch["input_ids"].tolist()}), "max_new_tokens": 9, "num_beams": 3}}
        assert torch.equal(local.generate(**inputs), carried.generate(**inputs))
        assert torch.equal(local.generate(**inputs), carried.generate(**inputs))
    """
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment, cwd=tmp_path)


def test_speech_loads_without_the_package(tmp_path):
    folder = tmp_path / "checkpoint"
    model, speech = tiny_seq2seq(), tiny_speech()
    model.save_pretrained(folder)
    tokenizer = train_tokenizer(["one two"], kind="character")
    processor = AttentionRnnSpeechProcessor(AttentionRnnFeatureExtractor(13, 8000), tokenizer)
    processor.save_pretrained(folder)
    audio = 0.1 * torch.randn(4000)
    case = {
        "speech": speech,
        "audio": audio,
        "features": processor(audio=audio, sampling_rate=8000, return_tensors="pt")["input_features"],
        "beam": model.generate(**speech, num_beams=3),
        "ids": processor.tokenizer("one").input_ids,
    }
    torch.save(case, tmp_path / "case.pt")
    code = """
        from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

        case = torch.load(f"{work}/case.pt")
        for path in (folder, f"{work}/again"):
            model = AutoModelForSpeechSeq2Seq.from_pretrained(path, trust_remote_code=True).eval()
            processor = AutoProcessor.from_pretrained(path, trust_remote_code=True)
            for made in (model, processor, processor.feature_extractor):
                assert type(made).__module__.startswith("transformers_modules."), type(made)
            assert torch.equal(model.generate(**case["speech"], num_beams=3), case["beam"])
            inputs = processor(audio=case["audio"], sampling_rate=8000, return_tensors="pt")
            torch.testing.assert_close(inputs["input_features"], case["features"])
            assert processor.tokenizer("one").input_ids == case["ids"]
            model.save_pretrained(f"{work}/again")
            processor.save_pretrained(f"{work}/again")
    """
    run_without_the_package(code, folder, tmp_path)


@pytest.mark.parametrize(("make", "head"), [(tiny_ctc, "CTC"), (tiny_classifier, "AudioClassification")])
def test_every_head_of_speech_loads_without_the_package(make, head, tmp_path):
    model, speech = make(), tiny_speech()
    model.save_pretrained(tmp_path / "checkpoint")
    torch.save({"speech": speech, "logits": model(**speech).logits.detach()}, tmp_path / "case.pt")
    code = f"""
        from transformers import AutoModelFor{head}

        case = torch.load(f"{{work}}/case.pt")
        model = AutoModelFor{head}.from_pretrained(folder, trust_remote_code=True).eval()
        torch.testing.assert_close(model(**case["speech"]).logits, case["logits"])
    """
    run_without_the_package(code, tmp_path / "checkpoint", tmp_path)
