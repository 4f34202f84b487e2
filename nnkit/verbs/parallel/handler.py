"""SmokeRequest with processes or a strategy -> SmokeReport."""

from nnkit.contract.requests import SmokeRequest
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models.devices import find_device
from nnkit.verbs.parallel.launching import launch
from nnkit.verbs.parallel.rank import run_as_rank
from nnkit.verbs.parallel.world import STRATEGIES, World, world_around
from nnkit.verbs.smoke.report import SmokeReport

DEVICES = ("cpu", "cuda", "xpu")  # those that processes can talk between


def smoke_run(request: SmokeRequest) -> SmokeReport:
    """Start the processes, or be one of those that torchrun started, and return what all of them found."""
    _refuse_impossible(request)
    world = world_around()
    if request.processes is not None:
        if world is not None:
            raise UsageProblem(
                f"this process is one of {world.size} already", "leave out --nproc: torchrun says how many"
            )
        _refuse_missing_device(request, World(0, request.processes, request.processes - 1))
        return launch(request)
    if world is None:
        raise UsageProblem(
            f"--parallel {request.parallel} needs processes to run in",
            "say how many: --nproc 2; or start the command with torchrun",
        )
    _refuse_missing_device(request, world)
    return run_as_rank(request, world)


def _refuse_impossible(request: SmokeRequest) -> None:
    if request.parallel not in STRATEGIES:
        raise UsageProblem(
            f"there is no way to run in parallel called {request.parallel!r}",
            did_you_mean(str(request.parallel), STRATEGIES) or f"one of: {', '.join(STRATEGIES)}",
        )
    if request.processes is not None and request.processes < 1:
        raise UsageProblem(
            f"--nproc takes a number of processes, got {request.processes}", "for example: --nproc 2"
        )
    if request.time_limit is not None and request.time_limit <= 0:
        raise UsageProblem(
            f"--time-limit takes seconds, got {request.time_limit:g}", "for example: --time-limit 120"
        )
    if request.checks is not None or request.full or request.compiled:
        raise UsageProblem(
            "many processes have checks of their own",
            "leave out --check, --full and --compile, or --nproc and --parallel",
        )


def _refuse_missing_device(request: SmokeRequest, world: World) -> None:
    """Raise where there isn't a device for the last of the ranks on this machine."""
    kind = find_device(request.device).type
    if kind not in DEVICES or ":" in request.device:
        raise UsageProblem(
            f"processes can't run on {request.device} together",
            f"one of {', '.join(DEVICES)}, of which each takes one of its own",
        )
    if kind != "cpu":
        find_device(f"{kind}:{world.local_rank}")
