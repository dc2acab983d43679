"""
Makes transformers' own tests importable, tells them of our models, and lets none of them be skipped in silence.

The folder `tests` of the source distribution and `stand_ins/tests`, for what it lacks, are two parts of one namespace
package.
"""

import os
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import transformers
from archive import unpacked
from inapplicable import INAPPLICABLE
from testers import CONFIGURATIONS, write_tiny_checkpoints
from transformers.models.auto import modeling_auto

collect_ignore = ["stand_ins"]
sys.path[:0] = [str(Path(__file__).parent / "stand_ins"), str(unpacked())]

tiny_checkpoints = tempfile.TemporaryDirectory()
write_tiny_checkpoints(Path(tiny_checkpoints.name))
# transformers reads these when its tests are imported
os.environ |= {"RUN_SLOW": "1", "TRANSFORMERS_TINY_MODEL_PATH": tiny_checkpoints.name}

# The tests would import transformers a second time, from the sources beside them.
transformers.utils.direct_transformers_import = lambda path: transformers

# They read what kind of model a class is, and so its labels, from tables of the classes inside transformers' tree.
for config_class in CONFIGURATIONS:
    for auto_class, reference in config_class.auto_classes.items():
        if auto_class != "AutoConfig":
            names = getattr(modeling_auto, auto_class)._model_mapping._model_mapping
            names[config_class.model_type] = reference.rpartition(".")[2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore")  # the markers of transformers are not registered here


def why_inapplicable(item: Any) -> str | None:
    for reason, patterns in INAPPLICABLE.items():
        for pattern in patterns:
            if fnmatchcase(f"{item.cls.__name__}.{item.name}", pattern if "." in pattern else f"*.{pattern}"):
                return reason
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: pytest.CallInfo) -> Any:
    """A test that does not apply must be listed in INAPPLICABLE, and a listed one must not pass."""
    report = yield
    reason = why_inapplicable(item) if item.cls else None
    if reason is None:
        if report.skipped:
            report.outcome, report.longrepr = "failed", f"skipped, but not listed as inapplicable: {report.longrepr[2]}"
    elif not report.passed:
        item.did_not_pass = True  # also when it is a part of the test, a subtest
        report.outcome, report.longrepr = "skipped", (str(item.path), item.location[1], reason)
    elif report.when == "teardown" and not hasattr(item, "did_not_pass"):  # all its parts have been called
        report.outcome, report.longrepr = "failed", f"listed as inapplicable, but passes: {reason}"
    return report
