"""How many examples hypothesis tries: `--hypothesis-profile fuzz` asks for thousands."""

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
