"""A stream says what the whole says, whatever its chunks are, alone or beside others, in constant memory."""

import pytest
import torch
from tiny_speech import MELS, STREAMED, tiny_classifier, tiny_ctc, tiny_seq2seq, tiny_values

from attention_rnn import AttentionRnnCTCConfig, AttentionRnnFeatureExtractor, AttentionRnnForCTC
from attention_rnn.models.ctc import align, collapse
from attention_rnn.models.encoder import memory_lengths
from attention_rnn.models.triggered_attention import windows_of

END = 2
VARIANTS = {
    "gru": {},
    "lstm": {"cell_type": "lstm"},
    "reduced": {"time_reduction": [2, 3]},
    "frames": {"subsampling_channels": [], "time_reduction": [1, 2]},
    "lookahead": {"lookahead": 3, "time_reduction": [2, 1]},
    "wide": {"subsampling_kernel_size": 5, "subsampling_strides": [3, 1], "layer_norm": True, "residual": True},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def frames(count=61, seed=0):
    return 2 * torch.randn(count, MELS, generator=torch.Generator().manual_seed(seed))


def talkative(make, **values):
    """A model that says something else at most positions."""
    model = make(**STREAMED, **values)
    with torch.no_grad():
        model.ctc_head.projection.bias.zero_()
        model.ctc_head.projection.weight.copy_(torch.randn(model.ctc_head.projection.weight.shape))
        for layer in model.model.encoder.layers:
            for weight in layer.parameters():
                weight.mul_(2)
    return model


def whole(model, features):
    """The tokens, where they begin, and the memory."""
    with torch.no_grad():
        memory = model.model.encoder(features[None]).last_hidden_state
        best = model.ctc_head(memory).argmax(-1)
    tokens, begins = collapse(best, torch.tensor([best.shape[1]]), 0)
    return tokens[0].tolist(), begins[0].tolist(), memory


def cut(features, size):
    return [features[start : start + size] for start in range(0, len(features), size)]


def listen(model, chunks, **kwargs):
    state, tokens, times = model.begin_stream(), [], []
    for chunk in chunks:
        new, when, state = model.stream_step(chunk, state, **kwargs)
        tokens, times = tokens + new, times + when
    new, when, state = model.stream_step(torch.zeros(0, MELS), state, is_last=True, **kwargs)
    return tokens + new, times + when, state


@every_variant
@pytest.mark.parametrize("size", [1, 7, 20])
def test_the_memory_of_chunks_is_that_of_the_whole(variant, size):
    encoder = tiny_ctc(**STREAMED, **variant).model.encoder
    expected = encoder(frames()[None]).last_hidden_state
    state, parts = encoder.begin_stream(), []
    for chunk in [*cut(frames(), size), frames()[:0]]:
        (memory,), (state,) = encoder.stream([chunk], [state], is_last=len(chunk) == 0)
        parts.append(memory)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=0)


def test_a_position_hears_as_far_as_the_lookahead():
    encoder, features = tiny_ctc(**STREAMED, lookahead=2, subsampling_channels=[]).model.encoder, frames(20)
    later = torch.cat([features[:13], frames(7, seed=1)])
    memories = [encoder(some[None]).last_hidden_state[0] for some in (features, later)]
    same = (memories[0] - memories[1]).abs().amax(dim=1) < 1e-6
    assert same.tolist() == [True] * 11 + [False] * 9


def test_a_row_convolution_begins_as_a_weighted_sum_of_what_follows():
    row = AttentionRnnForCTC(AttentionRnnCTCConfig(**tiny_values(lookahead=2))).model.encoder.row_convolution
    memory = torch.arange(1.0, 6).expand(row.weight.shape[0], -1).T[None]  # 1 to 5 in all features
    mask = torch.tensor([[True, True, True, True, False]])
    expected = torch.tensor([1 + 0.3 * 5, 2 + 0.3 * 7, 3 + 0.3 * 4, 4, 0])
    torch.testing.assert_close(row(memory, mask)[0], expected[:, None].expand(-1, row.weight.shape[0]))


@every_variant
@pytest.mark.parametrize("make", [tiny_ctc, tiny_seq2seq])
def test_a_stream_says_what_the_whole_says(variant, make):
    model = talkative(make, **variant)
    tokens, begins, _ = whole(model, frames(150))
    assert tokens
    seconds = model.config.inputs_to_logits_ratio / model.config.sampling_rate
    for size in (1, 7, 150):
        said, times, _ = listen(model, cut(frames(150), size))
        assert said == tokens
        assert times == pytest.approx([position * seconds for position in begins])


def test_streams_join_and_leave():
    model = talkative(tiny_ctc)
    early, late = frames(seed=1), frames(40, seed=2)
    states, said = {"early": model.begin_stream()}, {"early": [], "late": []}
    waiting = {"early": cut(early, 9), "late": cut(late, 5)}
    for step in range(12):
        if step == 3:
            states["late"] = model.begin_stream()
        present = [name for name in states if waiting[name]]
        if not present:
            break
        chunks = [waiting[name].pop(0) for name in present]
        tokens, _, after = model.stream_step(chunks, [states[name] for name in present])
        for name, new, state in zip(present, tokens, after, strict=True):
            said[name] += new
            states[name] = state
    assert said["early"] == whole(model, early)[0]
    assert said["late"] == whole(model, late)[0]


def test_generate_reads_a_generator_of_chunks():
    class Streamer:
        def __init__(self):
            self.tokens, self.has_ended = [], False

        def put(self, value):
            self.tokens += value.tolist()

        def end(self):
            self.has_ended = True

    for model in (talkative(tiny_ctc), talkative(tiny_seq2seq)):
        streamer = Streamer()
        found = model.generate(input_features=iter(cut(frames(), 8)), streamer=streamer)
        assert found.tolist() == [whole(model, frames())[0]]
        assert streamer.tokens == found[0].tolist()
        assert streamer.has_ended


def test_silence_after_speech_ends_a_text_once():
    model = tiny_ctc(**STREAMED)
    bias = model.ctc_head.projection.bias
    with torch.no_grad():
        bias[0] += 100  # nothing is heard
    silent, _, state = listen(model, cut(frames(), 10), endpoint_seconds=0.1)
    assert silent == []
    state = state._replace(has_spoken=True, silence=0)
    tokens, _, state = model.stream_step(frames(80), state, endpoint_seconds=0.2)
    assert tokens == [END]
    assert model.stream_step(frames(80), state, endpoint_seconds=0.2)[0] == []


def test_the_delay_of_a_model_is_taken_off_the_times_of_a_stream():
    model = tiny_ctc(**STREAMED)
    tokens, late, _ = listen(model, cut(frames(), 8))
    model.config.emission_delay = 0.1
    assert listen(model, cut(frames(), 8))[:2] == (tokens, [max(time - 0.1, 0.0) for time in late])
    assert late[-1] > 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_ctc(**STREAMED, time_reduction=[2, 1]),
        lambda: tiny_seq2seq(**STREAMED, bridge="zeros", attention_window=5),
        lambda: tiny_classifier(**STREAMED),
    ],
    ids=["ctc", "triggered attention", "keywords"],
)
def test_the_state_is_as_large_after_an_hour_as_at_first(make):
    def size(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        return sum(map(size, value)) if isinstance(value, (list, tuple)) else 0

    model = make()
    extractor = AttentionRnnFeatureExtractor(MELS, 8000, normalization="running")
    state, of_features = model.begin_stream(), extractor.begin_stream()
    sizes = []
    for _ in range(40):
        features, of_features = extractor.stream(torch.randn(8000), of_features)
        *_, state = model.stream_step(features, state)
        sizes.append((size(state), size(of_features)))
    assert sizes[5:15] == sizes[25:35]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"causal": True}, "bidirectional"),
        ({"bidirectional": False}, "causal"),
        ({**STREAMED, "ctc_weight": 0.0}, "ctc"),
    ],
)
def test_what_cannot_be_streamed_is_refused_by_name(values, field):
    with pytest.raises(ValueError, match=f"`{field}"):
        tiny_seq2seq(**values).begin_stream()


@pytest.mark.parametrize(
    ("chunk", "arguments", "error", "message"),
    [
        (torch.zeros(3, MELS + 1), {}, ValueError, r"`chunk` must have the shape \(frames, 13\)"),
        (torch.full((3, MELS), torch.nan), {}, ValueError, "NaN"),
        ([[0.0] * MELS], {}, TypeError, "must be a tensor"),
        (torch.zeros(3, MELS), {"endpoint_seconds": 0}, ValueError, "`endpoint_seconds`"),
    ],
)
def test_wrong_chunks_are_refused(chunk, arguments, error, message):
    model = tiny_ctc(**STREAMED)
    state = model.begin_stream()
    with pytest.raises(error, match=message):
        model.stream_step(chunk, state if isinstance(chunk, torch.Tensor) else [state], **arguments)


TRIGGERED = {**STREAMED, "attention_window": 4, "bridge": "zeros"}


def triggered(**values):
    return talkative(tiny_seq2seq, attention_window=4, bridge="zeros", **values)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"attention_type": "additive", "cell_type": "lstm"},
        {"decoder_layers": 2, "context_feeding": "parallel", "attention_type": "multi_head"},
        {"context_feeding": "conditional", "coverage": True},
    ],
    ids=["location", "additive", "parallel", "coverage"],
)
def test_a_triggered_token_is_the_best_by_ctc_and_the_decoder_within_its_window(variant):
    model = triggered(**variant)
    model.config.decoding_ctc_weight = 0.3
    _, begins, memory = whole(model, frames(150))
    (found,) = model.generate(frames(150)[None])
    assert found[0] == 1
    assert found[-1] == END
    tokens = found[1:-1]
    assert len(tokens) == len(begins) > 3
    places, last = torch.arange(memory.shape[1]), torch.tensor(begins)[:, None]
    windows = (places <= last) & (places > last - 4)
    with torch.no_grad():
        outputs = model.model(encoder_outputs=(memory,), decoder_input_ids=found[None, :-2], windows=windows[None])
        of_decoder = model.lm_head(outputs.last_hidden_state)[0].log_softmax(-1)
        scores = 0.3 * model.ctc_head(memory)[0, begins] + 0.7 * of_decoder
    scores[:, :3] = -torch.inf
    assert scores.argmax(-1).tolist() == tokens.tolist()
    for size in (1, 7, 150):
        said, _, state = listen(model, cut(frames(150), size))
        assert said == tokens.tolist()
        assert state.heard.context.shape[1] == 3


def test_training_knows_the_windows_that_decoding_has():
    model, labels = tiny_seq2seq(**TRIGGERED), torch.tensor([[5, 5, 7, END], [6, END, -100, -100]])
    encoded = model.model.encoder(torch.stack([frames(), frames(seed=1)]))
    first, _ = align(
        model.ctc_head(encoded.last_hidden_state),
        memory_lengths(encoded),
        torch.tensor([[5, 5, 7], [6, 0, 0]]),
        torch.tensor([3, 1]),
        0,
    )
    windows = windows_of(model.ctc_head, encoded, labels, 4)
    positions = encoded.last_hidden_state.shape[1]
    for row, label, last in [*((0, label, int(first[0, label])) for label in range(3)), (1, 0, int(first[1, 0]))]:
        assert windows[row, label].nonzero()[:, 0].tolist() == list(range(max(last - 3, 0), last + 1))
    for row, label in [(0, 3), (1, 1)]:  # the end
        assert windows[row, label].nonzero()[:, 0].tolist() == list(range(positions - 4, positions))


def test_a_label_sees_nothing_outside_its_window():
    model = tiny_seq2seq(**TRIGGERED).train()
    outputs = model(frames()[None], labels=torch.tensor([[5, 7, END]]), output_attentions=True)
    outputs.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    (weights,) = outputs.cross_attentions
    assert ((weights > 0).sum(-1) <= 4).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_a_transcript_that_does_not_fit_attends_to_everything():
    model = tiny_seq2seq(**TRIGGERED)
    encoded = model.model.encoder(frames()[None])
    assert windows_of(model.ctc_head, encoded, torch.full((1, 40), 5), 4).all()


def test_a_triggered_model_forgets_its_text_at_the_end():
    model = triggered()
    state = model.begin_stream()
    _, _, state = model.stream_step(frames(150), state)
    assert state.heard.state is not None
    with torch.no_grad():
        model.ctc_head.projection.bias[0] += 1000
    tokens, _, state = model.stream_step(frames(80), state, endpoint_seconds=0.2)
    assert tokens == [END]
    assert state.heard.state is None
    assert state.heard.token == 1


def test_a_triggered_model_has_no_search():
    model = tiny_seq2seq(**TRIGGERED)
    assert torch.equal(model.generate(frames()[None], num_beams=2), model.generate(frames()[None]))
    with pytest.raises(ValueError, match="`num_return_sequences` must be 1"):
        model.generate(frames()[None], num_beams=2, num_return_sequences=2)
    with pytest.raises(ValueError, match='`attention_window` needs `bridge="zeros"`'):
        tiny_seq2seq(**STREAMED, attention_window=4)


@pytest.mark.parametrize("pooling", ["attention", "query", "last"])
def test_a_stream_of_commands_is_classified_moment_by_moment(pooling):
    model = tiny_classifier(**STREAMED, pooling=pooling)
    memory = model.model.encoder(frames()[None]).last_hidden_state
    width = 5
    expected = torch.cat(
        [
            model.classifier(model.pooling(memory[:, max(end - width, 0) : end], None)[0])
            for end in range(1, memory.shape[1] + 1)
        ]
    )
    for size in (1, 7, 61):
        state, parts = model.begin_stream(window_seconds=width * 0.04), []
        for chunk in cut(frames(), size):
            logits, state = model.stream_step(chunk, state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=1e-5)
        assert state.context.shape[1] == width - 1


def test_a_stream_of_commands_ends_with_what_the_lookahead_has_waited_for():
    model = tiny_classifier(**STREAMED, lookahead=3)
    state = model.begin_stream()
    logits, state = model.stream_step(frames(), state)
    ending, _ = model.stream_step(frames(0), state, is_last=True)
    assert len(ending) == 3
    assert len(logits) + len(ending) == model.model.encoder(frames()[None]).last_hidden_state.shape[1]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), "x", 0])
def test_a_window_that_is_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="`window_seconds` must last a position"):
        tiny_classifier(**STREAMED).begin_stream(seconds)


def test_a_model_in_half_precision_reads_a_stream_to_its_end():
    model = tiny_ctc(**STREAMED, time_reduction=[2, 1], lookahead=2).bfloat16()
    chunks = cut(frames(150), 20)
    assert model.generate(input_features=iter(chunks)).dtype == torch.long


def test_a_chunk_that_is_no_tensor_is_refused():
    model = tiny_ctc(**STREAMED)
    with pytest.raises(TypeError, match="`chunk` must be a tensor"):
        model.stream_step(frames().numpy(), model.begin_stream())


def test_a_classifier_that_reads_backwards_cannot_be_streamed():
    with pytest.raises(ValueError, match="`bidirectional` must be False"):
        tiny_classifier().begin_stream()
    with pytest.raises(ValueError, match="`window_seconds`"):
        tiny_classifier(**STREAMED).begin_stream(window_seconds=0)
