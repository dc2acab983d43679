"""Stands in for a file that the source distribution lacks: a text goes on, alone and in a batch."""

from typing import Any

from transformers import TextGenerationPipeline


class TextGenerationPipelineTests:
    def get_test_pipeline(self, model: Any, tokenizer: Any, dtype: str, **processors: Any) -> tuple[Any, list[str]]:
        tokenizer.padding_side = "left"
        pipeline = TextGenerationPipeline(
            model=model, tokenizer=tokenizer, dtype=dtype, max_new_tokens=4, do_sample=False, **processors
        )
        return pipeline, ["a cab", "a dead bee"]

    def run_pipeline_test(self, pipeline: Any, examples: list[str]) -> None:
        alone = [pipeline(example) for example in examples]
        for example, (output,) in zip(examples, alone, strict=True):
            assert output["generated_text"].startswith(example)
        assert pipeline(examples, batch_size=len(examples)) == alone
        (new,) = pipeline(examples[0], return_full_text=False)
        assert examples[0] + new["generated_text"] == alone[0][0]["generated_text"]
