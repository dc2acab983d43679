"""The source distribution of the installed transformers, which carries the tests that its own models must pass."""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path


def unpacked() -> Path:
    """A folder that holds the package `tests`; downloaded by pip and unpacked when it is first asked for."""
    name = f"transformers-{version('transformers')}"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "attention-rnn"
    if not (cache / name).exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _download(name.replace("-", "=="), folder)
            with tarfile.open(Path(folder) / f"{name}.tar.gz") as archive:
                members = [member for member in archive if member.name.startswith(f"{name}/tests/")]
                archive.extractall(folder, members, filter="data")
            (Path(folder) / name).rename(cache / name)
    return cache / name


def _download(requirement: str, folder: str) -> None:
    # pip asks every source distribution for its metadata; the setuptools at hand can make them
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-binary", ":all:", "--dest", folder, requirement], check=True)
