"""ModelSpec -> nn.Module, on any device or on none."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from nnkit import __version__
from nnkit.errors import NnkitError, PluginProblem
from nnkit.hookspecs import BuildRequest, Host
from nnkit.loading import load, missing
from nnkit.precision import convert, count_dtypes
from nnkit.running import check_names
from nnkit.spec import ModelSpec


def build_module(spec: ModelSpec, host: Host, device: str | torch.device = "cpu") -> nn.Module:
    """Return the module of `spec` with its weights, in eval mode, on `device`.

    Weights are drawn on the CPU, in the dtype that the model gives them, so a seed gives the same ones on
    every device. The
    process's own random state is left as it was.
    """
    if torch.device(device).type == "meta":
        return build_without_weights(spec, host, limit=0)
    if spec.weights is None:
        module = convert(_construct(spec, host), spec.dtype)
    else:
        from nnkit.weights import load_weights

        module = _to_be_loaded(spec, host)
        load_weights(module, Path(spec.weights), spec.strict)
    return module.to(device).eval()


def _to_be_loaded(spec: ModelSpec, host: Host) -> nn.Module:
    """Return a module whose parameters a file will fill: not initialised, where that can be."""
    if spec.strict:
        try:
            return build_without_weights(spec, host, limit=2**63)
        except NnkitError:  # a constructor that computes with its weights
            pass
    return convert(_construct(spec, host), spec.dtype)


@dataclass(frozen=True)
class BuildReport:
    """A module that was built on a `device`: its `tree` as torch prints it, and its totals.

    parameters, trainable, buffers: elements; tied tensors count once. parameter_bytes: their memory.
    dtypes: how many elements of the parameters have which dtype.

    Example:

        from nnkit.building import describe

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
    """Return what was built from `spec`."""
    parameters = list(module.parameters())
    return BuildReport(
        spec=spec,
        device=str(next(iter([*parameters, *module.buffers()]), torch.empty(0)).device),
        tree=str(module),
        parameters=sum(each.numel() for each in parameters),
        trainable=sum(each.numel() for each in parameters if each.requires_grad),
        parameter_bytes=sum(each.nbytes for each in parameters),
        buffers=sum(each.numel() for each in module.buffers()),
        dtypes=count_dtypes(parameters),
    )


def build_without_weights(spec: ModelSpec, host: Host, limit: int) -> nn.Module:
    """Return the module of `spec` with weights that hold no values, in eval mode.

    Up to `limit` bytes they are uninitialised memory on the CPU, which can run; beyond it, or with a
    limit of 0, all of the module is on the meta device. Either way no weight is ever written, so
    memory stays small.
    """
    with _parameters_on_meta(), _NoInitialisation():
        module = _construct(spec, host)
    size = sum(parameter.nbytes for parameter in module.parameters() if not is_lazy(parameter))
    if limit == 0 or size > limit:
        module = module.to("meta")
    else:
        _allocate(module)
    return convert(module, spec.dtype).eval()


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
            message = f"building {spec.name} failed: {type(error).__name__}: {error}"
            if not spec.plugin:
                raise NnkitError(message, "see where: repeat with -v") from error
            hint = f"see where: repeat with -v; upgrade {host.owner(spec.plugin)}, or tell its author"
            raise PluginProblem(message, hint) from error
    if not isinstance(module, nn.Module):
        raise PluginProblem(
            f"building {spec.name} gave {type(module).__name__}, not a torch.nn.Module",
            f"upgrade {host.owner(spec.plugin)}, or tell its author" if spec.plugin else "return one",
        )
    if spec.architecture.typed:
        check_names(module, spec.input_names, spec.architecture.typed[0])
    return module


class _NoInitialisation(TorchFunctionMode):
    """Passes over what fills tensors on meta with values: their kernels import sympy and torch._dynamo.

    A tensor that has values is filled as ever: an initialiser may draw until they satisfy it.
    """

    FILL = frozenset(
        {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_, Tensor.copy_, Tensor.mul_, Tensor.add_,
         Tensor.sub_, Tensor.div_, Tensor.clamp_, Tensor.erfinv_}
    )  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.FILL or getattr(func, "__module__", None) == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move each parameter to the meta device as it is registered, where initialising it costs nothing.

    A `torch.device("meta")` context would be simpler, but constructors that compute with tensors
    (all of torchvision's RegNets) fail under it.
    """
    register, here = nn.Module.register_parameter, threading.get_ident()
    seen: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    def register_parameter(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if threading.get_ident() != here:
            register(self, name, parameter)
            return
        if parameter is not None and not parameter.is_meta and not is_lazy(parameter):
            # Kept by identity, with the original alive, so that tied parameters stay tied.
            _, parameter = seen.setdefault(id(parameter), (parameter, _empty(parameter, "meta")))
        register(self, name, parameter)

    nn.Module.register_parameter = register_parameter  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _allocate(module: nn.Module) -> None:
    """Give parameters on meta uninitialised memory on the CPU; tied ones stay tied."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for each in module.modules():
        for name, parameter in list(each.named_parameters(recurse=False, remove_duplicate=False)):
            if parameter.is_meta:
                if parameter not in made:
                    made[parameter] = _empty(parameter, "cpu")
                setattr(each, name, made[parameter])  # torch's recurrent layers keep a list of their own


def _empty(parameter: nn.Parameter, device: str) -> nn.Parameter:
    # empty_like would import sympy when it is given a meta tensor.
    memory = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
    return nn.Parameter(memory, requires_grad=parameter.requires_grad)
