"""The check of tied parameters, and the search for parameters that only share their memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.models.building import build_module, build_to_load
from nnkit.models.members import move, set_mode
from nnkit.models.weightless import parameter_bytes
from nnkit.verbs.smoke.subject import NOT_DECLARED, Failed, Skipped, Subject

T = TypeVar("T")
LARGE = 2**26  # bytes of weights that take longer to draw than a build on meta
NOT_TIED = "are two parameters: assign the parameter itself, not its data"


def tied(subject: Subject) -> str:
    """Parameters that are declared tied are one tensor, and still are after a reload."""
    groups = [tuple(group) for group in subject.spec.architecture.tied]
    if not groups:
        raise Skipped(NOT_DECLARED)
    _check_tied(subject.copy(), subject.built, groups)
    build_otherwise(subject, lambda other: _check_reloaded(subject.copy(), other, groups))
    return ", ".join(" = ".join(group) for group in groups)


def _check_reloaded(module: nn.Module, other: nn.Module, groups: Sequence[Sequence[str]]) -> None:
    """Raise Failed where parameters are no longer tied when the state dict of a module is loaded."""
    other.load_state_dict(module.state_dict())
    _check_tied(other, other, groups, " after a reload")
    for first, *_ in groups:
        if not torch.equal(_find_parameter(other, first), _find_parameter(module, first)):
            raise Failed(f"{first} is different after a reload")


def _check_tied(module: nn.Module, built: nn.Module, groups: Sequence[Sequence[str]], when: str = "") -> None:
    for first, *others in groups:
        for name in others:
            if _find_parameter(module, name) is _find_parameter(module, first):
                continue
            shares = _find_parameter(built, name).data_ptr() == _find_parameter(built, first).data_ptr()
            problem = f"share one memory, but {NOT_TIED}" if shares else "are two parameters, not one"
            raise Failed(f"{first} and {name} {problem}{when}")


def _find_parameter(module: nn.Module, name: str) -> Tensor:
    path, _, attribute = name.rpartition(".")
    try:
        parameter = getattr(module.get_submodule(path), attribute)
    except AttributeError:
        parameter = None
    if not isinstance(parameter, Tensor):
        raise Failed(f"it has no parameter {name}, which is declared tied")
    return parameter


def build_otherwise(subject: Subject, check: Callable[[nn.Module], T]) -> T:
    """Return what `check` finds of the model built with a different seed, without weights from a file.

    It loads weights into the model. So of a large model it first gets one whose own were never drawn, which
    costs little. A fault counts only if it shows in one that was built in full as well.
    """
    spec = replace(subject.spec, seed=subject.spec.seed + 1, weights=None, strict=True)
    is_object = not spec.plugin and not spec.architecture.typed  # a build of it is a copy
    if not is_object and parameter_bytes(subject.built) > LARGE:
        with suppress(Exception):
            module = move(build_to_load(spec, subject.host), subject.device)
            set_mode(module, training=False)
            return check(module)
    return check(build_module(spec, subject.host, subject.device))


def shared_memory(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of two different parameters that lie at one place in memory."""
    seen: dict[tuple[int, int], tuple[str, nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if is_lazy(parameter) or parameter.layout != torch.strided or not parameter.numel():
            continue
        first, other = seen.setdefault((parameter.data_ptr(), parameter.numel()), (name, parameter))
        if other is not parameter and parameter.data_ptr():
            yield name, first
