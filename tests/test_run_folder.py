"""What a script does to the folder of an earlier run."""

import shutil

import pytest
from tiny import tiny_config

from attention_rnn import AttentionRnnForConditionalGeneration
from attention_rnn.tokenizer_training import train_tokenizer

run_seq2seq = pytest.importorskip("attention_rnn.examples.run_seq2seq", reason="the package is not installed")


@pytest.fixture
def earlier(tmp_path):
    tokenizer = train_tokenizer(["great bad so"], kind="word")
    model = AttentionRnnForConditionalGeneration(tiny_config(vocab_size=len(tokenizer)))
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-2"):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (tmp_path / "pairs.tsv").write_text("source\ttarget\ngreat\tbad\n")
    return tmp_path / "run"


def main(folder, *arguments):
    files = [f"--{split}_file={folder.parent / 'pairs.tsv'}" for split in ("train", "validation")]
    options = ["--output_dir", folder, "--overwrite_output_dir", "--num_heat_maps", 0, "--use_cpu"]
    run_seq2seq.main([*files, *map(str, [*options, *arguments])])


@pytest.mark.parametrize("place", ["", "checkpoint-2"])
@pytest.mark.parametrize("argument", ["--model_name_or_path", "--tokenizer_name", "--teacher_models"])
def test_what_a_run_begins_with_is_not_deleted(earlier, argument, place):
    with pytest.raises(ValueError, match=f"{argument} .* lies in {earlier}.*: --output_dir must name another folder"):
        main(earlier, "--do_train", argument, earlier / place)
    assert (earlier / place / "model.safetensors").exists()


def test_a_model_is_scored_in_its_own_folder(earlier):
    shutil.rmtree(earlier / "checkpoint-2")
    main(earlier, "--do_eval", "--model_name_or_path", earlier)
    assert (earlier / "model.safetensors").exists()
    assert (earlier / "eval_results.json").exists()


def test_what_fails_before_it_trains_deletes_nothing(earlier):
    (earlier.parent / "pairs.tsv").write_text("source\ttarget\ngreat\tb∅d\n")
    with pytest.raises(ValueError, match="a target must not hold ∅"):
        main(earlier, "--do_train", "--target_tokenizer", "chunk")
    assert (earlier / "model.safetensors").exists()
