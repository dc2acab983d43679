"""Stands in for a file that the source distribution lacks: one vector per token, alone and in a batch."""

from typing import Any

import pytest
import torch
from transformers import FeatureExtractionPipeline


class FeatureExtractionPipelineTests:
    def get_test_pipeline(self, model: Any, tokenizer: Any, dtype: str, **processors: Any) -> tuple[Any, list[str]]:
        pipeline = FeatureExtractionPipeline(model=model, tokenizer=tokenizer, dtype=dtype, **processors)
        return pipeline, ["a cab", "a dead bee"]

    def run_pipeline_test(self, pipeline: Any, examples: list[str]) -> None:
        alone = [pipeline(example) for example in examples]
        for example, (vectors,) in zip(examples, alone, strict=True):
            assert len(vectors) == len(pipeline.tokenizer(example).input_ids)
            assert all(len(vector) == pipeline.model.config.memory_size for vector in vectors)
        padded = pipeline(examples, batch_size=len(examples))
        for (vectors,), (expected,) in zip(padded, alone, strict=True):
            tolerance = 1e-2 if pipeline.model.dtype == torch.float16 else 1e-5
            for vector, expected_vector in zip(vectors, expected, strict=False):  # behind them stands the padding
                assert vector == pytest.approx(expected_vector, abs=tolerance)
