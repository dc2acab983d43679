"""
Attention-augmented recurrent networks as first-class transformers models.

After `import attention_rnn` the Auto classes of transformers know the model types of the family, `attention_rnn` and
`attention_rnn_time_series`.
"""

from importlib import import_module
from typing import Any

from . import registration

__version__ = "0.1.0"

_PUBLIC_NAMES = {
    "AttentionRnnConfig": "models.configuration_attention_rnn",
    "AttentionRnnPreTrainedModel": "models.base",
    "AttentionRnnModel": "models.modeling_attention_rnn",
    "AttentionRnnForConditionalGeneration": "models.modeling_attention_rnn_seq2seq",
    "AttentionRnnForCausalLM": "models.modeling_attention_rnn_causal",
    "AttentionRnnForSequenceClassification": "models.modeling_attention_rnn_sequence_classification",
    "AttentionRnnForQuestionAnswering": "models.modeling_attention_rnn_question_answering",
    "AttentionRnnForTokenClassification": "models.modeling_attention_rnn_token_classification",
    "AttentionRnnTimeSeriesConfig": "models.configuration_attention_rnn_time_series",
    "AttentionRnnTimeSeriesModel": "models.modeling_attention_rnn_time_series",
    "AttentionRnnForTimeSeriesPrediction": "models.modeling_attention_rnn_time_series_prediction",
    "AttentionRnnSpeechConfig": "models.configuration_attention_rnn_speech",
    "AttentionRnnCTCConfig": "models.configuration_attention_rnn_speech",
    "AttentionRnnSpeechModel": "models.modeling_attention_rnn_speech",
    "AttentionRnnForSpeechSeq2Seq": "models.modeling_attention_rnn_speech_seq2seq",
    "AttentionRnnForCTC": "models.modeling_attention_rnn_ctc",
    "AttentionRnnForAudioClassification": "models.modeling_attention_rnn_audio_classification",
    "AttentionRnnFeatureExtractor": "models.feature_extraction_attention_rnn",
    "AttentionRnnSpeechProcessor": "models.processing_attention_rnn",
    "AttentionRnnForTimeSeriesClassification": "models.modeling_attention_rnn_time_series_classification",
    "AttentionRnnTokenizer": "models.tokenization_attention_rnn",
    "AttentionRnnWordTokenizer": "models.tokenization_attention_rnn_words",
    "register_cell": "models.cells",
    "register_attention": "models.attention",
    "AttentionRnnEnsemble": "ensemble",
    "AttentionRnnForecastEnsemble": "forecast_ensemble",
    "ReliableSeq2SeqTrainer": "trainer",
    "ReliableSeq2SeqTrainingArguments": "trainer",
    "ReliableTrainer": "trainer",
    "ReliableTrainingArguments": "trainer",
    "fit_readout": "echo_state",
    "average_checkpoints": "averaging",
    "OnnxRunner": "onnx.runner",
    "SpeechRunner": "onnx.hearing",
    "export_onnx": "onnx.export",
    "export_speech": "onnx.speech",
    "quantize": "quantization",
}

__all__ = ["__version__", *_PUBLIC_NAMES]


def __getattr__(name: str) -> Any:
    # torch and transformers' models take seconds to import, so a name is loaded when it is first used
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


registration.register_on_import()
