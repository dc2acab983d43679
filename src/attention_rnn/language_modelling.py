"""Training on a long text as parallel streams, with the state handed on from batch to batch."""

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Cache, TrainerCallback
from transformers.trainer_utils import speed_metrics

from .trainer import ReliableTrainer

if TYPE_CHECKING:
    pass

IGNORED_LABEL = -100


EXPLANATIONS = {
    "perplexity": "How many tokens the model hesitates between, on average; it depends on the tokenizer",
    "nats_per_character": "Loss for each character of the text, which compares models of any tokenizer",
    "bits_per_character": "The same in bits",
}


class Text(NamedTuple):
    """A text as tokens, without special tokens at its beginning."""

    ids: Tensor  # (tokens,)
    characters: int


class Streams(Dataset):
    """
    A text as parallel streams, cut into blocks. Each stream begins with `start_token_id`, from which its first token is
    predicted; where the last stream is shorter, nothing is predicted at its end.

    Item by item it is the first block of each stream, the second block of each stream, and so on: read in order, a
    batch continues the one before it.

    Args:
        text: the text.
        start_token_id: what each stream begins with.
        streams: their number.
        block_size: tokens of a block; the last one may be shorter.
        seed: of the place at which the text is opened to be laid out, another one in each epoch, so that blocks begin
            at other tokens. `None`: its beginning, always.
    """

    def __init__(self, text: Text, start_token_id: int, streams: int, block_size: int, seed: int | None = None) -> None:
        self.text, self.start_token_id, self.seed = text, start_token_id, seed
        self.streams, self.block_size = streams, block_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        ids = self.text.ids
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            ids = ids.roll(int(torch.randint(len(ids), (), generator=generator)))
        missing = -len(ids) % self.streams
        self.targets = torch.nn.functional.pad(ids, (0, missing), value=IGNORED_LABEL).view(self.streams, -1)
        start = self.targets.new_full((self.streams, 1), self.start_token_id)
        inputs = torch.cat([start, self.targets[:, :-1]], dim=1)
        self.inputs = inputs.where(inputs != IGNORED_LABEL, self.start_token_id)

    def __len__(self) -> int:
        return self.streams * math.ceil(self.targets.shape[1] / self.block_size)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        block, stream = divmod(index, self.streams)
        part = slice(block * self.block_size, (block + 1) * self.block_size)
        targets = self.targets[stream, part]
        # Trainer counts `labels` over all processes and divides the loss by their number
        return {"input_ids": self.inputs[stream, part], "labels": targets, "shift_labels": targets}


class StreamTrainer(ReliableTrainer):
    """
    A `ReliableTrainer` of a causal attention RNN that hands the state from batch to batch: truncated back-propagation
    through time. Its data sets are `Streams`, those to train on with as many streams as the batches have rows.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.carried: Cache | None = None
        self.add_callback(_Forget(self))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        streams: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(streams)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        self._signature_columns: Any = [*columns, "shift_labels"]  # else it is taken out of the batches

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        inputs = {**inputs, "past_key_values": self.carried, "use_cache": True}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        # a state that has led to a loss of NaN would lead to the next one
        self.carried = _detach(outputs["past_key_values"]) if loss.isfinite() else None
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The loss per token and per character, and the perplexity per token."""
        streams: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        start, nats = time.time(), self.score(streams)
        tokens, characters = len(streams.text.ids), streams.text.characters
        scores = {
            "loss": nats / tokens,
            "perplexity": math.exp(nats / tokens),
            "nats_per_character": nats / characters,
            "bits_per_character": nats / characters / math.log(2),
        }
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        metrics |= speed_metrics(metric_key_prefix, start, num_tokens=tokens)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def score(self, streams: Streams) -> float:
        """The negative log likelihood of a text in nats."""
        model: Any = self.model
        model, state, nats = model.eval().to(self.args.device), None, 0.0
        blocks = zip(
            streams.inputs.split(streams.block_size, dim=1),
            streams.targets.split(streams.block_size, dim=1),
            strict=True,
        )
        with torch.no_grad(), self.accelerator.autocast():
            for inputs, targets in blocks:
                if (targets == IGNORED_LABEL).all():
                    break  # what fills up the last stream may be longer than a block
                outputs = model(
                    inputs.to(self.args.device),
                    shift_labels=targets.to(self.args.device),
                    past_key_values=state,
                    use_cache=True,
                    num_items_in_batch=1,  # the sum
                )
                state, nats = outputs.past_key_values, nats + outputs.loss.item()
        return nats


class _Forget(TrainerCallback):
    """
    An epoch begins with other text than the last one ended with. And a run that is resumed from a checkpoint has no
    state to go on with, so one that goes on after it has none either.
    """

    def __init__(self, trainer: StreamTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.carried = None

    on_save = on_epoch_begin


def _detach(state: Any) -> Any:
    """The state without the graph that it came from."""
    for layer in state.layers:
        layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
    return state
