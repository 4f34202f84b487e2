"""SmokeRequest with processes or a strategy -> SmokeReport."""

from nnkit.contract.requests import SmokeRequest
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models.devices import find_device
from nnkit.verbs.parallel.launching import launch
from nnkit.verbs.parallel.rank import run_as_rank
from nnkit.verbs.parallel.world import STRATEGIES, World, world_around
from nnkit.verbs.smoke.report import SmokeReport

DEVICES = ("cpu", "cuda", "xpu")  # the ones that processes can communicate between


def smoke_run(request: SmokeRequest) -> SmokeReport:
    """Start the processes, or join those that torchrun started, and return what all of them found."""
    _refuse_impossible(request)
    world = world_around()
    if request.processes is not None:
        if world is not None:
            raise UsageProblem(
                f"this process is already one of {world.size}",
                "leave out --nproc: torchrun sets the number of processes",
            )
        _refuse_missing_device(request, World(0, request.processes, request.processes - 1))
        return launch(request)
    if world is None:
        raise UsageProblem(
            f"--parallel {request.parallel} needs processes to run in",
            "add --nproc 2, or start the command with torchrun",
        )
    _refuse_missing_device(request, world)
    return run_as_rank(request, world)


def _refuse_impossible(request: SmokeRequest) -> None:
    if request.parallel not in STRATEGIES:
        raise UsageProblem(
            f"unknown way to run in parallel: {request.parallel!r}",
            did_you_mean(str(request.parallel), STRATEGIES) or f"choose from: {', '.join(STRATEGIES)}",
        )
    if request.processes is not None and request.processes < 1:
        raise UsageProblem(f"--nproc must be at least 1, got {request.processes}", "for example: --nproc 2")
    if request.time_limit is not None and request.time_limit <= 0:
        raise UsageProblem(
            f"--time-limit must be greater than 0, got {request.time_limit:g}",
            "for example: --time-limit 120",
        )
    if request.checks is not None or request.full or request.compiled:
        raise UsageProblem(
            "a run in many processes has its own checks",
            "leave out either --check, --full and --compile, or --nproc and --parallel",
        )


def _refuse_missing_device(request: SmokeRequest, world: World) -> None:
    """Raise UsageProblem where this machine has no device for the rank with the highest number on it."""
    kind = find_device(request.device).type
    if kind not in DEVICES or ":" in request.device:
        raise UsageProblem(
            f"several processes can't run on {request.device}",
            f"choose from: {', '.join(DEVICES)}; each process takes its own device",
        )
    if kind != "cpu":
        find_device(f"{kind}:{world.local_rank}")
