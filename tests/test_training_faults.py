"""Trainings that are killed, that run out of disk, and that meet NaN."""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from test_trainer import dataset, tokenizer
from tiny import tiny_config
from transformers import DataCollatorForSeq2Seq, TrainerCallback

from attention_rnn import AttentionRnnForConditionalGeneration, ReliableTrainer, ReliableTrainingArguments
from attention_rnn.trainer import fault_of_checkpoint
from attention_rnn.training import find_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_classification
import run_clm
import run_labelling
import run_qa
import run_seq2seq

KILLS = 30 if os.environ.get("THOROUGH") else 3

PAIRS = "source\ttarget\n" + "".join(
    f"{word}\t{word[::-1]}\n" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
TINY_RUN = """
--do_train --do_eval --config_overrides embedding_size=6,hidden_size=8,hidden_dropout=0.2 --source_tokenizer character
--max_steps 6 --per_device_train_batch_size 2 --eval_strategy steps --eval_steps 2 --save_steps 2 --num_beams 1
--max_target_length 8 --num_heat_maps 0 --use_cpu --disable_tqdm True
"""
RESUME = ("--resume_from_checkpoint", "True")


def arguments(folder, output_dir, *others):
    files = ("--train_file", folder / "pairs.tsv", "--validation_file", folder / "pairs.tsv")
    return [*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, (*files, *others))]


def assert_same_weights(folder, expected_folder):
    weights, expected = (load_file(path / "model.safetensors") for path in (folder, expected_folder))
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, expected[name]), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data, and in `whole` a run that nothing has disturbed, with all its checkpoints."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "pairs.tsv").write_text(PAIRS, encoding="utf-8")
    run_seq2seq.main(arguments(folder, folder / "whole", "--save_total_limit", 5))
    return folder


def survive(folder, kills, seed):
    """
    Train until so many trainings have been killed, every second of them while it writes a checkpoint, and the last one
    has ended by itself. Returns how many kills left a checkpoint half written.
    """
    moments = random.Random(seed)
    began = time.monotonic()
    os.waitpid(start(folder, folder / "undisturbed", "True"), 0)
    seconds = time.monotonic() - began
    killed = half_written = runs = 0
    while killed < kills:
        runs += 1
        # in turn, the best weights and the last ones
        load_best, expected = ("True", "whole") if runs % 2 else ("False", "whole/checkpoint-6")
        output_dir, status = folder / f"run{runs}", -1
        while status != 0:
            process = start(folder, output_dir, load_best)
            if killed < kills and (
                kill_while_it_writes(process, output_dir)
                if killed % 2
                else kill_at(process, moments.uniform(0, seconds))
            ):
                killed += 1
                half_written += any(fault_of_checkpoint(path) for path in output_dir.glob("checkpoint-*"))
            else:
                _, status = os.waitpid(process, 0)
                assert status == 0, (output_dir.parent / f"{output_dir.name}.log").read_text()
        assert_same_weights(output_dir, folder / expected)
    return half_written


def start(folder, output_dir, load_best):
    """The id of a process of its own that trains, from the last checkpoint if there is one."""
    process = os.fork()
    if process:
        return process
    try:
        log = os.open(f"{output_dir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        options = (*RESUME, "--overwrite_output_dir", "--load_best_model_at_end", load_best)
        run_seq2seq.main(arguments(folder, output_dir, *options))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def kill_at(process, seconds):
    """Kill a training at a moment; says whether it still ran."""
    time.sleep(seconds)
    if has_ended(process):
        return False
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def kill_while_it_writes(process, output_dir):
    """Kill a training at the first moment that finds a new checkpoint half written; says whether there was one."""
    whole = set(output_dir.glob("checkpoint-*"))
    while not has_ended(process):
        for path in set(output_dir.glob("checkpoint-*")) - whole:
            os.kill(process, signal.SIGSTOP)
            if path.exists() and fault_of_checkpoint(path):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return True
            whole.add(path)
            os.kill(process, signal.SIGCONT)
        time.sleep(0.0005)
    return False


def has_ended(process):
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_a_training_that_is_killed_ends_with_the_weights_of_one_that_is_not(folder):
    # forks are taken from a process that has imported everything and computed nothing
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        half_written = pool.submit(survive, folder, KILLS, seed=0).result()
    assert half_written >= KILLS // 2
    print(f"{KILLS} kills, of which {half_written} left a checkpoint half written")


def test_results_that_a_killed_run_left_half_written_are_written_anew(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder / "whole" / "checkpoint-6", run / "checkpoint-6")
    (run / "all_results.json").write_text('{"train_loss": 1.0')
    run_seq2seq.main(arguments(folder, run, *RESUME))
    assert {"train_loss", "eval_chrf"} <= json.loads((run / "all_results.json").read_text()).keys()


NEEDED = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.mark.parametrize("file", NEEDED)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_the_last_whole_checkpoint_is_resumed(folder, tmp_path, caplog, file, damage):
    shutil.copytree(folder / "whole", tmp_path / "run")
    path = tmp_path / "run" / "checkpoint-6" / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -3 if damage == "truncated" else 0])
    assert find_checkpoint(tmp_path / "run", "True", False) == str(tmp_path / "run" / "checkpoint-4")
    assert "checkpoint-6 has" in caplog.text
    with pytest.raises(ValueError, match=r"--resume_from_checkpoint must be .*checkpoint-6', which has"):
        find_checkpoint(tmp_path / "run", str(tmp_path / "run" / "checkpoint-6"), False)


def test_without_a_whole_checkpoint_a_run_starts_anew_only_if_it_may(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    with pytest.raises(ValueError, match="none that is whole; --overwrite_output_dir"):
        find_checkpoint(tmp_path, "True", False)
    assert find_checkpoint(tmp_path, "True", True) is None


@pytest.fixture
def full_disk(monkeypatch):
    """Lets nothing be written to a file, as on a full disk."""

    def fill(path):
        path.parent.mkdir(exist_ok=True)
        if path.suffix != ".safetensors":
            path.symlink_to("/dev/full")
            return
        save = transformers.modeling_utils.safe_save_file  # which writes to another file first

        def save_too_much(*args, **kwargs):
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            try:
                save(*args, **kwargs)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        monkeypatch.setattr(transformers.modeling_utils, "safe_save_file", save_too_much)

    return fill


on_linux = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is a full disk")


@on_linux
@pytest.mark.parametrize("file", ["modeling_attention_rnn.py", "tokenizer.json", *NEEDED[:4]])
def test_a_full_disk_leaves_the_last_checkpoint_and_is_told(folder, tmp_path, full_disk, file):
    run = tmp_path / "run"
    shutil.copytree(folder / "whole" / "checkpoint-2", run / "checkpoint-2")
    full_disk(run / "checkpoint-4" / file)
    with pytest.raises(OSError, match=r"checkpoint of step 4 could not be written .* free: .*checkpoint-2 is whole"):
        run_seq2seq.main(arguments(folder, run, *RESUME))
    assert find_checkpoint(run, "True", False) == str(run / "checkpoint-2")


@on_linux
def test_a_full_disk_at_the_end_is_told(folder, tmp_path, full_disk):
    run = tmp_path / "run"
    shutil.copytree(folder / "whole" / "checkpoint-6", run / "checkpoint-6")
    full_disk(run / "tokenizer.json")
    with pytest.raises(OSError, match=r"The model could not be written .* free: .*checkpoint-6 is whole"):
        run_seq2seq.main(arguments(folder, run, *RESUME, "--save_total_limit", 5))


@pytest.mark.parametrize("early", [(), ("--early_stopping_patience", "1", "--learning_rate", "0")], ids=str)
def test_a_training_that_has_ended_takes_no_step_more(folder, tmp_path, early):
    run, options = tmp_path / "run", (*early, "--save_total_limit", 5)
    # killed when it had written its last checkpoint
    run_seq2seq.main(arguments(folder, run, *options))
    last = max(path.name for path in run.glob("checkpoint-*"))
    shutil.copytree(run / last, tmp_path / "killed" / last)
    run_seq2seq.main(arguments(folder, tmp_path / "killed", *options, *RESUME))
    assert json.loads((tmp_path / "killed" / "trainer_state.json").read_text())["global_step"] == (4 if early else 6)
    assert [path.name for path in (tmp_path / "killed").glob("checkpoint-*")] == [last]


def test_a_language_model_resumes_in_the_middle_of_an_epoch_as_if_it_had_not_stopped(folder, tmp_path):
    (tmp_path / "text.txt").write_text("how much wood would a woodchuck chuck\n" * 9, encoding="utf-8")
    options = (
        "--do_train --config_overrides embedding_size=6,hidden_size=9 --per_device_train_batch_size 2 --max_steps 6"
    )
    options += (
        " --block_size 16 --save_strategy steps --save_steps 2 --save_total_limit 9 --use_cpu --disable_tqdm True"
    )
    options += f" --sample_length 5 --train_file {tmp_path / 'text.txt'} --output_dir"
    run_clm.main([*options.split(), str(tmp_path / "whole")])
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", tmp_path / "resumed" / "checkpoint-4")
    run_clm.main([*options.split(), str(tmp_path / "resumed"), *RESUME])
    assert_same_weights(tmp_path / "resumed", tmp_path / "whole")


@pytest.fixture
def poison(monkeypatch):
    """Multiplies the loss of one forward pass, and so its gradients."""

    def poison(number, factor):
        numbers, compute_loss = count(1), transformers.Trainer.compute_loss

        def poisoned(self, *args, **kwargs):
            result = compute_loss(self, *args, **kwargs)
            if next(numbers) != number:
                return result
            return (result[0] * factor, *result[1:]) if isinstance(result, tuple) else result * factor

        monkeypatch.setattr(transformers.Trainer, "compute_loss", poisoned)

    return poison


CLASSES = '{"text": "a fine film", "label": "good"}\n{"text": "dull and long", "label": "bad"}\n' * 4
LABELS = '{"tokens": ["in", "Rome"], "labels": ["O", "B-city"]}\n{"tokens": ["Oslo"], "labels": ["B-city"]}\n' * 4
QUESTIONS = "".join(
    f'{{"context": "Rome is old.", "qas": [{{"id": "{number}", "question": "What is old?", "answers": '
    '[{"text": "Rome", "answer_start": 0}]}]}\n'
    for number in range(6)
)
SCRIPTS = {
    run_seq2seq: (".tsv", PAIRS, "--source_tokenizer character --max_target_length 8 --num_heat_maps 0"),
    run_classification: (".jsonl", CLASSES, "--tokenizer word --num_heat_maps 0"),
    run_labelling: (".jsonl", LABELS, "--num_heat_maps 0"),
    run_qa: (".jsonl", QUESTIONS, "--tokenizer word --num_heat_maps 0"),
    run_clm: (".txt", "how much wood would a woodchuck chuck\n" * 4, "--block_size 16 --sample_length 5"),
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_script_stops_at_a_loss_of_nan_or_skips_it(tmp_path, caplog, poison, script):
    extension, data, options = SCRIPTS[script]
    (tmp_path / f"train{extension}").write_text(data, encoding="utf-8")
    options += (
        " --do_train --config_overrides embedding_size=6,hidden_size=9 --max_steps 3 --use_cpu --disable_tqdm True"
    )
    options += (
        f" --per_device_train_batch_size 2 --train_file {tmp_path / 'train'}{extension} --output_dir {tmp_path}/run"
    )
    poison(2, float("nan"))
    with pytest.raises(FloatingPointError, match="Step 2: the loss is nan"):
        script.main(options.split())
    poison(2, float("inf"))
    script.main([*options.split(), "--non_finite_loss", "skip"])
    assert "Step 2: the loss is inf: it is skipped" in caplog.text
    assert all(weight.isfinite().all() for weight in load_file(tmp_path / "run" / "model.safetensors").values())


class Weights(TrainerCallback):
    """The weights after each step."""

    def __init__(self):
        self.of_step = []

    def on_step_end(self, args, state, control, model, **kwargs):
        self.of_step.append([parameter.detach().clone() for parameter in model.parameters()])


def train(folder, **options):
    encode = tokenizer()
    transformers.set_seed(0)
    model = AttentionRnnForConditionalGeneration(tiny_config(vocab_size=len(encode)))
    weights = Weights()
    trainer = ReliableTrainer(
        model=model,
        args=ReliableTrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=2,
            max_steps=4,
            weight_decay=0.1,
            eval_strategy="no",
            save_strategy="no",
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **options,
        ),
        train_dataset=dataset(),
        data_collator=DataCollatorForSeq2Seq(encode, model=model),
        processing_class=encode,
        callbacks=[weights],
    )
    trainer.train()
    return weights.of_step


@pytest.mark.parametrize("gradient_accumulation_steps", [1, 2])
def test_a_step_that_is_skipped_leaves_the_weights_as_they_were(tmp_path, poison, gradient_accumulation_steps):
    poison(3 * gradient_accumulation_steps, float("inf"))
    options = {"gradient_accumulation_steps": gradient_accumulation_steps, "non_finite_loss": "skip"}
    _, second, third, fourth = train(tmp_path, **options)
    assert all(torch.equal(*pair) for pair in zip(second, third, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(third, fourth, strict=True))
    assert all(weight.isfinite().all() for weight in fourth)


def test_a_gradient_of_nan_with_a_finite_loss_stops_as_well(tmp_path, monkeypatch):
    training_step = transformers.Trainer.training_step

    def with_a_bad_gradient(self, model, *args, **kwargs):
        loss = training_step(self, model, *args, **kwargs)
        if self.state.global_step == 1:
            next(model.parameters()).grad[1, 1] = float("nan")
        return loss

    monkeypatch.setattr(transformers.Trainer, "training_step", with_a_bad_gradient)
    with pytest.raises(FloatingPointError, match=r"Step 2: the loss is [\d.]+, but not all gradients are finite"):
        train(tmp_path)


def test_an_unknown_way_to_treat_nan_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="--non_finite_loss must be stop or skip, got 'ignore'"):
        run_seq2seq.main(arguments(folder, tmp_path / "run", "--non_finite_loss", "ignore"))
