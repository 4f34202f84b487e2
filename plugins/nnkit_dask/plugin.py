"""Plugin `dask`: declares the executor. Doesn't import Dask."""

from nnkit import Executor, hookimpl

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_executors() -> list[Executor]:
    """Declare the executor."""
    return [
        Executor(
            name="dask",
            summary="the workers of a Dask cluster",
            run="nnkit_dask.cluster:run",
            requires={"distributed": "pip install 'nnkit[dask]'"},
        )
    ]
