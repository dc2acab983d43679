"""The encoder with pointers to the start and the end of an answer: extractive question answering."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import QuestionAnsweringModelOutput
from transformers.utils.generic import can_return_tuple

from .base import AttentionRnnPreTrainedModel
from .checks import IGNORED_LABEL, as_booleans, check_integers, check_tensors, has_values, logger, warn_without_targets
from .configuration_attention_rnn import AttentionRnnConfig
from .encoder import AttentionRnnEncoderLayer, real_positions
from .losses import target_cross_entropy
from .modeling_attention_rnn import AttentionRnnModel


class AttentionFlow(nn.Module):
    """
    Bidirectional attention between the tokens c_t of a context and q_j of a question, both taken from one memory (Seo
    et al., 2017, https://arxiv.org/abs/1611.01603, section 2, "attention flow layer"):

        s_tj = w_c^T c_t + w_q^T q_j + c_t^T W q_j
        u_t = sum_j softmax_j(s_tj) q_j                 context to query
        h = sum_t softmax_t(max_j s_tj) c_t             query to context
        g_t = relu(V [c_t; u_t; c_t * u_t; c_t * h; e_t] + b)

    The paper's W is diagonal; a full one compares any unit with any other. e_t is one where the token itself occurs in
    the question (Chen et al., 2017, https://arxiv.org/abs/1704.00051, section 3.2), so that names which training has
    not taught match as well. V makes g_t as narrow as the memory (Clark and Gardner, 2018,
    https://arxiv.org/abs/1710.10723, section 3.1). Initialised Xavier uniform, bias zero.
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        size = config.memory_size
        self.context = nn.Linear(size, 1, bias=False)
        self.question = nn.Linear(size, 1, bias=False)
        self.product = nn.Linear(size, size, bias=False)
        self.merge = nn.Linear(4 * size + 1, size)

    def forward(
        self, memory: Tensor, question_mask: Tensor, context_mask: Tensor, same_token: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            memory: (batch, source, memory).
            question_mask: true at the tokens of the question, (batch, question); they stand in the first `question`
                positions of the source.
            context_mask: true at the tokens of the context, (batch, source).
            same_token: whether two positions hold the same token, (batch, source, question); `None`: unknown.

        Returns:
            The matched context g, (batch, source, memory), and the weights of context to query, (batch, source,
            question), whose rows sum to one over the question. Rows outside of the context mean nothing.
        """
        question = memory[:, : question_mask.shape[1]]
        scores = self.product(memory) @ question.transpose(1, 2)
        scores = scores + self.context(memory) + self.question(question).transpose(1, 2)
        scores = scores.masked_fill(~question_mask[:, None], torch.finfo(scores.dtype).min)
        precision = torch.promote_types(scores.dtype, torch.float32)  # halves lose too much in a long sum
        weights = torch.softmax(scores, dim=-1, dtype=precision).to(memory.dtype)
        of_question = weights @ question

        best = scores.amax(dim=-1).masked_fill(~context_mask, torch.finfo(scores.dtype).min)
        of_context = torch.softmax(best, dim=-1, dtype=precision).to(memory.dtype)[:, None] @ memory

        occurs = memory.new_zeros(*memory.shape[:2], 1)
        if same_token is not None:
            occurs = (same_token & question_mask[:, None]).any(dim=-1, keepdim=True).to(memory.dtype)
        parts = [memory, of_question, memory * of_question, memory * of_context, occurs]
        return torch.relu(self.merge(torch.cat(parts, dim=-1))), weights


class AttentionRnnForQuestionAnswering(AttentionRnnPreTrainedModel):
    """
    Finds the answer to a question as a span of a context (Seo et al., 2017, https://arxiv.org/abs/1611.01603):

        question </s> context </s> -> encoder -> memory
            attention flow between context and question, with `question_attention`
            modelling layer: a recurrent layer that reads the context in both directions
            qa_outputs: start and end logits of each token of the context, and of the first token of the sequence

    The first token stands for "there is no answer here", as in transformers; all it has is the state in which the
    modelling layer ends. The encoder of an encoder-decoder's checkpoint can be loaded into this model.
    """

    _keys_to_ignore_on_load_unexpected = [r"^model\.(decoder|bridge)\.", r"^lm_head\."]

    def __init__(self, config: AttentionRnnConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        if config.label_smoothing:
            raise ValueError(f"`label_smoothing` must be 0 for positions of answers, got {config.label_smoothing}.")
        self.model = AttentionRnnModel(config)
        self.attention_flow = AttentionFlow(config) if config.question_attention else None
        self.modelling = AttentionRnnEncoderLayer(config, config.memory_size, directions=2)
        self.dropout = nn.Dropout(config.readout_dropout)
        self.qa_outputs = nn.Linear(config.memory_size + 2 * config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        character_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """
        Args:
            input_ids, attention_mask, inputs_embeds, character_ids: question and context, see
                `AttentionRnnEncoder.forward`.
            token_type_ids: 0 at the question, 1 at the context, (batch, source). By default the context starts behind
                the first `eos_token_id`; with `inputs_embeds` they must be given.
            start_positions, end_positions: the first and the last token of the answer, (batch,); the first token of
                the sequence for both where there is no answer. -100 and what is not below `source` are ignored, and so
                are the examples of which one stands at padding, with a warning.

        Returns:
            `loss`: the mean of the cross entropies of start and end, each a mean over the examples, or the sum over
            `num_items_in_batch` where that is given. `start_logits`, `end_logits`: (batch, source), the least number
            of their type where no answer can be. `attentions`, when asked for: a tuple of one tensor, the weights with
            which each token of the context (rows) looks at the question (columns), (batch, 1, source, source), whose
            other rows are zero; an empty tuple without `question_attention`.

        Raises:
            ValueError: a sequence without question or context, positions that can be no answer, an end before its
                start, or none that counts; see also the encoder.
        """
        check_tensors(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            token_type_ids=token_type_ids,
            start_positions=start_positions,
            end_positions=end_positions,
        )
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            character_ids=character_ids,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        memory = outputs.last_hidden_state
        real = real_positions(outputs)
        if real is None:
            real = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
        question_mask, context_mask, first = self._segments(input_ids, real, token_type_ids)

        matched, weights = memory, None
        if self.attention_flow is not None:
            # the question stands in front: what lies behind the last token of the longest one is left out
            length = int(question_mask.any(dim=0).nonzero().max()) + 1 if has_values(memory) else memory.shape[1]
            same_token = None if input_ids is None else input_ids[:, :, None] == input_ids[:, None, :length]
            matched, weights = self.attention_flow(memory, question_mask[:, :length], context_mask, same_token)
            weights = nn.functional.pad(weights * context_mask[..., None], (0, memory.shape[1] - length))
        matched = matched * context_mask[..., None]
        modelled, _ = self.modelling(matched, context_mask)
        logits = self.qa_outputs(self.dropout(torch.cat([matched, modelled], dim=-1)))
        can_be_answer = context_mask | first
        logits = logits.masked_fill(~can_be_answer[..., None], torch.finfo(logits.dtype).min)
        start_logits, end_logits = logits.unbind(dim=-1)

        loss = None
        if start_positions is not None and end_positions is not None:
            positions = self._check_positions(start_positions, end_positions, can_be_answer, real)
            num_items_in_batch = kwargs.get("num_items_in_batch")
            of_start = target_cross_entropy(start_logits, positions[0], num_items_in_batch)
            loss = (of_start + target_cross_entropy(end_logits, positions[1], num_items_in_batch)) / 2
        attentions = () if weights is None else (weights[:, None],)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=attentions if self.option("output_attentions", output_attentions) else None,
        )

    def _segments(
        self, input_ids: Tensor | None, real: Tensor, token_type_ids: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where the tokens of the question, those of the context and the first token stand, each (batch, source)."""
        is_end = torch.zeros_like(real)
        if input_ids is not None and self.config.eos_token_id is not None:
            ends = torch.tensor(self.config.eos_token_id, device=input_ids.device).flatten()
            is_end = real & (input_ids[..., None] == ends).any(dim=-1)  # ONNX has no form of `isin`
        if token_type_ids is None:
            if input_ids is None or self.config.eos_token_id is None:
                raise ValueError(
                    "`token_type_ids` must mark the context where there are no `input_ids` or no `eos_token_id`."
                )
            in_context = is_end.cumsum(dim=1) > 0
        elif token_type_ids.shape == real.shape:
            in_context = as_booleans("token_type_ids", token_type_ids)
        else:
            raise ValueError(
                f"`token_type_ids` must have the shape {tuple(real.shape)}, (batch, source), got "
                f"{tuple(token_type_ids.shape)}."
            )
        question_mask, context_mask = real & ~is_end & ~in_context, real & ~is_end & in_context
        if has_values(real):
            for name, part in (("question", question_mask), ("context", context_mask)):
                if not part.any(dim=1).all():
                    row = int(part.any(dim=1).int().argmin())
                    raise ValueError(
                        "Every sequence must be a question and a context, told apart by `token_type_ids` or the first "
                        f"`eos_token_id` in `input_ids`, but row {row} has no {name}."
                    )
        return question_mask, context_mask, real & (real.cumsum(dim=1) == 1)

    def _check_positions(self, starts: Tensor, ends: Tensor, can_be_answer: Tensor, real: Tensor) -> list[Tensor]:
        """The positions, -100 where they do not count."""
        batch_size, length = can_be_answer.shape
        positions, counts = [], torch.ones(batch_size, dtype=torch.bool, device=real.device)
        for name, values in (("start_positions", starts), ("end_positions", ends)):
            check_integers(name, values)
            if values.shape != (batch_size,):
                raise ValueError(f"`{name}` must have the shape {(batch_size,)}, (batch,), got {tuple(values.shape)}.")
            values = values.long()
            values = values.masked_fill(values >= length, IGNORED_LABEL)
            at_padding = (values >= 0) & ~_at(real, values)
            if has_values(values) and at_padding.any():
                # the same words each time, so that it is said once
                logger.warning_once("Examples whose answer starts or ends at padding are ignored.")
            counts = counts & ~at_padding
            positions.append(values)
        positions = [values.masked_fill(~counts, IGNORED_LABEL) for values in positions]
        for name, values in zip(("start_positions", "end_positions"), positions, strict=True):
            warn_without_targets(name, values)
            is_wrong = (values != IGNORED_LABEL) & ((values < 0) | ~_at(can_be_answer, values))
            if has_values(values) and is_wrong.any():
                row = int(is_wrong.int().argmax())
                raise ValueError(
                    f"`{name}` must point into the context, at the first token or be {IGNORED_LABEL}, got "
                    f"{int(values[row])} in row {row}."
                )
        is_wrong = (positions[1] < positions[0]) & (positions[1] >= 0)
        if has_values(starts) and is_wrong.any():
            row = int(is_wrong.int().argmax())
            raise ValueError(
                f"`end_positions` must not lie before `start_positions`, got {int(ends[row])} and {int(starts[row])} "
                f"in row {row}."
            )
        return positions


def _at(mask: Tensor, positions: Tensor) -> Tensor:
    """The values of a (batch, source) mask at a position in each row, (batch,)."""
    return mask.gather(1, positions.clamp(0, mask.shape[1] - 1)[:, None])[:, 0]
