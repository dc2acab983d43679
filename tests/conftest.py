"""
What tests of several files share, and how many examples hypothesis tries, with `--hypothesis-profile fuzz` thousands.
"""

import logging
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, settings

_common = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
}
settings.register_profile("suite", max_examples=60, derandomize=True, **_common)
settings.register_profile("fuzz", max_examples=2_000, print_blob=True, **_common)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The name of one of the `VARIANTS` -> what `exports.export` gives of it."""
    from exports import export

    return cache(lambda variant: export(variant, tmp_path_factory))


@pytest.fixture(autouse=True)
def loggers():
    """What a command sets the levels of the loggers to holds in its own test alone."""
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "attention_rnn"]:
        logging.getLogger(name).setLevel(logging.NOTSET)
