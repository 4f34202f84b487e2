"""The rows and totals of a summary, from the calls that were seen in a run."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.models.members import named_buffers, named_modules, named_parameters
from nnkit.models.precision import count_dtypes
from nnkit.models.tensors import bytes_of, elements_of, storages_of
from nnkit.verbs.summary.counting import may_multiply
from nnkit.verbs.summary.report import Row, Shape, Totals
from nnkit.verbs.summary.tracing import Call, Trace


def make_rows(module: nn.Module, root: Call) -> Iterator[Row]:
    """Yield a row for each call in order, a caller before the calls in its forward.

    Calls that look alike, as in a loop, have one Row object, so that each is kept and shown at little cost.
    """
    return _make_rows(root, _Ledger(module), {}, depth=0, caller_counts=())


def _make_rows(
    call: Call, ledger: "_Ledger", made: dict[object, Row], depth: int, caller_counts: Collection[Tensor]
) -> Iterator[Row]:
    repeated, module = call.module in ledger.entered, call.module
    share = ledger.enter(call, depth, caller_counts)
    macs, kernel = call.total("macs"), None if module is None else _kernel_size(module)
    # Values may be dicts, so they are compared as objects; `describe` gives equal ones as one object.
    values, leaf = (id(call.inputs), id(call.outputs)), not call.children
    key = call.path, call.kind, call.type, depth, *values, macs, kernel, repeated, share.tied, leaf
    row = None if share.counted else made.get(key)
    if row is None:
        row = Row(
            path=call.path,
            kind=call.kind,
            type=call.type,
            depth=depth,
            inputs=call.inputs,
            outputs=call.outputs,
            parameters=_elements(share.counted),
            trainable=_elements(_trainable(share.counted)),
            macs=macs,
            kernel=kernel,
            repeated=repeated,
            tied=share.tied,
            leaf=leaf,
        )
        if not share.counted:
            made[key] = row
    yield row
    for child in call.children:
        yield from _make_rows(child, ledger, made, depth + 1, share.counted)


@dataclass(frozen=True)
class _Share:
    """The parameters that one row counts; tied: the name of one that an earlier row counts."""

    counted: Collection[Tensor]
    tied: str


class _Ledger:
    """Decides which row counts a parameter, so that no parameter counts twice at one depth.

    A row counts everything beneath it, so a parameter is counted by a whole line of rows, one in another.
    A tied parameter has two such lines, and counts only in the one that ran first. Calls are entered in the
    order in which they run. A row counts a parameter if

    - it is the first call at its depth that has the parameter, and
    - its caller counts the parameter too, or no call entered so far counts it.

    Example: a language model whose `head` is tied to `encoder.embed`. The rows run in this order:

        depth  call           counts the weight?
        0      model          yes: first at depth 0
        1      encoder        yes: first at depth 1, and `model` counts it
        2      encoder.embed  yes: first at depth 2, and `encoder` counts it
        1      head           no: `encoder` had it at depth 1; its row shows "tied to encoder.embed"

    The second condition matters if `head` runs first: then `encoder` doesn't count the weight, and so
    `encoder.embed` mustn't either, although it is the first at depth 2. Calls of modules that are not
    registered with their caller count by the second half of that condition.
    """

    def __init__(self, module: nn.Module) -> None:
        self.entered: set[nn.Module] = set()
        self._counted: set[Tensor] = set()
        self._first_at_depth: dict[tuple[Tensor, int], Call] = {}
        self._names = {parameter: name for name, parameter in named_parameters(module).items()}

    def enter(self, call: Call, depth: int, caller_counts: Collection[Tensor]) -> _Share:
        """Return what the row of a call counts: nothing for a function, and for a module's second call."""
        if call.module is None or call.module in self.entered:
            return _Share((), "")
        self.entered.add(call.module)
        counted, tied = set(), ""
        for parameter in named_parameters(call.module).values():
            is_first_here = self._first_at_depth.setdefault((parameter, depth), call) is call
            if is_first_here and (parameter in caller_counts or parameter not in self._counted):
                counted.add(parameter)
            elif not is_lazy(parameter):
                tied = self._names.get(parameter, "another module")
        self._counted |= counted
        return _Share(counted, tied)


def _trainable(parameters: Iterable[Tensor]) -> Iterator[Tensor]:
    return (parameter for parameter in parameters if parameter.requires_grad)


def _kernel_size(module: nn.Module) -> Shape | None:
    """Return the window of a convolution or pooling, one number for each axis."""
    size = getattr(module, "kernel_size", None)
    if isinstance(size, int):
        return (size,)
    if isinstance(size, tuple) and size and all(isinstance(length, int) for length in size):
        return size
    return None


def make_totals(module: nn.Module, traced: Trace) -> Totals:
    """Return what the whole model holds and costs."""
    parameters, buffers = list(named_parameters(module).values()), list(named_buffers(module).values())
    trainable = _elements(_trainable(parameters))
    macs = traced.root.total("macs")
    uncounted = dict(traced.uncounted.most_common())
    return Totals(
        parameters=_elements(parameters),
        trainable=trainable,
        frozen=_elements(parameters) - trainable,
        buffers=_elements(buffers),
        parameter_bytes=_bytes(parameters),
        dtypes=count_dtypes(parameters),
        buffer_bytes=_bytes(buffers),
        macs=macs,
        flops=2 * macs,
        activations=traced.activations,
        uncounted=uncounted,
        missed=tuple(name for name in uncounted if may_multiply(name, known_only=macs > 0)),
        unused=() if traced.failure else tuple(_unused(module, traced.read)),
    )


def _unused(module: nn.Module, storages_read: set[int]) -> Iterator[str]:
    """Yield the names of parameters that no operator read; `aux1.*` for all of a module's."""
    parameters = named_parameters(module)
    unused = {name for name, parameter in parameters.items() if _is_unread(parameter, storages_read)}
    for prefix, submodule in named_modules(module).items():
        beneath = {f"{prefix}.{name}" if prefix else name for name in named_parameters(submodule)}
        if len(beneath) > 1 and beneath <= unused:
            yield f"{prefix}.*" if prefix else "*"
            unused -= beneath
    yield from (name for name in parameters if name in unused)


def _is_unread(parameter: Tensor, storages_read: set[int]) -> bool:
    if is_lazy(parameter):
        return False
    storages = storages_of(parameter)
    return bool(storages) and storages.isdisjoint(storages_read)


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(elements_of(tensor) for tensor in tensors)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(bytes_of(tensor) for tensor in tensors)
