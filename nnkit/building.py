"""ModelSpec -> nn.Module, on any device or on none."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nnkit import __version__
from nnkit.errors import NnkitError, PluginProblem, UsageProblem
from nnkit.hookspecs import BuildRequest, Host
from nnkit.loading import load
from nnkit.spec import ModelSpec


def build_module(spec: ModelSpec, host: Host, device: str | torch.device = "cpu") -> nn.Module:
    """Return the module of `spec` with its weights, in eval mode, on `device`.

    Weights are drawn on the CPU in float32, so a seed gives the same ones on every device. The
    process's own random state is left as it was.
    """
    if torch.device(device).type == "meta":
        return build_without_weights(spec, host, limit=0)
    module = _construct(spec, host).to(dtype=getattr(torch, spec.dtype))
    if spec.weights is not None:
        load_weights(module, Path(spec.weights))
    return module.to(device).eval()


@dataclass(frozen=True)
class BuildReport:
    """A module that was built: its tree as torch prints it, and its totals; tied tensors count once."""

    SCHEMA = "nnkit.build/1"

    spec: ModelSpec
    device: str
    tree: str
    parameters: int
    trainable: int
    parameter_bytes: int
    buffers: int

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
    )


def build_without_weights(spec: ModelSpec, host: Host, limit: int) -> nn.Module:
    """Return the module of `spec` with weights that hold no values, in eval mode.

    Up to `limit` bytes they are uninitialised memory on the CPU, which can run; beyond it all of them
    are on the meta device. Either way no weight is ever written, so memory stays small.
    """
    with _weightless(limit) as count, _NoInitialisation():
        module = _construct(spec, host)
    if count.bytes > limit:
        module = module.to("meta")
    return module.to(dtype=getattr(torch, spec.dtype)).eval()


def build_default(request: BuildRequest) -> nn.Module:
    """Call the builder that the architecture names."""
    architecture = request.spec.architecture
    for package, command in architecture.requires.items():
        if importlib.util.find_spec(package) is None:
            raise PluginProblem(f"{architecture.name} needs the package {package}", f"install it: {command}")
    build = load(architecture.build) if isinstance(architecture.build, str) else architecture.build
    module: nn.Module = build(request.spec.config)
    return module


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into `module`, strictly: every key, every shape.

    Raises UsageProblem when the file doesn't fit, NnkitError when it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    if not path.is_file():
        raise UsageProblem(f"there is no weights file {path}", "check the path")
    try:
        load_model(module, path)
    except SafetensorError as error:
        raise NnkitError(f"{path} is damaged: {error}", "export it again, or fetch it again") from error
    except RuntimeError as error:
        raise UsageProblem(
            f"the weights in {path} don't fit: {' '.join(str(error).split())}",
            "give the options that they were made with",
        ) from error


def _construct(spec: ModelSpec, host: Host) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed)
        try:
            module = host.hook.nnkit_build(request=BuildRequest(spec=spec))
        except NnkitError:
            raise
        except Exception as error:
            kind = PluginProblem if spec.plugin else NnkitError
            raise kind(
                f"building {spec.name} failed: {type(error).__name__}: {error}", "see where: repeat with -v"
            ) from error
    if not isinstance(module, nn.Module):
        raise PluginProblem(
            f"building {spec.name} gave {type(module).__name__}, not a torch.nn.Module", "tell its author"
        )
    return module


class _NoInitialisation(TorchFunctionMode):
    """Skips the random initialisers: they would touch every page of memory for values nobody reads."""

    RANDOM = frozenset({Tensor.normal_, Tensor.uniform_})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.RANDOM or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class _Count:
    bytes = 0


@contextmanager
def _weightless(limit: int) -> Iterator[_Count]:
    """Move parameters to the meta device as they are registered, once they pass `limit` bytes.

    A `torch.device("meta")` context would be simpler, but constructors that compute with tensors
    (all of torchvision's RegNets) fail under it.
    """
    count = _Count()
    seen: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
    register = nn.Module.register_parameter

    def register_parameter(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and parameter.device.type != "meta":
            count.bytes += parameter.nbytes
            if count.bytes > limit:
                # Kept by identity, with the original alive, so that tied parameters stay tied.
                _, parameter = seen.setdefault(
                    id(parameter),
                    (parameter, nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)),
                )
        register(self, name, parameter)

    nn.Module.register_parameter = register_parameter  # type: ignore[method-assign, assignment]
    try:
        yield count
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
