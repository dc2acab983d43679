"""
CTC scores of the beginnings of transcripts, and beam search by these alone.

`log_probs` are log probabilities (batch, positions, vocabulary) in single precision or better, and `lengths` (batch,)
says how many positions of each row are real; what follows is padding.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

LEAST = -1e3  # log probabilities of tokens are no lower, so that sums of them keep their digits
CANDIDATES = 40  # so many tokens, the best ones, may follow a prefix


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


def prefix_beam_search(
    log_probs: Tensor,
    lengths: Tensor,
    blank: int,
    beams: int,
    language_model: Callable[[Tensor, Tensor], Tensor] | None = None,
    begin: int = 0,
    ends: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """
    The likeliest transcripts, all alignments of each summed. The score of a prefix bounds those of all that begin with
    it, so the search ends when no prefix can win any more.

    Args:
        beams: how many prefixes are pursued, and transcripts returned.
        language_model: adds its weighted scores, see `LanguageModelScorer`; none by default.
        begin, ends: the tokens with which it reads that a transcript begins, and ends.

    Returns:
        Tokens (batch, beams, longest), best first, blanks behind them; and their scores, (batch, beams).
    """
    batch, positions, vocab_size = log_probs.shape
    scorer = PrefixScorer(log_probs.repeat_interleave(beams, 0), lengths.repeat_interleave(beams), blank)
    likely = log_probs[..., [token for token in range(vocab_size) if token != blank]].amax(dim=1)
    candidates = likely.topk(min(CANDIDATES, vocab_size - 1), dim=1).indices
    candidates = (candidates + (candidates >= blank)).repeat_interleave(beams, 0)  # (rows, n)
    prefixes = torch.full((batch * beams, 1), begin, device=lengths.device)
    of_language = torch.zeros(batch * beams, dtype=torch.float64, device=lengths.device)
    of_language.view(batch, beams)[:, 1:] = -torch.inf  # all rows are the same at first
    finished = [[(-torch.inf, prefixes[0, :0])] * beams for _ in range(batch)]
    first_rows = torch.arange(batch, device=lengths.device)[:, None] * beams
    for _ in range(positions + 1):
        scores = scorer.extended(candidates) + of_language[:, None]
        said = scorer.said() + of_language
        if language_model is not None:
            added = language_model(prefixes, likely.new_zeros(len(prefixes), vocab_size)).double()
            scores = scores + added.gather(1, candidates)
            said = said + added[:, list(ends)].amax(dim=1)
        for row, score in enumerate(said.tolist()):
            finished[row // beams].append((score, prefixes[row, 1:]))
        finished = [sorted(some, key=lambda pair: -pair[0])[:beams] for some in finished]
        best, chosen = scores.view(batch, -1).topk(beams, dim=1)
        worst = torch.tensor([some[-1][0] for some in finished], device=best.device)
        if bool((best[:, 0] <= worst).all()):
            break
        parents = (chosen // candidates.shape[1] + first_rows).flatten()
        tokens = candidates.view(batch, -1).gather(1, chosen).flatten()
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        scorer.advance(parents, tokens)
        of_language = (best.flatten() - scorer.scores).nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    tokens = pad_sequence(
        [tokens for some in finished for _, tokens in some], batch_first=True, padding_value=blank
    ).view(batch, beams, -1)
    return tokens, torch.tensor([[score for score, _ in some] for some in finished], device=lengths.device)
