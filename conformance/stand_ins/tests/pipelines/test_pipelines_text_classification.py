"""Stands in for a file that the source distribution lacks: a score for each label, alone and in a batch."""

from typing import Any

import pytest
from transformers import TextClassificationPipeline


class TextClassificationPipelineTests:
    def get_test_pipeline(self, model: Any, tokenizer: Any, dtype: str, **processors: Any) -> tuple[Any, list[str]]:
        pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, dtype=dtype, **processors)
        return pipeline, ["a cab", "a dead bee"]

    def run_pipeline_test(self, pipeline: Any, examples: list[str]) -> None:
        labels = pipeline.model.config.id2label.values()
        alone = [pipeline(example, top_k=None) for example in examples]
        for scores in alone:
            assert {score["label"] for score in scores} == set(labels)
            assert sum(score["score"] for score in scores) == pytest.approx(1, abs=1e-2)
        padded = pipeline(examples, top_k=None, batch_size=len(examples))
        for scores, expected in zip(padded, alone, strict=True):
            best, expected_best = scores[0], expected[0]
            assert best["score"] == pytest.approx(expected_best["score"], abs=1e-2)
