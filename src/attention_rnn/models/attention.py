"""
Attention: how a query of the decoder scores each position of the memory, and the context that follows.

Each score function is a class with two methods: `project` makes keys and values of the memory, once per source; `score`
compares queries with keys. The mask, the softmax and the context are the same for all.

Two scores look back: location-aware attention at where it looked the step before, coverage at where it has looked so
far. What they look back at is the alignment state, (batch, features, source); with it attention goes step by step.

Additive attention has a hidden layer for every pair of a query and a key. `additive_scores` never holds all of it, so
that long sequences fit and short ones are fast.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from .configuration_core import ATTENTION_TYPES, AttentionRnnCoreConfig, enter
from .prepared_linear import is_plain, is_watched


class Memory(NamedTuple):
    """What the attention looks at."""

    keys: Tensor  # (batch, source, key)
    values: Tensor  # (batch, source, value)
    mask: Tensor | None  # (batch, source), true at real tokens; `None` where there is no padding


class Attention(nn.Module):
    """
    Attention of a query over a memory (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, equations 5 and 6):

        weights = softmax_j(score(query_t, key_j)),  context_t = sum_j weights_tj value_j

    With coverage (See et al., 2017, https://arxiv.org/abs/1704.04368, equations 10 and 11), what has been attended to
    so far is added to the keys, c_t being the sum of the weights of the steps before: key_j + w_c c_tj. In additive
    attention that is the paper's equation; the other scores get the same hint.

    `register_attention` makes a subclass of a user's own a value of `attention_type`.
    """

    heads = 1
    looks_at_last_weights = False

    def __init__(self, config: AttentionRnnCoreConfig, key_size: int) -> None:
        super().__init__()
        self.backend = config.recurrence_backend
        self.coverage = nn.Linear(1, key_size, bias=False) if config.coverage else None

    @property
    def alignment_features(self) -> int:
        """Number of features of the alignment state: the last weights, and the coverage."""
        return int(self.looks_at_last_weights) + int(self.coverage is not None)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (batch, source, key) and values (batch, source, value) of a memory (batch, source, memory)."""
        raise NotImplementedError

    def score(self, query: Tensor, memory: Memory, alignment: Tensor) -> Tensor:
        """Scores (batch, heads, target, source) of queries (batch, target, query)."""
        raise NotImplementedError

    def forward(
        self, query: Tensor, memory: Memory, alignment: Tensor, target_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            query: (batch, target, query).
            memory: what `project` made of the memory, and its mask.
            alignment: the alignment state before the first query, (batch, features, source), in single precision or
                better, since it is a sum; zeros at the beginning.
            target_mask: (batch, target) or `None`. The alignment state does not move at padding.

        Returns:
            The context (batch, target, value); the weights (batch, heads, target, source), whose rows sum to one over
            the real tokens and are zero elsewhere; the alignment state after each query, (batch, target, features,
            source).
        """
        if not self.alignment_features:
            context, weights = self._attend(query, memory, alignment)
            return context, weights, alignment[:, None].expand(-1, query.shape[1], -1, -1)
        steps = []
        for step in range(query.shape[1]):
            context, weights = self._attend(query[:, step : step + 1], memory, alignment)
            seen = self._look_back(alignment, weights)
            alignment = seen if target_mask is None else torch.where(target_mask[:, step, None, None], seen, alignment)
            steps.append((context, weights, alignment))
        contexts, all_weights, alignments = zip(*steps, strict=True)
        return torch.cat(contexts, dim=1), torch.cat(all_weights, dim=2), torch.stack(alignments, dim=1)

    def _attend(self, query: Tensor, memory: Memory, alignment: Tensor) -> tuple[Tensor, Tensor]:
        if self.coverage is not None:
            keys = memory.keys + self.coverage(alignment[:, -1, :, None].to(memory.keys.dtype))
            memory = memory._replace(keys=keys)
        scores = self.score(query, memory, alignment)
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask[:, None, None], torch.finfo(scores.dtype).min)
        precision = torch.promote_types(scores.dtype, torch.float32)  # halves lose too much in a long sum
        weights = torch.softmax(scores, dim=-1, dtype=precision).to(memory.values.dtype)
        values = memory.values.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, source, value / heads)
        return (weights @ values).transpose(1, 2).flatten(2), weights

    def _look_back(self, alignment: Tensor, weights: Tensor) -> Tensor:
        seen = weights.mean(dim=1).to(alignment.dtype)  # (batch, 1, source)
        features = [seen] if self.looks_at_last_weights else []
        if self.coverage is not None:
            features.append(alignment[:, -1:] + seen)
        return torch.cat(features, dim=1)


class AdditiveAttention(Attention):
    """
    score(s, h) = v^T tanh(W s + U h + b)  (Bahdanau et al., 2015, appendix A.1.2)

    Initialised Xavier uniform, bias zero.
    """

    bias = True

    def __init__(self, config: AttentionRnnCoreConfig) -> None:
        attention_size = config.attention_size or config.hidden_size
        super().__init__(config, key_size=attention_size)
        self.query = nn.Linear(config.hidden_size, attention_size, bias=False)
        self.memory = nn.Linear(config.memory_size, attention_size, bias=self.bias)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.memory(memory), memory

    def score(self, query: Tensor, memory: Memory, alignment: Tensor) -> Tensor:
        queries, keys = self.query(query), memory.keys
        if self._is_worth_blocks(queries, keys):
            return additive_scores(queries, keys, self.energy.weight[0])[:, None]
        hidden = torch.tanh(queries[:, :, None] + keys[:, None])  # (batch, target, source, attention)
        return self.energy(hidden)[..., 0][:, None]

    def _is_worth_blocks(self, queries: Tensor, keys: Tensor) -> bool:
        if self.backend != "auto" or is_watched():
            return False
        return is_plain(self.energy) and queries.numel() * keys.shape[1] >= PLAIN_BELOW


class ConcatAttention(AdditiveAttention):
    """
    score(s, h) = v^T tanh(W [s; h])  (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8); additive
    attention without a bias, W being kept as the two matrices that meet s and h.
    """

    bias = False


class LocationAttention(AdditiveAttention):
    """
    score(s, h_j) = v^T tanh(W s + U h_j + F f_j + b),  f = convolution of the last weights over the source
    (Chorowski et al., 2015, https://arxiv.org/abs/1506.07503, equations 8 and 9)

    The convolution has `location_channels` filters of `location_kernel_size` positions, without bias; its padding is
    zero, and so is the weight of padded positions. Initialised Xavier uniform.
    """

    looks_at_last_weights = True

    def __init__(self, config: AttentionRnnCoreConfig) -> None:
        super().__init__(config)
        self.convolution = nn.Conv1d(
            1, config.location_channels, config.location_kernel_size, padding="same", bias=False
        )
        self.location = nn.Linear(config.location_channels, self.query.out_features, bias=False)

    def score(self, query: Tensor, memory: Memory, alignment: Tensor) -> Tensor:
        last_weights = alignment[:, :1].to(memory.keys.dtype)
        if memory.mask is not None:
            last_weights = close_holes(last_weights.transpose(1, 2), memory.mask).transpose(1, 2)
        features = self.convolution(last_weights).transpose(1, 2)  # (batch, source, channels)
        if memory.mask is not None:
            features = open_holes(features, memory.mask)
        return super().score(query, memory._replace(keys=memory.keys + self.location(features)), alignment)


class DotAttention(Attention):
    """score(s, h) = s^T h  (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8)"""

    def __init__(self, config: AttentionRnnCoreConfig) -> None:
        super().__init__(config, key_size=config.hidden_size)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return memory, memory

    def score(self, query: Tensor, memory: Memory, alignment: Tensor) -> Tensor:
        return (query @ memory.keys.transpose(1, 2))[:, None]


class ScaledDotAttention(DotAttention):
    """score(s, h) = s^T h / sqrt(hidden)  (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, equation 1)"""

    def score(self, query: Tensor, memory: Memory, alignment: Tensor) -> Tensor:
        return super().score(query * query.shape[-1] ** -0.5, memory, alignment)


class GeneralAttention(DotAttention):
    """
    score(s, h) = s^T W h  (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8)

    Initialised Xavier uniform.
    """

    def __init__(self, config: AttentionRnnCoreConfig) -> None:
        super().__init__(config)
        self.memory = nn.Linear(config.memory_size, config.hidden_size, bias=False)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.memory(memory), memory


class LocalAttention(GeneralAttention):
    """
    Local attention with predicted alignment, local-p (Luong et al., 2015, equations 9 and 10):

        p = S sigmoid(v^T tanh(W_p s)),  weights_j ~ softmax(s^T W h_j) exp(-(j - p)^2 / (2 sigma^2))

    for the positions j within D = `local_window_size` of p, with sigma = D / 2 and S the number of real source tokens,
    which alone are counted by j. The weights are normalised after the Gaussian, so that they sum to one. Initialised
    Xavier uniform.
    """

    def __init__(self, config: AttentionRnnCoreConfig) -> None:
        super().__init__(config)
        self.position = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.position_energy = nn.Linear(config.hidden_size, 1, bias=False)
        self.window_size = config.local_window_size

    def score(self, query: Tensor, memory: Memory, alignment: Tensor) -> Tensor:
        scores = super().score(query, memory, alignment)
        if memory.mask is None:
            length = torch.full((scores.shape[0], 1), scores.shape[-1], device=scores.device)
            position = torch.arange(scores.shape[-1], device=scores.device)[None]
        else:
            length, position = memory.mask.sum(dim=1, keepdim=True), memory.mask.cumsum(dim=1) - 1
        # in halves a position in a long source would be off by some tokens
        hidden, precision = torch.tanh(self.position(query)), torch.promote_types(query.dtype, torch.float32)
        with torch.autocast(query.device.type, enabled=False):
            energy = self.position_energy
            if is_plain(energy):
                position_energy = linear(hidden.to(precision), energy.weight.to(precision))
            else:
                position_energy = energy(hidden.to(query.dtype)).to(precision)
        center = torch.sigmoid(position_energy) * length[:, None]
        distance = (position[:, None] - center)[:, None]  # (batch, 1, target, source)
        scores = scores - (distance**2 / (2 * (self.window_size / 2) ** 2)).to(scores.dtype)
        return scores.masked_fill(distance.abs() > self.window_size, torch.finfo(scores.dtype).min)


class MultiHeadAttention(Attention):
    """
    Scaled dot products in several subspaces side by side (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762,
    section 3.2.2); the context is as wide as the memory.

    Initialised Xavier uniform, biases zero.
    """

    def __init__(self, config: AttentionRnnCoreConfig) -> None:
        super().__init__(config, key_size=config.hidden_size)
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.memory_size, config.hidden_size)
        self.value = nn.Linear(config.memory_size, config.memory_size)
        self.output = nn.Linear(config.memory_size, config.memory_size)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.key(memory), self.value(memory)

    def score(self, query: Tensor, memory: Memory, alignment: Tensor) -> Tensor:
        queries = self.query(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, target, width)
        keys = memory.keys.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, source, width)
        return queries @ keys.transpose(2, 3) * keys.shape[-1] ** -0.5

    def _attend(self, query: Tensor, memory: Memory, alignment: Tensor) -> tuple[Tensor, Tensor]:
        context, weights = super()._attend(query, memory, alignment)
        return self.output(context), weights


class AlignedAttention(Attention):
    """
    Hard attention that goes from token to token of the source, with `aligned_steps` at each, and stays at the last: the
    first tokens of the target stand for the first of the source, and so on. It is for targets that an aligner has cut
    into so many chunks for each token of the source, as `chunks.py` of the package does; see Aharoni and Goldberg
    (2017, https://arxiv.org/abs/1611.01487), whose decoder learns from an aligner when to go on.

    Of several steps at a token each adds a vector of its own to the context, as by a projection of its own the same
    state becomes several in Libovický and Helcl (2018, https://arxiv.org/abs/1811.04719, section 3). There is no query,
    so that a whole target is attended to at once. The alignment state counts the steps, at the token seen last.
    """

    looks_at_last_weights = True

    def __init__(self, config: AttentionRnnCoreConfig) -> None:
        super().__init__(config, key_size=0)
        self.steps = config.aligned_steps
        self.embed_step = nn.Embedding(self.steps, config.context_size) if self.steps > 1 else None

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return memory, memory

    def forward(
        self, query: Tensor, memory: Memory, alignment: Tensor, target_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mask = torch.ones_like(alignment[:, 0], dtype=torch.bool) if memory.mask is None else memory.mask
        place = mask.cumsum(dim=1)  # of each token, from 1; a padded one repeats that before it
        moves = torch.ones_like(query[..., 0], dtype=torch.long) if target_mask is None else target_mask.long()
        step = alignment.sum(dim=(1, 2)).long()[:, None] + moves.cumsum(dim=1)  # (batch, target), from 1
        step = step.minimum(self.steps * place[:, -1:])
        before = (step - 1).clamp(min=0)
        looks = (place[:, None] == 1 + (before // self.steps)[..., None]) & mask[:, None]  # (batch, target, source)
        weights = looks.to(memory.values.dtype)
        context = weights @ memory.values
        if self.embed_step is not None:
            context = context + self.embed_step(before % self.steps)
        return context, weights[:, None], (looks * step[..., None])[:, :, None].to(alignment.dtype)


# With fewer hidden units (batch x target x source x width) the plain formula takes less time than `additive_scores`.
PLAIN_BELOW = 2**15
# As many of them at a time, 2 MB in single precision, stay in the cache of a CPU.
BLOCK_SIZE = 2**19


def additive_scores(query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
    """
    v^T tanh(s + h) for every pair of a query s and a key h, as `AdditiveAttention.score` has it.

    The hidden layer, (batch, target, source, width), is computed block by block in a small buffer, and again in the
    backward pass; what is kept has the size of the arguments and the result. It cannot be differentiated twice.

    Args:
        query: s, (batch, target, width).
        keys: h, (batch, source, width).
        energy: v, (width).

    Returns:
        The scores, (batch, target, source), in single precision or better.
    """
    precision = torch.promote_types(query.dtype, torch.float32)
    return _AdditiveScores.apply(query.to(precision), keys.to(precision), energy.to(precision))


class _AdditiveScores(torch.autograd.Function):
    """
    With r = sigmoid(2 (s + h)), which on a CPU takes a sixth of the time of tanh:

        tanh(s + h) = 2 r - 1,  tanh'(s + h) = 4 (r - r^2)
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
        ctx.save_for_backward(query, keys, energy)
        scores = query.new_empty(*query.shape[:2], keys.shape[1])
        for block, hidden in _blocks(query, keys):
            products = torch.mv(hidden.flatten(0, 2), energy, out=scores.new_empty(hidden.shape[:3].numel()))
            scores[block] = products.view(hidden.shape[:3])  # made with `out`, which autocast leaves alone
        return scores.mul_(2).sub_(energy.sum())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, score_grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, energy = ctx.saved_tensors
        query_grad, keys_grad, energy_grad = (torch.zeros_like(tensor) for tensor in (query, keys, energy))
        for block, hidden in _blocks(query, keys):
            rows, steps, positions = block
            grad = score_grad[block]
            energy_grad.addmv_(hidden.flatten(0, 2).t(), grad.flatten())
            hidden.addcmul_(hidden, hidden, value=-1).mul_(grad[..., None])
            query_grad[rows, steps] += hidden.sum(dim=2)
            keys_grad[rows, positions] += hidden.sum(dim=1)
        return (
            query_grad.mul_(4 * energy),
            keys_grad.mul_(4 * energy),
            energy_grad.mul_(2).sub_(score_grad.sum()),
        )


def _blocks(query: Tensor, keys: Tensor) -> Iterator[tuple[tuple[slice, slice, slice], Tensor]]:
    """
    Blocks of sigmoid(2 (query + keys)), (batch, target, source, width), one after another in the same memory, each with
    the rows, steps and positions that it covers.
    """
    (batch_size, target, width), source = query.shape, keys.shape[1]
    size = BLOCK_SIZE if query.device.type == "cpu" else 128 * BLOCK_SIZE  # a GPU wants more to do at a time
    pairs = max(1, size // width)
    # about square, which reads the fewest queries and keys
    positions = min(source, max(math.isqrt(pairs), pairs // target))
    steps = min(target, max(1, pairs // positions))
    rows = min(batch_size, max(1, pairs // (positions * steps)))
    memory = query.new_empty(rows * steps * positions * width)
    doubled = 2 * query
    for row in range(0, batch_size, rows):
        for step in range(0, target, steps):
            for position in range(0, source, positions):
                block = slice(row, row + rows), slice(step, step + steps), slice(position, position + positions)
                queries, others = doubled[block[:2]][:, :, None], keys[block[0], None, block[2]]
                shape = (*queries.shape[:2], *others.shape[2:])
                hidden = memory[: math.prod(shape)].view(shape)
                yield block, torch.add(queries, others, alpha=2, out=hidden).sigmoid_()


ATTENTIONS: dict[str, Any] = {  # classes, made of a config alone
    "additive": AdditiveAttention,
    "concat": ConcatAttention,
    "location": LocationAttention,
    "dot": DotAttention,
    "scaled_dot": ScaledDotAttention,
    "general": GeneralAttention,
    "local": LocalAttention,
    "multi_head": MultiHeadAttention,
    "aligned": AlignedAttention,
}


def register_attention(name: str) -> Callable[[type[Attention]], type[Attention]]:
    """
    Make a score function of your own a value of `attention_type`, as a decorator of its class; see `register_cell` of
    `cells.py` for what its file may import.

    Raises:
        ValueError: the name is that of another score function.
        TypeError: the class is no `Attention`.
    """

    def register(attention_class: type[Attention]) -> type[Attention]:
        if not (isinstance(attention_class, type) and issubclass(attention_class, Attention)):
            raise TypeError(f"`register_attention` must decorate a subclass of Attention, got {attention_class!r}.")
        enter(ATTENTIONS, name, attention_class)
        if name not in ATTENTION_TYPES:
            ATTENTION_TYPES.append(name)
        return attention_class

    return register


def close_holes(tokens: Tensor, mask: Tensor, fill: float = 0) -> Tensor:
    """Move the real tokens of (batch, length, width) to the front and leave `fill` behind them."""
    slots = torch.where(mask, mask.cumsum(dim=1), 0)[..., None].expand_as(tokens)
    closed = tokens.new_full((tokens.shape[0], tokens.shape[1] + 1, tokens.shape[2]), fill)
    return closed.scatter(1, slots, tokens)[:, 1:]  # padded positions share slot 0


def open_holes(tokens: Tensor, mask: Tensor) -> Tensor:
    """Move tokens from the front back to where they were; a padded position repeats the real one before it."""
    return tokens.gather(1, token_slots(mask)[..., None].expand_as(tokens))


def token_slots(mask: Tensor) -> Tensor:
    """How many real tokens stand before each position, or before the real token that it repeats, (batch, length)."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
