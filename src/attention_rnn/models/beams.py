"""The hypotheses of beam search and which of them win, as in transformers; the model is not known here."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

IMPOSSIBLE = -1.0e9  # added to the score of what must not be chosen
BLOCK = 64  # scores among which `top` looks for the largest at once


class Beams:
    """
    The running and the finished hypotheses about each source.

    They are as long as they have become, whatever `max_length` allows: finished ones are filled up to the length of the
    running ones.

    Args:
        input_ids: the prompts, (sources * beams, prompt).
        generation_config: a `GenerationConfig` as `generate()` has prepared it.

    Attributes:
        length: the number of tokens of the running hypotheses.
        running, finished: (sources, beams, length); their scores are (sources, beams), best first.
        running_origins, finished_origins: the rows that the tokens after the prompt came from, -1 beyond the end of a
            hypothesis, (sources, beams, length - prompt).
        goes_on: whether any hypothesis may still become one of the best.
        is_decided: where a source's finished hypotheses will not change any more, (sources,).
    """

    def __init__(self, input_ids: Tensor, generation_config: Any) -> None:
        self.config = generation_config
        num_beams = generation_config.num_beams
        eos_token_ids, pad_token_id = generation_config._eos_token_tensor, generation_config._pad_token_tensor
        self.candidates = num_beams * (2 if eos_token_ids is None else max(2, 1 + len(eos_token_ids)))
        self.prompt_length = input_ids.shape[1]

        # transformers fills up with eos where the padding token has the id 0
        self.filler = -1 if eos_token_ids is None else int(pad_token_id) or int(eos_token_ids[0])
        self.running = self.finished = input_ids.unflatten(0, (-1, num_beams))
        self.running_origins = self.finished_origins = self.running[..., :0]
        # at first all beams are the same, so that only one may be continued
        self.running_scores = torch.zeros(self.running.shape[:2], device=input_ids.device)
        self.running_scores[:, 1:] = IMPOSSIBLE
        self.finished_scores = torch.full_like(self.running_scores, IMPOSSIBLE)
        self.is_finished = torch.zeros_like(self.running_scores, dtype=torch.bool)
        self.is_improvable = torch.ones_like(self.is_finished[:, :1])
        self.goes_on = True

    @property
    def length(self) -> int:
        return self.running.shape[-1]

    @property
    def input_ids(self) -> Tensor:
        """The tokens of the running hypotheses, (sources * beams, length)."""
        return self.running.flatten(0, 1)

    @property
    def last_tokens(self) -> Tensor:
        """The last of these, (sources * beams,)."""
        return self.running[..., -1].flatten()

    @property
    def is_decided(self) -> Tensor:
        full = self.is_finished.all(dim=1)
        return full if self.config.early_stopping is True else full & ~self.is_improvable[:, 0]

    def extend(self, log_probabilities: Tensor, criteria: Callable[[Tensor, Any], Tensor], scores: Any) -> Tensor:
        """
        Add a token to the hypotheses.

        Args:
            log_probabilities: of the next token, (sources * beams, vocabulary).
            criteria: say which hypotheses end with this token.
            scores: what the criteria get as their second argument.

        Returns:
            The rows that the running hypotheses came from, (sources * beams,).
        """
        num_beams, vocab_size = self.config.num_beams, log_probabilities.shape[-1]
        sources = torch.arange(len(self.running), device=self.running.device)[:, None]
        totals = log_probabilities.unflatten(0, (-1, num_beams)) + self.running_scores[..., None]
        totals, best = top(totals.flatten(1), self.candidates)
        parents = best // vocab_size + num_beams * sources
        candidates = torch.cat([self.running.flatten(0, 1)[parents], (best % vocab_size)[..., None]], dim=-1)
        origins = torch.cat([self.running_origins.flatten(0, 1)[parents], parents[..., None]], dim=-1)
        stops = criteria(candidates.flatten(0, 1), scores).unflatten(0, (-1, self.candidates))
        self.running_scores, chosen = (totals + stops.float() * IMPOSSIBLE).topk(num_beams)
        self.running, self.running_origins = candidates[sources, chosen], origins[sources, chosen]
        self._finish(candidates, origins, totals, stops)
        self._look_ahead()
        self.goes_on = bool(self.is_improvable.any() & ~stops.all())
        if self.config.early_stopping is True:
            self.goes_on = self.goes_on and not bool(self.is_finished.all())
        return parents.gather(1, chosen).flatten()

    def _finish(self, candidates: Tensor, origins: Tensor, totals: Tensor, stops: Tensor) -> None:
        """Let those that stop compete with the finished ones, if they are among the best `num_beams`."""
        finishes = stops.clone()
        finishes[:, self.config.num_beams :] = False
        scores = totals / (self.length - self.prompt_length) ** self.config.length_penalty
        if self.config.early_stopping is True:
            scores = scores + self.is_finished.all(dim=1, keepdim=True).float() * IMPOSSIBLE
        scores = scores + (~self.is_improvable).float() * IMPOSSIBLE
        scores = scores + (~finishes).float() * IMPOSSIBLE
        self.finished_scores, chosen = torch.cat([self.finished_scores, scores], 1).topk(self.config.num_beams)
        sources = torch.arange(len(chosen), device=chosen.device)[:, None]
        finished, finished_origins = (
            pad(self.finished, (0, 1), value=self.filler),
            pad(self.finished_origins, (0, 1), value=-1),
        )
        self.finished = torch.cat([finished, candidates], dim=1)[sources, chosen]
        self.finished_origins = torch.cat([finished_origins, origins], dim=1)[sources, chosen]
        self.is_finished = torch.cat([self.is_finished, finishes], dim=1).gather(1, chosen)

    def _look_ahead(self) -> None:
        """Whether the best running hypothesis could still beat the worst finished one."""
        hopes_for_length = self.config.early_stopping == "never" and self.config.length_penalty > 0
        length = (self.config.max_length if hopes_for_length else self.length) - self.prompt_length
        best = self.running_scores[:, :1] / length**self.config.length_penalty
        worst = self.finished_scores.amin(dim=1, keepdim=True).where(self.is_finished, IMPOSSIBLE)
        self.is_improvable = self.is_improvable & (best > worst).any(dim=1, keepdim=True)

    def best(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """
        The best finished hypotheses about each source.

        Returns:
            The tokens (sources * count, prompt + new), the scores (sources * count,), and the rows that the new tokens
            came from (sources * count, new), -1 beyond the end.
        """
        finished, origins = self.finished[:, :count].flatten(0, 1), self.finished_origins[:, :count].flatten(0, 1)
        new = int((origins >= 0).sum(dim=1).max())
        return finished[:, : self.prompt_length + new], self.finished_scores[:, :count].flatten(), origins[:, :new]

    def of(self, sources: Tensor) -> "Beams":
        """Those about some of the sources. The rows they came from are then counted among these."""
        kept = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(kept, name, value[sources])
        return kept

    @staticmethod
    def join(parts: Sequence[tuple[Tensor, "Beams"]]) -> "Beams":
        """The finished hypotheses about all sources, given those about some of them with the numbers of these."""
        sources, beams = zip(*parts, strict=True)
        order = torch.cat(sources).argsort()
        joined = copy.copy(beams[-1])  # which has gone on longest
        longest = joined.length
        joined.finished, joined.finished_origins = (
            torch.cat(
                [pad(getattr(part, name), (0, longest - part.length), value=value) for part in beams],
            )[order]
            for name, value in (("finished", joined.filler), ("finished_origins", -1))
        )
        joined.finished_scores = torch.cat([part.finished_scores for part in beams])[order]
        return joined


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """
    `scores.topk(count)` of (batch, width): values and indices, best first, in any order where they are equal.

    The best of each block come first, then the best within the best blocks, since sorting is what takes time.
    """
    batch_size, width = scores.shape
    blocks = width // BLOCK
    if blocks < 8 * count:
        return scores.topk(count)
    blocked = scores[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK))
    best = blocked.amax(dim=-1).topk(count).indices
    within = blocked.gather(1, best[..., None].expand(-1, -1, BLOCK)).flatten(1)
    rest = scores[:, blocks * BLOCK :]  # too few for a block
    values, chosen = torch.cat([within, rest], dim=1).topk(count)
    best = torch.cat([best, best.new_full((batch_size, 1), blocks)], dim=1)
    return values, best.gather(1, chosen // BLOCK) * BLOCK + chosen % BLOCK
