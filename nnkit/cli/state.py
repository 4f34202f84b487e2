"""What is known of a command line before its options are parsed, and what its options add to it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from nnkit.models.references import Reference

KEY = "nnkit.state"  # where click keeps it: in the `meta` that all contexts of one command line share


@dataclass
class CommandState:
    """What one command line names.

    Attributes:
        reference: the architecture; its config fields, dims and presets become options. None if not found.
        options: the config fields and sizes that were typed, by name.
        largest: the dim that was typed as `--DIM max`.
        model_file: the file to show in place of a model (`nnkit summary weights.safetensors`).
        many_models: several models are named, so there is no single spec.
        sizes: of several models in a zoo: what may be sizes of theirs, by name.
    """

    reference: Reference | None = None
    options: dict[str, Any] = field(default_factory=dict)
    largest: str | None = None
    model_file: Path | None = None
    many_models: bool = False
    sizes: frozenset[str] = frozenset()

    @property
    def has_spec(self) -> bool:
        """Whether the command works on a single model, and so on its ModelSpec."""
        return self.model_file is None and not self.many_models


def state_of(ctx: click.Context) -> CommandState:
    """Return the state of the command line that a context belongs to."""
    state: CommandState = ctx.meta.setdefault(KEY, CommandState())
    return state
