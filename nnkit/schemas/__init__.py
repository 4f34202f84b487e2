"""What `--json` prints: a JSON schema for each report. Torch-free."""

import json
from importlib.resources import files
from typing import Any


def names() -> list[str]:
    """Return the names of all schemas: `summary`, `export`, …"""
    file_names = (file.name for file in files(__package__).iterdir())
    return sorted(name.removesuffix(".json") for name in file_names if name.endswith(".json"))


def read(name: str) -> dict[str, Any]:
    """Return the schema of that name."""
    schema: dict[str, Any] = json.loads(files(__package__).joinpath(f"{name}.json").read_text("utf-8"))
    return schema


def schema_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a report, given as `--json` prints it: its `schema` says which."""
    return read(data["schema"].removeprefix("nnkit.").partition("/")[0])
