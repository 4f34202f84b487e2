"""What a plugin and its architectures must be to be taken in: what is wrong with one. Torch-free."""

from nnkit.contract.architecture import NAME, VERBS, Architecture, Tensors, bounded
from nnkit.contract.axes import names_in
from nnkit.contract.config import RESERVED, options_of
from nnkit.contract.hooks import PLUGIN_API


def api_problem(version: object) -> tuple[str, str]:
    """Say why a plugin written for API `version` can't be used, and whether it is nnkit that is behind."""
    has = PLUGIN_API
    core = tuple(int(part) for part in has.split("."))
    if version is None:
        return f'it states no API version; add NNKIT_PLUGIN_API = "{has}" to its module', ""
    try:
        major, minor = (int(part) for part in str(version).split("."))
    except ValueError:
        return f"NNKIT_PLUGIN_API is {version!r}, not a version like {has!r}", ""
    if (major, minor) > core:
        return f"it needs plugin API {version}, this nnkit has {has}; upgrade nnkit", "nnkit"
    if major < core[0]:
        return f"it is for plugin API {version}, this nnkit has {has}; upgrade the plugin", ""
    return "", ""


def _axis_problem(architecture: Architecture, fields: list[str]) -> str:
    """Say which axis nothing gives a size to; of shapes that depend on the config, nothing is known."""
    known = {*fields, *bounded(architecture.dims, "dims")}
    for tensors, may_compute in ((architecture.inputs, False), (architecture.outputs, True)):
        for axis in () if callable(tensors) else _axes_of(tensors):
            try:
                names = names_in(axis)
            except ValueError as error:
                return f"a shape names {axis!r}: {error}"
            if unknown := sorted(names - known):
                return f"a shape names {unknown[0]!r}, which is neither a dim nor a config field"
            if not may_compute and names and axis not in names:
                return f"the shape of an input names {axis!r}: an input has a dim of its own for each axis"
    return ""


def _axes_of(tensors: Tensors) -> list[int | str]:
    return [axis for each in bounded(tensors, "a list of tensors") for axis in bounded(each.shape, "a shape")]


def shape_problem(architecture: Architecture) -> str:
    """Say what is wrong with the names in the shapes of a declaration, or return an empty string."""
    return _axis_problem(architecture, [option.name for option in options_of(architecture.config)])


def declaration_problem(architecture: Architecture) -> str:
    """Say what is wrong with a declaration, or return an empty string."""
    if not NAME.fullmatch(architecture.name):
        return "a name is lower-case words joined by hyphens"
    try:
        names = [option.name for option in options_of(architecture.config)]
    except Exception as error:
        return f"{error}"
    for name in [*names, *architecture.dims]:
        if name in RESERVED:
            return f"option {name!r} would hide the core option --{name.replace('_', '-')}; rename it"
    if both := set(names) & set(architecture.dims):
        return f"{both.pop()!r} is both a config field and a dim"
    if problem := shape_problem(architecture):
        return problem
    if strange := set(architecture.handlers) - set(VERBS):
        return f"handlers has an unknown verb {strange.pop()!r}; the verbs are {', '.join(VERBS)}"
    return ""
