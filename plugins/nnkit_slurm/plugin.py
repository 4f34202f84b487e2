"""Plugin `slurm`: declares the executor. Doesn't import submitit."""

from nnkit import Executor, hookimpl

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_executors() -> list[Executor]:
    """Declare the executor."""
    return [
        Executor(
            name="slurm",
            summary="an array of Slurm jobs",
            run="nnkit_slurm.slurm:run",
            requires={"submitit": "pip install 'nnkit[slurm]'"},
        )
    ]
