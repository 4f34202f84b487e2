"""Executors that start no process: each answers as its name says."""

from nnkit import Executor, hookimpl

NNKIT_PLUGIN_API = "1.0"
CALLS = []
PASSED = {"status": "passed", "message": "1 check", "seconds": 1.0, "peak_memory": 10**8, "report": None}
NAMES = ("instant", "two-then-stop", "two-then-raise", "loses", "says-nothing", "limits", "refuses")


@hookimpl
def nnkit_executors():
    made = [
        Executor(name=name, summary="", run=f"sweep_executors:{name.replace('-', '_')}") for name in NAMES
    ]
    return [
        *made,
        Executor(name="far", summary="", run="sweep_executors:far", requires={"not_there": "pip install x"}),
    ]


def answers(request, answer=lambda task: PASSED):
    for task in request.tasks:
        CALLS.append(task["spec"]["architecture"])
        yield task, answer(task)


def instant(request):
    yield from answers(request)


def two_then_stop(request):
    try:
        yield from list(answers(request))[:2]
        raise KeyboardInterrupt
    finally:
        CALLS.append("closed")


def two_then_raise(request):
    yield from list(answers(request))[:2]
    raise OSError("the cluster\nis gone")


def loses(request):
    yield from answers(request, lambda task: RuntimeError("node down\nsince noon"))


def says_nothing(request):
    yield from ()


def limits(request):
    yield from answers(request, lambda task: {**PASSED, "status": "timed out", "message": "after 1 s"})


def refuses(request):
    yield from answers(request, lambda task: {"refused": ["no device", "buy one"]})
