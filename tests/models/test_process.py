"""A verb gives the same result in every thread and in every context of torch, and leaves them as they were."""

import contextlib
import sys
import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

import nnkit


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


class Doubled(TorchFunctionMode):
    """Makes another number of every product."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result * 2 if func is nn.functional.linear else result


CONTEXTS = {
    "plain": contextlib.nullcontext,
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device meta": lambda: default_device("meta"),
    "device context meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "fake tensors": FakeTensorMode,
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "function mode": Doubled,
}
contexts = pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())


@contexts
def test_figures_are_the_same_in_every_context(context):
    with context():
        report = nnkit.summarize("simple-cnn", optimizer="adamw")
    # by hand: 3·32·9+32 + 32·64·9+64 + 4096·128+128 + 128·10+10; 32·32·32·27 + 16·16·64·288 + 4096·128 + 1280
    assert report.totals.parameters == 545_098
    assert report.totals.macs == 884_736 + 4_718_592 + 524_288 + 1_280
    assert report.totals.dtypes == {"float32": 545_098}
    assert (
        report.memory.training_peak == nnkit.summarize("simple-cnn", optimizer="adamw").memory.training_peak
    )


@contexts
def test_weights_and_files_are_the_same_in_every_context(context, tmp_path):
    nnkit.export("simple-cnn", tmp_path / "plain.safetensors")
    with context():
        module = nnkit.build("simple-cnn")
        nnkit.export("simple-cnn", tmp_path / "inside.safetensors")
    expected = nnkit.build("simple-cnn")
    for name, weight in module.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, expected.state_dict()[name])
    assert (tmp_path / "plain.safetensors").read_bytes() == (tmp_path / "inside.safetensors").read_bytes()


@contexts
def test_checks_pass_in_every_context(context):
    with context():
        report = nnkit.smoke_run("lstm", checks=("shapes", "finite", "gradients", "determinism"))
    assert [check.status for check in report.checks] == ["passed"] * 4


@contexts
def test_the_context_is_what_it_was(context):
    with context():
        before = (
            torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
            torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack(),
        )  # fmt: skip
        nnkit.summarize("simple-cnn")
        after = (
            torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
            torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack(),
        )  # fmt: skip
    assert before == after


def test_code_that_sets_a_default_dtype_at_import_is_built_with_it(tmp_path):
    file = tmp_path / "doubles.py"
    file.write_text(
        "import torch\nfrom torch import nn\ntorch.set_default_dtype(torch.float64)\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.a = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n        return self.a(x) @ torch.eye(4)\n"
    )
    from nnkit.models.references import look_up

    try:
        spec = look_up(f"{file}:Net", None, ["x: float64[batch, 4]"]).resolve()
        assert nnkit.summarize(spec).totals.dtypes == {"float64": 20}
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_verbs_of_many_threads_leave_the_process_whole():
    stdout, call, fast = sys.stdout, nn.Module.__call__, torch.backends.mha.get_fastpath_enabled()
    found = []

    def summarize():
        found.extend(nnkit.summarize("simple-cnn").totals.macs for _ in range(3))

    threads = [threading.Thread(target=summarize) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [6_128_896] * 12
    assert sys.stdout is stdout
    assert nn.Module.__call__ is call
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert nn.Linear(2, 2).weight.device.type == "cpu"


def test_a_model_that_another_thread_runs_meanwhile_is_not_counted():
    other, stop = nn.Linear(64, 64), threading.Event()

    def run():
        while not stop.is_set():
            other(torch.ones(8, 64))
            nn.Linear(3, 3)  # must not be born on meta while a model is built without weights

    thread = threading.Thread(target=run)
    thread.start()
    try:
        macs = {nnkit.summarize("simple-cnn").totals.macs for _ in range(10)}
    finally:
        stop.set()
        thread.join()
    assert macs == {6_128_896}


@pytest.mark.parametrize("checks", [("finite", "gradients"), ("updates", "inputs-unchanged")])
def test_a_smoke_run_leaves_the_random_state(checks):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    nnkit.smoke_run("gcn", checks=checks)
    assert torch.equal(before, torch.get_rng_state())
