"""Finds what is wrong with a plugin's API version, or with a declaration. Torch-free."""

from nnkit.contract.architecture import NAME, VERBS, Architecture, Tensors, bounded
from nnkit.contract.axes import names_in
from nnkit.contract.config import RESERVED, options_of
from nnkit.contract.hooks import PLUGIN_API


def api_problem(version: object) -> tuple[str, str]:
    """Return why a plugin for API `version` can't be used, and the distribution to upgrade.

    The distribution is `nnkit` if nnkit is too old, and empty otherwise.
    """
    core = tuple(int(part) for part in PLUGIN_API.split("."))
    if version is None:
        return f'it states no API version; add NNKIT_PLUGIN_API = "{PLUGIN_API}" to its module', ""
    try:
        major, minor = (int(part) for part in str(version).split("."))
    except ValueError:
        return f"NNKIT_PLUGIN_API is {version!r}, not a version like {PLUGIN_API!r}", ""
    if (major, minor) > core:
        return f"it needs plugin API {version}, this nnkit has {PLUGIN_API}; upgrade nnkit", "nnkit"
    if major < core[0]:
        return f"it is for plugin API {version}, this nnkit has {PLUGIN_API}; upgrade the plugin", ""
    return "", ""


def _axis_problem(architecture: Architecture, fields: list[str]) -> str:
    """Return which axis has no size. Shapes that depend on the config aren't checked."""
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
    return [
        axis for tensor in bounded(tensors, "a list of tensors") for axis in bounded(tensor.shape, "a shape")
    ]


def shape_problem(architecture: Architecture) -> str:
    """Return what is wrong with the names in the shapes of a declaration, or an empty string."""
    return _axis_problem(architecture, [option.name for option in options_of(architecture.config)])


def declaration_problem(architecture: Architecture) -> str:
    """Return what is wrong with a declaration, or an empty string."""
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
    if unknown_verbs := set(architecture.handlers) - set(VERBS):
        return f"handlers has an unknown verb {unknown_verbs.pop()!r}; the verbs are {', '.join(VERBS)}"
    return ""
