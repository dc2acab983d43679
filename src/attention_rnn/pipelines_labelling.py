"""The pipeline of token classification for all schemes of chunks."""

import re
from collections.abc import Callable, Iterator, Sized
from typing import Any

import numpy as np
from transformers import pipelines as transformers_pipelines
from transformers.pipelines.token_classification import AggregationStrategy

from .labelling import marks_ends, word_label
from .models.configuration_attention_rnn import AttentionRnnConfig
from .models.crf import continues_chunk, split_label
from .models.tokenization_attention_rnn import whole_offsets

# Any, as it takes other arguments than its base class declares
BioPipeline: Any = transformers_pipelines.TokenClassificationPipeline

_WORD = re.compile(r"\S+")


class TokenClassificationPipeline(BioPipeline):
    """
    As in transformers, except that

    - `aggregation_strategy` joins chunks of BIOES, BILOU and BMES, of any model; transformers knows BIO alone. A chunk
      whose labels bear no type is called `_`.
    - a chunk of decomposed text ends behind the marks of its last letter.
    - with a tagger of this package a text is split into words at white space, as in its training, and under `"simple"`
      a word that is cut into pieces has one label, which `run_labelling.py` would give it: that of its first piece,
      or with `crf` the one that its pieces make.

        >>> tagger = pipeline("token-classification", "runs/chunks", aggregation_strategy="simple")
        >>> tagger("Anna Maria Kowalska lives in Bern")
        [{'entity_group': 'PER', ..., 'start': 0, 'end': 19}, {'entity_group': 'LOC', ..., 'start': 29, 'end': 33}]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.model.config
        self.marks_ends = marks_ends(config.id2label.values())
        self.is_own = config.model_type == AttentionRnnConfig.model_type

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        return [] if is_empty(inputs) else super().__call__(inputs, **kwargs)

    def preprocess(
        self, sentence: Any, offset_mapping: Any = None, **preprocess_params: Any
    ) -> Iterator[dict[str, Any]]:
        words = list(_WORD.finditer(sentence)) if isinstance(sentence, str) else []
        if not self.is_own or not words or offset_mapping is not None:
            yield from super().preprocess(sentence, offset_mapping, **preprocess_params)
            return
        # transformers writes into these, and uses them again for the next text
        tokenizer_params = dict(preprocess_params.get("tokenizer_params", {}))
        preprocess_params |= {"is_split_into_words": True, "delimiter": " ", "tokenizer_params": tokenizer_params}
        for inputs in super().preprocess([word.group() for word in words], **preprocess_params):
            if inputs["sentence"] is not None:
                inputs["sentence"] = sentence
            yield {**inputs, "word_to_chars_map": [word.span() for word in words]}

    def gather_pre_entities(self, sentence: str, input_ids: Any, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        pre_entities = super().gather_pre_entities(sentence, input_ids, *args, **kwargs)
        placed = [pre_entity for pre_entity in pre_entities if pre_entity["start"] is not None]
        offsets = whole_offsets(sentence, [(pre_entity["start"], pre_entity["end"]) for pre_entity in placed])
        for pre_entity, (start, end) in zip(placed, offsets, strict=True):
            pre_entity["end"] = end
            if input_ids[pre_entity["index"]] == self.tokenizer.unk_token_id:
                pre_entity["word"] = sentence[start:end]
        if self.is_own and (word_ids := kwargs.get("word_ids")) is not None:
            previous = None
            for pre_entity in pre_entities:
                word = word_ids[pre_entity["index"]]
                pre_entity["is_subword"] = word == previous
                previous = word
        return pre_entities

    def aggregate(self, pre_entities: list[dict[str, Any]], aggregation_strategy: Any) -> list[dict[str, Any]]:
        if not self.is_own or aggregation_strategy != AggregationStrategy.SIMPLE:
            return super().aggregate(pre_entities, aggregation_strategy)
        pieces = super().aggregate(pre_entities, AggregationStrategy.NONE)
        for piece, pre_entity in zip(pieces, pre_entities, strict=True):
            piece["is_subword"] = pre_entity["is_subword"]
        for word in _runs(pieces, _is_of_same_word):
            if not self.model.config.crf:  # nobody trained the other pieces
                for piece in word[1:]:
                    piece.update(entity=word[0]["entity"], score=word[0]["score"])
            label = word_label([piece["entity"] for piece in word])
            for piece in word:
                piece["entity"] = label
        return self.group_entities(pieces)

    def group_entities(self, entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self.group_sub_entities(chunk) for chunk in _runs(entities, self._is_joined)]

    def _is_joined(self, previous: dict[str, Any], entity: dict[str, Any]) -> bool:
        if _is_of_same_word(previous, entity):
            return True
        if self.marks_ends:
            label = entity["entity"]
            return continues_chunk(previous["entity"], label) or label == previous["entity"] == "O"
        (_, last_kind), (prefix, kind) = self.get_tag(previous["entity"]), self.get_tag(entity["entity"])
        return kind == last_kind and prefix != "B"

    def group_sub_entities(self, entities: list[dict[str, Any]]) -> dict[str, Any]:
        group = super().group_sub_entities(entities)
        if self.is_own:
            words = ([piece["word"] for piece in word] for word in _runs(entities, _is_of_same_word))
            group["word"] = " ".join(map(self.tokenizer.convert_tokens_to_string, words))
        if self.marks_ends and entities[0]["entity"] != "O":
            group["entity_group"] = split_label(entities[0]["entity"])[1] or "_"
        return group


def _is_of_same_word(previous: dict[str, Any], piece: dict[str, Any]) -> bool:
    return piece.get("is_subword", False)


def _runs(items: list[Any], is_joined: Callable[[Any, Any], bool]) -> list[list[Any]]:
    """The items in lists of those that are joined with the one before."""
    runs: list[list[Any]] = []
    for item in items:
        if runs and is_joined(runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def is_empty(inputs: Any) -> bool:
    """Whether there is nothing to do for a pipeline of transformers, which looks at the first of its inputs."""
    return isinstance(inputs, Sized) and not isinstance(inputs, (str, bytes, dict, np.ndarray)) and len(inputs) == 0
