"""
Speech on one core: the features against those of two others, a training step of joint CTC and attention against plain
torch with packed sequences, and streams in chunks against the time that their audio lasts.

    python benchmarks/speed/run.py speech --threads 1
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import kaldi_native_fbank
import numpy as np
import torch
from comparison import Line, compare
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import Speech2TextFeatureExtractor

from attention_rnn import AttentionRnnFeatureExtractor, AttentionRnnForSpeechSeq2Seq, AttentionRnnSpeechConfig

RATE, MELS, VOCABULARY, BLANK = 16_000, 80, 64, 0
EMBEDDING, LOCATION_CHANNELS, LOCATION_KERNEL = 64, 10, 31
BATCH, LEAST_FRAMES, MOST_FRAMES, TARGET = 16, 200, 500, 20
SECONDS = 10  # of audio
TRAINED = [(80, 12), (256, 32)]  # hidden units and channels of models that are trained
STREAMED = [(60, 2), (312, 3), (620, 4)]  # hidden units and layers of models that stream
CHUNKS = [80, 320, 640]  # milliseconds
LEAST_SPEEDS = {320: 50.0}  # times faster than the audio, with 2.7 million parameters: a real-time factor of 0.02


class PlainJoint(nn.Module):
    """
    Joint CTC and attention as toolkits of speech write it: convolutions, packed bidirectional GRUs of torch, location
    attention, and a decoder that goes from token to token.
    """

    def __init__(self, hidden_size: int, channels: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.projection = nn.Sequential(
            nn.Linear(channels * MELS // 4, hidden_size), nn.LayerNorm(hidden_size), nn.ReLU()
        )
        self.encoder = nn.GRU(hidden_size, hidden_size, num_layers=2, bidirectional=True, batch_first=True)
        self.ctc = nn.Linear(2 * hidden_size, VOCABULARY)
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
        self.key, self.query = nn.Linear(2 * hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)
        self.convolution = nn.Conv1d(1, LOCATION_CHANNELS, LOCATION_KERNEL, padding="same", bias=False)
        self.location = nn.Linear(LOCATION_CHANNELS, hidden_size, bias=False)
        self.energy = nn.Linear(hidden_size, 1, bias=False)
        self.cell = nn.GRUCell(EMBEDDING + 2 * hidden_size, hidden_size)
        self.output = nn.Linear(3 * hidden_size, VOCABULARY)

    def forward(self, features: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        images = self.convolutions(features[:, None])
        lengths = (lengths + 3) // 4
        vectors = self.projection(images.transpose(1, 2).flatten(2))
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        memory, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        is_padding = torch.arange(memory.shape[1]) >= lengths[:, None]
        log_probs = self.ctc(memory).log_softmax(dim=-1).transpose(0, 1)
        counts = torch.full((len(labels),), labels.shape[1])
        ctc = nn.functional.ctc_loss(log_probs, labels, lengths, counts, blank=BLANK)
        keys, state = self.key(memory), memory.new_zeros(len(memory), self.hidden_size)
        context, weights = memory.new_zeros(len(memory), 2 * self.hidden_size), memory.new_zeros(memory.shape[:2])
        embedded, logits = self.embedding(nn.functional.pad(labels[:, :-1], (1, 0), value=1)), []
        for step in range(labels.shape[1]):
            state = self.cell(torch.cat([embedded[:, step], context], dim=-1), state)
            seen = self.location(self.convolution(weights[:, None]).transpose(1, 2))
            scores = self.energy(torch.tanh(keys + self.query(state)[:, None] + seen))[..., 0]
            weights = scores.masked_fill(is_padding, -torch.inf).softmax(dim=1)
            context = (weights[:, None] @ memory)[:, 0]
            logits.append(self.output(torch.cat([state, context], dim=-1)))
        entropy = nn.functional.cross_entropy(torch.stack(logits, dim=1).flatten(0, 1), labels.flatten())
        return 0.3 * ctc + 0.7 * entropy


def measure(rounds: int) -> Iterator[Line]:
    torch.manual_seed(0)
    yield from features(rounds)
    for hidden_size, channels in TRAINED:
        yield training_step(hidden_size, channels, rounds)
    for hidden_size, layers in STREAMED:
        model = streaming_model(hidden_size, layers)
        size = sum(weight.numel() for weight in model.parameters())
        for chunk in CHUNKS:
            goal = LEAST_SPEEDS.get(chunk) if hidden_size == STREAMED[1][0] else None
            yield stream(f"{SECONDS} s of audio in chunks of {chunk} ms, {size / 1e6:.2g}M", model, chunk, rounds, goal)


def recording() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(SECONDS * RATE)).astype(np.float32)


def features(rounds: int) -> Iterator[Line]:
    samples = recording()
    ours = AttentionRnnFeatureExtractor(MELS, RATE)
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither, options.mel_opts.num_bins = RATE, 0, MELS

    def of_kaldi() -> np.ndarray:
        fbank = kaldi_native_fbank.OnlineFbank(options)
        fbank.accept_waveform(RATE, (samples * 32768).tolist())
        fbank.input_finished()
        frames = np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])
        return (frames - frames.mean(0)) / frames.std(0)

    name = f"log-mel features of {SECONDS} s, normalised"
    others: list[tuple[str, Callable[[], Any]]] = [("kaldi-native-fbank", of_kaldi)]
    speech_to_text = Speech2TextFeatureExtractor(feature_size=MELS, num_mel_bins=MELS, sampling_rate=RATE)
    others.append(("transformers' Speech2Text", lambda: speech_to_text(samples, sampling_rate=RATE)))
    for other, theirs in others:
        yield compare(f"{name}: {other}", lambda: ours(samples, sampling_rate=RATE), theirs, rounds)


def training_step(hidden_size: int, channels: int, rounds: int) -> Line:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(LEAST_FRAMES, MOST_FRAMES + 1, (BATCH,), generator=generator)
    lengths[0] = MOST_FRAMES
    frames = torch.randn(BATCH, MOST_FRAMES, MELS, generator=generator)
    mask = (torch.arange(MOST_FRAMES) < lengths[:, None]).long()
    labels = torch.randint(4, VOCABULARY, (BATCH, TARGET), generator=generator)
    config = AttentionRnnSpeechConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        embedding_size=EMBEDDING,
        num_mel_bins=MELS,
        subsampling_channels=[channels, channels],
        context_feeding="input",
        location_channels=LOCATION_CHANNELS,
        location_kernel_size=LOCATION_KERNEL,
        pad_token_id=BLANK,
        apply_spec_augment=False,
        embedding_dropout=0.0,
        hidden_dropout=0.0,
        readout_dropout=0.0,
    )
    ours: Any = AttentionRnnForSpeechSeq2Seq(config).train()
    theirs = PlainJoint(hidden_size, channels).train()
    size = sum(weight.numel() for weight in theirs.parameters())
    return compare(
        f"training step of joint CTC and attention: plain torch, packed ({size / 1e6:.2g}M)",
        updating(ours, lambda: ours(input_features=frames, attention_mask=mask, labels=labels).loss),
        updating(theirs, lambda: theirs(frames, lengths, labels)),
        rounds,
        2.0,
    )


def updating(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def streaming_model(hidden_size: int, layers: int) -> AttentionRnnForSpeechSeq2Seq:
    config = AttentionRnnSpeechConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        embedding_size=64,
        encoder_layers=layers,
        num_mel_bins=MELS,
        subsampling_channels=[16, 16] if hidden_size < 100 else [32, 32],
        bidirectional=False,
        causal=True,
        lookahead=10,
        pad_token_id=BLANK,
    )
    return AttentionRnnForSpeechSeq2Seq(config).eval()


def stream(name: str, model: AttentionRnnForSpeechSeq2Seq, milliseconds: int, rounds: int, goal: float | None) -> Line:
    """
    Features and tokens of a stream, in seconds of one core, against the time that the audio lasts: the ratio is one by
    the real-time factor.
    """
    extractor = AttentionRnnFeatureExtractor(MELS, RATE, normalization="running")
    samples, size, seconds = recording(), milliseconds * RATE // 1000, []
    for _ in range(rounds + 1):
        heard, state = extractor.begin_stream(), model.begin_stream()
        start = time.process_time()
        for begin in range(0, len(samples), size):
            frames, heard = extractor.stream(samples[begin : begin + size], heard)
            _, _, state = model.stream_step(frames, state)
        seconds.append(time.process_time() - start)
    speeds = [SECONDS / of_round for of_round in seconds[1:]]
    low, middle, high = statistics.quantiles(speeds, n=4, method="inclusive")
    return Line(
        name=name,
        ours_seconds=SECONDS / middle,
        theirs_seconds=SECONDS,
        ratio=middle,
        spread=high - low,
        goal=goal,
    )
