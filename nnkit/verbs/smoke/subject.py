"""What a check works on: one model on one device, and its inputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import plural
from nnkit.models.building import build_module
from nnkit.models.copies import sharing_copy_of, whole_copy_of
from nnkit.models.examples import Example
from nnkit.models.outputs import declarations_of
from nnkit.models.running import call, evaluate, without_gradients
from nnkit.models.sampling import Inputs, sample_inputs
from nnkit.models.sizes import checked_sizes, rechecked_sizes
from nnkit.models.tensors import tensors_in
from nnkit.verbs.smoke.original import Original, add_noise

T = TypeVar("T")

NOT_DECLARED = "not declared"  # why a check of a declared behavior is skipped
SEED_STEP = 1000  # far from the seeds of the inputs, which count up from the spec's own

Outputs = list[tuple[TensorSpec, Tensor]]
"""The tensors that forward returned, each beside its declaration."""


class Failed(Exception):
    """The check found a fault; the message names it and where it is."""


class Warned(Exception):
    """The check found something that may be a fault."""


class Skipped(Exception):
    """The check doesn't apply; the message says why."""


@dataclass(frozen=True)
class FirstRun:
    """What a first run gave: the module after it, the outputs, and the names of inputs that it changed."""

    module: nn.Module
    outputs: Outputs
    changed_inputs: Sequence[str]


@dataclass(frozen=True)
class Subject:
    """A model to check on a device.

    Attributes:
        spec: the model.
        host: the plugins to build it with.
        device: where it is built and run.
        compiled: whether to check what torch.compile makes of it.

    Example:

        subject = Subject(resolve("simple-cnn"), manager, torch.device("cpu"))
        ((declared, tensor),) = subject.outputs(subject.fresh(), subject.inputs())
        assert tuple(tensor.shape) == subject.spec.shape(declared, subject.sizes)
    """

    spec: ModelSpec
    host: Host
    device: torch.device
    compiled: bool = False

    @property
    def is_random(self) -> bool:
        """Whether the model is declared to draw random numbers in eval mode too."""
        return self.spec.architecture.stochastic == "always"

    @contextmanager
    def seeded(self, seed: int = 0) -> Iterator[None]:
        """Seed torch's generators, and put them back afterwards as they were."""
        devices = [self.device.index or 0] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield

    def with_inputs(self, without: Sequence[str]) -> "Subject":
        """Return the same module with only these optional inputs left out."""
        return self._keep(replace(self, spec=self.spec.with_inputs(without)))

    def at(self, sizes: Mapping[str, int]) -> "Subject":
        """Return the same module with other sizes for the checks."""
        other = self._keep(replace(self))
        other.__dict__["sizes"] = dict(sizes)
        other.__dict__["_observed_outputs"] = self._observed_outputs if not self.spec.outputs else {}
        return other

    def uncompiled(self) -> "Subject":
        """Return the same module, not compiled."""
        return self._keep(replace(self, compiled=False)) if self.compiled else self

    def _keep(self, other: "Subject") -> "Subject":
        other.__dict__["original"] = self.original  # what a cached_property has computed
        return other

    def allows(self, sizes: Mapping[str, int]) -> bool:
        """Whether the dims allow these sizes, together."""
        dims = self.spec.dims
        fits = not any(dims[name].problem_with(size) for name, size in sizes.items() if name in dims)
        return fits and not dims.problem_with(sizes)

    @cached_property
    def is_guessed(self) -> bool:
        """Whether all inputs are like examples, so that no one has declared what sizes they may have."""
        return all(isinstance(tensor.sample, Example) and tensor.sample.varies for tensor in self.spec.inputs)

    @property
    def has_fixed_batch(self) -> bool:
        """Whether an example's rows may be samples, but no other number of them runs."""
        dim = self.spec.dims.get("batch")
        return self.is_guessed and dim is not None and dim.min == dim.max

    def allows_batch(self, size: int) -> bool:
        """Whether the batch may have a size. That an example's batch runs at no other excuses nothing."""
        return self.is_guessed or self.allows({**self.sizes, "batch": size})

    def reseeded(self) -> "Subject":
        """Return the same model at the same sizes with other weights and inputs.

        They show whether a fault was chance.
        """
        other = replace(self, spec=replace(self.spec, seed=self.spec.seed + SEED_STEP))
        other.__dict__["sizes"] = self.sizes
        return other

    @cached_property
    def original(self) -> Original:
        """The model as built, whose weights the copies for the checks share."""
        return Original(lambda: build_module(self.spec, self.host, self.device))

    @property
    def built(self) -> nn.Module:
        """The model itself, for looking at: a check that runs it takes a copy."""
        return self.original.module

    def copy(self) -> nn.Module:
        """Return a copy of the model, on the device and in eval mode, to run but not to train.

        It shares its parameters with other copies, as long as forward writes to none.
        """
        return self._compile(self.original.copy())

    def noise(self) -> AbstractContextManager[None]:
        """Return a context in which the copies have a little noise on every parameter.

        So nothing hides behind a zero. Copies that were made before may have it too.
        """
        return self.original.noise()

    def fresh(self) -> nn.Module:
        """Return a copy of the model as built that shares nothing, for one check to change as it likes."""
        return self._compile(whole_copy_of(self.built))

    def with_noise(self) -> nn.Module:
        """Return such a copy with a little noise on every parameter, so that nothing hides behind a zero."""
        module = whole_copy_of(self.built)
        add_noise(module)
        return self._compile(module)

    def take_with_noise(self) -> nn.Module:
        """Return the model itself, with noise and for any change; it is built again for what comes after."""
        module = self.original.take()
        add_noise(module)
        return self._compile(module)

    def _compile(self, module: nn.Module) -> nn.Module:
        if self.compiled:
            torch._dynamo.reset()  # or the copies of one class reach the limit of recompilations
            module.compile()
        return module

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The sizes of the checks: the spec's, with large defaults cut and several samples in a batch."""
        return checked_sizes(self.spec.dims, self.spec.sizes)

    @cached_property
    def other_sizes(self) -> dict[str, int] | None:
        """Other sizes that the dims allow, primes where possible; None where no others are allowed."""
        return rechecked_sizes(self.spec.dims, self.sizes)

    def size_of(self, axis: int | str, sizes: Mapping[str, int] | None = None) -> int:
        """Return the size of an axis in the checks, or with other sizes for some dims."""
        return self.spec.shape(TensorSpec("axis", (axis,)), {**self.sizes, **(sizes or {})})[0]

    def inputs(self, seed: int = 0, sizes: Mapping[str, int] | None = None) -> Inputs:
        """Return random inputs on the device that depend on `seed`."""
        return sample_inputs(
            self.spec,
            sizes=sizes or self.sizes,
            seed=self.spec.seed + seed,
            device=str(self.device),
        )

    def outputs(self, module: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> Outputs:
        """Run `module` and return its output tensors, each with its declaration.

        An output that isn't declared (the architecture declares none, or training adds auxiliary heads)
        gets a name and a declaration made from its shape. seed: for a model that always draws random numbers.
        """
        return self.declare(module, self.call(module, inputs, seed))

    def evaluate(self, module: nn.Module, inputs: Sequence[Tensor]) -> Outputs:
        """Do the same without gradients, on copies of the inputs; the outputs have no gradient either."""
        with self.fixed_randomness():
            value = evaluate(module, self.spec.signature, inputs)
        outputs = self.declare(module, value)
        return [(declared, tensor.detach()) for declared, tensor in outputs]

    def first_run(self) -> FirstRun:
        """Return what the first run of a copy on `inputs()` gave, in eval mode and without gradients.

        Checks that begin with that run share it: each gets a copy of the module as it was after it.
        """
        if self.compiled:
            return self._run_first()
        run = self.once("first run", self._run_first)
        if not self.original.shares:
            return run
        try:
            return replace(run, module=sharing_copy_of(run.module))
        except Exception:  # it has kept something that can't be copied
            return self._run_first()

    def once(self, what: str, run: Callable[[], T]) -> T:
        """Return what `run` returns; it is run once for these inputs and sizes, with noise and without."""
        key = (what, self.original.is_noisy, self.spec.without, tuple(self.sizes.items()))
        return self.original.once(key, run)

    def _run_first(self) -> FirstRun:
        module, inputs, passed = self.copy(), self.inputs(), list[Tensor]()

        def run() -> Any:
            passed[:] = [tensor.clone() for tensor in inputs]
            return self.call(module, passed)

        before = self.original.checksums()
        value = without_gradients(run)
        if not self.original.is_intact(before):
            self.original.part()
            return self._run_first()
        outputs = [(declared, tensor.detach()) for declared, tensor in self.declare(module, value)]
        return FirstRun(module, outputs, self.changed_inputs(inputs, passed))

    def changed_inputs(self, inputs: Sequence[Tensor], passed: Sequence[Tensor]) -> list[str]:
        """Return the names of the inputs that a run on copies of them has changed."""
        together = zip(self.spec.inputs, inputs, passed, strict=True)
        return [declared.name for declared, tensor, copy in together if not torch.equal(tensor, copy)]

    def call(self, module: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> Any:
        """Run `module` on inputs in declared order, and return what it returns."""
        with self.fixed_randomness(seed):
            return call(module, self.spec.signature, inputs)

    def fixed_randomness(self, seed: int = 0) -> AbstractContextManager[None]:
        """Return a context in which a model that always draws random numbers draws those of a seed."""
        return self.seeded(seed) if self.is_random else nullcontext()

    def declare(self, module: nn.Module, value: Any) -> Outputs:
        """Return the tensors in `value`, which `module` returned, each with its declaration."""
        declared, tensors = self.spec.outputs, list(tensors_in(value))
        may_return_more = not declared or module.training
        missing = len(tensors) < len([tensor for tensor in declared if not tensor.optional])
        if missing or (len(tensors) > len(declared) and not may_return_more):
            names = ", ".join(tensor.name for tensor in declared)
            raise Failed(
                f"forward returns {plural(len(tensors), 'tensor')}, but {len(declared)} "
                f"{'is' if len(declared) == 1 else 'are'} declared: {names}"
            )
        outputs = []
        declarations = declarations_of(value, declared, self.spec.input_names)
        for declaration, tensor in zip(declarations, tensors, strict=True):
            if isinstance(declaration, TensorSpec):
                outputs.append((declaration, tensor))
            else:  # only a name: the output isn't declared
                outputs.append((self._infer_declaration(declaration, tensor), tensor))
        return outputs

    def _infer_declaration(self, name: str, tensor: Tensor) -> TensorSpec:
        """Return a declaration for an output without one, from what is seen of it at two sizes."""
        seen = self._observed_outputs.get(name)
        if seen is not None and len(seen.shape) == tensor.ndim:
            return seen
        return TensorSpec(name, _find_dims(tensor.shape, self.sizes))

    @cached_property
    def _observed_outputs(self) -> dict[str, TensorSpec]:
        """What the outputs look like in eval mode: each axis a dim where its size is that of the dim.

        With batch=4 and time=7, a tensor 4×7×10 is declared (batch, time, 10), if with batch=5 and time=11
        it is 5×11×10.
        """
        shapes = self._observe_shapes(self.sizes)
        others = self._observe_shapes(self.other_sizes) if self.other_sizes else {}
        observed = {}
        for name, shape in shapes.items():
            axes = _find_dims(shape, self.sizes)
            if self.other_sizes and len(others.get(name, ())) == len(shape):
                axes = _find_dims(shape, self.sizes, others[name], self.other_sizes)
            observed[name] = TensorSpec(name, axes)
        return observed

    def _observe_shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the outputs by name; none where forward fails, which other checks report."""
        try:
            with self.fixed_randomness():
                value = evaluate(self.copy(), self.spec.signature, self.inputs(sizes=sizes))
        except Exception:
            return {}
        tensors = list(tensors_in(value))
        names = declarations_of(value, (), self.spec.input_names)
        return {str(name): tuple(tensor.shape) for name, tensor in zip(names, tensors, strict=True)}


def _find_dims(
    shape: Sequence[int],
    sizes: Mapping[str, int],
    other_shape: Sequence[int] | None = None,
    other_sizes: Mapping[str, int] | None = None,
) -> tuple[int | str, ...]:
    """Return for each axis the dim that has its size, here and, if given, at other sizes.

    Where two dims do, the size stays a number, since it could be either. The batch is only looked for in
    front.
    """
    axes: list[int | str] = []
    for axis, size in enumerate(shape):
        dims = [dim for dim in sizes if sizes[dim] == size and (dim != "batch" or axis == 0)]
        if other_shape is not None and other_sizes is not None:
            dims = [dim for dim in dims if other_sizes[dim] == other_shape[axis]]
        axes.append(dims[0] if len(dims) == 1 else size)
    return tuple(axes)
