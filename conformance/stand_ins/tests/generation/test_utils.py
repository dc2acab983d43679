"""Stands in for a file that the source distribution lacks; this project's `tests/test_generation.py` generates."""


class GenerationTesterMixin:
    pass
