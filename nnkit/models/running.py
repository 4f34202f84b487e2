"""Run forward on declared inputs, bound to its parameters by name.

No module is run under inference mode: tensors created in it can't be differentiated, so a model that
differentiates in its own forward (forces as the gradient of an energy) would fail.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nnkit.contract.signature import Signature
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models.forward_source import keys_taken
from nnkit.models.structure import assemble
from nnkit.models.tensors import tensors_in

T = TypeVar("T")

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def bind(
    module: nn.Module, signature: Signature, values: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that forward takes by position, and those that it takes by name.

    values: of the tensors of the signature, in order. If every argument is a parameter of forward, each goes
    to the parameter of its name. Names that begin the parameters, in their order, are passed by position, the
    others by name; the parts of `*args` follow one by one. Otherwise all are passed by position.

        forward(self, ids, mask=None, types=None)   names ids, types         ->   (ids,), {"types": types}
        forward(self, tokens, *cache)               names tokens, cache.0    ->   (tokens, cache.0), {}
    """
    return _place(signature_of(module), assemble(module, signature, values))


def _place(
    parameters: inspect.Signature | None, arguments: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return which of the arguments are passed by position, and which by name; see `bind`."""
    by_position = tuple(arguments.values())
    if parameters is None or not _takes(parameters, arguments):
        return by_position, {}
    args: list[Any] = []
    for name, parameter in parameters.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += _parts(arguments.pop(name, ()))
        if parameter.kind not in BY_POSITION or name != next(iter(arguments), None):
            break
        args.append(arguments.pop(name))
    if (keywords := _keyword_parameter(parameters)) in arguments:
        arguments |= arguments.pop(str(keywords))
    try:
        parameters.bind(*args, **arguments)
    except TypeError:
        return by_position, {}
    return tuple(args), arguments


def binding_problem(module: nn.Module, declared: Signature) -> str:
    """Return why forward can't be called with the declared arguments, or an empty string.

    Names that forward doesn't have are no problem where it takes as many arguments by position.
    """
    parameters = signature_of(module)
    if parameters is None:
        return ""
    args, keywords = _place(parameters, dict.fromkeys(declared.parameters, ()))
    try:
        parameters.bind(*args, **keywords)
    except TypeError as error:
        takes, names = ", ".join(parameters.parameters), ", ".join(declared.parameters)
        return f"forward takes {takes or 'nothing'}, but {names or 'nothing'} is declared: {error}"
    return ""


def _parts(value: Any) -> Sequence[Any]:
    return tuple(value.values()) if isinstance(value, dict) else tuple(value)


def _takes(signature: inspect.Signature, arguments: Mapping[str, Any]) -> bool:
    """Whether forward has a parameter for each argument; names mean nothing to `forward(*inputs)` alone."""
    named = [name for name in arguments if name in signature.parameters]
    if _keyword_parameter(signature) is None:
        return len(named) == len(arguments)
    return bool(named) or not _takes_any_number(signature)


def _keyword_parameter(signature: inspect.Signature) -> str | None:
    """Return the name of `**keywords`, if forward has it."""
    kinds = {parameter.kind: name for name, parameter in signature.parameters.items()}
    return kinds.get(inspect.Parameter.VAR_KEYWORD)


def _takes_any_number(signature: inspect.Signature) -> bool:
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values())


def signature_of(module: nn.Module) -> inspect.Signature | None:
    """Return the signature of forward, or None if it has none (TorchScript)."""
    try:
        return inspect.signature(module.forward)
    except (ValueError, TypeError):
        return None


def check_names(module: nn.Module, declared: Signature, typed: str) -> None:
    """Raise UsageProblem where the user declares an input that forward doesn't take, or omits one.

    typed: the reference as the user typed it.
    """
    names = list(declared.parameters)
    signature = signature_of(module)
    if signature is None or is_of_torch(module):
        return
    parameters = signature.parameters
    own = [name for name, parameter in parameters.items() if parameter.kind in (*BY_POSITION, *BY_NAME)]
    required = [name for name in own if parameters[name].default is inspect.Parameter.empty]
    takes = f"forward of {typed} takes {', '.join(own) or 'no inputs'}"
    for name, keys in keys_taken(module.forward).items():
        is_required = parameters[name].default is inspect.Parameter.empty
        if name in declared.names or (is_required and name not in names):
            raise UsageProblem(
                f"forward of {typed} takes {name!r} as a dict (of {', '.join(map(repr, keys))})",
                "declare what it holds: "
                + " ".join(f'--input "{name}.{key}: float32[batch, 8]"' for key in keys),
            )
    kinds = {parameter.kind for parameter in parameters.values()}
    is_open_ended = bool(kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
    unknown = [name for name in names if name not in own]
    if unknown and not is_open_ended:
        near = did_you_mean(unknown[0], own)
        raise UsageProblem(f"{typed} has no input {unknown[0]!r}", "; ".join(filter(None, (near, takes))))
    missing = [name for name in required if name not in names]
    if missing and not unknown:
        raise UsageProblem(
            f"{typed} needs the input {missing[0]!r}, which is not declared",
            f'declare it: --input "{missing[0]}: float32[batch, 8]"; {takes}',
        )


def is_of_torch(module: nn.Module) -> bool:
    """Whether forward is torch's own, as in a Sequential, so that the name of its input means nothing."""
    forward = getattr(type(module), "forward", None)
    owner = getattr(forward, "__module__", None) or ""
    return owner.startswith("torch.") or isinstance(module, torch.jit.ScriptModule)


def call(module: nn.Module, signature: Signature, inputs: Sequence[Tensor]) -> Any:
    """Run forward on the inputs of a signature, in torch's current mode, and return what it returns."""
    args, keywords = bind(module, signature, inputs)
    return module(*args, **keywords)


def evaluate(module: nn.Module, signature: Signature, inputs: Sequence[Tensor]) -> Any:
    """Run forward without gradients and return what it returns.

    It runs on copies of the inputs, so it can't change them. A model that differentiates in its own
    forward is run with gradients.
    """
    return without_gradients(lambda: call(module, signature, [tensor.clone() for tensor in inputs]))


def evaluate_tensors(module: nn.Module, signature: Signature, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of what `evaluate` returns, detached."""
    return [tensor.detach() for tensor in tensors_in(evaluate(module, signature, inputs))]


def without_gradients(run: Callable[[], T]) -> T:
    """Return what `run` returns under no_grad, or with gradients if it fails without them."""
    try:
        with torch.no_grad():
            return run()
    except RuntimeError as error:
        if not lacks_gradients(error):
            raise
    with torch.enable_grad():
        return run()


def needs_gradients(run: Callable[[], object]) -> bool:
    """Run once under no_grad, and return whether it fails because it computes gradients itself."""
    try:
        with torch.no_grad():
            run()
    except RuntimeError as error:
        if not lacks_gradients(error):
            raise
        return True
    return False


def lacks_gradients(error: RuntimeError) -> bool:
    """Whether a model failed because it computes gradients while they are turned off."""
    return "require grad" in str(error) or "grad_fn" in str(error)
