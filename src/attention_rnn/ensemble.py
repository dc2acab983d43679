"""Ensembles: several checkpoints decode together, by the mean of their probabilities."""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.cache_utils import Cache
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .models.base import AttentionRnnPreTrainedModel
from .models.cache import cache_field, new_cache, takes_cache
from .models.checks import check_labels, check_tensors
from .models.configuration_attention_rnn import AttentionRnnConfig
from .models.generation_checks import CheckedGenerationMixin
from .models.modeling_attention_rnn_seq2seq import AttentionRnnForConditionalGeneration
from .models.outputs import AttentionRnnEncoderOutput
from .models.tokenization_attention_rnn import TARGET_TOKENIZER_FILE


@dataclass
class AttentionRnnEnsembleEncoderOutput(ModelOutput):
    """
    What the encoders of all members return. Beam search repeats only the tensors that are fields of an output itself,
    so they lie side by side: those of the first member under their names, `final_state` of member 2 under
    `final_state_2`.

    Args:
        last_hidden_state: the memory of the first member, (batch, source, memory).
    """

    last_hidden_state: Tensor | None = None

    @classmethod
    def join(cls, outputs: Iterable[AttentionRnnEncoderOutput]) -> "AttentionRnnEnsembleEncoderOutput":
        """Lay the outputs of the members' encoders side by side."""
        joined = cls()
        for member, output in enumerate(outputs):
            for name, value in output.items():
                if isinstance(value, Tensor):
                    joined[cls._key(name, member)] = value
        return joined

    def of(self, member: int) -> AttentionRnnEncoderOutput:
        """What the encoder of this member returned."""
        names = [field.name for field in fields(AttentionRnnEncoderOutput)]
        return AttentionRnnEncoderOutput(**{name: self.get(self._key(name, member)) for name in names})

    @staticmethod
    def _key(name: str, member: int) -> str:
        return f"{name}_{member}" if member else name


NO_EMBEDDINGS = "`{name}` must not be given to an ensemble, each member of which has embeddings of its own."


class AttentionRnnEnsembleEncoder(nn.Module):
    """The encoders of all members; each reads the source."""

    def __init__(self, encoders: Iterable[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        copy_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> AttentionRnnEnsembleEncoderOutput:
        """See `AttentionRnnEncoder.forward`; without `inputs_embeds`."""
        if kwargs.get("inputs_embeds") is not None:
            raise ValueError(NO_EMBEDDINGS.format(name="inputs_embeds"))
        source = {"input_ids": input_ids, "attention_mask": attention_mask, "copy_ids": copy_ids}
        return AttentionRnnEnsembleEncoderOutput.join(encoder(**source, return_dict=True) for encoder in self.encoders)


class AttentionRnnEnsemble(AttentionRnnPreTrainedModel, CheckedGenerationMixin):
    """
    Several models that decode together, by the mean of the probabilities that they give to the next token, usually the
    same model trained from several seeds (as in Sutskever et al., 2014, https://arxiv.org/abs/1409.3215):

        p(y_t | y_<t, x) = 1/K sum_k p_k(y_t | y_<t, x)

    `generate()` offers what it offers for one model, and `Seq2SeqTrainer` evaluates and predicts with an ensemble. The
    members may differ in everything but what their tokens stand for. They run one after another: an ensemble of K takes
    K times the time and memory of one. Averaging the weights of one run (`average_checkpoints`) costs nothing at
    decoding and gains less.

    An ensemble has no logits; the log of the mean probability takes their place. Options that depend on the sign of
    a logit, such as `repetition_penalty`, act on that.

    Args:
        members (`Sequence[AttentionRnnForConditionalGeneration]`):
            One model or more, on one device. They are used, not copied, and put into evaluation mode. `config` and
            `generation_config` are copies of the first's, except that `config.decoder_layers` counts the decoder
            layers of all.

    Raises:
        TypeError: a member is of another class.
        ValueError: there is no member, or members differ in a vocabulary, in a special token, in `copy` or in
            `aligned_steps`.

    Example:
        >>> ensemble = AttentionRnnEnsemble.from_pretrained(["runs/seed1", "runs/seed2", "runs/seed3"])
        >>> tokenizer = AutoTokenizer.from_pretrained("runs/seed1")
        >>> outputs = ensemble.generate(**tokenizer(["hello"], return_tensors="pt"), num_beams=5)
    """

    members: Any  # nn.ModuleList

    def __init__(self, members: Sequence[AttentionRnnForConditionalGeneration]) -> None:
        _check_members(members)
        config = copy.deepcopy(members[0].config)
        config.decoder_layers = sum(member.config.decoder_layers for member in members)  # a cache layer for each
        super().__init__(config)
        # without `post_init`, which would give the weights initial values
        self.members = nn.ModuleList(members)
        self.generation_config = copy.deepcopy(members[0].generation_config)
        self.loss_type = members[0].loss_type
        self.eval()

    @classmethod
    def from_pretrained(cls, folders: Sequence[str | PathLike], **kwargs: Any) -> "AttentionRnnEnsemble":  # type: ignore[override]
        """
        The ensemble of several checkpoints.

        Args:
            folders: their folders, or names on the Hub. The tokenizer of any will do for all.
            kwargs: as for `from_pretrained` of one model, for each.

        Raises:
            TypeError: `folders` is a single folder.
            ValueError: the checkpoints do not belong together, see the class; or tokenizers that lie in the folders
                have different vocabularies.
        """
        if isinstance(folders, (str, PathLike)):
            raise TypeError(f"`folders` must be a list of folders, got {folders!r}.")
        check_tokenizers(folders)
        return cls([AttentionRnnForConditionalGeneration.from_pretrained(folder, **kwargs) for folder in folders])

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """An ensemble is not saved; its members are."""
        raise NotImplementedError(
            "An ensemble is not saved as a whole. Save its `members` and load them by `from_pretrained([...])`."
        )

    def get_encoder(self, modality: str | None = None) -> AttentionRnnEnsembleEncoder:
        """The encoders of all members."""
        return AttentionRnnEnsembleEncoder(member.get_encoder(modality) for member in self.members)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels (batch, target) shifted to the right, behind `decoder_start_token_id`."""
        return self.members[0].prepare_decoder_input_ids_from_labels(labels)

    create_masks_for_generate = staticmethod(AttentionRnnForConditionalGeneration.create_masks_for_generate)

    @can_return_tuple
    @takes_cache
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEnsembleEncoderOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        copy_ids: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """
        Args:
            encoder_outputs: what `get_encoder()` returned for this source, instead of the source itself.
            Others: see `AttentionRnnForConditionalGeneration.forward`.

        Returns:
            `loss`: cross entropy of the mean probabilities. `logits`: the log of the mean probabilities, (batch,
            target, vocabulary). `cross_attentions`: the mean over the members with attention and their heads, one
            tensor (batch, 1, target, source).

        Raises:
            ValueError: hidden states are asked for; see also the members.
            TypeError: `past_key_values` is not the cache of such an ensemble.
        """
        if self.option("output_hidden_states", output_hidden_states):
            raise ValueError("`output_hidden_states` must be False: an ensemble has no hidden states of its own.")
        for name in ("inputs_embeds", "decoder_inputs_embeds"):
            if kwargs.get(name) is not None:
                raise ValueError(NO_EMBEDDINGS.format(name=name))
        check_tensors(input_ids=input_ids, decoder_input_ids=decoder_input_ids, labels=labels)
        if labels is not None:
            check_labels(labels, None if self.config.copy else self.config.vocab_size)
            labels = labels.long()
            use_cache = False if use_cache is None else use_cache
            if decoder_input_ids is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        use_cache = self.option("use_cache", use_cache)
        output_attentions = self.option("output_attentions", output_attentions)
        if encoder_outputs is not None and not isinstance(encoder_outputs, AttentionRnnEnsembleEncoderOutput):
            raise TypeError(
                f"`encoder_outputs` must be what `get_encoder()` returned, got {type(encoder_outputs).__name__}."
            )
        if encoder_outputs is None:
            encoder_outputs = self.get_encoder()(input_ids, attention_mask, copy_ids)
        if use_cache and past_key_values is None:
            past_key_values = new_cache(self.config)

        log_sum, attentions = torch.tensor(-torch.inf), []
        for index, cache in enumerate(self._caches(past_key_values)):
            outputs = self.members[index](
                attention_mask=attention_mask,
                decoder_input_ids=decoder_input_ids,
                decoder_attention_mask=decoder_attention_mask,
                encoder_outputs=encoder_outputs.of(index),
                past_key_values=cache,
                use_cache=use_cache,
                output_attentions=output_attentions,
                return_dict=True,
            )
            log_sum = torch.logaddexp(log_sum, outputs.logits.float().log_softmax(dim=-1))
            attentions += [weights.mean(dim=1, keepdim=True) for weights in outputs.cross_attentions or ()]
        logits = log_sum - math.log(len(self.members))
        loss = None
        if labels is not None:
            check_labels(labels, logits.shape[-1])
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], **kwargs)
        cross_attentions = (torch.stack(attentions).mean(dim=0),) if attentions else ()
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            **cache_field(past_key_values if use_cache else None),
            decoder_attentions=() if output_attentions else None,
            cross_attentions=cross_attentions if output_attentions else None,
        )

    def _caches(self, cache: EncoderDecoderCache | None) -> list[EncoderDecoderCache | None]:
        """The cache of each member: its share of the layers."""
        if cache is None:
            return [None] * len(self.members)
        if not isinstance(cache, EncoderDecoderCache) or len(cache) != self.config.decoder_layers:
            raise TypeError(
                "`past_key_values` must be an EncoderDecoderCache with a layer for each decoder layer of each member, "
                f"{self.config.decoder_layers} in all, got {cache!r}."
            )
        caches: list[EncoderDecoderCache | None] = []
        start = 0
        for layers in (member.config.decoder_layers for member in self.members):
            halves = (cache.self_attention_cache, cache.cross_attention_cache)
            caches.append(EncoderDecoderCache(*(Cache(layers=half.layers[start : start + layers]) for half in halves)))
            start += layers
        return caches


def _check_members(members: Sequence[AttentionRnnForConditionalGeneration]) -> None:
    if len(members) == 0:
        raise ValueError("`members` must hold at least one model, got none.")
    for member in members:
        if not isinstance(member, AttentionRnnForConditionalGeneration):
            raise TypeError(f"`members` must be of AttentionRnnForConditionalGeneration, got {type(member).__name__}.")
    first, *others = (_shared(member.config) for member in members)
    for index, other in enumerate(others, start=1):
        for name, value in first.items():
            if other[name] != value:
                raise ValueError(
                    f"`members` must have the same {name}, but it is {value} in the first and {other[name]} in member "
                    f"{index}."
                )


def _shared(config: AttentionRnnConfig) -> dict[str, Any]:
    """What all members of an ensemble must have in common."""
    # a source with embeddings of its own may still have the target's vocabulary
    return {
        "vocab_size": config.vocab_size,
        "source_vocab_size": config.source_vocab_size or config.vocab_size,
        "pad_token_id": config.pad_token_id,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "decoder_start_token_id": config.decoder_start_token_id,
        "copy": config.copy,
        "aligned_steps": config.aligned_steps,
    }


def check_tokenizers(folders: Sequence[str | PathLike]) -> None:
    """
    Refuse models whose tokenizers lie in their folders and have different vocabularies.

    Raises:
        ValueError: names two of them.
    """
    for name in ("tokenizer.json", TARGET_TOKENIZER_FILE):
        files = [file for folder in folders if (file := Path(folder) / name).is_file()]
        vocabularies = [Tokenizer.from_file(str(file)).get_vocab() for file in files]
        for file, vocabulary in zip(files, vocabularies, strict=True):
            if vocabulary != vocabularies[0]:
                raise ValueError(
                    f"`folders` must have one vocabulary, but {file} holds other tokens or ids than {files[0]}."
                )
