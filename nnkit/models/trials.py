"""Run a module of the user's own on inputs that may be wrong, and see what became of them."""

import io
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, first_line
from nnkit.models.running import call, without_gradients
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import tensors_in

TIME_LIMIT = 10.0  # seconds for all trials of a module
BATCH = 3  # samples, a number that few layers have as a width
VIEW = re.compile(r"shape '\[(?P<shape>[-\d, ]+)\]' is invalid for input of size (?P<elements>\d+)")
TOO_SMALL = re.compile(r"too small|greater than actual|smaller than kernel|no elements|must be positive|>= 0")


@dataclass(frozen=True)
class Guess:
    """An input as typed, `x: float32[batch, 8]`, and where that comes from."""

    text: str
    source: str

    @property
    def name(self) -> str:
        """The dotted name of the input."""
        return re.split(r"[:=]", self.text)[0].strip()

    def __str__(self) -> str:
        return f"{self.text}, from {self.source}"


@dataclass
class Trial:
    """What one run showed.

    Attributes:
        error: Why it failed, or an empty string.
        keeps_batch: Whether each output has an axis of as many samples as went in.
        ratio: How many times more features a layer got than it has weights for, where they differ.
        fed: For each input, the dotted names of the layers that got it, unchanged or as a view.
    """

    error: str = ""
    keeps_batch: bool = True
    ratio: float | None = None
    fed: dict[str, set[str]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the inputs are what the module takes, as far as a run shows."""
        return not self.error and self.keeps_batch


class Trials:
    """Runs a module on inputs that are guessed, beside those that the user declared.

    Attributes:
        module: The module.
        declared: What the user typed after --input.
        make_spec: Returns the spec for inputs as typed.
        failed: What was tried and failed, and why.
    """

    def __init__(
        self, module: nn.Module, declared: Sequence[str], make_spec: Callable[[Sequence[str]], ModelSpec]
    ) -> None:
        self.module = module
        self.declared = tuple(declared)
        self.make_spec = make_spec
        self.failed: dict[str, str] = {}
        tensors = [*module.parameters(), *module.buffers()]
        self.device = "meta" if tensors and all(tensor.is_meta for tensor in tensors) else "cpu"
        self._end = time.monotonic() + TIME_LIMIT

    @property
    def is_over(self) -> bool:
        """Whether there is no time for more."""
        return time.monotonic() > self._end

    def spec_of(self, guesses: Iterable[Guess]) -> ModelSpec:
        """Return the spec with the guesses beside what is declared."""
        return self.make_spec([*self.declared, *(guess.text for guess in guesses)])

    def run(self, guesses: Collection[Guess], **sizes: int) -> Trial:
        """Run forward on random inputs, with `BATCH` samples if they have a batch."""
        trial, samples = Trial(), None
        try:
            spec = self.spec_of(guesses)
            if "batch" in spec.dims:
                sizes = {"batch": BATCH, **sizes}
                samples = sizes["batch"]
            inputs = sample_inputs(spec, sizes=sizes, device=self.device)
            with ExitStack() as stack:
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                stack.enter_context(redirect_stdout(io.StringIO()))
                stack.enter_context(torch.random.fork_rng(devices=[]))
                self._watch(stack, trial, dict(zip(spec.input_names, inputs, strict=True)))
                returned = without_gradients(lambda: call(self.module, spec.signature, inputs))
            self._look_at(trial, list(tensors_in(returned)), samples)
        except NnkitError as error:
            trial.error = error.message
        except (Exception, SystemExit) as error:
            trial.error = f"{type(error).__name__}: {first_line(error)}"
            trial.ratio = _ratio_of(str(error), samples or 1) if trial.ratio is None else trial.ratio
        if not trial.passed:
            reason = trial.error or "the samples don't come out one by one"
            self.failed.setdefault("; ".join(map(str, guesses)), reason)
        return trial

    def runs(self, guesses: Collection[Guess], **sizes: int) -> bool:
        """Whether forward runs on these inputs."""
        return self.run(guesses, **sizes).passed

    def _watch(self, stack: ExitStack, trial: Trial, inputs: dict[str, Tensor]) -> None:
        """Note which layers get an input, and where the number of features is wrong."""
        storages = {tensor.untyped_storage()._cdata: name for name, tensor in inputs.items()}

        def watch(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def look(layer: nn.Module, args: tuple[Any, ...]) -> None:
                if not args or not isinstance(args[0], Tensor):
                    return
                if isinstance(layer, nn.Linear) and args[0].dim() and args[0].shape[-1] != layer.in_features:
                    trial.ratio = args[0].shape[-1] / layer.in_features
                if name := storages.get(args[0].untyped_storage()._cdata):
                    trial.fed.setdefault(name, set()).add(path)

            return look

        for path, layer in self.module.named_modules():
            if path and not isinstance(layer, torch.jit.ScriptModule):
                stack.callback(layer.register_forward_pre_hook(watch(path)).remove)

    @staticmethod
    def _look_at(trial: Trial, outputs: list[Tensor], samples: int | None) -> None:
        """Note whether the samples came out: a view of `-1` rows may have made others of them."""
        if samples is None:
            return
        for output in outputs:
            if output.dim() and samples not in output.shape:
                trial.keeps_batch = False
                trial.ratio = output.shape[0] / samples


def _ratio_of(message: str, samples: int) -> float | None:
    """Return how many times more elements there were than a view takes; 0 where a size is too small."""
    if match := VIEW.search(message):
        rows, *features = (int(size) for size in match["shape"].split(","))
        return int(match["elements"]) / (prod(map(abs, features)) * (samples if rows < 0 else rows))
    return 0.0 if TOO_SMALL.search(message) else None
