"""The pipelines of audio with our models and with those of transformers, on synthetic recordings."""

import io

import numpy as np
import pytest
import soundfile
import torch
from tiny_speech import MELS, tiny_classifier, tiny_ctc, tiny_seq2seq
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification, pipeline

from attention_rnn import AttentionRnnFeatureExtractor, AttentionRnnSpeechProcessor
from attention_rnn.pipelines_speech import (
    AudioClassificationPipeline,
    AutomaticSpeechRecognitionPipeline,
    Chunk,
    join_chunks,
)
from attention_rnn.speech.word_times import loudness, widen
from attention_rnn.tokenizer_training import train_tokenizer

RATE = 8000


def tone(seconds=0.6, rate=RATE, frequency=440.0):
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def extractor(rate=RATE):
    return AttentionRnnFeatureExtractor(MELS, rate)


def processor():
    return AttentionRnnSpeechProcessor(extractor(), train_tokenizer(["abc def"], "character", 64))


@pytest.fixture(scope="module", params=["seq2seq", "ctc"])
def saved(request, tmp_path_factory):
    """The folder of a model that hears nothing but noise, with its processor."""
    folder = tmp_path_factory.mktemp(request.param)
    ours = processor()
    make = {"seq2seq": tiny_seq2seq, "ctc": tiny_ctc}[request.param]
    make(vocab_size=len(ours.tokenizer)).save_pretrained(folder)
    ours.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def transcribe(saved):
    return pipeline("automatic-speech-recognition", str(saved))


@pytest.fixture(scope="module")
def classify():
    return pipeline("audio-classification", model=tiny_classifier(), feature_extractor=extractor())


def wav(samples, rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", **options)
    return file.getvalue()


def test_a_saved_model_is_decoded_as_it_decodes_itself(transcribe):
    assert type(transcribe) is AutomaticSpeechRecognitionPipeline
    inputs = extractor()(tone(), sampling_rate=RATE, return_tensors="pt")
    tokens = transcribe.model.generate(**inputs)
    assert transcribe(tone())["text"] == transcribe.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()


def test_a_recording_may_come_in_any_form(transcribe, tmp_path):
    file = tmp_path / "tone.flac"
    soundfile.write(file, tone(), RATE, subtype="PCM_24")
    expected = transcribe(soundfile.read(file, dtype="float32")[0])
    assert expected["text"]
    others = [str(file), file.read_bytes(), {"array": soundfile.read(file)[0], "sampling_rate": RATE}]
    others += [{"bytes": None, "path": str(file)}, torch.from_numpy(soundfile.read(file, dtype="float32")[0])]
    others += [np.stack([soundfile.read(file)[0]] * 2)]  # two channels
    for form in others:
        assert transcribe(form) == expected


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 48_000])
def test_another_sampling_rate_is_resampled(classify, rate):
    expected = {row["label"]: row["score"] for row in classify(tone(), top_k=None)}
    for row in classify({"raw": tone(rate=rate), "sampling_rate": rate}, top_k=None):
        assert row["score"] == pytest.approx(expected[row["label"]], abs=0.05)
    assert type(classify) is AudioClassificationPipeline


def heard_by_the_model(transcribe, samples):
    """The tokens of a recording, and when the model has heard them."""
    inputs = extractor()(samples, sampling_rate=RATE, return_tensors="pt")
    tokens = transcribe.model.generate(**inputs)
    times = transcribe.model.token_times(tokens, **inputs)
    return tokens[0].tolist(), {name: of_tokens[0].tolist() for name, of_tokens in times.items()}


def assert_same_units(chunks, units):
    assert [chunk["text"] for chunk in chunks] == [unit["text"] for unit in units]
    for chunk, unit in zip(chunks, units, strict=True):
        assert chunk["timestamp"] == pytest.approx((unit["start"], unit["end"]), abs=1e-3)
        assert chunk["confidence"] == pytest.approx(unit["confidence"], abs=1e-4)


def test_times_of_characters_are_those_of_the_model(transcribe):
    found = transcribe(tone(), return_timestamps="char")
    assert_same_units(found["chunks"], processor().characters(*heard_by_the_model(transcribe, tone())))


def test_words_reach_as_far_as_their_sound(transcribe):
    silence = np.zeros(RATE // 5, np.float32)
    samples = np.concatenate([silence, tone(), silence])
    found = transcribe(samples, return_timestamps="word")
    words = processor().words(*heard_by_the_model(transcribe, samples))
    assert_same_units(found["chunks"], widen(words, loudness(samples, RATE)))


def test_a_batch_gives_what_its_recordings_give_alone(transcribe):
    recordings = [tone(0.3), tone(0.7, frequency=900), tone(0.5)]
    alone = [transcribe(recording, return_timestamps="word") for recording in recordings]
    assert transcribe(recordings, batch_size=3, return_timestamps="word") == alone


def test_times_are_told_of_the_best_of_several_beams(saved):
    transcribe = pipeline("automatic-speech-recognition", str(saved), num_beams=3)
    found = transcribe([tone(), tone(0.4)], return_timestamps="word", batch_size=2)
    assert [" ".join(chunk["text"] for chunk in each["chunks"]) for each in found] == [each["text"] for each in found]


def test_chunks_cover_a_long_recording(transcribe):
    recording = np.concatenate([tone(frequency=frequency) for frequency in (300, 500, 700, 900)])
    starts = [
        (inputs["start"], inputs["end"], inputs["is_last"]) for inputs in transcribe.preprocess(recording, 1.2, 0.2)
    ]
    assert starts == [(0.0, 1.2, False), (0.8, 2.0, False), (1.6, 2.4, True)]
    found = transcribe(recording, chunk_length_s=1.2, stride_length_s=0.2, return_timestamps="word")
    assert found["text"] == " ".join(chunk["text"] for chunk in found["chunks"])


def units(*spans):
    return [{"text": text, "start": start, "end": end, "confidence": 1.0} for text, start, end in spans]


def test_a_word_that_two_chunks_hear_stands_once():
    first = Chunk(0, 10, units(("a", 1, 2), ("b", 5, 6), ("c", 6.9, 8.9), ("cut", 9.5, 10)))
    # the second chunk hears c a little earlier, and what it begins with not at all
    second = Chunk(4, 14, units(("wrong", 4, 4.2), ("b", 5.1, 6.1), ("c", 6.8, 8.8), ("d", 9.4, 10.4)))
    assert [unit["text"] for unit in join_chunks([first, second])] == ["a", "b", "c", "d"]


def test_words_of_two_chunks_do_not_overlap():
    first, second = Chunk(0, 10, units(("a", 5, 8.6))), Chunk(4, 14, units(("b", 6.5, 9)))
    assert [(unit["start"], unit["end"]) for unit in join_chunks([first, second])] == [(5, 7.0), (7.0, 9)]


def test_a_last_piece_below_a_frame_is_left_out(transcribe):
    recording = np.tile(tone(), 5)[: 2 * RATE + 1]
    assert transcribe(recording, chunk_length_s=1, stride_length_s=0)["text"]


def test_chunks_without_a_word_say_nothing():
    assert join_chunks([Chunk(0, 10, []), Chunk(8, 18, units(("a", 12, 13))), Chunk(16, 20, [])]) == units(
        ("a", 12, 13)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_timestamps": "sentence"}, "`return_timestamps` must be one of .*'sentence'"),
        ({"chunk_length_s": 3, "stride_length_s": 2}, "`stride_length_s` must be from 0 to 1"),
        ({"num_return_sequences": 2}, "`num_return_sequences` must be 1"),
        ({"chunk_length_s": -1}, "`chunk_length_s` must be a number of seconds of at least 0, got -1"),
        ({"chunk_length_s": "5"}, "`chunk_length_s` must be a number of seconds of at least 0, got '5'"),
        ({"chunk_length_s": 5, "stride_length_s": (float("nan"), 1)}, "`stride_length_s` must be a number of seconds"),
    ],
)
def test_arguments_out_of_range_are_refused(transcribe, options, message):
    with pytest.raises(ValueError, match=message):
        transcribe(tone(), **options)


@pytest.mark.parametrize(
    ("recording", "error", "message"),
    [
        (np.zeros(0, np.float32), ValueError, "samples"),
        (np.zeros(1, np.float32), ValueError, "at least a frame, 200 samples"),
        (np.array([0.0, np.nan] * 400), ValueError, "NaN"),
        ("missing.wav", FileNotFoundError, "missing.wav"),
        (b"RIFF, or not", ValueError, "cannot be read as audio"),
        (3, TypeError, "`source` must be"),
    ],
)
def test_what_is_no_recording_is_refused(transcribe, recording, error, message):
    with pytest.raises(error, match=message):
        transcribe(recording)


@pytest.mark.parametrize(
    ("integers", "floats"),
    [
        ((tone() * 32768).astype(np.int16), (tone() * 32768).astype(np.int16) / 32768),
        ((tone() * 128 + 128).astype(np.uint8), ((tone() * 128 + 128).astype(np.uint8) - 128.0) / 128),
    ],
)
def test_integers_are_scaled(transcribe, integers, floats):
    assert transcribe(integers) == transcribe(floats)


def test_a_file_that_ends_early_is_heard_as_far_as_it_goes(transcribe):
    whole = wav(tone(1.0))
    heard = transcribe(whole[: len(whole) // 2])
    assert heard == transcribe(wav(tone(1.0)[: (len(whole) // 2 - 44) // 2]))


def test_a_model_of_transformers_reads_any_file_too(tmp_path):
    config = Wav2Vec2Config(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=(4,),
        conv_stride=(5,),
        conv_kernel=(10,),
        num_feat_extract_layers=1,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=4,
    )
    classify = pipeline(
        "audio-classification",
        model=Wav2Vec2ForSequenceClassification(config).eval(),
        feature_extractor=Wav2Vec2FeatureExtractor(sampling_rate=RATE),
    )
    assert type(classify) is AudioClassificationPipeline
    soundfile.write(tmp_path / "tone.wav", tone(rate=16_000), 16_000)
    assert len(classify(str(tmp_path / "tone.wav"))) == 2


@pytest.mark.parametrize("kind", [AudioClassificationPipeline, AutomaticSpeechRecognitionPipeline])
def test_nothing_gives_nothing(kind):
    if kind is AudioClassificationPipeline:
        heard = kind(model=tiny_classifier(), feature_extractor=extractor())
    else:
        heard = kind(model=tiny_seq2seq(), tokenizer=processor().tokenizer, feature_extractor=extractor())
    assert heard([]) == heard(()) == []
