"""A forward of somebody's module on declared inputs: bound to its parameters by name, and run.

No module is run under inference mode: tensors that are made in it can't be differentiated, so a model that
differentiates in its own forward (forces from an energy) would fail.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models.forward_source import keys_taken, wrapper_for
from nnkit.models.tensors import tensors_in

T = TypeVar("T")

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def bind(module: nn.Module, names: Sequence[str], values: Sequence[T]) -> tuple[tuple[T, ...], dict[str, T]]:
    """Return the values that forward takes by position, and those that it takes by name.

    Where every name is a parameter of forward, each value goes to the parameter of its name: those that
    begin forward's signature, in its order, by position, the others by name. Else all go by position.

        forward(self, ids, mask=None, types=None)   names ids, types   ->   (ids,), {"types": types}
    """
    signature = signature_of(module)
    if signature is None or any(each.kind is each.VAR_POSITIONAL for each in signature.parameters.values()):
        return tuple(values), {}
    leading = [name for name, parameter in signature.parameters.items() if parameter.kind in BY_POSITION]
    count = 0
    while count < len(names) and leading[count : count + 1] == [names[count]]:
        count += 1
    args, keywords = tuple(values[:count]), dict(zip(names[count:], values[count:], strict=True))
    try:
        signature.bind(*args, **keywords)
    except TypeError:
        return tuple(values), {}
    return args, keywords


def signature_of(module: nn.Module) -> inspect.Signature | None:
    """Return the signature of forward, None where it has none (TorchScript)."""
    try:
        return inspect.signature(module.forward)
    except (ValueError, TypeError):
        return None


def check_names(module: nn.Module, names: Sequence[str], typed: str) -> None:
    """Raise UsageProblem where the user declares an input that forward doesn't take, or leaves one out.

    typed: the reference, as the user typed it.
    """
    signature = signature_of(module)
    if signature is None or _is_of_torch(module):
        return
    parameters = signature.parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    own = [name for name, each in parameters.items() if each.kind in (*BY_POSITION, *BY_NAME)]
    takes = f"forward of {typed} takes {', '.join(own) or 'no inputs'}"
    for name, keys in keys_taken(module.forward).items():
        if name in names or parameters[name].default is inspect.Parameter.empty:
            wanted = ", ".join(map(repr, keys))
            problem = f"forward of {typed} takes {name!r} as a dict (of {wanted}), and an input is a tensor"
            raise UsageProblem(problem, wrapper_for(keys))
    open_ended = bool(kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
    unknown = [name for name in names if name not in own]
    if unknown and not open_ended:
        near = did_you_mean(unknown[0], own)
        raise UsageProblem(f"{typed} has no input {unknown[0]!r}", "; ".join(filter(None, (near, takes))))
    missing = [
        name for name in own if parameters[name].default is inspect.Parameter.empty and name not in names
    ]
    if missing and not unknown:
        raise UsageProblem(
            f"{typed} needs the input {missing[0]!r}, which is not declared",
            f'declare it: --input "{missing[0]}: float32[batch, 8]"; {takes}',
        )


def _is_of_torch(module: nn.Module) -> bool:
    """Whether forward is one of torch's own, of a Sequential, say: what it calls its input binds nobody."""
    forward = getattr(type(module), "forward", None)
    owner = getattr(forward, "__module__", None) or ""
    return owner.startswith("torch.") or isinstance(module, torch.jit.ScriptModule)


def call(module: nn.Module, names: Sequence[str], inputs: Sequence[Tensor]) -> Any:
    """Run forward on the inputs of these names, in whatever mode torch is in; return what it returns."""
    args, keywords = bind(module, names, inputs)
    return module(*args, **keywords)


def evaluate(module: nn.Module, names: Sequence[str], inputs: Sequence[Tensor]) -> Any:
    """Run forward without gradients and return what it returns.

    It runs on copies of the inputs, so it can't change them. A model that differentiates in its own
    forward is run with gradients.
    """
    return without_gradients(lambda: call(module, names, [each.clone() for each in inputs]))


def evaluate_tensors(module: nn.Module, names: Sequence[str], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of what `evaluate` returns, detached."""
    return [each.detach() for each in tensors_in(evaluate(module, names, inputs))]


def without_gradients(run: Callable[[], T]) -> T:
    """Return what `run` returns under no_grad; with gradients where it fails for the lack of them."""
    try:
        with torch.no_grad():
            return run()
    except RuntimeError as error:
        if not lacks_gradients(error):
            raise
    with torch.enable_grad():
        return run()


def needs_gradients(run: Callable[[], object]) -> bool:
    """Run once under no_grad, and return whether it fails because it differentiates itself."""
    try:
        with torch.no_grad():
            run()
    except RuntimeError as error:
        if not lacks_gradients(error):
            raise
        return True
    return False


def lacks_gradients(error: RuntimeError) -> bool:
    """Whether a model failed because it differentiates where gradients are off."""
    return "require grad" in str(error) or "grad_fn" in str(error)
