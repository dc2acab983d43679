"""Checkpoint averaging."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_batch, tiny_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BartConfig, BartForConditionalGeneration

from attention_rnn.averaging import average_checkpoints
from attention_rnn.tokenizer_training import train_tokenizer


def save(folder, seed=0, dtype=torch.float32, **overrides):
    """A checkpoint as the Trainer leaves it."""
    tiny_model(seed, **overrides).to(dtype).save_pretrained(folder)
    train_tokenizer(["abc"], kind="character").save_pretrained(folder)
    for name in ("optimizer.pt", "rng_state.pth", "training_args.bin", "trainer_state.json", "README.md"):
        (folder / name).write_text("{}")
    return folder


def test_the_mean_of_two_checkpoints_is_written_and_loads(tmp_path):
    folders = [save(tmp_path / f"checkpoint-{seed}", seed) for seed in range(2)]
    average_checkpoints(folders, tmp_path / "mean")
    first, second, mean = (load_file(folder / "model.safetensors") for folder in (*folders, tmp_path / "mean"))
    assert first.keys() == mean.keys()
    assert all(torch.equal(mean[name], (first[name] + second[name]) / 2) for name in mean)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "mean")
    assert torch.equal(model.lm_head.weight, mean["model.encoder.embed_tokens.weight"])
    assert model(**tiny_batch(model)).loss > 0
    assert AutoTokenizer.from_pretrained(tmp_path / "mean").get_vocab().keys() >= {"a", "b", "c"}


def test_the_state_of_training_and_the_model_card_stay_behind(tmp_path):
    folder = save(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / "test_results.json").write_text("{}")
    average_checkpoints([folder], tmp_path / "mean")
    left = {path.name for path in folder.iterdir()} - {path.name for path in (tmp_path / "mean").iterdir()}
    assert left == {
        "optimizer.pt",
        "rng_state.pth",
        "training_args.bin",
        "trainer_state.json",
        "test_results.json",
        "README.md",
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("number", [1, 3, 7])
def test_the_mean_of_equal_checkpoints_is_the_checkpoint(tmp_path, dtype, number):
    folder = save(tmp_path / "checkpoint-1", dtype=dtype)
    average_checkpoints([folder] * number, tmp_path / "mean")
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "mean" / "model.safetensors").read_bytes()


def test_sharded_checkpoints_of_any_model_are_averaged(tmp_path):
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    config = BartConfig(
        vocab_size=9, max_position_embeddings=9, encoder_attention_heads=1, decoder_attention_heads=1, **sizes
    )
    models = [BartForConditionalGeneration(config).eval() for _ in range(2)]
    models[0].save_pretrained(tmp_path / "0")
    models[1].save_pretrained(tmp_path / "1", max_shard_size=2000)
    average_checkpoints([tmp_path / "0", tmp_path / "1"], tmp_path / "mean")
    assert len(list((tmp_path / "mean").glob("model-*.safetensors"))) > 1
    mean = BartForConditionalGeneration.from_pretrained(tmp_path / "mean").state_dict()
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(mean[name], (first[name] + second[name]) / 2) for name in mean)


def edit_weights(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


NAME = "model.encoder.embed_tokens.weight"


def test_integer_tensors_are_taken_over_where_they_are_equal(tmp_path):
    folders = [save(tmp_path / str(seed), seed) for seed in range(2)]
    for folder in folders:
        edit_weights(folder, lambda weights: weights.update(steps=torch.tensor([3, 4])))
    average_checkpoints(folders, tmp_path / "mean")
    assert load_file(tmp_path / "mean" / "model.safetensors")["steps"].tolist() == [3, 4]
    edit_weights(folders[1], lambda weights: weights.update(steps=torch.tensor([3, 5])))
    with pytest.raises(ValueError, match="`steps`, a tensor of I64, has no mean"):
        average_checkpoints(folders, tmp_path / "other")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda weights: weights.pop("model.bridge.projection.bias"),
            "projection.bias` is in the weights of only one of",
        ),
        (lambda weights: weights.update(more=torch.ones(1)), "`more` is in the weights of only one of"),
        (
            lambda weights: weights.update({"model.bridge.projection.bias": torch.ones(2)}),
            r"`model\.bridge\.projection\.bias` is F32 \[30\] in .* and F32 \[2\] in",
        ),
        (
            lambda weights: weights.update({"model.bridge.projection.bias": torch.ones(30).half()}),
            r"F32 \[30\] in .* and F16 \[30\] in",
        ),
    ],
    ids=["missing", "additional", "shape", "dtype"],
)
def test_weights_that_do_not_belong_together_are_refused(tmp_path, edit, message):
    folders = [save(tmp_path / str(seed), seed) for seed in range(2)]
    edit_weights(folders[1], edit)
    with pytest.raises(ValueError, match=message):
        average_checkpoints(folders, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_configs_may_differ_in_the_version_of_transformers_alone(tmp_path):
    folders = [save(tmp_path / str(seed), seed) for seed in range(2)]
    config = json.loads((folders[1] / "config.json").read_text())
    (folders[1] / "config.json").write_text(json.dumps({**config, "transformers_version": "5.0.0"}))
    average_checkpoints(folders, tmp_path / "mean")
    (folders[1] / "config.json").write_text(json.dumps({**config, "residual": True}))
    with pytest.raises(ValueError, match=r"residual is False in .*0 and True in .*1"):
        average_checkpoints(folders, tmp_path / "other")


def test_folders_without_a_whole_model_are_refused(tmp_path):
    folder = save(tmp_path / "checkpoint-1")
    for name, message in (("config.json", r"a config\.json each"), ("model.safetensors", r"lacks model\.safetensors")):
        broken = tmp_path / name
        shutil.copytree(folder, broken)
        (broken / name).unlink()
        with pytest.raises(ValueError, match=message):
            average_checkpoints([folder, broken], tmp_path / "mean")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-9])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or damaged"):
        average_checkpoints([folder], tmp_path / "mean")


def test_arguments_that_make_no_sense_are_refused(tmp_path):
    folder = save(tmp_path / "checkpoint-1")
    with pytest.raises(ValueError, match="at least one folder"):
        average_checkpoints([], tmp_path / "mean")
    with pytest.raises(TypeError, match="a list of folders"):
        average_checkpoints(folder, tmp_path / "mean")
    with pytest.raises(ValueError, match="`output_folder` must not hold a model yet"):
        average_checkpoints([folder], folder)
