"""Models of speech as folders of ONNX graphs: what a runner hears is what the model hears."""

import subprocess
import sys
import wave

import numpy as np
import pytest
import torch
from tiny_speech import MELS, STREAMED, tiny_classifier, tiny_ctc, tiny_seq2seq

from attention_rnn import (
    AttentionRnnFeatureExtractor,
    AttentionRnnSpeechProcessor,
    OnnxRunner,
    SpeechRunner,
    export_speech,
)
from attention_rnn.onnx.export import export_checkpoint
from attention_rnn.onnx.hearing import read_wave
from attention_rnn.onnx.site import export_site
from attention_rnn.tokenizer_training import train_tokenizer

RATE = 8000
TOKENIZER = train_tokenizer(["abcdefg"], kind="character")
VOCABULARY = len(TOKENIZER)


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def extractor(normalization):
    return AttentionRnnFeatureExtractor(MELS, RATE, normalization=normalization).fit([noise(RATE, 1)])


@pytest.mark.parametrize("normalization", ["utterance", "running", "global", None])
def test_the_frames_are_those_of_the_extractor(normalization, tmp_path):
    ours = extractor(normalization)
    export_speech(tiny_ctc(vocab_size=VOCABULARY), ours, TOKENIZER, tmp_path)
    expected = ours(noise(3000), sampling_rate=RATE)["input_features"][0]
    np.testing.assert_allclose(SpeechRunner(tmp_path).log_mel(noise(3000)), expected, atol=1e-4)


@pytest.mark.parametrize("model", [tiny_ctc, tiny_seq2seq])
def test_a_recording_has_the_tokens_and_times_of_the_ctc_head(model, tmp_path):
    network, ours = model(vocab_size=VOCABULARY, time_reduction=[1, 2]), extractor("utterance")
    export_speech(network, ours, TOKENIZER, tmp_path)
    features = ours(noise(6000), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        memory = network.model.encoder(features["input_features"], return_dict=True).last_hidden_state
        best = network.ctc_head(memory)[0].argmax(dim=-1).tolist()
    begins = [i for i, token in enumerate(best) if token not in (network.ctc_head.blank, *best[max(0, i - 1) : i])]
    heard = SpeechRunner(tmp_path)(noise(6000), sampling_rate=RATE)
    assert begins
    assert heard["tokens"] == [best[i] for i in begins]
    np.testing.assert_allclose(heard["times"], [i * network.config.inputs_to_logits_ratio / RATE for i in begins])
    assert heard["text"] == TOKENIZER.decode(heard["tokens"], skip_special_tokens=True)


@pytest.mark.parametrize(
    "fields",
    [{}, {"time_reduction": [1, 2]}, {"cell_type": "lstm"}, {"subsampling_channels": []}, {"lookahead": 3}],
    ids=str,
)
def test_a_stream_says_what_the_stream_of_the_model_says(fields, tmp_path):
    network, ours = tiny_ctc(vocab_size=VOCABULARY, **STREAMED, **fields), extractor("running")
    export_speech(network, ours, TOKENIZER, tmp_path)
    runner, samples = SpeechRunner(tmp_path), noise(7000)
    expected, heard = [], []
    of_samples, of_model, state = ours.begin_stream(), network.begin_stream(), runner.begin_stream()
    for start in range(0, len(samples), 1111):
        chunk, is_last = samples[start : start + 1111], start + 1111 >= len(samples)
        frames, of_samples = ours.stream(chunk, of_samples)
        tokens, times, of_model = network.stream_step(frames, of_model, is_last=is_last)
        expected += zip(tokens, times, strict=True)
        tokens, times, state = runner.stream_step(chunk, state, is_last)
        heard += zip(tokens, times, strict=True)
    assert [token for token, _ in heard] == [token for token, _ in expected]
    assert len(heard) > 0
    np.testing.assert_allclose([time for _, time in heard], [time for _, time in expected])
    assert "".join(runner.stream([samples[:500], samples[500:]])) == TOKENIZER.decode(
        [token for token, _ in heard], skip_special_tokens=True
    )


@pytest.mark.parametrize("length", [1999, 2500, 3111, 4000])
@pytest.mark.parametrize("fields", [{"time_reduction": [1, 3]}, {"time_reduction": [2, 2], "lookahead": 2}], ids=str)
def test_the_end_of_a_stream_is_that_of_the_whole(fields, length, tmp_path):
    export_speech(tiny_ctc(vocab_size=VOCABULARY, **STREAMED, **fields), extractor("running"), TOKENIZER, tmp_path)
    runner, heard, run = SpeechRunner(tmp_path), [], SpeechRunner(tmp_path).chunk.run
    runner.chunk.run = lambda inputs: heard.append(run(inputs)) or heard[-1]
    runner.stream_step(noise(length), runner.begin_stream(), is_last=True)
    frames = runner.log_mel(noise(length))[None]
    expected = runner.recording.run({"input_features": frames})["log_probabilities"][0]
    probabilities = heard[0]["log_probabilities"][0, runner.lookahead :]
    np.testing.assert_allclose(probabilities[: len(expected)], expected, atol=1e-4)


def test_a_command_is_classified(tmp_path):
    network, ours = tiny_classifier(), extractor("utterance")
    export_speech(network, ours, None, tmp_path)
    features = ours(noise(3000), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        expected = network(**features).logits.softmax(dim=-1)[0]
    heard = SpeechRunner(tmp_path)(noise(3000))
    assert [row["label"] for row in heard] == [
        network.config.id2label[i] for i in expected.argsort(descending=True).tolist()
    ]
    np.testing.assert_allclose([row["score"] for row in heard], expected.sort(descending=True).values, atol=1e-5)


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_scores_are_those_of_the_pipeline(problem_type, tmp_path):
    network, ours = tiny_classifier(problem_type=problem_type), extractor("utterance")
    export_speech(network, ours, None, tmp_path)
    logits = network(**ours(noise(3000), sampling_rate=RATE, return_tensors="pt")).logits[0].detach()
    expected = logits if problem_type == "regression" else logits.sigmoid()
    heard = SpeechRunner(tmp_path)(noise(3000))
    np.testing.assert_allclose([row["score"] for row in heard], expected.sort(descending=True).values, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"RIFF\x00\x00\x00\x00WAVE", b"no recording"])
def test_a_damaged_recording_is_named(content, tmp_path):
    (tmp_path / "damaged.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.wav must be a wav file"):
        read_wave(str(tmp_path / "damaged.wav"))


def test_of_a_recording_that_was_cut_off_what_is_whole_is_read(tmp_path):
    file = tmp_path / "cut.wav"
    with wave.open(str(file), "wb") as recording:
        recording.setparams((1, 2, RATE, 0, "NONE", ""))
        recording.writeframes(np.arange(100, dtype=np.int16).tobytes())
    file.write_bytes(file.read_bytes()[:-3])
    np.testing.assert_allclose(read_wave(str(file))[0] * 32768, np.arange(98))


def test_a_folder_runs_without_the_package_and_without_torch(tmp_path):
    export_speech(tiny_ctc(vocab_size=VOCABULARY), extractor("utterance"), TOKENIZER, tmp_path)
    with wave.open(str(tmp_path / "noise.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((noise(3000) * 32768).astype(np.int16).tobytes())
    code = "import runpy, sys; sys.modules['attention_rnn'] = sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, tmp_path / "run_onnx.py", tmp_path / "noise.wav"]
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    assert said.startswith('{"text": ')


def test_a_checkpoint_is_exported(tmp_path):
    network, ours = tiny_ctc(vocab_size=VOCABULARY), extractor("utterance")
    for part in (network, ours, TOKENIZER):
        part.save_pretrained(tmp_path / "model")
    export_checkpoint(str(tmp_path / "model"), tmp_path / "onnx", weights="stored-int8")
    assert set(SpeechRunner(tmp_path / "onnx")(noise(3000))) == {"text", "tokens", "times"}
    with pytest.raises(ValueError, match="must be for one of the tasks"):
        OnnxRunner([tmp_path / "onnx"])


def test_what_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must have a CTC head"):
        export_speech(tiny_seq2seq(vocab_size=VOCABULARY, ctc_weight=0.0), extractor("utterance"), TOKENIZER, tmp_path)
    with pytest.raises(ValueError, match="`extractor` must have the num_mel_bins of the model, 13, got 80"):
        export_speech(tiny_ctc(), AttentionRnnFeatureExtractor(sampling_rate=RATE), TOKENIZER, tmp_path)
    with pytest.raises(TypeError, match="`tokenizer` must be a PreTrainedTokenizerFast"):
        export_speech(tiny_ctc(), extractor("utterance"), None, tmp_path)


def test_bad_samples_are_refused(tmp_path):
    export_speech(tiny_ctc(vocab_size=VOCABULARY), extractor("utterance"), TOKENIZER, tmp_path)
    runner = SpeechRunner(tmp_path)
    for samples, message in (
        (noise(10), "must last 200 samples or more"),
        (np.zeros((2, 999), np.float32), "must be of one channel"),
        (np.zeros(999, np.int16), "must be floats"),
        (np.full(999, np.nan), "must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            runner(samples)
    with pytest.raises(ValueError, match="`sampling_rate` must be 8000, got 16000"):
        runner(noise(999), sampling_rate=16000)
    with pytest.raises(ValueError, match="cannot stream"):
        runner.begin_stream()


def test_a_page_is_not_for_models_that_hear(tmp_path):
    tiny_ctc(vocab_size=VOCABULARY).save_pretrained(tmp_path / "model")
    AttentionRnnSpeechProcessor(extractor("utterance"), TOKENIZER).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"to run in a page; got a model for automatic-speech-recognition"):
        export_site(str(tmp_path / "model"), tmp_path / "site")
