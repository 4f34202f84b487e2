"""What the user typed -> ModelSpec. Torch-free until a reference names code or an exported file.

A reference is the name of an architecture (`resnet18`, `vision/resnet18`), a ModelSpec file
(`net.yaml`), a file that nnkit exported (`gcn.onnx`, `gcn.safetensors`, `gcn.pt2`), or the user's own code
(`file.py:Class`, `package.module:Class`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnkit.contract.architecture import Architecture
from nnkit.contract.spec import ModelSpec, check_spec_data, make_spec, read_spec_file
from nnkit.errors import UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.models import metadata

SPEC_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Reference:
    """The architecture that a reference names. data: the choices that its file makes."""

    architecture: Architecture
    plugin: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, preset: str | None = None, options: Mapping[str, Any] | None = None) -> ModelSpec:
        """Return the spec; the user's options override the choices of the file."""
        return make_spec(self.architecture, self.plugin, base=self.data, preset=preset, options=options)


def look_up(text: str, manager: PluginManager, inputs: Sequence[str] = ()) -> Reference:
    """Return what `text` refers to. inputs: the declared inputs of the user's own code.

    Raises UsageProblem when it refers to nothing.
    """
    path = Path(text)
    if names_a_file(text):
        if not path.is_file():
            raise UsageProblem(f"file {text} does not exist", "check the path, or list the names: nnkit list")
        return _read_file(path, manager)
    if ":" in text:
        return Reference(_read_code(text, inputs), "")
    plugin, architecture = manager.find(text)
    return Reference(architecture, plugin)


def names_a_file(text: str) -> bool:
    """Whether a reference is the path of a ModelSpec or of an exported file."""
    return text.endswith(SPEC_SUFFIXES) or metadata.is_model_file(text)


def _read_code(text: str, inputs: Sequence[str]) -> Architecture:
    from nnkit.models.user_modules import architecture_of_code

    return architecture_of_code(text, inputs)


def _read_file(path: Path, manager: PluginManager) -> Reference:
    if path.suffix in SPEC_SUFFIXES:
        data = read_spec_file(path)
    else:
        data = check_spec_data(metadata.read(path)["spec"], str(path))
    try:
        plugin, architecture = manager.find(data["architecture"])
    except UsageProblem as error:
        if path.suffix in SPEC_SUFFIXES:
            raise
        raise UsageProblem(
            f"{path} is a {data['architecture']}, which no installed plugin declares",
            "install its plugin; for a module of your own: nnkit verify FILE --against file.py:Class",
        ) from error
    if path.name.endswith((".safetensors", metadata.INDEX)):
        data = {**data, "weights": str(path)}
    return Reference(architecture, plugin, data)
