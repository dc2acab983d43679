"""SpecAugment: spans of time and of mel bands that training hides (Park et al., 2019)."""

import torch
from torch import Tensor


def spec_augment(features: Tensor, lengths: Tensor, config: object) -> Tensor:
    """
    Features of which spans are zero, the mean of what is normalised. The fields of `config` are those of
    `AttentionRnnSpeechConfig`.

    Args:
        features: (batch, frames, mels).
        lengths: the number of real frames, (batch,).
    """
    bands = torch.full_like(lengths, features.shape[2])
    hidden_frames = _spans(features.shape[1], lengths, config, "time")
    hidden_bands = _spans(features.shape[2], bands, config, "feature")
    return features.masked_fill(hidden_frames[:, :, None] | hidden_bands[:, None], 0)


def _spans(size: int, lengths: Tensor, config: object, axis: str) -> Tensor:
    """True in the spans drawn for one axis, (batch, size)."""
    share, longest, least = (
        getattr(config, f"mask_{axis}_{name}") for name in ("prob", "length", "min_masks")
    )  # of the axis that the spans cover, and of each span; and the number of these
    if not share:
        return torch.zeros(len(lengths), size, dtype=torch.bool, device=lengths.device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, device=lengths.device)

    counts = (share * lengths / longest + uniform(len(lengths))).floor().clamp(min=least)
    numbers = torch.arange(max(least, int(share * size / longest) + 1), device=lengths.device)
    # a span hides half of what is short at most
    widths = (uniform(len(lengths), len(numbers)) * (1 + (lengths[:, None] // 2).clamp(max=longest))).floor()
    starts = (uniform(*widths.shape) * (lengths[:, None] - widths + 1)).floor()
    places = torch.arange(size, device=lengths.device)
    inside = (places >= starts[..., None]) & (places < (starts + widths)[..., None])  # (batch, spans, size)
    return (inside & (numbers < counts[:, None])[..., None]).any(dim=1)
