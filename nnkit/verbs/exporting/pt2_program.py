"""Check the graph of a stranger's torch.export program before torch sees it.

The graph is JSON, but much of it becomes code: torch evaluates expressions of sizes (through SymPy's `eval`),
executes guards, writes the names of values into a Python function, looks up operators by attribute, and
imports modules that a tree of outputs names. So each string must match what its key is for.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import torch

from nnkit.verbs.exporting.pt2_expressions import NotOfSizes, check_expression

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")
PATH = re.compile(r"[A-Za-z0-9_.@:/+ <>-]*")
"""Paths of modules and tensors, versions, devices: nothing that can end a string or call anything."""
NAMES = frozenset({"name", "as_name", "user_input_name", "forward_arg_names"})
OPERATORS = frozenset({"target", "as_operator"})
TREES = frozenset({"in_spec", "out_spec"})
TEXTS = frozenset({"as_string", "as_strings"})
DEEPEST = 100

OVERLOAD = re.compile(r"torch\.ops\.([a-z0-9_]+)\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
HIGHER_ORDER = re.compile(
    r"torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl|wrap_with_set_grad_enabled"
    r"|wrap_with_autocast|tag_activation_checkpoint|flex_attention|invoke_subgraph|out_dtype)"
)
ON_NUMBERS = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|lshift|rshift"
    r"|getitem)|math\.trunc|torch\.sym_[a-z_]+|torch\._sym_[a-z_]+"
)
NAMESPACES = frozenset({"aten", "prims", "quantized_decomposed", "torchvision"})
FORBIDDEN = frozenset({"_print", "save", "from_file", "manual_seed"})
"""Operators of ATen that access files, the terminal or the state of the process."""


class Unsafe(Exception):
    """Something in a file that torch would run, unpickle or import."""


def checked_program(program: Any) -> Any:
    """Return the JSON of a program without what torch only displays (stack traces, modules of nodes).

    Raises Unsafe for anything that torch would run and that isn't an operator on tensors.
    """
    for key, text in _strings(program, "", 0):
        _check(key, text)
    return program


def _strings(value: Any, key: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield each string with its key, and each key with an empty one."""
    if depth > DEEPEST:
        raise Unsafe("its graph is nested too deeply")
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, key, depth + 1)
    elif isinstance(value, dict):
        if "as_custom_obj" in value:
            raise Unsafe("its graph takes a custom object of compiled code")
        if "metadata" in value and ("target" in value or "graph" in value):
            value["metadata"] = {}
        for name, part in value.items():
            # torch writes a constant input of the graph into a guard, between quotes.
            constant = key == "inputs" and name == "as_string"
            yield "", name
            yield from _strings(part, "" if constant else name, depth + 1)


def _check(key: str, text: str) -> None:
    if key in NAMES:
        _match(NAME, text)
    elif key in OPERATORS:
        _check_operator(text)
    elif key == "expr_str":
        _check_expression(text, guard=False)
    elif key == "guards_code":
        _check_expression(text, guard=True)
    elif key in TREES:
        _check_tree(text)
    elif key not in TEXTS:  # texts are quoted arguments
        _match(PATH, text)


def _match(pattern: re.Pattern[str], text: str) -> None:
    if not pattern.fullmatch(text):
        raise Unsafe(f"its graph has the name {text[:60]!r}")


def _check_operator(text: str) -> None:
    if HIGHER_ORDER.fullmatch(text) or ON_NUMBERS.fullmatch(text):
        return
    overload = OVERLOAD.fullmatch(text)
    if not overload or not _is_on_tensors(*overload.groups()):
        raise Unsafe(f"its graph calls {text[:80]!r}, which is not an operator on tensors")


def _is_on_tensors(namespace: str, name: str, overload: str) -> bool:
    """Whether an operator works only on tensors, and comes from ATen or from code the user imported."""
    from torch._library.custom_ops import OPDEFS

    custom = OPDEFS.get(f"{namespace}::{name}")
    imported = custom is not None and not custom._init_fn.__module__.startswith("torch.")
    if not imported and (namespace not in NAMESPACES or name in FORBIDDEN):
        return False
    packet = getattr(getattr(torch.ops, namespace), name, None)
    return isinstance(getattr(packet, overload, None), torch._ops.OpOverload)


def _check_expression(text: str, guard: bool) -> None:
    try:
        check_expression(text, guard)
    except NotOfSizes as error:
        raise Unsafe(f"its graph evaluates {text[:80]!r}, which is not an expression of sizes") from error


def _check_tree(text: str) -> None:
    """Check the structure of inputs or outputs: only types that torch knows, and plain keys."""
    try:
        for key, part in _strings(json.loads(text), "", 0):
            if key == "context" and part[:1] in ("[", "{"):
                _check_tree(part)
            elif part in ("__enum__", "fqn", "default_factory_module", "collections.defaultdict"):
                raise Unsafe("its outputs have a type that torch would import")
            else:
                _match(PATH, part)
    except (ValueError, RecursionError) as error:
        raise Unsafe("the structure of its outputs can't be read") from error
