"""Plugin `timm`: every architecture of timm as `timm/NAME`. Imports neither timm nor torch."""

from nnkit import Namespace, hookimpl

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_namespaces() -> list[Namespace]:
    """Return the namespace of timm."""
    return [
        Namespace(
            prefix="timm",
            summary="Image models of the timm package",
            package="timm",
            distribution="timm",
            install="pip install 'nnkit[timm]'",
            names="nnkit_timm.names:names",
            declare="nnkit_timm.declare:declare",
            read="nnkit_timm.folders:read",
            cached="nnkit_timm.published:cached",
            probe="nnkit_timm.probing:probe",
        )
    ]
