"""
What tests of several files share, and how many examples hypothesis tries, with `--hypothesis-profile fuzz` thousands.
"""

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
