"""The models of speech: padding, losses, checkpoints, bad input."""

import pytest
import torch
from tiny_speech import (
    BATCH,
    FRAMES,
    MELS,
    STREAMED,
    VOCABULARY,
    tiny_classifier,
    tiny_ctc,
    tiny_labels,
    tiny_seq2seq,
    tiny_speech,
    tiny_values,
    without_padding,
)
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
)

from attention_rnn import (
    AttentionRnnCTCConfig,
    AttentionRnnFeatureExtractor,
    AttentionRnnForAudioClassification,
    AttentionRnnForCTC,
    AttentionRnnForSpeechSeq2Seq,
    AttentionRnnSpeechConfig,
    AttentionRnnSpeechProcessor,
)
from attention_rnn.models.spec_augment import spec_augment
from attention_rnn.tokenizer_training import train_tokenizer

VARIANTS = {
    "plain": {},
    "streamed": STREAMED,
    "pyramid": {"time_reduction": [1, 2], "subsampling_channels": []},
    "reduced": {"time_reduction": [2, 3]},
    "lookahead": {**STREAMED, "lookahead": 4},
    "lstm": {"cell_type": "lstm", "attention_type": "additive", "bidirectional": [True, False]},
    "frames": {"subsampling_strides": [1, 1], "subsampling_kernel_size": 5, "attention_type": "multi_head"},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


@every_variant
def test_padding_changes_nothing(variant):
    model, speech, labels = tiny_seq2seq(**variant), tiny_speech(), tiny_labels()
    logits = model(**speech, labels=labels).logits
    memory = model.model.encoder(**speech)
    for row in range(BATCH):
        alone = without_padding(speech, row)
        torch.testing.assert_close(model(alone, labels=labels[row : row + 1]).logits, logits[row : row + 1])
        encoded = model.model.encoder(alone)
        real = memory.attention_mask[row].bool()
        torch.testing.assert_close(memory.last_hidden_state[row, real], encoded.last_hidden_state[0])
        torch.testing.assert_close(memory.final_state[row], encoded.final_state[0])


@pytest.mark.parametrize("pooling", ["attention", "query", "last"])
def test_padding_changes_no_class(pooling):
    model, speech = tiny_classifier(pooling=pooling), tiny_speech()
    outputs = model(**speech, output_attentions=True)
    (weights,) = outputs.attentions
    assert weights.shape[:3] == (BATCH, 1, 1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, 1, 1))
    for row in range(BATCH):
        alone = model(without_padding(speech, row))
        torch.testing.assert_close(alone.logits[0], outputs.logits[row])


def test_padding_changes_no_ctc():
    model, speech, labels = tiny_ctc(), tiny_speech(), tiny_labels()
    logits = model(**speech).logits
    for row in range(BATCH):
        alone = model(without_padding(speech, row)).logits[0]
        torch.testing.assert_close(logits[row, : len(alone)], alone)
        # behind the end there is a blank for sure
        assert (logits[row, len(alone) :].argmax(-1) == 0).all()
        assert (logits[row, len(alone) :, 0] == 0).all()
    assert model(**speech, labels=labels).loss.isfinite()


@every_variant
def test_positions_last_as_long_as_the_config_says(variant):
    model = tiny_seq2seq(**variant)
    factor = model.config.inputs_to_logits_ratio // model.config.hop_length
    memory = model.model.encoder(torch.randn(1, 12 * factor, MELS)).last_hidden_state
    assert memory.shape[1] == 12


@pytest.mark.parametrize("variant", [STREAMED, {**STREAMED, "time_reduction": [2, 1]}], ids=["plain", "reduced"])
def test_a_causal_encoder_hears_nothing_of_the_future(variant):
    model, frames = tiny_seq2seq(**variant), torch.randn(1, 40, MELS)
    later = frames.clone()
    later[:, 24:] = 7
    memory, other = (model.model.encoder(given).last_hidden_state[0] for given in (frames, later))
    torch.testing.assert_close(memory[:3], other[:3])
    assert not torch.allclose(memory[-1], other[-1])


def test_the_loss_is_the_weighted_sum_of_both():
    model, speech, labels = tiny_seq2seq(ctc_weight=0.4), tiny_speech(), tiny_labels()
    outputs = model(**speech, labels=labels)
    encoded = model.model.encoder(**speech)
    ctc = model.ctc_head.loss(model.ctc_head(encoded.last_hidden_state), encoded.attention_mask.sum(1), labels)
    of_decoder = cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(outputs.loss, 0.4 * ctc + 0.6 * of_decoder)


def test_accumulated_batches_have_the_gradient_of_the_whole():
    model, speech, labels = tiny_seq2seq(), tiny_speech(), tiny_labels()
    whole = model(**speech, labels=labels).loss
    count, parts = (labels != -100).sum(), 0
    for rows in (slice(0, 1), slice(1, 3)):
        part = {name: values[rows] for name, values in speech.items()}
        parts += model(**part, labels=labels[rows], num_items_in_batch=count).loss
    torch.testing.assert_close(parts, whole)


def test_the_training_step_that_keeps_no_logits_has_the_same_loss():
    speech, labels = tiny_speech(), tiny_labels()
    kept, spared = (tiny_seq2seq(logits_in_training=keep).train()(**speech, labels=labels) for keep in (True, False))
    torch.testing.assert_close(kept.loss, spared.loss)
    assert spared.logits is None


def losses():
    labels, speech = tiny_labels(), tiny_speech()
    classes = torch.tensor([1, 4, 0])
    yield "seq2seq", tiny_seq2seq(), {**speech, "labels": labels}
    yield "pyramid", tiny_seq2seq(**VARIANTS["pyramid"]), {**speech, "labels": labels}
    yield "without-ctc", tiny_seq2seq(ctc_weight=0.0), {**speech, "labels": labels}
    yield "ctc", tiny_ctc(), {**speech, "labels": labels}
    for pooling in ("attention", "query", "last"):
        yield pooling, tiny_classifier(pooling=pooling), {**speech, "labels": classes}


@pytest.mark.parametrize(("model", "batch"), [pytest.param(model, batch, id=name) for name, model, batch in losses()])
def test_every_parameter_has_a_finite_gradient(model, batch):
    model.train()
    model.config.apply_spec_augment = True
    model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_autocast_in_halves_is_close():
    model, speech, labels = tiny_seq2seq(), tiny_speech(), tiny_labels()
    expected = model(**speech, labels=labels)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(**speech, labels=labels)
    outputs.loss.backward()
    torch.testing.assert_close(outputs.loss, expected.loss, rtol=0.05, atol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_model_in_halves_takes_the_features_of_the_extractor():
    model, speech = tiny_seq2seq().bfloat16(), tiny_speech()
    assert model(**speech, labels=tiny_labels()).loss.isfinite()
    assert model.generate(**speech).shape[0] == BATCH


def test_augmentation_masks_spans_of_both_axes_and_only_in_training():
    shares = {"mask_time_prob": 0.3, "mask_feature_prob": 0.3, "mask_time_length": 6, "mask_feature_length": 4}
    config = AttentionRnnSpeechConfig(**tiny_values(**shares))
    torch.manual_seed(0)
    masked = spec_augment(torch.ones(50, 40, MELS), torch.full((50,), 40), config)
    hidden_frames, hidden_bands = (masked == 0).all(2), (masked == 0).all(1)
    assert ((masked == 0) == (hidden_frames[:, :, None] | hidden_bands[:, None])).all()
    for hidden in (hidden_frames, hidden_bands):
        assert 0.05 < hidden.float().mean() < 0.3
        assert not hidden.all(1).any()
    model, speech = tiny_seq2seq(), tiny_speech()
    expected = model(**speech, labels=tiny_labels()).loss
    model.config.apply_spec_augment = True
    assert model(**speech, labels=tiny_labels()).loss == expected
    assert model.train()(**speech, labels=tiny_labels()).loss != expected


def test_no_span_where_none_is_asked_for():
    config = AttentionRnnSpeechConfig(**tiny_values(mask_time_prob=0.0, mask_feature_prob=0.0))
    features = torch.randn(2, 9, MELS)
    assert torch.equal(spec_augment(features, torch.tensor([9, 5]), config), features)


@pytest.mark.parametrize("kind", ["seq2seq", "ctc", "audio_classification"])
def test_what_is_saved_is_what_is_loaded(kind, tmp_path):
    makers = {
        "seq2seq": (tiny_seq2seq, AutoModelForSpeechSeq2Seq),
        "ctc": (tiny_ctc, AutoModelForCTC),
        "audio_classification": (tiny_classifier, AutoModelForAudioClassification),
    }
    make, auto_class = makers[kind]
    model, speech = make(time_reduction=[1, 2]), tiny_speech()
    model.save_pretrained(tmp_path)
    loaded = auto_class.from_pretrained(tmp_path).eval()
    assert type(loaded) is type(model)
    given = {"labels": tiny_labels()} if kind == "seq2seq" else {}
    torch.testing.assert_close(loaded(**speech, **given).logits, model(**speech, **given).logits)


def test_other_heads_take_the_encoder_of_a_trained_one(tmp_path):
    model, speech = tiny_seq2seq(), tiny_speech()
    model.save_pretrained(tmp_path)
    memory = model.model.encoder(**speech).last_hidden_state
    body = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(body.encoder(**speech).last_hidden_state, memory)
    classifier = AttentionRnnForAudioClassification.from_pretrained(tmp_path, num_labels=3).eval()
    torch.testing.assert_close(classifier.model(**speech).last_hidden_state, memory)
    values = {name: value for name, value in model.config.to_dict().items() if name != "model_type"}
    config = AttentionRnnCTCConfig.from_dict(values)
    ctc = AttentionRnnForCTC.from_pretrained(tmp_path, config=config).eval()
    torch.testing.assert_close(ctc.ctc_head(ctc.model(**speech).last_hidden_state), model.ctc_head(memory))


def test_the_vocabulary_can_grow():
    model, speech, labels = tiny_seq2seq(), tiny_speech(), tiny_labels()
    before = model.ctc_head.projection.weight.clone()
    model.resize_token_embeddings(VOCABULARY + 4)
    assert torch.equal(model.ctc_head.projection.weight[:VOCABULARY], before)
    assert model(**speech, labels=labels).logits.shape[-1] == VOCABULARY + 4
    assert model.generate(**speech).shape[0] == BATCH


@pytest.fixture
def processor():
    tokenizer = train_tokenizer(["one two"], kind="character")
    return AttentionRnnSpeechProcessor(AttentionRnnFeatureExtractor(MELS, 8000), tokenizer)


def test_a_processor_makes_features_and_labels(processor):
    generator = torch.Generator().manual_seed(0)
    audio = [0.1 * torch.randn(size, generator=generator) for size in (3000, 4000)]
    batch = processor(audio=audio, text=["one", "two one"], sampling_rate=8000, return_tensors="pt")
    assert batch.input_features.shape == (2, 48, MELS)
    assert batch.attention_mask.sum(1).tolist() == [36, 48]
    assert [processor.decode(row[row >= 0], skip_special_tokens=True) for row in batch.labels] == ["one", "two one"]
    assert (batch.labels[0] == -100).sum() == 4
    assert processor(text="one").input_ids == processor.tokenizer("one").input_ids
    with pytest.raises(ValueError, match="Give `audio`, `text` or both"):
        processor()


def test_a_processor_is_loaded_as_it_was_saved(processor, tmp_path):
    tiny_seq2seq().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "AttentionRnnSpeechProcessor"
    assert loaded.feature_extractor.to_dict() == processor.feature_extractor.to_dict()
    assert loaded.tokenizer("one").input_ids == processor.tokenizer("one").input_ids


@pytest.mark.parametrize("make", [tiny_seq2seq, tiny_ctc, tiny_classifier])
@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (None, ValueError, "must be given"),
        ([[1.0]], TypeError, "must be a tensor"),
        (torch.zeros(2, 5, MELS, dtype=torch.long), TypeError, "floating point"),
        (torch.zeros(2, 0, MELS), ValueError, "one frame or more"),
        (torch.zeros(2, 5), ValueError, r"\(batch, frames, 13\)"),
        (torch.zeros(2, 5, MELS + 1), ValueError, r"\(batch, frames, 13\)"),
        (torch.full((1, 5, MELS), torch.nan), ValueError, "NaN"),
        (torch.full((1, 5, MELS), torch.inf), ValueError, "infinite"),
    ],
)
def test_wrong_features_are_refused(make, features, error, message):
    with pytest.raises(error, match=message):
        make()(input_features=features)


@pytest.mark.parametrize("make", [tiny_seq2seq, tiny_ctc])
def test_wrong_masks_and_labels_are_refused(make):
    model, speech = make(), tiny_speech()
    with pytest.raises(ValueError, match="`attention_mask`"):
        model(speech["input_features"], torch.ones(BATCH, FRAMES - 1), labels=tiny_labels())
    with pytest.raises(ValueError, match="row 0 is fully masked"):
        model(speech["input_features"], torch.zeros(BATCH, FRAMES), labels=tiny_labels())
    with pytest.raises(ValueError, match="`labels`"):
        model(**speech, labels=torch.full((BATCH, 2), VOCABULARY))


@pytest.mark.parametrize("argument", ["input_features", "attention_mask", "labels"])
@pytest.mark.parametrize("make", [tiny_seq2seq, tiny_ctc, tiny_classifier])
def test_an_input_on_another_device_is_named(make, argument):
    labels = torch.arange(BATCH) if make is tiny_classifier else tiny_labels()
    inputs = {**tiny_speech(), "labels": labels}
    with pytest.raises(ValueError, match=f"`{argument}` must be on the device|on the device of `{argument}`"):
        make()(**{**inputs, argument: inputs[argument].to("meta")})


@pytest.mark.parametrize(
    ("values", "error", "field"),
    [
        ({"copy": True}, TypeError, "copy"),
        ({"source_vocab_size": 9}, TypeError, "source_vocab_size"),
        ({"character_size": 9}, TypeError, "character_size"),
        ({"subsampling_strides": [2]}, ValueError, "subsampling_strides"),
        ({"subsampling_channels": [3, 0]}, ValueError, "subsampling_channels"),
        ({"subsampling_channels": 3}, TypeError, "subsampling_channels"),
        ({"subsampling_kernel_size": 4}, ValueError, "subsampling_kernel_size"),
        ({"time_reduction": [2]}, ValueError, "time_reduction"),
        ({"time_reduction": [0, 2]}, ValueError, "time_reduction"),
        ({"ctc_weight": 1.0}, ValueError, "ctc_weight"),
        ({"decoding_ctc_weight": 1.5}, ValueError, "decoding_ctc_weight"),
        ({"pad_token_id": None}, ValueError, "pad_token_id"),
        ({"pooling": "mean"}, ValueError, "pooling"),
        ({"mask_time_length": 0}, ValueError, "mask_time_length"),
        ({"attention_window": 3, "ctc_weight": 0.0}, ValueError, "attention_window"),
        ({"attention_window": 3, "attention_type": "local"}, ValueError, "attention_window"),
        ({"attention_type": "aligned"}, ValueError, "attention_type"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(values, error, field):
    with pytest.raises(error, match=f"`{field}`"):
        AttentionRnnSpeechConfig(**tiny_values(**values))


@pytest.mark.parametrize("name", AttentionRnnSpeechConfig.presets)
def test_presets_make_models(name):
    config_class = AttentionRnnCTCConfig if name == "deepspeech2" else AttentionRnnSpeechConfig
    config = config_class.from_preset(name, hidden_size=8, attention_size=5, vocab_size=VOCABULARY)
    frames = torch.randn(1, 40, config.num_mel_bins)
    if name == "deepspeech2":
        outputs = AttentionRnnForCTC(config)(frames)
    elif name == "kws-att-rnn":
        outputs = AttentionRnnForAudioClassification(config)(frames)
    else:
        outputs = AttentionRnnForSpeechSeq2Seq(config)(frames, labels=tiny_labels()[:1])
    assert outputs.logits.isfinite().all()
