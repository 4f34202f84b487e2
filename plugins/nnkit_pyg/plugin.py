"""Plugin `pyg`: the models of PyTorch Geometric as `pyg/NAME`. Imports neither it nor torch."""

from nnkit import Namespace, hookimpl

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_namespaces() -> list[Namespace]:
    """Return the namespace of PyTorch Geometric."""
    return [
        Namespace(
            prefix="pyg",
            summary="Graph networks of PyTorch Geometric",
            package="torch_geometric",
            distribution="torch-geometric",
            install="pip install 'nnkit[pyg]'",
            names="nnkit_pyg.names:names",
            declare="nnkit_pyg.declare:declare",
        )
    ]
