"""
The tests with other versions than those of constraints.txt, each time in an environment of its own under .nox:

    nox --session lowest                          # all tests, with the oldest torch and transformers, on Python 3.10
    nox --session highest                         # with the newest of everything, on the newest Python
    nox --session lowest_transformers -- tests/test_modeling.py         # on the Python that runs nox

and those with the clients of tests/ecosystem/requirements.txt, beside the versions of constraints.txt:

    nox --session ecosystem                       # peft, trl, lm-eval, torchao and others on our models
"""

import os
import re

import nox
from packaging.requirements import Requirement

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
NEWEST_PYTHON = "3.13"  # that the packages of the dev extra have wheels for


@nox.session(python="3.10")
def lowest(session: nox.Session) -> None:
    """The oldest torch and transformers that pyproject.toml allows."""
    run_tests(session, oldest("torch"), oldest("transformers"))


@nox.session(python=NEWEST_PYTHON)
def highest(session: nox.Session) -> None:
    """The newest of everything."""
    run_tests(session)


@nox.session
def lowest_transformers(session: nox.Session) -> None:
    """The oldest transformers, with the torch of constraints.txt, of which there may be a small wheel at hand."""
    with open("constraints.txt", encoding="utf-8") as file:
        (torch,) = re.findall(r"^torch==\S+", file.read(), re.MULTILINE)
    run_tests(session, torch, oldest("transformers"))


@nox.session(python="3.11")
def ecosystem(session: nox.Session) -> None:
    """Other packages that work with models of transformers, each on ours."""
    session.install("--constraint", "constraints.txt", "setuptools", "setuptools-scm")  # seqeval needs both
    session.install(
        *("--constraint", "constraints.txt", "--requirement", "tests/ecosystem/requirements.txt"),
        *("--no-build-isolation", "--editable", ".[dev]"),
    )
    session.run("python", "-m", "pip", "check")
    session.run("pytest", *(session.posargs or ["tests/ecosystem", "-rs"]), env=ENVIRONMENT)


def oldest(name: str) -> str:
    """The requirement of the oldest version that the project allows, with all its patches."""
    (requirement,) = (line for line in map(Requirement, PROJECT["dependencies"]) if line.name == name)
    (version,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
    return f"{name}=={version}.*"


def run_tests(session: nox.Session, *requirements: str) -> None:
    session.install(*requirements, "--editable", ".[dev]")
    versions = "import sys, torch, transformers as t; print(sys.version, torch.__version__, t.__version__)"
    session.run("python", "-c", versions)
    workers = str(min(os.cpu_count() or 1, 8))
    session.run(
        *("pytest", "--numprocesses", workers, "--dist", "worksteal", *(session.posargs or ["tests"])),
        env=ENVIRONMENT,
    )
