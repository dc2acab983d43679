"""
A linear-chain conditional random field: it scores a whole sequence of labels, not each label for itself.

    score(y) = start[y_1] + sum_t emission[t, y_t] + sum_t transition[y_t-1, y_t] + end[y_n]

Its sums and maxima over all sequences of labels are one recursion, in which `logsumexp` or `amax` joins the ways to
reach a label. The chain runs over the positions of a mask and skips the others, wherever they stand.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn

# What a forbidden transition costs: more than emissions ever gain, yet finite, so that there is always a best sequence.
FORBIDDEN = -1e4

# Begin, inside, end and single, as BIO, BIOES, BILOU and BMES call them.
_PREFIXES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}


class ConditionalRandomField(nn.Module):
    """
    Linear-chain conditional random field (Lafferty et al., 2001; over a recurrent network: Huang et al., 2015,
    https://arxiv.org/abs/1508.01991, equation 5). All parameters start at zero.

    Args:
        num_labels: number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(num_labels))
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels))  # from, to
        self.end = nn.Parameter(torch.zeros(num_labels))

    def log_likelihood(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """
        Args:
            emissions: (batch, length, num_labels).
            labels: (batch, length); of any value outside the mask.
            mask: (batch, length), true where the chain runs.

        Returns:
            log p(labels | emissions), (batch,), in single precision or better; zero for an empty chain.
        """
        emissions = _precise(emissions)
        return (self._score(emissions, labels, mask) - self._log_partition(emissions, mask)) * mask.any(dim=1)

    def best_labels(self, emissions: Tensor, mask: Tensor, allowed: Tensor | None = None) -> Tensor:
        """
        The labels of highest score (Viterbi, 1967).

        Args:
            emissions, mask: see `log_likelihood`.
            allowed: see `max_marginals`.

        Returns:
            (batch, length); outside the mask, the label of the highest emission.
        """
        return self.max_marginals(emissions, mask, allowed).argmax(dim=-1)

    def max_marginals(self, emissions: Tensor, mask: Tensor, allowed: Tensor | None = None) -> Tensor:
        """
        How much worse than the best sequence of all is the best one with a given label at a given position:

            max of score(y) over all y with y_t = label, minus max of score(y) over all y

        So the label of the best sequence has zero, and every other less.

        Args:
            emissions, mask: see `log_likelihood`.
            allowed: (1 + num_labels, num_labels + 1), which label may follow which, see `allowed_transitions`.

        Returns:
            (batch, length, num_labels), in single precision or better; the emissions outside the mask.
        """
        emissions = _precise(emissions)
        start, transitions, end = self._scores(emissions, allowed)
        forward = _messages(emissions, mask, start, transitions, torch.amax)
        backward = _messages(emissions.flip(1), mask.flip(1), end, transitions.t(), torch.amax).flip(1)
        scores = forward + backward - emissions
        # where sequences tie, the best label is that of the one that backtracking finds, so that they do not mix
        is_best = _backtrack(forward, mask, transitions, end)[..., None] == torch.arange(
            emissions.shape[-1], device=emissions.device
        )
        gaps = (scores - scores.amax(dim=-1, keepdim=True)).clamp(max=-torch.finfo(torch.float32).eps)
        return torch.where(mask[..., None], gaps.masked_fill(is_best, 0), emissions)

    def _scores(self, like: Tensor, allowed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        start, transitions, end = (part.to(like.dtype) for part in (self.start, self.transitions, self.end))
        if allowed is None:
            return start, transitions, end
        penalty = torch.where(allowed, 0.0, FORBIDDEN).to(like)
        return start + penalty[0, :-1], transitions + penalty[1:, :-1], end + penalty[1:, -1]

    def _log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        start, transitions, end = self._scores(emissions, None)
        messages = _messages(emissions, mask, start, transitions, torch.logsumexp)
        return torch.logsumexp(messages[:, -1] + end, dim=-1)

    def _score(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        start, transitions, end = self._scores(emissions, None)
        labels = labels.masked_fill(~mask, 0)
        last = _last_positions(mask)
        before = torch.nn.functional.pad(last[:, :-1], (1, 0), value=-1)
        previous = labels.gather(1, before.clamp(min=0))
        scores = emissions.gather(2, labels[..., None])[..., 0]
        scores = scores + torch.where(before < 0, start[labels], transitions[previous, labels])
        final = labels.gather(1, last[:, -1:].clamp(min=0))[:, 0]
        return (scores * mask).sum(dim=1) + end[final]


def _precise(emissions: Tensor) -> Tensor:
    return emissions.to(torch.promote_types(emissions.dtype, torch.float32))  # halves lose too much in a long sum


def _messages(
    emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor, join: Callable[..., Tensor]
) -> Tensor:
    """
    What `join` makes of all sequences from the start to each position that end in each label, (batch, length, labels).
    A position outside the mask repeats the one before.
    """
    is_first = mask & (mask.cumsum(dim=1) == 1)
    into = transitions.t()  # to, from
    message = torch.zeros_like(emissions[:, 0])
    messages = []
    for emission, is_real, begins in zip(emissions.unbind(1), mask.unbind(1), is_first.unbind(1), strict=True):
        joined = join(message[:, None] + into, dim=-1)
        joined = torch.where(begins[:, None], start, joined)
        message = torch.where(is_real[:, None], joined + emission, message)
        messages.append(message)
    return torch.stack(messages, dim=1)


def _backtrack(forward: Tensor, mask: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """The labels of the best sequence, (batch, length), from the messages of `amax`."""
    label = (forward[:, -1] + end).argmax(dim=-1)
    labels = [label]
    for position in range(forward.shape[1] - 2, -1, -1):
        # a message that the next position repeats has been decided on already
        previous = (forward[:, position] + transitions.t()[label]).argmax(dim=-1)
        label = torch.where(mask[:, position + 1], previous, label)
        labels.append(label)
    return torch.stack(labels[::-1], dim=1)


def _last_positions(mask: Tensor) -> Tensor:
    """The last position inside the mask up to and including each one, (batch, length); -1 before the first."""
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, positions, -1).cummax(dim=1).values


def split_label(label: str) -> tuple[str, str]:
    """
    What a label says of its chunk: `B` (begin), `I` (inside), `E` (end) or `S` (single) in any of the schemes, and the
    type, empty for a label without one. `("O", "")` for all other labels.
    """
    prefix, _, kind = label.partition("-")
    return (_PREFIXES[prefix], kind) if prefix in _PREFIXES else ("O", "")


def continues_chunk(previous: str, label: str) -> bool:
    """Whether a label goes on with the chunk of the label before it, as conlleval sees it."""
    (role, kind), (next_role, next_kind) = split_label(previous), split_label(label)
    return role in ("B", "I") and next_role in ("I", "E") and kind == next_kind


def is_chunk_scheme(labels: Iterable[str]) -> bool:
    """Whether labels mark chunks: all are `O` or have a prefix of BIO, BIOES, BILOU or BMES, and some begin a chunk."""
    roles = {split_label(label)[0] for label in labels if label != "O"}
    return "O" not in roles and not roles.isdisjoint(("B", "S"))


@lru_cache(maxsize=8)
def allowed_transitions(labels: tuple[str, ...]) -> Tensor:
    """
    Which label may follow which by the scheme of their names. Inside and end go on with a chunk of their own type; with
    labels for ends, as in BIOES, a chunk of several tokens must be closed before anything else comes.

    Args:
        labels: names such as `("O", "B-LOC", "I-LOC")`, in the order of their ids.

    Returns:
        Booleans, (1 + labels, labels + 1): from the start (row 0) and each label, to each label and the end (last
        column).

    Raises:
        ValueError: the names follow no such scheme.
    """
    if not is_chunk_scheme(labels):
        raise ValueError(
            "`constrained_decoding` needs labels that are O or start with B-, I-, E-, S- (BIO, BIOES; L- and U-, M- "
            f"mean the same as E- and S-, I-), got {list(labels)}."
        )
    has_ends = any(split_label(label)[0] == "E" for label in labels)
    # on the CPU also while transformers makes a model without values, since the result is kept
    allowed = torch.empty(len(labels) + 1, len(labels) + 1, dtype=torch.bool, device="cpu")
    for row, label in enumerate(("O", *labels)):
        is_open = has_ends and split_label(label)[0] in ("B", "I")
        for column, next_label in enumerate((*labels, "O")):
            goes_on = continues_chunk(label, next_label)
            allowed[row, column] = goes_on or not (is_open or split_label(next_label)[0] in ("I", "E"))
    return allowed
