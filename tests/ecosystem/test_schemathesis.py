"""schemathesis: whatever a client sends, the server answers as its OpenAPI description says."""

import pytest
from hypothesis import settings

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("prometheus_client")

from attention_rnn.onnx.decoding import ANSWERING, SEQ2SEQ  # noqa: E402
from attention_rnn.server import Limits, create_app  # noqa: E402


class Runner:
    """In the place of a model."""

    def __init__(self, task):
        self.task = task

    def limit(self, num_beams, new_tokens):
        pass

    def __call__(self, inputs, **options):
        return [{"score": 0.0} for _ in inputs]


LIMITS = Limits(texts=4, characters=100)  # short ones are long enough to be too long
generator, reader = (
    schemathesis.openapi.from_asgi("/openapi.json", create_app(Runner(task), LIMITS)) for task in (SEQ2SEQ, ANSWERING)
)


@generator.parametrize()
@settings(max_examples=200)
def test_a_server_that_generates(case):
    # not said in the schema: white space is no text, and there are no more answers than beams
    case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])


@reader.parametrize()
@settings(max_examples=200)
def test_a_server_that_answers_questions(case):
    case.call_and_validate()
