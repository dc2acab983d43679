"""The feature extractor computes what Kaldi computes, at any rate, and a stream has the features of the whole."""

import json

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor

from attention_rnn import AttentionRnnFeatureExtractor
from attention_rnn.models.feature_extraction_attention_rnn import LEAST_DEVIATION

RATE = 8000


def speech(seconds=0.4, rate=RATE, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=int(rate * seconds))).astype(np.float32)


def extractor(normalization=None, **kwargs):
    made = AttentionRnnFeatureExtractor(20, RATE, normalization=normalization, **kwargs)
    return made.fit([3 * speech(seed=9)]) if normalization in ("global", "running") else made


def of_kaldi(samples, rate, mels):
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither, options.mel_opts.num_bins = rate, 0, mels
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(rate, (samples * 32768).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])


@pytest.mark.parametrize(("rate", "mels"), [(8000, 40), (11025, 23), (16000, 80), (44100, 80), (48000, 80)])
def test_features_are_those_of_kaldi(rate, mels):
    samples = speech(rate=rate)
    features = AttentionRnnFeatureExtractor(mels, rate, normalization=None)(samples, sampling_rate=rate)
    np.testing.assert_allclose(features.input_features[0], of_kaldi(samples, rate, mels), atol=1e-3)


@pytest.mark.parametrize("normalization", ["global", "utterance", "running", None])
def test_silence_is_finite(normalization):
    features = extractor(normalization)(np.zeros(RATE, np.float32), return_tensors="pt").input_features
    assert features.isfinite().all()
    if normalization == "utterance":
        torch.testing.assert_close(features, torch.zeros_like(features), atol=1e-3, rtol=0)


@pytest.mark.parametrize("normalization", ["global", "running", None])
@pytest.mark.parametrize("size", [1, 61, 80, 1000])
def test_a_stream_has_the_features_of_the_whole(normalization, size):
    made, samples = extractor(normalization), speech()
    state, parts = made.begin_stream(), []
    for start in range(0, len(samples), size):
        part, state = made.stream(samples[start : start + size], state)
        parts.append(part)
        assert len(state.samples) < made.window_length
    expected = made(samples, return_tensors="pt").input_features[0]
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=0)


def test_an_utterance_cannot_be_normalised_before_it_has_ended():
    made = extractor("utterance")
    with pytest.raises(ValueError, match='needs the whole recording; a stream needs "global"'):
        made.stream(speech(), made.begin_stream())


def test_an_utterance_has_mean_zero_and_deviation_one():
    features = extractor("utterance")(speech(), return_tensors="pt").input_features[0]
    torch.testing.assert_close(features.mean(0), torch.zeros(20), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(20), atol=1e-3, rtol=0)


def test_fit_finds_the_mean_and_deviation_of_all_frames():
    recordings = [speech(seed=1), 2 * speech(0.3, seed=2)]
    plain = extractor()
    frames = torch.cat([plain(recording, return_tensors="pt").input_features[0] for recording in recordings])
    fitted = AttentionRnnFeatureExtractor(20, RATE, normalization="global").fit(recordings)
    torch.testing.assert_close(torch.tensor(fitted.mean), frames.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.tensor(fitted.standard_deviation), frames.std(0, correction=0), atol=1e-4, rtol=0)
    normalised = fitted(recordings[0], return_tensors="pt").input_features[0]
    raw = plain(recordings[0], return_tensors="pt").input_features[0]
    expected = (raw - frames.mean(0)) / frames.std(0, correction=0).clamp(min=LEAST_DEVIATION)
    torch.testing.assert_close(normalised, expected, atol=1e-3, rtol=0)


def test_running_normalisation_knows_the_frames_so_far():
    made = AttentionRnnFeatureExtractor(20, RATE, normalization="running")
    raw = extractor()(speech(), return_tensors="pt").input_features[0]
    features = made(speech(), return_tensors="pt").input_features[0]
    for frame in (3, 20):
        known = raw[: frame + 1]
        expected = (raw[frame] - known.mean(0)) / known.std(0, correction=0).clamp(min=LEAST_DEVIATION)
        torch.testing.assert_close(features[frame], expected, atol=1e-3, rtol=1e-3)


def test_a_batch_has_a_mask_and_the_features_of_its_rows():
    made = extractor("utterance")
    recordings = [speech(0.4), speech(0.3, seed=1)]
    batch = made(recordings, sampling_rate=RATE, return_tensors="pt")
    assert batch.attention_mask.shape == batch.input_features.shape[:2]
    for row, recording in enumerate(recordings):
        alone = made(torch.from_numpy(recording), return_tensors="pt")
        assert alone.attention_mask.all()
        real = batch.input_features[row, batch.attention_mask[row].bool()]
        torch.testing.assert_close(real, alone.input_features[0])


def test_arrays_tensors_and_lists_are_read_alike():
    made, samples = extractor(), speech()
    expected = made(samples, return_tensors="pt").input_features
    for given in (torch.from_numpy(samples), samples.tolist(), [samples], samples[None], samples.astype(np.float64)):
        torch.testing.assert_close(made(given, return_tensors="pt").input_features, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ([], "must hold a recording"),
        (np.zeros(0, np.float32), "an empty recording"),
        (np.zeros(1, np.float32), "at least a frame, 200 samples"),
        (np.array([np.nan] * 400), "NaN"),
        (np.array([np.inf] * 400), "infinite"),
        (np.zeros((1, 2, 400), np.float32), "one channel"),
        (np.zeros(400, np.int16), "divide integers"),
    ],
)
def test_what_is_no_recording_is_refused(recording, message):
    with pytest.raises(ValueError, match=message):
        extractor()(recording)


def test_another_sampling_rate_is_refused():
    with pytest.raises(ValueError, match="`sampling_rate` must be that of the extractor, 8000, got 16000"):
        extractor()(speech(), sampling_rate=16000)


@pytest.mark.parametrize(
    "values",
    [
        {"feature_size": 0},
        {"sampling_rate": 16000.0},
        {"window_ms": 0.0},
        {"hop_ms": -1.0},
        {"normalization": "batch"},
        {"mean": [0.0] * 80},
        {"mean": [0.0], "standard_deviation": [1.0]},
        {"mean": [float("nan")] * 80, "standard_deviation": [1.0] * 80},
    ],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=f"`{next(iter(values))}`"):
        AttentionRnnFeatureExtractor(**values)


def test_global_normalisation_must_have_been_fitted():
    with pytest.raises(ValueError, match="call `fit` first"):
        AttentionRnnFeatureExtractor(normalization="global")(np.zeros(16000, np.float32))


def test_what_is_saved_is_what_is_loaded(tmp_path):
    made = extractor("global", window_ms=32.0, hop_ms=16.0)
    made.save_pretrained(tmp_path)
    loaded = AttentionRnnFeatureExtractor.from_pretrained(tmp_path)
    torch.testing.assert_close(
        loaded(speech(), return_tensors="pt").input_features, made(speech(), return_tensors="pt").input_features
    )
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["window_ms"] == 32.0
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path, trust_remote_code=True)).__name__ == type(made).__name__


def test_the_name_of_the_config_is_refused():
    with pytest.raises(TypeError, match="give the extractor `feature_size`"):
        AttentionRnnFeatureExtractor(num_mel_bins=40)
