"""Packages from npm, for tests that ask a browser's or a format's own library."""

import shutil
import subprocess
from pathlib import Path

import pytest


def install(folder: Path, *packages: str) -> Path:
    """Install packages, each with its version, into a folder; skips the test where that can't be done."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm isn't installed")
    flags = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    done = subprocess.run(
        [npm, "install", *flags, *packages], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"npm can't install {', '.join(packages)}: {done.stderr[-200:]}")
    return folder


def run(folder: Path, script: str, *args: str) -> str:
    """Run a script by Node.js beside what was installed; returns what it prints."""
    file = folder / "script.mjs"
    file.write_text(script, encoding="utf-8")
    command = ["node", str(file), *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
