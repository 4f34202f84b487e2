"""Adds torchvision's architectures to nnkit. Imports neither torchvision nor torch."""

from nnkit import Namespace, hookimpl

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_namespaces() -> list[Namespace]:
    """Return the zoo of torchvision."""
    return [
        Namespace(
            prefix="torchvision",
            summary="Image and video models of torchvision",
            package="torchvision",
            distribution="torchvision",
            install="pip install 'nnkit[torchvision]'",
            names="nnkit_torchvision.names:names",
            declare="nnkit_torchvision.declare:declare",
            cached="nnkit_torchvision.published:cached",
            probe="nnkit_torchvision.probing:probe",
        )
    ]
