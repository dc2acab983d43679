"""Transcribing as somebody speaks: a recording as a stream, and a microphone, of which sounddevice has a stand-in."""

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from tiny import tiny_model
from tiny_speech import STREAMED, tiny_ctc

from attention_rnn import AttentionRnnFeatureExtractor, AttentionRnnSpeechProcessor, cli
from attention_rnn.tokenizer_training import train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import transcribe

RATE = 8000
needs_scripts = pytest.mark.skipif(
    importlib.util.find_spec("attention_rnn.examples") is None, reason="the package is not installed"
)


def save(folder, **overrides):
    tokenizer = train_tokenizer(["abc abc", "cab"], kind="character")
    extractor = AttentionRnnFeatureExtractor(13, RATE, normalization="running")
    tiny_ctc(vocab_size=len(tokenizer), **overrides).save_pretrained(folder)
    AttentionRnnSpeechProcessor(extractor, tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    return save(tmp_path_factory.mktemp("streamed"), **STREAMED)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    generator = np.random.default_rng(0)
    loudness = np.abs(np.sin(np.arange(2 * RATE) / 900))
    file = tmp_path_factory.mktemp("audio") / "noise.wav"
    soundfile.write(file, 0.3 * loudness * generator.standard_normal(2 * RATE), RATE)
    return str(file)


class Microphone:
    """Plays a recording, and then somebody presses Ctrl-C."""

    def __init__(self, samples, samplerate, channels, dtype, blocksize):
        assert (samplerate, channels, dtype) == (RATE, 1, "float32")
        self.samples, self.place = samples, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def read(self, frames):
        if self.place >= len(self.samples):
            raise KeyboardInterrupt
        samples = self.samples[self.place : self.place + frames]
        self.place += frames
        return samples[:, None], False


def stand_in(monkeypatch, stream):
    monkeypatch.setitem(
        sys.modules, "sounddevice", SimpleNamespace(InputStream=stream, PortAudioError=type("Fault", (Exception,), {}))
    )
    return sys.modules["sounddevice"].PortAudioError


def test_a_stream_gives_the_text_of_the_whole_and_tells_what_it_costs(streamed, recording, capsys):
    (whole,) = transcribe.main([streamed, recording, "--num_beams", "1"])
    (result,) = transcribe.main([streamed, recording, "--stream", "--timestamps", "char"])
    assert whole["text"]
    assert result["text"] == whole["text"]
    starts = [chunk["timestamp"][0] for chunk in result["chunks"]]
    assert all(before <= after for before, after in pairwise(starts))
    assert result["real_time_factor"] > 0
    assert "of its duration" in capsys.readouterr().out


def test_a_stream_is_an_object_for_jsonl(streamed, recording, capsys):
    (result,) = transcribe.main([streamed, recording, "--stream", "--jsonl"])
    assert json.loads(capsys.readouterr().out) == result


def test_a_microphone_is_heard_until_it_is_interrupted(streamed, recording, monkeypatch, capsys):
    samples = soundfile.read(recording, dtype="float32")[0]
    stand_in(monkeypatch, lambda **options: Microphone(samples, **options))
    (expected,) = transcribe.main([streamed, recording, "--stream"])
    capsys.readouterr()
    (result,) = transcribe.main([streamed, "--microphone"])
    assert result["text"] == expected["text"]
    assert expected["text"] in capsys.readouterr().out


def test_a_pause_ends_a_line(streamed, recording, monkeypatch, capsys):
    samples = soundfile.read(recording, dtype="float32")[0]
    stand_in(monkeypatch, lambda **options: Microphone(samples, **options))
    end = json.loads(Path(streamed, "config.json").read_text())["eos_token_id"]

    def step(model, frames, state, endpoint_seconds, is_last):
        return ([5, end] if len(frames) else []), ([0.0, 0.1] if len(frames) else []), state

    monkeypatch.setattr("attention_rnn.models.modeling_attention_rnn_ctc.AttentionRnnForCTC.stream_step", step)
    transcribe.main([streamed, "--microphone"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + int(np.ceil(2 / transcribe.STREAM_SECONDS))  # the first one says that it listens


def test_without_sounddevice_an_error_says_what_to_install(streamed, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError, match=r"--microphone needs sounddevice \(.*\): pip install sounddevice"):
        transcribe.main([streamed, "--microphone"])


def test_a_microphone_that_does_not_open_is_told(streamed, monkeypatch):
    def stream(**options):
        raise fault("no device")

    fault = stand_in(monkeypatch, stream)
    with pytest.raises(OSError, match=r"the microphone cannot be read at 8,000 samples per second: no device"):
        transcribe.main([streamed, "--microphone"])


def test_a_model_of_another_package_is_refused(recording):
    model = SimpleNamespace(config=SimpleNamespace(model_type="wav2vec2"))
    with pytest.raises(ValueError, match=r"a stream needs a model of attention_rnn, got one of wav2vec2"):
        transcribe.follow(SimpleNamespace(model=model), iter([]))


@needs_scripts
def test_the_command_does_what_the_script_does(streamed, recording, capsys):
    (expected,) = transcribe.main([streamed, recording])
    capsys.readouterr()
    cli.main(["transcribe", streamed, recording])
    assert capsys.readouterr().out == f"{recording}: {expected['text']}\n"


@needs_scripts
def test_files_may_follow_options(streamed, recording, capsys):
    transcribe.main([streamed, recording, "--num_beams", "1"])
    expected = capsys.readouterr().out
    transcribe.main([streamed, "--num_beams", "1", recording])
    cli.main(["transcribe", streamed, "--num_beams", "1", recording])
    assert capsys.readouterr().out == 2 * expected


@needs_scripts
def test_the_command_knows_what_a_misspelt_flag_was_to_be(streamed, recording):
    with pytest.raises(SystemExit, match="there is no --timestamp; did you mean --timestamps"):
        cli.main(["transcribe", streamed, recording, "--timestamp"])


def test_a_model_that_does_not_hear_is_refused_in_a_line(tmp_path, recording):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be opened") as error:
        transcribe.main([str(tmp_path), recording])
    what = "AttentionRnnForConditionalGeneration, which cannot be opened for automatic-speech-recognition"
    assert str(error.value) == f"{tmp_path} holds {what}"


def test_damaged_weights_are_told_in_a_line(tmp_path, recording):
    save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"holds AttentionRnnForCTC, .*The weights of .* cannot be read") as error:
        transcribe.main([str(tmp_path), recording])
    assert "\n" not in str(error.value)


def test_a_recording_that_is_not_there_is_told_before_a_model_is_opened():
    with pytest.raises(FileNotFoundError, match=r"^there is no recording missing\.wav$"):
        transcribe.main(["no_model", "missing.wav"])


def test_a_model_that_reads_backwards_is_refused(tmp_path, recording):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"`bidirectional` must be False to stream"):
        transcribe.main([save(tmp_path / "model"), recording, "--stream"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name recordings, or give --microphone"),
        (["a.wav", "--microphone"], "name recordings, or give --microphone"),
        (["--microphone", "--jsonl"], "--jsonl and --timestamps are for recordings"),
        (["a.wav", "--num_beams", "0"], "must be at least 1"),
    ],
)
def test_arguments_are_checked(arguments, message, capsys):
    with pytest.raises(SystemExit):
        transcribe.main(["model", *arguments])
    assert message in capsys.readouterr().err
