"""
Connectionist temporal classification (Graves et al., 2006): the head and its loss, greedy decoding, scores of prefixes,
and where the tokens of a transcript stand.

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

LEAST = -1e3  # log probabilities of tokens are no lower, so that sums of them keep their digits


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
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        silent = {config.bos_token_id, config.decoder_start_token_id, *ends} - {None, self.blank}
        self.silent = [int(token) for token in silent]

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


class PrefixScorer:
    """
    Scores of prefixes: log P(a transcript begins with these tokens), the sum over all alignments (Watanabe et al.,
    2017, algorithm 2), for a row of hypotheses each. What is known of a prefix is, at each position, the probability of
    having said it, ending in its last token or in a blank.

    With x_t(c) the probability of c at position t, and f_t that of having said the prefix by t, in such a way that c
    may follow (after a blank, if it is the last token of the prefix again), the prefix and then c have the probability

        sum_t f_(t-1) x_t(c)

    and ends by t in c with sum_(s <= t) f_(s-1) x_s(c) ... x_t(c). Cumulative sums of logarithms hold all of this,
    without a loop over the positions. In double precision.

    Args:
        log_probs: (rows, positions, vocabulary).
        lengths: (rows,).
        blank: its id.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor, blank: int) -> None:
        self.log_probs = log_probs.double().clamp(min=LEAST)
        self.lengths, self.blank = lengths, blank
        blanks = self.log_probs[..., blank].cumsum(dim=1)
        self.ends_in_token = torch.full_like(blanks, -torch.inf)
        self.ends_in_blank = blanks
        self.last = torch.full_like(lengths, blank)  # nothing is said again at first
        self.scores = torch.zeros_like(blanks[:, 0])  # of the prefixes

    def said(self) -> Tensor:
        """log P(the transcript is the prefix), (rows,)."""
        total = torch.logaddexp(self.ends_in_token, self.ends_in_blank)
        return total.gather(1, self.lengths[:, None] - 1)[:, 0]

    def extended(self, candidates: Tensor) -> Tensor:
        """log P(a transcript begins with the prefix and a candidate), (rows, n), for candidates (rows, n)."""
        places = torch.arange(self.log_probs.shape[1], device=candidates.device)
        before = self._before(candidates).masked_fill((places >= self.lengths[:, None])[..., None], -torch.inf)
        index = candidates[:, None].expand(-1, len(places), -1)
        return torch.logsumexp(before + self.log_probs.gather(2, index), dim=1)

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """
        Let the rows become `parents`, each followed by a token; a blank changes nothing. Both are (rows,), and a parent
        is a row about the same recording.
        """
        for name in ("ends_in_token", "ends_in_blank", "last", "scores"):
            setattr(self, name, getattr(self, name)[parents])
        scores = self.extended(tokens[:, None])[:, 0]
        rows = torch.arange(len(tokens), device=tokens.device)
        of_token = self.log_probs[rows, :, tokens].cumsum(dim=1)
        blanks = self.log_probs[..., self.blank].cumsum(dim=1)
        before = self._before(tokens[:, None])[..., 0]
        ends_in_token = of_token + torch.logcumsumexp(before - pad(of_token[:, :-1], (1, 0)), dim=1)
        after = pad(ends_in_token[:, :-1], (1, 0), value=-torch.inf)
        ends_in_blank = blanks + torch.logcumsumexp(after - pad(blanks[:, :-1], (1, 0)), dim=1)
        is_said = (tokens != self.blank)[:, None]
        self.ends_in_token = torch.where(is_said, ends_in_token, self.ends_in_token)
        self.ends_in_blank = torch.where(is_said, ends_in_blank, self.ends_in_blank)
        self.last = torch.where(is_said[:, 0], tokens, self.last)
        self.scores = torch.where(is_said[:, 0], scores, self.scores)

    def _before(self, candidates: Tensor) -> Tensor:
        """f_(t-1) of each position t and candidate, (rows, positions, n)."""
        again = (candidates == self.last[:, None])[:, None]
        total = torch.logaddexp(self.ends_in_token, self.ends_in_blank)
        before = torch.where(again, self.ends_in_blank[..., None], total[..., None])[:, :-1]
        # before the first position nothing is said, which is the prefix without a token
        nothing_yet = torch.where(self.last == self.blank, 0.0, -torch.inf)
        first = nothing_yet[:, None, None].to(before.dtype).expand(-1, 1, before.shape[2])
        return torch.cat([first, before], dim=1)
