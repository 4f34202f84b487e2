"""Declares one architecture of a zoo. Torch-free until the zoo's adapter imports it."""

import traceback
from collections.abc import Mapping
from dataclasses import replace

from nnkit.contract.architecture import Architecture
from nnkit.contract.catalog import CatalogRow
from nnkit.contract.declarations import declaration_problem
from nnkit.contract.loading import load
from nnkit.contract.namespace import DeclareRequest, Namespace
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean, first_line
from nnkit.host.zoo_index import package_folder

REPORT = "report it to the author of the plugin"


def declare(
    namespace: Namespace, name: str, families: Mapping[str, str], row: CatalogRow | None = None
) -> Architecture:
    """Return the architecture of a zoo.

    families: those of all its names. row: what the catalog knows of this one.

    Raises UsageProblem for a name that the zoo doesn't have, PluginProblem where its package is missing or
    can't be imported, or its adapter is at fault.
    """
    full_name = f"{namespace.prefix}/{name}"
    if package_folder(namespace) is None:
        raise PluginProblem(
            f"{full_name} needs the package {namespace.package}", f"install it: {namespace.install}"
        )
    # A variant follows a dot, as in timm's `resnet50.a1_in1k`; its zoo knows which there are.
    base = name if name in families else name.partition(".")[0]
    if base not in families:
        near = did_you_mean(full_name, [f"{namespace.prefix}/{member}" for member in families])
        raise UsageProblem(
            f"unknown architecture {full_name!r}", near or f"see them all: nnkit list {namespace.prefix}/"
        )
    try:
        architecture = load(namespace.declare)(DeclareRequest(name=name, row=row))
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
    architecture = replace(architecture, name=name, namespace=namespace.prefix, family=family)
    if problem := declaration_problem(architecture):
        raise PluginProblem(
            f"{full_name} is declared wrongly: {problem}", "report it to the author of the plugin"
        )
    return architecture


def _unusable(namespace: Namespace, full_name: str, error: BaseException) -> NnkitError:
    """Return the error for a zoo that can't be imported; it names the package that is to blame."""
    root = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__ or root
    frames = traceback.extract_tb(root.__traceback__)
    message = f"{type(root).__name__}: {first_line(root)}"
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return PluginProblem(
        f"{full_name} can't be declared: {message}{where}",
        f"see the full error with -v; upgrade or repair it: {namespace.install}",
    )
