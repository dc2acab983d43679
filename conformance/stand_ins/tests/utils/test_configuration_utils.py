"""Stands in for a file that the source distribution lacks: values that differ from the defaults of every config."""

config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["AttentionRnnModel"],
    "id2label": {0: "noun", 1: "verb", 2: "other"},
    "label2id": {"noun": 0, "verb": 1, "other": 2},
    "problem_type": "regression",
}
