"""A stream says what the whole says, whatever its chunks are, alone or beside others, in constant memory."""

import pytest
import torch
from tiny_speech import MELS, STREAMED, tiny_ctc, tiny_seq2seq

from attention_rnn import AttentionRnnFeatureExtractor
from attention_rnn.models.ctc import collapse

END = 2
VARIANTS = {
    "gru": {},
    "lstm": {"cell_type": "lstm"},
    "reduced": {"time_reduction": [2, 3]},
    "frames": {"subsampling_channels": [], "time_reduction": [1, 2]},
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


@every_variant
@pytest.mark.parametrize("make", [tiny_ctc, tiny_seq2seq])
def test_a_stream_says_what_the_whole_says(variant, make):
    model = talkative(make, **variant)
    tokens, begins, _ = whole(model, frames(150))
    assert len(tokens) > 1
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


def test_the_state_is_as_large_after_an_hour_as_at_first():
    def size(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        return sum(map(size, value)) if isinstance(value, (list, tuple)) else 0

    model = tiny_ctc(**STREAMED, time_reduction=[2, 1])
    extractor = AttentionRnnFeatureExtractor(MELS, 8000, normalization="running")
    state, of_features = model.begin_stream(), extractor.begin_stream()
    sizes = []
    for _ in range(40):
        features, of_features = extractor.stream(torch.randn(8000), of_features)
        _, _, state = model.stream_step(features, state)
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
