"""
The front of speech: convolutions that make fewer vectors of the frames, and neighbours put together (the pyramid of
Listen, Attend and Spell). Both read a whole recording, and a stream chunk by chunk, in which the numbers are the same.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .configuration_attention_rnn_speech import FREQUENCY_STRIDE, AttentionRnnSpeechConfig


class ConvolutionalSubsampling(nn.Module):
    """
    Convolutions over time and frequency, rectified, and a projection to `hidden_size` with layer normalisation. Each
    takes every `subsampling_strides`-th frame and every second band. With `causal` no vector depends on a later frame.

    Initialised Xavier uniform, biases zero.
    """

    def __init__(self, config: AttentionRnnSpeechConfig) -> None:
        super().__init__()
        size = config.subsampling_kernel_size
        channels: Any = config.subsampling_channels
        strides: Any = config.subsampling_strides
        self.before = size - 1 if config.causal else size // 2  # frames of nothing before the first one
        self.after = size - 1 - self.before
        widths = zip([1, *channels], channels, strict=False)
        self.convolutions: Any = nn.ModuleList(
            nn.Conv2d(before, after, size, stride=(stride, FREQUENCY_STRIDE), padding=(0, size // 2))
            for (before, after), stride in zip(widths, strides, strict=True)
        )
        self.bands = [config.num_mel_bins]  # that each convolution reads, and those that the last one leaves
        for _ in self.convolutions:
            self.bands.append((self.bands[-1] - 1) // FREQUENCY_STRIDE + 1)
        self.projection = nn.Linear(channels[-1] * self.bands[-1], config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, frames: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            frames: (batch, frames, mels), padding on the right.
            mask: true at real frames, (batch, frames); `None` where there is no padding.

        Returns:
            Vectors (batch, positions, hidden) and their mask.
        """
        images = frames[:, None]  # (batch, channels, frames, bands)
        for convolution in self.convolutions:
            if mask is not None:
                images = images * mask[:, None, :, None]
                mask = mask[:, :: convolution.stride[0]]
            images = torch.relu(convolution(pad(images, (0, 0, self.before, self.after))))
        return self._project(images), mask

    def begin_stream(self, like: Tensor) -> list[Tensor]:
        """The state before the first chunk: the frames that the next output of each convolution begins with."""
        return [
            like.new_zeros(1, convolution.in_channels, self.before, bands)
            for convolution, bands in zip(self.convolutions, self.bands, strict=False)
        ]

    def stream(self, frames: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The vectors that the frames of a chunk (1, frames, mels) complete, (1, positions, hidden), and the state."""
        images, left = frames[:, None], []
        for convolution, before in zip(self.convolutions, state, strict=True):
            images = torch.cat([before, images], dim=2)
            size, stride = convolution.kernel_size[0], convolution.stride[0]
            outputs = max(0, (images.shape[2] - size) // stride + 1)
            left.append(images[:, :, outputs * stride :])
            if outputs == 0:
                images = images.new_zeros(1, convolution.out_channels, 0, self.bands[len(left)])
            else:
                images = torch.relu(convolution(images[:, :, : (outputs - 1) * stride + size]))
        return self._project(images), left

    def _project(self, images: Tensor) -> Tensor:
        vectors = images.transpose(1, 2).flatten(2)  # (batch, positions, channels * bands)
        return self.dropout(torch.relu(self.norm(self.projection(vectors))))


def put_together(vectors: Tensor, mask: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
    """
    `count` neighbours side by side (Chan et al., 2016, https://arxiv.org/abs/1508.01211, equation 5); zeros follow a
    last group that is not full.

    Args:
        vectors: (batch, positions, width), padding on the right.
        mask: true at real positions, (batch, positions), or `None`.

    Returns:
        (batch, groups, count * width) and the mask of the groups.
    """
    if count == 1:
        return vectors, mask
    if mask is not None:
        vectors, mask = vectors * mask[..., None], mask[:, ::count]
    missing = -vectors.shape[1] % count
    return pad(vectors, (0, 0, 0, missing)).unflatten(1, (-1, count)).flatten(2), mask
