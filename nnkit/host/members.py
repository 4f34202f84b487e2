"""Declares one architecture of a zoo. Torch-free until the zoo's adapter imports it."""

from collections.abc import Mapping
from dataclasses import replace

from nnkit.contract.architecture import Architecture
from nnkit.contract.catalog import CatalogRow
from nnkit.contract.loading import load
from nnkit.contract.namespace import Namespace
from nnkit.contract.requests import DeclareRequest
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean, first_line
from nnkit.host.zoo_index import installed_version

REPORT = "report it to the author of the plugin"


def declare(
    namespace: Namespace, name: str, families: Mapping[str, str], row: CatalogRow | None = None
) -> Architecture:
    """Return the architecture of a zoo.

    families: those of all its names. row: what the catalog knows of this one.

    Raises UsageProblem for a name that the zoo doesn't have, PluginProblem where its package can't be
    imported, or its adapter is at fault.
    """
    full_name = f"{namespace.prefix}/{name}"
    # A variant follows a dot, as in timm's `resnet50.a1_in1k`; its zoo knows which there are.
    base = name if name in families else name.partition(".")[0]
    if base not in families:
        near = did_you_mean(full_name, [f"{namespace.prefix}/{member}" for member in families])
        raise UsageProblem(
            f"unknown architecture {full_name!r}", near or f"see them all: nnkit list {namespace.prefix}/"
        )
    try:
        function = load(namespace.declare)
    except PluginProblem as unloadable:
        raise _unusable(namespace, full_name, unloadable.__cause__ or unloadable) from unloadable
    try:
        architecture = function(DeclareRequest(name=name, row=row))
    except NnkitError:
        raise
    except (Exception, SystemExit) as error:
        raise _unusable(namespace, full_name, error) from error
    if not isinstance(architecture, Architecture):
        raise PluginProblem(
            f"{namespace.declare} returned {brief(architecture)} for {full_name}; expected Architecture",
            REPORT,
        )
    family = architecture.family if architecture.family != "other" else families[base] or "other"
    architecture = replace(
        architecture,
        name=name,
        namespace=namespace.prefix,
        family=family,
        versions={namespace.distribution: installed_version(namespace)},
    )
    from nnkit.contract.declarations import declaration_problem

    if problem := declaration_problem(architecture):
        raise PluginProblem(
            f"{full_name} is declared wrongly: {problem}", "report it to the author of the plugin"
        )
    return architecture


def _unusable(namespace: Namespace, full_name: str, error: BaseException) -> NnkitError:
    """Return the error for a zoo that can't be imported; it names the package that is to blame."""
    root = _root(error)
    what = f"{type(root).__name__}: {first_line(root)}"
    importing = _importing(root)
    if isinstance(root, ModuleNotFoundError) and root.name:
        package = root.name.partition(".")[0]
        message, hint = f"{full_name} needs the package {package}: {what}", f"install {package}"
    elif importing and importing != namespace.declare.partition(".")[0]:
        message = f"{full_name} can't be declared, because {importing} can't be imported: {what}"
        others = "torch" if importing == namespace.package else f"{namespace.package} and torch"
        hint = f"install a version of {importing} that fits {others}"
    else:
        import traceback

        frame = traceback.extract_tb(root.__traceback__)[-1]
        message = f"{full_name} can't be declared: {what} ({frame.filename}:{frame.lineno})"
        hint = REPORT
    return PluginProblem(message, f"{hint}; see the full error with -v")


def _root(error: BaseException) -> BaseException:
    """Return the error that this one is about: a package may catch it and raise one of its own."""
    while True:
        origin = error.__cause__
        if origin is None and isinstance(error, ImportError) and not error.__suppress_context__:
            origin = error.__context__
        if origin is None:
            return error
        error = origin


def _importing(error: BaseException) -> str:
    """Return the package whose import an error ended, or an empty string."""
    import traceback

    modules = [
        str(frame.f_globals.get("__name__", ""))
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>"
    ]
    return modules[-1].partition(".")[0] if modules else ""
