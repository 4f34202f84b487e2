"""ModelSpec -> nn.Module, on any device or on none."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnkit import __version__
from nnkit.contract.loading import load, missing
from nnkit.contract.requests import BuildRequest, Host
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, PluginProblem, first_line
from nnkit.models.checkpoints import Part
from nnkit.models.members import move, named_buffers, named_parameters, set_mode
from nnkit.models.precision import convert, count_dtypes
from nnkit.models.running import binding_problem, check_names
from nnkit.models.tensors import bytes_of, elements_of
from nnkit.models.user_lines import at_line
from nnkit.models.weightless import allocate, parameter_bytes, parameters_on_meta


def build_module(spec: ModelSpec, host: Host, device: str | torch.device = "cpu") -> nn.Module:
    """Return the module of `spec` with its weights, in eval mode, on `device`.

    Weights are drawn on the CPU, in the dtype that the model gives them, so a seed gives the same weights on
    every device. The random state of the process is unchanged.
    """
    if torch.device(device).type == "meta":
        check_weights_fit(spec, host)
        return build_without_weights(spec, host, limit=0)
    if spec.weights is None:
        module = convert(_construct(spec, host), spec.dtype)
    else:
        from nnkit.models.weights import load_weights

        module = build_to_load(spec, host)
        load_weights(module, Path(spec.weights), spec.strict, _part_of(spec))
    module = move(module, device)
    set_mode(module, training=False)
    return module


def check_weights_fit(spec: ModelSpec, host: Host) -> None:
    """Raise UsageProblem where the file of weights, if `spec` has one, doesn't fit the module."""
    if spec.weights is None:
        return
    from nnkit.models.weights import check_weights

    try:
        module = build_without_weights(spec, host, limit=0)
    except NnkitError:  # the constructor reads its weights
        module = move(build_to_load(spec, host), "meta")
    check_weights(module, Path(spec.weights), spec.strict, _part_of(spec))


def _part_of(spec: ModelSpec) -> Part:
    return Part(spec.key, spec.strip_prefix)


def build_to_load(spec: ModelSpec, host: Host) -> nn.Module:
    """Return a module to load weights into, not initialized if its constructor allows that."""
    if spec.strict:
        with suppress(NnkitError):  # the constructor reads its weights
            module = build_without_weights(spec, host, limit=2**63)
            if not any(tensor.is_meta for tensor in _tensors_other_than_parameters(module)):
                return module
    return convert(_construct(spec, host), spec.dtype)


def _tensors_other_than_parameters(module: nn.Module) -> Iterator[Tensor]:
    """Yield buffers and attributes, which a constructor may compute from the parameters."""
    yield from module.buffers()
    for submodule in module.modules():
        yield from (value for value in vars(submodule).values() if isinstance(value, Tensor))


@dataclass(frozen=True)
class BuildReport:
    """A module that was built on a `device`: its `tree` as torch prints it, and its totals.

    parameters, trainable, buffers: numbers of elements; tied tensors count once. parameter_bytes: the memory
    of the parameters. dtypes: the number of parameter elements of each dtype.

    Example:

        from nnkit.models.building import describe

        assert describe(build("simple-cnn"), resolve("simple-cnn")).parameters == 545_098
    """

    SCHEMA = "nnkit.build/1"

    spec: ModelSpec
    device: str
    tree: str
    parameters: int
    trainable: int
    parameter_bytes: int
    buffers: int
    dtypes: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        return {"schema": self.SCHEMA, "nnkit": __version__, **vars(self), "spec": self.spec.to_dict()}


def describe(module: nn.Module, spec: ModelSpec) -> BuildReport:
    """Return the report of a module that was built from `spec`."""
    parameters, buffers = list(named_parameters(module).values()), list(named_buffers(module).values())
    return BuildReport(
        spec=spec,
        device=str(next(iter([*parameters, *buffers]), torch.empty(0)).device),
        tree=str(module),
        parameters=sum(elements_of(parameter) for parameter in parameters),
        trainable=sum(elements_of(parameter) for parameter in parameters if parameter.requires_grad),
        parameter_bytes=sum(bytes_of(parameter) for parameter in parameters),
        buffers=sum(elements_of(buffer) for buffer in buffers),
        dtypes=count_dtypes(parameters),
    )


def build_without_weights(spec: ModelSpec, host: Host, limit: int, zeros: bool = False) -> nn.Module:
    """Return the module of `spec` with weights that hold no values, in eval mode.

    Up to `limit` bytes they are uninitialized memory on the CPU, so the module can run. Beyond that, or with
    a limit of 0, the whole module is on the meta device. Either way no weight is ever written, so memory
    stays small.
    zeros: the memory on the CPU holds zeros.
    """
    module = _construct_without_weights(spec, host, limit)
    if limit == 0 or parameter_bytes(module) > limit:
        module = move(module, "meta")
    else:
        allocate(module, zeros)
    set_mode(module, training=False)
    return convert(module, spec.dtype)


def _construct_without_weights(spec: ModelSpec, host: Host, limit: int) -> nn.Module:
    """Return the module with its parameters on meta.

    If the constructor needs their values, the whole module is on meta. If that fails too, or the module is
    not larger than `limit`, it has its weights.
    """
    try:
        return _construct_on_meta(spec, host, everything=False)
    except NnkitError as error:
        if error.__cause__ is None:  # the constructor did not raise it
            raise
    try:
        module = _construct_on_meta(spec, host, everything=True)
        if limit == 0 or parameter_bytes(module) > limit:
            return module
    except NnkitError:
        pass
    return _construct(spec, host)


def check_built_without_weights(spec: ModelSpec, host: Host) -> None:
    """Raise NnkitError where the constructor needs the values of the weights."""
    try:
        _construct_on_meta(spec, host, everything=False)
    except NnkitError:
        _construct_on_meta(spec, host, everything=True)


def _construct_on_meta(spec: ModelSpec, host: Host, everything: bool) -> nn.Module:
    with parameters_on_meta(everything):
        return _construct(spec, host)


def build_default(request: BuildRequest) -> nn.Module:
    """Call the builder that the architecture names."""
    architecture = request.spec.architecture
    if package := missing(architecture.requires):
        raise PluginProblem(
            f"{architecture.name} needs the package {package}",
            f"install it: {architecture.requires[package]}",
        )
    build = load(architecture.build) if isinstance(architecture.build, str) else architecture.build
    module: nn.Module = build(request.spec.config)
    return module


def _construct(spec: ModelSpec, host: Host) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed)
        try:
            module = host.hook.nnkit_build(request=BuildRequest(spec=spec))
        except NnkitError:
            raise
        except (Exception, SystemExit) as error:
            problem = f"{type(error).__name__}: {first_line(error)}{at_line(error)}"
            message = f"building {spec.reference} failed: {problem}"
            if not spec.plugin:
                raise NnkitError(message, "see the full error with -v") from error
            hint = f"see the full error with -v; {_ways_out(host.owner(spec.plugin))}"
            raise PluginProblem(message, hint) from error
    if not isinstance(module, nn.Module):
        message = f"building {spec.reference} returned {type(module).__name__}, not a torch.nn.Module"
        if not spec.plugin:
            raise NnkitError(message, "return a module")
        raise PluginProblem(message, _ways_out(host.owner(spec.plugin)))
    if spec.architecture.typed:
        check_names(module, spec.signature, spec.architecture.typed[0])
    elif spec.plugin and not spec.architecture.handlers:
        _check_declaration(module, spec, host)
    return module


def _check_declaration(module: nn.Module, spec: ModelSpec, host: Host) -> None:
    """Raise PluginProblem where forward can't be called with what the plugin declares.

    An architecture with handlers of its own may be called by them in another way.
    """
    if problem := binding_problem(module, spec.signature):
        distribution = host.owner(spec.plugin)
        raise PluginProblem(
            f"plugin {spec.plugin} declares {spec.name} wrongly: {problem}", _ways_out(distribution)
        )


def _ways_out(distribution: str) -> str:
    return f"upgrade {distribution}, or report it to its author"
