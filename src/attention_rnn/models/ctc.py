"""
Connectionist temporal classification (Graves et al., 2006): the head and its loss, what the best token of each position
says, and where the tokens of a transcript stand.

Everywhere `log_probs` are log probabilities (batch, positions, vocabulary) in single precision or better, and
`lengths` (batch,) says how many positions of each row are real; what follows is padding.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, pad
from transformers.utils import logging

from .attention import close_holes
from .checks import IGNORED_LABEL, has_values
from .configuration_decoder import AttentionRnnDecoderConfig
from .losses import divisor

logger = logging.get_logger(__name__)


def silent_tokens(config: AttentionRnnDecoderConfig) -> list[int]:
    """The tokens that begin and end a text, which have no sound; without the blank, `pad_token_id`."""
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    silent = {config.bos_token_id, config.decoder_start_token_id, *ends} - {config.pad_token_id}
    return sorted(token for token in silent if token is not None)


class CTCHead(nn.Module):
    """
    Log probabilities of tokens and of the blank, which is `pad_token_id`, at each position of the memory. Those of the
    tokens that begin and end a text are zero: they have no sound.

    Initialised Xavier uniform, bias zero.
    """

    def __init__(self, config: AttentionRnnDecoderConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.memory_size, config.vocab_size)
        self.blank: Any = config.pad_token_id
        self.silent = silent_tokens(config)

    def forward(self, memory: Tensor) -> Tensor:
        """(batch, positions, memory) -> (batch, positions, vocabulary)"""
        logits = self.projection(memory)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        silent = torch.tensor(self.silent, dtype=torch.long, device=logits.device)
        return logits.index_fill(-1, silent, torch.finfo(logits.dtype).min).log_softmax(dim=-1)

    def resize(self, vocab_size: int) -> None:
        """Let the head know `vocab_size` tokens; those that it knows already keep their weights."""
        old = self.projection
        if vocab_size == old.out_features:
            return
        self.projection = nn.Linear(old.in_features, vocab_size, device=old.weight.device, dtype=old.weight.dtype)
        kept = min(vocab_size, old.out_features)
        with torch.no_grad():
            nn.init.xavier_uniform_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)
            self.projection.weight[:kept] = old.weight[:kept]
            self.projection.bias[:kept] = old.bias[:kept]

    def loss(
        self, log_probs: Tensor, lengths: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """
        The negative log likelihood of the labels, summed over all alignments.

        Args:
            log_probs: what `forward` returned.
            labels: (batch, target), -100 where there is none; tokens without a sound do not count.
            num_items_in_batch: see `divisor`.

        Returns:
            The mean over the labels, so that it has the size of a cross entropy. A row with more labels than it has
            positions for adds nothing.
        """
        targets, counts = self.targets(labels)
        losses = ctc_loss(
            log_probs.transpose(0, 1), targets, lengths, counts, blank=self.blank, reduction="none", zero_infinity=True
        )
        if has_values(counts) and bool((needed_positions(targets, counts) > lengths).any()):
            logger.warning_once(
                "Some `labels` have more tokens than the memory has positions, so that CTC learns nothing of them: "
                "subsample less, or take tokens of more characters."
            )
        return losses.sum() / divisor((labels != IGNORED_LABEL).sum(), num_items_in_batch)

    def targets(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The labels that have a sound, moved to the front, (batch, target), and the number of them, (batch,)."""
        is_target = (labels != IGNORED_LABEL) & (labels != self.blank)
        for token in self.silent:
            is_target = is_target & (labels != token)
        return close_holes(labels[..., None], is_target, self.blank)[..., 0], is_target.sum(dim=1)


def needed_positions(targets: Tensor, counts: Tensor) -> Tensor:
    """How many positions a transcript needs, (batch,): one for each token, and a blank between two that are equal."""
    places = torch.arange(1, targets.shape[1], device=targets.device)
    repeats = (targets[:, 1:] == targets[:, :-1]) & (places < counts[:, None])
    return counts + repeats.sum(dim=1)


def collapse(tokens: Tensor, lengths: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """
    What the best token of each position says: repeats count once, blanks not at all.

    Args:
        tokens: (batch, positions).

    Returns:
        The tokens that are left, (batch, longest), `blank` behind them; and the position where each begins, -1 behind
        them.
    """
    before = pad(tokens[:, :-1], (1, 0), value=blank)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    begins = (tokens != before) & (tokens != blank) & (places < lengths[:, None])
    longest = int(begins.sum(dim=1).max())
    kept = close_holes(torch.stack([tokens, places.expand_as(tokens)], dim=-1), begins, -1)[:, :longest]
    return kept[..., 0].masked_fill(kept[..., 1] < 0, blank), kept[..., 1]


def align(log_probs: Tensor, lengths: Tensor, targets: Tensor, counts: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """
    The most likely alignment of transcripts (Viterbi).

    Args:
        targets: the tokens, without blanks, (batch, target), padding on the right.
        counts: how many of these are real, (batch,).

    Returns:
        The first position of each token and the one behind its last, (batch, target); zeros at padding.

    Raises:
        ValueError: a transcript has more tokens than its row has positions for.
    """
    needed = needed_positions(targets, counts)
    if bool((needed > lengths).any()):
        row = int((needed > lengths).int().argmax())
        raise ValueError(
            f"The tokens of a row must fit its positions; row {row} needs {int(needed[row])}, got {int(lengths[row])}."
        )
    rows, positions = log_probs.shape[:2]
    # a state for each token, at odd numbers, and for the blank before, between and after them
    states = torch.full((rows, 2 * targets.shape[1] + 1), blank, device=targets.device)
    states[:, 1::2] = targets
    emitted = log_probs.double().gather(2, states[:, None].expand(-1, positions, -1))  # (batch, positions, states)
    # from a token to the next one without a blank, unless they are equal
    leaps = torch.zeros_like(states, dtype=torch.bool)
    leaps[:, 3::2] = targets[:, 1:] != targets[:, :-1]
    best = torch.full_like(emitted[:, 0], -torch.inf)
    best[:, :2] = emitted[:, 0, :2]
    moves = []  # how many states each one was left behind by the position before
    for position in range(1, positions):
        ways = [best, pad(best[:, :-1], (1, 0), value=-torch.inf), pad(best[:, :-2], (2, 0), value=-torch.inf)]
        ways[2] = ways[2].masked_fill(~leaps, -torch.inf)
        reached, move = torch.stack(ways).max(dim=0)
        goes_on = (position < lengths)[:, None]
        best = torch.where(goes_on, reached + emitted[:, position], best)
        moves.append(torch.where(goes_on, move, 0))
    every_row = torch.arange(rows, device=targets.device)
    ends = torch.stack([2 * counts, (2 * counts - 1).clamp(min=0)], dim=1)  # in a blank, or in the last token
    state = ends[every_row, best.gather(1, ends).argmax(dim=1)]
    path = [state]
    for move in reversed(moves):
        state = state - move[every_row, state]
        path.append(state)
    path_of_states = torch.stack(path[::-1], dim=1)  # (batch, positions)
    places = torch.arange(positions, device=targets.device)
    path_of_states = path_of_states.masked_fill(places >= lengths[:, None], 0)
    tokens = 2 * torch.arange(targets.shape[1], device=targets.device) + 1
    at_token = path_of_states[:, None] == tokens[:, None]  # (batch, target, positions)
    first = at_token.int().argmax(dim=2)
    return first, first + at_token.sum(dim=2)


def confidence(log_probs: Tensor, targets: Tensor, first: Tensor, behind: Tensor) -> Tensor:
    """The geometric mean of the probability of each token over its positions, (batch, target)."""
    places = torch.arange(log_probs.shape[1], device=targets.device)
    inside = (places >= first[..., None]) & (places < behind[..., None])  # (batch, target, positions)
    of_tokens = log_probs.gather(2, targets[:, None].expand(-1, len(places), -1)).transpose(1, 2)
    return (of_tokens.where(inside, 0).sum(dim=2) / inside.sum(dim=2).clamp(min=1)).exp()
