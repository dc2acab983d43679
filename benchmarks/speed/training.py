"""
Time of a training step of whole models of equal size, at equal batches of equal lengths: an attention RNN against a
plain PyTorch encoder-decoder as tutorials write it, a Marian transformer, and JoeyNMT's GRU where it is installed; and
the share of the machine's own matrix products that training reaches.

    python benchmarks/speed/run.py training
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from comparison import Line, compare
from generation import VOCABULARY, build_marian
from others import build_joeynmt, step_joeynmt
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration

EMBEDDING, HIDDEN, BATCH = 256, 512, 64
# the lengths of length-grouped batches of short sentences, source and target
LENGTHS = [(9, 9), (11, 12), (13, 13), (15, 16), (20, 19)]


class TutorialSeq2Seq(nn.Module):
    """
    An encoder-decoder with additive attention and input feeding as introductions to PyTorch have it: torch's own
    encoder, and a decoder that goes through the target step by step. Padding is not masked, which spares it time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
        self.encoder = nn.GRU(EMBEDDING, HIDDEN, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * HIDDEN, HIDDEN)
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(2 * HIDDEN, HIDDEN)
        self.energy = nn.Linear(HIDDEN, 1)
        self.decoder = nn.GRU(EMBEDDING + 2 * HIDDEN, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, final = self.encoder(self.embedding(source))
        state = torch.tanh(self.bridge(torch.cat([final[0], final[1]], dim=-1)))[None]
        keys, logits = self.key(memory), []
        for step in range(target.shape[1]):
            embedded = self.embedding(target[:, step : step + 1])
            scores = self.energy(torch.tanh(self.query(state[-1])[:, None] + keys))
            context = torch.softmax(scores, dim=1).transpose(1, 2) @ memory
            output, state = self.decoder(torch.cat([embedded, context], dim=-1), state)
            logits.append(self.output(output))
        return torch.cat(logits, dim=1)


def measure(rounds: int) -> Iterator[Line]:
    parallel, feeding = build(), build(context_feeding="input")
    half = build(logits_in_training=False)
    # the others, with what we aim at in each of our three forms
    others: list[tuple[str, nn.Module, Callable[[Any, Tensor, Tensor], Tensor], tuple[float | None, ...]]] = [
        ("plain PyTorch", TutorialSeq2Seq(), step_tutorial, (None, None, None)),
        ("Marian", build_marian().train(), step_model, (2.0, None, None)),
    ]
    try:
        joeynmt = build_joeynmt(VOCABULARY, EMBEDDING, HIDDEN)
        others.append(("JoeyNMT's GRU", joeynmt, step_joeynmt, (2.0, 3.0, 1.3)))
    except ImportError as error:
        print(f"JoeyNMT is skipped: {error}. benchmarks/speed/others.py says how to install it.")
    for name, theirs, step, goals in others:
        size = sum(weight.numel() for weight in theirs.parameters())
        for form, ours, dtype, goal in (
            ("parallel", parallel, None, goals[0]),
            ("parallel, no logits, bfloat16", half, torch.bfloat16, goals[1]),
            ("input feeding", feeding, None, goals[2]),
        ):
            line = f"training step, {form}: {name} ({size / 1e6:.1f}M)"
            yield compare(line, epoch(ours, step_model, dtype), epoch(theirs, step), rounds, goal)
    for context_feeding in ("parallel", "input", "conditional"):
        fast = build(context_feeding=context_feeding)
        plain = build(context_feeding=context_feeding, recurrence_backend="reference")
        name = f"training step, {context_feeding}: the same by the plain loops"
        yield compare(name, epoch(fast, step_model), epoch(plain, step_model), rounds)
    yield share_of_peak(rounds)


def build(**overrides: Any) -> AttentionRnnForConditionalGeneration:
    torch.manual_seed(0)
    config = AttentionRnnConfig(
        vocab_size=VOCABULARY,
        embedding_size=EMBEDDING,
        hidden_size=HIDDEN,
        **{"decoder_layers": 1 if overrides.get("context_feeding") == "input" else 2, **overrides},
    )
    return AttentionRnnForConditionalGeneration(config).train()


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        tuple(torch.randint(4, VOCABULARY, (BATCH, length), generator=generator) for length in lengths)  # type: ignore[misc]
        for lengths in LENGTHS
    ]


def step_model(model: Any, source: Tensor, target: Tensor) -> Tensor:
    return model(input_ids=source, attention_mask=torch.ones_like(source), labels=target).loss


def step_tutorial(model: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    start = torch.ones_like(target[:, :1])
    logits = model(source, torch.cat([start, target[:, :-1]], dim=1))
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def epoch(
    model: nn.Module, step: Callable[[Any, Tensor, Tensor], Tensor], dtype: torch.dtype | None = None
) -> Callable[[], None]:
    """Loss, gradients and update for every batch."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    data = batches()

    def run() -> None:
        for source, target in data:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                loss = step(model, source, target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def share_of_peak(rounds: int) -> Line:
    """The time that the products of a training step would take alone at the machine's best, against all of it."""
    reference = build(recurrence_backend="reference", attention_type="general")
    with FlopCounterMode(display=False) as counter:
        for source, target in batches():
            step_model(reference, source, target).backward()
    operations = counter.get_total_flops()
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    repetitions = max(1, round(operations / (2 * 2048**3)))

    def products() -> None:
        for _ in range(repetitions):
            left @ right

    model = build(attention_type="general")
    line = compare("", products, epoch(model, step_model), rounds)
    # the products are ours here, so that the ratio is the share that is lost
    share, spread = 1 / line["ratio"], line["spread"] / line["ratio"] ** 2
    seconds = {"ours_seconds": line["theirs_seconds"], "theirs_seconds": line["ours_seconds"]}
    return Line(
        **{
            **line,
            **seconds,
            "name": "share of the product peak in training",
            "ratio": share,
            "spread": spread,
            "goal": 0.6,
        }
    )  # type: ignore[typeddict-item]
