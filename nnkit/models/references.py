"""What the user typed -> ModelSpec. Torch-free until a reference names code or an exported file.

A reference is the name of an architecture (`resnet18`, `vision/resnet18`), a ModelSpec file
(`net.yaml`), a file that nnkit exported (`gcn.onnx`, `gcn.safetensors`, `gcn.pt2`), a folder with a
config.json (`./bert`), a model on the hub (`hub:org/name`), or the user's own code (`file.py:Class`,
`package.module:Class`, `file.py` if it has only one module, or `folder:entrypoint` of a hubconf.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnkit.contract.architecture import Architecture
from nnkit.contract.namespace import Namespace
from nnkit.contract.own_declarations import check_own, declare
from nnkit.contract.spec import PART, ModelSpec, check_spec_data, make_spec, read_spec_file
from nnkit.contract.text import without_drive
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.models import metadata
from nnkit.models.hub_names import names_hub, parse
from nnkit.models.weight_files import choose_weights

CONFIG = "config.json"
SPEC_SUFFIXES = (".yaml", ".yml")
GGUF = ".gguf"


@dataclass(frozen=True)
class Reference:
    """The architecture that a reference names.

    Attributes:
        data: The choices that its file makes.
        assume: For the user's own code whose inputs are not all declared: returns the architecture with
            what can be assumed under the user's options.
        zoos: The zoos that may know where weights are, by prefix.
    """

    architecture: Architecture
    plugin: str
    data: Mapping[str, Any] = field(default_factory=dict)
    assume: Callable[[Mapping[str, Any]], Architecture] | None = None
    zoos: Mapping[str, Namespace] = field(default_factory=dict)

    def complete(self, options: Mapping[str, Any]) -> "Reference":
        """Return the reference with the inputs that the user has not declared, found by running.

        Raises UsageProblem, which asks for those that can't be found.
        """
        if self.assume is None:
            return self
        return replace(self, architecture=self.assume(options), assume=None)

    def resolve(self, preset: str | None = None, options: Mapping[str, Any] | None = None) -> ModelSpec:
        """Return the spec; the user's options override the choices of the file."""
        architecture = self.complete(options or {}).architecture
        spec = make_spec(architecture, self.plugin, base=self.data, preset=preset, options=options)
        if spec.weights is None:
            return spec
        from nnkit.models.weight_sources import settle

        return settle(spec, self.zoos, own=self.data.get("weights"))


def look_up(
    text: str, manager: PluginManager, inputs: Sequence[str] = (), declarations: Sequence[str] = ()
) -> Reference:
    """Return what `text` refers to.

    inputs: the inputs of the user's own code, each like `x: float32[batch, 8]`. declarations: what else is
    declared of it, each like `causal=time`. Raises UsageProblem when it refers to nothing.
    """
    if names_hub(text):
        return _read_hub(text, manager)
    path = Path(text)
    if names_a_file(text):
        if not path.is_file():
            raise UsageProblem(f"file {text} does not exist", "check the path, or list the names: nnkit list")
        return _read_gguf(path, text, manager) if path.suffix == GGUF else _read_file(path, manager)
    if names_code(text):
        return _read_code(text, inputs, declarations, manager)
    if is_path_of_folder(text):
        return _read_folder(path, text, manager)
    try:
        plugin, architecture = manager.find(text)
    except UsageProblem:
        if path.is_dir():
            return _read_folder(path, text, manager)
        _refuse_prefix(text, manager)
        raise
    if inputs:
        raise UsageProblem(
            f"--input is for modules of your own, and {text} is none",
            f"leave it out, and give sizes as options: see nnkit info {text}",
        )
    return Reference(architecture, plugin, zoos=manager.namespaces())


def names_a_file(text: str) -> bool:
    """Whether a reference is the path of a ModelSpec or of an exported file."""
    return text.endswith((*SPEC_SUFFIXES, GGUF)) or metadata.is_model_file(text)


def names_code(text: str) -> bool:
    """Whether a reference names code of the user's own."""
    return (":" in without_drive(text) or text.endswith(".py")) and not names_hub(text)


def is_path_of_folder(text: str) -> bool:
    """Whether a reference can only be the path of a folder: `./bert`, `bert/`, `..`, `/models/bert`."""
    return without_drive(text).startswith((".", "/", "~", "\\")) or text.endswith(("/", "\\"))


def names_a_folder(text: str) -> bool:
    """Whether a reference is a folder with a model in it, unless an architecture has its name."""
    return is_path_of_folder(text) or (Path(text) / CONFIG).is_file()


def _read_code(
    text: str, inputs: Sequence[str], declarations: Sequence[str], manager: PluginManager
) -> Reference:
    from nnkit.models.user_modules import UserCode

    code = UserCode.load(text, inputs)
    architecture = declare(code.architecture(), declarations)

    def assume(options: Mapping[str, Any]) -> Architecture:
        completed = declare(code.complete(options, manager), declarations)
        check_own(completed, text)
        return completed

    if code.may_lack_inputs:
        return Reference(architecture, "", assume=assume)
    check_own(architecture, text)
    return Reference(architecture, "")


def _read_file(path: Path, manager: PluginManager) -> Reference:
    versions: Mapping[str, str] = {}
    if path.suffix in SPEC_SUFFIXES:
        data = read_spec_file(path)
    else:
        stamp = metadata.read(path)
        data, versions = check_spec_data(stamp["spec"], str(path)), stamp.get("versions", {})
    try:
        plugin, architecture = manager.find(data["architecture"])
    except UsageProblem as error:
        if path.suffix in SPEC_SUFFIXES:
            raise
        raise UsageProblem(
            f"{path} is a {data['architecture']}, which no installed plugin declares",
            "install its plugin; for a module of your own: nnkit verify FILE --against file.py:Class",
        ) from error
    for distribution, installed in architecture.versions.items():
        if versions.get(distribution, installed) != installed:
            import logging

            logging.getLogger("nnkit").warning(
                f"warning: {path} was made with {distribution} {versions[distribution]}; {installed} is "
                f"installed, whose {data['architecture']} may be another network (nnkit verify {path})"
            )
    if path.name.endswith((".safetensors", metadata.INDEX)):
        chosen = {key: value for key, value in data.items() if key not in PART}  # of what it was made from
        data = {**chosen, "weights": str(path)}
    return Reference(architecture, plugin, data, zoos=manager.namespaces())


def _read_gguf(path: Path, text: str, manager: PluginManager) -> Reference:
    """Return the model that the metadata of a file describes, with random weights."""
    from nnkit.models import folders
    from nnkit.models.gguf_header import read_header

    described = read_header(path).metadata.get("general.architecture", "unknown")
    data = folders.ask_zoos({}, path, text, manager, f"architecture {brief(described)}")
    folders.LOG.warning(
        "the weights of %s stay in it: nnkit loads none of GGUF, and the model has random ones", text
    )
    return _resolved({**data, "weights": None}, manager)


def _read_folder(path: Path, text: str, manager: PluginManager) -> Reference:
    if not path.is_dir():
        _refuse_prefix(text, manager)
        raise UsageProblem(f"folder {text} does not exist", "check the path, or list the names: nnkit list")
    from nnkit.models import folders, hubconf

    if hubconf.is_hub_folder(text) and not (path / CONFIG).is_file():
        raise hubconf.choose_entrypoint(text.rstrip("/\\"))
    try:
        data = folders.read_folder(path, text, manager)
    except NnkitError as problem:
        if not hubconf.is_hub_folder(text):
            raise
        hint = f"{problem.hint}; or name an entrypoint of its {hubconf.FILE}: {text}:NAME"
        raise type(problem)(problem.message, hint, problem.details) from problem
    file = choose_weights([each.name for each in path.iterdir() if each.is_file()], text)
    if file is None:
        folders.LOG.info("%s has no file of weights; they are random", text)
    return _resolved({**data, "weights": file and str(path / file)}, manager)


def _refuse_prefix(text: str, manager: PluginManager) -> None:
    """Raise UsageProblem if the text is what the names of a zoo or plugin begin with: `timm/`, `vision`."""
    prefix = text.rstrip("/")
    if prefix in manager.namespaces():
        raise UsageProblem(f"{prefix}/ is a zoo, not a model", f"list its models: nnkit list {prefix}/")
    if prefix in manager.plugins and manager.plugins[prefix].architectures:
        raise UsageProblem(f"{prefix}/ is a plugin, not a model", f"list its models: nnkit list {prefix}/")


def _read_hub(text: str, manager: PluginManager) -> Reference:
    name = parse(text)
    if name.file:
        raise UsageProblem(
            f"{text} names a file, not a model",
            f"name the model: {name.model}; to load that file: nnkit build ARCH --weights {text}",
        )
    from nnkit.models import folders, hub
    from nnkit.models.weight_sources import weights_of

    listing = hub.list_files(name)
    if folders.CONFIG not in listing.sizes:
        raise folders.no_config(text, sorted(listing.sizes))
    if listing.sizes[folders.CONFIG] > folders.LARGEST_CONFIG:
        raise folders.config_too_large(text)
    config = hub.fetch_config(listing, name.revision)
    data = folders.read_folder(config.parent, text, manager)
    weights = weights_of(listing)
    if weights is None:
        folders.LOG.info("%s has no weights that nnkit reads; they are random", text)
    return _resolved({**data, "weights": weights and weights.text}, manager)


def _resolved(data: Mapping[str, Any], manager: PluginManager) -> Reference:
    """Return the reference of a spec that a zoo has read."""
    plugin, architecture = manager.find(data["architecture"])
    return Reference(architecture, plugin, data, zoos=manager.namespaces())
