"""Stands in for a file that the source distribution lacks: a label for each token, alone and in a batch."""

from typing import Any

import pytest
from transformers import TokenClassificationPipeline


class TokenClassificationPipelineTests:
    def get_test_pipeline(self, model: Any, tokenizer: Any, dtype: str, **processors: Any) -> tuple[Any, list[str]]:
        pipeline = TokenClassificationPipeline(
            model=model, tokenizer=tokenizer, ignore_labels=[], dtype=dtype, **processors
        )
        return pipeline, ["a cab", "a dead bee"]

    def run_pipeline_test(self, pipeline: Any, examples: list[str]) -> None:
        alone = [pipeline(example) for example in examples]
        for example, entities in zip(examples, alone, strict=True):
            assert [example[entity["start"] : entity["end"]] for entity in entities] == list(example)
            assert {entity["entity"] for entity in entities} <= set(pipeline.model.config.id2label.values())
        for entities, expected in zip(pipeline(examples, batch_size=len(examples)), alone, strict=True):
            scores = [entity["score"] for entity in entities]
            assert scores == pytest.approx([entity["score"] for entity in expected], abs=1e-2)
