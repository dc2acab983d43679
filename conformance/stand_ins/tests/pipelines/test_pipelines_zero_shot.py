"""Stands in for a file that the source distribution lacks: scores of labels that are hypotheses about a text."""

from typing import Any

import pytest
from transformers import ZeroShotClassificationPipeline


class ZeroShotClassificationPipelineTests:
    def get_test_pipeline(self, model: Any, tokenizer: Any, dtype: str, **processors: Any) -> tuple[Any, list[str]]:
        model.config.label2id, model.config.id2label = {"entailment": 0, "other": 1}, {0: "entailment", 1: "other"}
        pipeline = ZeroShotClassificationPipeline(
            model=model, tokenizer=tokenizer, candidate_labels=["cab", "bee", "bead"], dtype=dtype, **processors
        )
        return pipeline, ["a cab", "a dead bee"]

    def run_pipeline_test(self, pipeline: Any, examples: list[str]) -> None:
        for output in pipeline(examples):
            assert set(output["labels"]) == {"cab", "bee", "bead"}
            assert output["scores"] == sorted(output["scores"], reverse=True)
            assert sum(output["scores"]) == pytest.approx(1, abs=1e-2)
