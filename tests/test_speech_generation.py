"""`generate()` of speech: joint scores, language models, bounded transcripts, and when their tokens were said."""

import copy

import pytest
import torch
from tiny_speech import (
    BATCH,
    MELS,
    STREAMED,
    VOCABULARY,
    tiny_ctc,
    tiny_labels,
    tiny_seq2seq,
    tiny_speech,
    with_large_weights,
    without_padding,
)
from torch.nn.functional import ctc_loss

from attention_rnn import (
    AttentionRnnConfig,
    AttentionRnnFeatureExtractor,
    AttentionRnnForCausalLM,
    AttentionRnnSpeechProcessor,
)
from attention_rnn.models.speech_generation import SpeechScorer
from attention_rnn.tokenizer_training import train_tokenizer

END = 2


def language_model(**overrides):
    values = {"vocab_size": VOCABULARY, "embedding_size": 5, "hidden_size": 9, "decoder_layers": 1, **overrides}
    return with_large_weights(lambda: AttentionRnnForCausalLM(AttentionRnnConfig(**values)), seed=3)


def transcript(sequence):
    """The tokens behind the start, up to the end and with it."""
    tokens = sequence.tolist()[1:]
    return tokens[: tokens.index(END) + 1] if END in tokens else tokens


def score(model, features, tokens, ctc_weight, lm=None, lm_weight=0.0):
    """What a finished transcript is worth, by the definition."""
    labels = torch.tensor([tokens])
    log_probs = model(features, labels=labels).logits.log_softmax(-1)
    total = (1 - ctc_weight) * log_probs.gather(2, labels[..., None]).sum()
    if ctc_weight:
        memory = model.model.encoder(features).last_hidden_state
        of_ctc = model.ctc_head(memory)[0][:, None]
        sounded = torch.tensor([tokens[:-1]])
        length = torch.tensor([of_ctc.shape[0]])
        loss = ctc_loss(of_ctc, sounded, length, torch.tensor([sounded.shape[1]]), reduction="sum")
        total = total - ctc_weight * loss
    if lm is not None:
        read = torch.tensor([[1, *tokens]])
        logits = lm(read).logits[:, :-1].log_softmax(-1)
        total = total + lm_weight * logits.gather(2, read[:, 1:, None]).sum()
    return total.item()


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("with_lm", [False, True])
@torch.no_grad()
def test_the_score_of_a_transcript_is_the_joint_one(ctc_weight, with_lm):
    model, features = tiny_seq2seq(), without_padding(tiny_speech(), 0)
    lm = language_model() if with_lm else None
    found = model.generate(
        features,
        num_beams=6,
        num_return_sequences=3,
        ctc_weight=ctc_weight,
        language_model=lm,
        lm_weight=0.7,
        output_scores=True,
        return_dict_in_generate=True,
    )
    scores = found.sequences_scores.tolist()
    assert scores == sorted(scores, reverse=True)
    assert len({tuple(transcript(sequence)) for sequence in found.sequences}) == 3
    for sequence, got in zip(found.sequences, scores, strict=True):
        tokens = transcript(sequence)
        assert tokens[-1] == END
        assert score(model, features, tokens, ctc_weight, lm, 0.7) == pytest.approx(got, abs=1e-3)


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("attention_type", ["location", "additive"])
def test_our_loops_and_those_of_transformers_find_the_same(num_beams, attention_type):
    model, speech = tiny_seq2seq(attention_type=attention_type), tiny_speech()
    ours = model.generate(**speech, num_beams=num_beams, language_model=language_model())
    reference = copy.deepcopy(model)
    reference.config.recurrence_backend = "reference"
    theirs = reference.generate(**speech, num_beams=num_beams, language_model=language_model())
    assert [transcript(row) for row in ours] == [transcript(row) for row in theirs]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_batch_finds_what_its_rows_find(num_beams):
    model, speech = tiny_seq2seq(), tiny_speech()
    together = model.generate(**speech, num_beams=num_beams)
    for row in range(BATCH):
        alone = model.generate(without_padding(speech, row), num_beams=num_beams)
        assert transcript(alone[0]) == transcript(together[row])


@torch.no_grad()
def test_with_ctc_alone_it_finds_what_the_search_over_prefixes_finds():
    model, speech = tiny_seq2seq(), tiny_speech()
    ctc = tiny_ctc()
    ctc.load_state_dict(model.state_dict(), strict=False)
    joint = model.generate(**speech, num_beams=60, ctc_weight=1.0)
    best = ctc.generate(**speech, num_beams=12, num_return_sequences=3).unflatten(0, (BATCH, 3))
    for row in range(BATCH):
        # a finished transcript competes with the beginnings of others, so that it need not be the very best one
        assert transcript(joint[row])[:-1] in [[token for token in some.tolist() if token] for some in best[row]]


def test_a_memory_that_is_given_stays_as_it_was():
    model, speech = tiny_seq2seq(), tiny_speech()
    encoded = model.model.encoder(**speech)
    written = model.generate(encoder_outputs=encoded, num_beams=3, max_new_tokens=4)
    assert len(encoded.last_hidden_state) == BATCH
    assert torch.equal(model.generate(encoder_outputs=encoded, num_beams=3, max_new_tokens=4), written)


def test_a_prompt_is_part_of_the_transcript():
    model, speech = tiny_seq2seq(), tiny_speech()
    found = model.generate(**speech, num_beams=4)
    prompt = found[:, :2]
    assert (model.generate(**speech, decoder_input_ids=prompt, num_beams=4)[:, :2] == prompt).all()


@pytest.mark.parametrize("ctc_weight", [0.0, 0.5])
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("kind", ["noise", "silence", "music"])
def test_no_sound_makes_an_endless_transcript(kind, num_beams, ctc_weight):
    model = tiny_seq2seq()
    with torch.no_grad():
        model.lm_head.weight[END] = -5 * model.lm_head.weight[END].abs()  # it would rather never end
    frames = torch.arange(60)[:, None]
    sounds = {
        "noise": 5 * torch.randn(1, 60, MELS),
        "silence": torch.zeros(1, 60, MELS),
        "music": 3 * torch.sin(frames * torch.arange(1, MELS + 1) / 7)[None],
    }
    mask = torch.ones(2, 60)
    mask[1, 20:] = 0
    found = model.generate(
        sounds[kind].expand(2, -1, -1), attention_mask=mask, num_beams=num_beams, ctc_weight=ctc_weight
    )
    positions = model.model.encoder(sounds[kind].expand(2, -1, -1), attention_mask=mask).attention_mask.sum(1)
    for row, most in zip(found, positions.tolist(), strict=True):
        assert len(transcript(row)) <= most + 1
        assert transcript(row)[-1] == END


def test_lengths_that_are_given_hold():
    model, speech = tiny_seq2seq(), tiny_speech()
    assert model.generate(**speech, max_new_tokens=2).shape[1] == 3
    assert model.generate(**speech, max_length=4, num_beams=2).shape[1] <= 4


def test_scores_do_not_depend_on_whether_logits_are_normalised():
    model, speech = tiny_seq2seq(), tiny_speech()
    with torch.no_grad():
        encoded = model.model.encoder(**speech)
    start, logits = torch.ones(BATCH, 1, dtype=torch.long), torch.randn(BATCH, VOCABULARY)
    of_logits, of_log_probabilities = (
        SpeechScorer(encoded, model.ctc_head, 0.4, [END])(start, given) for given in (logits, logits.log_softmax(-1))
    )
    torch.testing.assert_close(of_logits, of_log_probabilities)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"ctc_weight": 1.5}, ValueError, "ctc_weight"),
        ({"ctc_weight": "much"}, TypeError, "ctc_weight"),
        ({"lm_weight": -1.0}, ValueError, "lm_weight"),
        ({"num_beams": 0}, ValueError, "num_beams"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens"),
        ({"temprature": 1.0}, ValueError, "temprature"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, error, name):
    with pytest.raises(error, match=name):
        tiny_seq2seq().generate(**tiny_speech(), **arguments)


def test_a_language_model_must_have_the_same_vocabulary():
    with pytest.raises(ValueError, match="`language_model` must have the tokenizer of the model, 11 tokens"):
        tiny_seq2seq().generate(**tiny_speech(), language_model=language_model(vocab_size=12))
    with pytest.raises(ValueError, match="`language_model` must have the tokenizer of the model, 11 tokens"):
        tiny_ctc().generate(**tiny_speech(), num_beams=2, language_model=language_model(vocab_size=12))


def test_ctc_needs_a_head():
    model = tiny_seq2seq(ctc_weight=0.0)
    assert model.generate(**tiny_speech()).shape[0] == BATCH
    with pytest.raises(ValueError, match="`ctc_weight`"):
        model.generate(**tiny_speech(), ctc_weight=0.5)


@torch.no_grad()
def test_transcripts_of_the_ctc_model_have_scores_and_a_language_model():
    model, speech = tiny_ctc(), tiny_speech()
    plain = model.generate(**speech, num_beams=5, num_return_sequences=3, return_dict_in_generate=True)
    assert plain.sequences.shape[0] == 3 * BATCH
    scores = plain.sequences_scores.view(BATCH, 3)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    lm = language_model()
    found = model.generate(**speech, num_beams=5, language_model=lm, lm_weight=0.7, return_dict_in_generate=True)
    for row in range(BATCH):
        tokens = [token for token in found.sequences[row].tolist() if token]
        features = without_padding(speech, row)
        of_ctc = model(features).logits[0][:, None]
        length = torch.tensor([of_ctc.shape[0]])
        expected = -ctc_loss(of_ctc, torch.tensor([tokens]), length, torch.tensor([len(tokens)]), reduction="sum")
        read = torch.tensor([[1, *tokens, END]])
        expected += 0.7 * lm(read).logits[:, :-1].log_softmax(-1).gather(2, read[:, 1:, None]).sum()
        assert found.sequences_scores[row].item() == pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.parametrize(
    "arguments", [{"num_beams": 0}, {"num_beams": 2, "num_return_sequences": 3}, {"lm_weight": -1}]
)
def test_settings_of_the_ctc_model_are_checked(arguments):
    with pytest.raises(ValueError, match=f"`{list(arguments)[-1]}`"):
        tiny_ctc().generate(**tiny_speech(), **arguments)


@pytest.mark.parametrize("make", [tiny_seq2seq, tiny_ctc])
def test_tokens_have_times_in_order(make):
    model, speech = make(), tiny_speech()
    sequences = model.generate(**speech)
    times = model.token_times(sequences, **speech)
    shared = model.token_times(sequences, encoder_outputs=model.model.encoder(**speech))
    torch.testing.assert_close(shared.start, times.start, equal_nan=True)
    has_sound = ~torch.isin(sequences, torch.tensor([0, 1, 2]))
    for values in (times.start, times.end, times.confidence):
        assert torch.equal(values.isnan(), ~has_sound)
    seconds = (speech["attention_mask"].sum(1) * model.config.hop_length / model.config.sampling_rate).tolist()
    for row in range(BATCH):
        start, end = times.start[row, has_sound[row]], times.end[row, has_sound[row]]
        assert (start < end).all()
        assert (end[:-1] <= start[1:]).all()
        assert end.max() <= seconds[row] + model.config.inputs_to_logits_ratio / model.config.sampling_rate
        assert ((times.confidence[row, has_sound[row]] > 0) & (times.confidence[row, has_sound[row]] <= 1)).all()


def test_without_ctc_the_attention_tells_the_times():
    model, speech = tiny_seq2seq(ctc_weight=0.0), tiny_speech()
    labels = torch.cat([torch.ones(BATCH, 1, dtype=torch.long), tiny_labels().clamp(min=0)], dim=1)
    times = model.token_times(labels, **speech)
    (weights,) = model(**speech, decoder_input_ids=labels[:, :-1], output_attentions=True).cross_attentions
    expected = weights[:, 0].argmax(-1)[:, 0] * model.config.inputs_to_logits_ratio / model.config.sampling_rate
    torch.testing.assert_close(times.start[:, 1], expected)
    has_sound = ~times.start.isnan()
    for row in range(BATCH):
        start = times.start[row, has_sound[row]]
        assert (start[:-1] <= start[1:]).all()


def test_the_delay_of_a_model_is_taken_off_its_times():
    model, speech = tiny_seq2seq(), tiny_speech()
    labels = tiny_labels().clamp(min=0)
    late = model.token_times(labels, **speech)
    model.config.emission_delay = 0.05
    early = model.token_times(labels, **speech)
    for name in ("start", "end"):
        expected = (getattr(late, name) - 0.05).clamp(min=0)
        torch.testing.assert_close(getattr(early, name), expected, equal_nan=True)
    assert (early.start < late.start).any()


def test_times_need_a_transcript_for_each_recording():
    model, speech = tiny_seq2seq(), tiny_speech()
    with pytest.raises(ValueError, match="a row for each recording, 3, got 2"):
        model.token_times(torch.full((2, 3), 5), **speech)
    with pytest.raises(ValueError, match="must fit its positions"):
        model.token_times(torch.full((BATCH, 30), 5), **speech)


def test_words_and_characters_have_the_times_of_their_tokens():
    tokenizer = train_tokenizer(["one two"], kind="character")
    processor = AttentionRnnSpeechProcessor(AttentionRnnFeatureExtractor(), tokenizer)
    tokens = tokenizer(" one two").input_ids
    times = {
        "start": [float(position) for position in range(len(tokens))],
        "end": [position + 0.5 for position in range(len(tokens))],
        "confidence": [0.9 - 0.1 * position for position in range(len(tokens))],
    }
    kept = [token for token in tokens if token not in tokenizer.all_special_ids]
    words = processor.words(tokens, times)
    assert [word["text"] for word in words] == ["one", "two"]
    starts = [tokens.index(tokenizer.convert_tokens_to_ids(letter)) for letter in "ot"]
    assert words[0]["start"] == starts[0]
    assert words[1]["start"] == starts[1]
    assert words[0]["end"] == starts[0] + 2.5
    assert words[0]["confidence"] == pytest.approx(0.9 - 0.1 * (starts[0] + 2))
    assert len(processor.characters(tokens, times)) == len(kept)
    assert "".join(piece["text"] for piece in processor.characters(tokens, times)).strip() == "one two"


def test_a_unidirectional_model_writes_too():
    assert tiny_seq2seq(**STREAMED).generate(**tiny_speech(), num_beams=2).shape[0] == BATCH
