"""Declares the namespace `transformers/`. Imports neither torch nor transformers."""

from nnkit import Namespace, hookimpl

NNKIT_PLUGIN_API = "1.1"

TRANSFORMERS = Namespace(
    prefix="transformers",
    summary="Model types of Hugging Face transformers",
    package="transformers",
    distribution="transformers",
    install="pip install 'nnkit[transformers]'",
    names="nnkit_transformers.names:names",
    declare="nnkit_transformers.declare:declare",
    read="nnkit_transformers.folders:read",
    cached="nnkit_transformers.published:cached",
    probe="nnkit_transformers.probe:probe",
)


@hookimpl
def nnkit_namespaces() -> list[Namespace]:
    """Return the namespace."""
    return [TRANSFORMERS]
