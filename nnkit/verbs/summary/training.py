"""What each call of a model costs in a training step: FLOPs, saved bytes, peak."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import nn

from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.memory import estimate_memory
from nnkit.verbs.summary.report import Memory, Row, SummaryReport, Training
from nnkit.verbs.summary.storages import LiveStorages
from nnkit.verbs.summary.tracing import Call, Watcher, without_attention_fast_path

Key: TypeAlias = tuple[str, str, int]


def with_training(
    report: SummaryReport,
    module: nn.Module,
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
    formulas: Mapping[str, Formula],
    optimizer: str,
    device: str,
) -> SummaryReport:
    """Return the report with the memory of a training step and of an inference, and the share of each row.

    Rows keep the figures of the run in eval mode; a call that a training step doesn't make gets no cost.
    Raises NnkitError if the model can't run in training mode.
    """
    watcher = TrainingWatcher(formulas)
    memory = estimate_memory(module, args, dict(keywords), optimizer, device, watcher)
    flops = _flops(watcher.root) if memory.training_peak else 0
    warnings = report.warnings
    if memory.training_peak and flops < report.totals.flops:
        warnings += (
            "a training step multiplies less than a forward in eval mode: it doesn't run the same operators",
        )
    return replace(
        report,
        memory=memory,
        rows=tuple(_with_costs(report.rows, watcher, memory)),
        totals=replace(report.totals, training_flops=flops),
        warnings=warnings,
    )


class TrainingWatcher(Watcher):
    """Watches a training step: its products, what it saves for backward, its memory.

    If a step is abandoned and repeated elsewhere, the last one counts.
    """

    notes_reads = False

    def __init__(self, formulas: Mapping[str, Formula]) -> None:
        super().__init__(formulas)
        self.live: LiveStorages | None = None
        self.differentiates = False
        self.calls: dict[nn.Module, Call] = {}
        self.makers: list[tuple[int, Call]] = []

    @property
    def root(self) -> Call:
        """The outermost call."""
        return self.top.children[0]

    @contextmanager
    def forward(self, live: LiveStorages) -> Iterator[None]:
        """Watch the forward of a step, from its beginning."""
        Watcher.__init__(self, self.formulas)
        self.live = live
        self.calls.clear()
        self.makers.clear()
        with without_attention_fast_path(), self.watching():
            yield

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Watch the backward pass of the step."""
        self.differentiates = True
        try:
            with without_attention_fast_path(), self.watching():
                yield
        finally:
            self.differentiates = False

    def save(self, size: int) -> None:
        """Record that a storage of `size` bytes is kept for backward."""
        self.current.saved += size

    @contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """Put `call` on top of the stack, and record the most bytes that are alive meanwhile."""
        live = self.live
        assert live is not None
        if call.module is not None:
            self.calls[call.module] = call
        before, live.peak = live.peak, live.live
        try:
            with super().under_way(call), self._making(call):
                yield
        finally:
            call.peak, live.peak = live.peak, max(before, live.peak)

    @contextmanager
    def _making(self, call: Call) -> Iterator[None]:
        """Record that the nodes added to autograd's graph meanwhile belong to `call`.

        Autograd numbers its nodes in the order in which they are made.
        """
        outer = self.makers[-1][1] if self.makers else call
        self.makers.append((torch._C._autograd._get_sequence_nr(), call))
        try:
            yield
        finally:
            self.makers.append((torch._C._autograd._get_sequence_nr(), outer))

    def leave_out(self, call: Call, parent: Call) -> None:
        """Give the call of a function no row; its cost goes to its parent."""
        super().leave_out(call, parent)
        self.makers = [(number, parent if maker is call else maker) for number, maker in self.makers]

    def call_module(self, called: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Record the call of a module and make it; in backward it is a call that is recomputed."""
        if not self.differentiates:
            return super().call_module(called, module, args, kwargs)
        with self._making(self.calls.get(module, self.root)):
            return called(module, *args, **kwargs)

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function; record it, unless it is recomputed."""
        if not self.differentiates:
            return super().call_function(func, args, kwargs)
        return func(*args, **kwargs)

    def spend(self, macs: int) -> None:
        """Add multiply-adds to the call under way, in backward to the one that made the node.

        A forward that is recomputed in backward, to save memory, counts once.
        """
        if not self.differentiates:
            super().spend(macs)
        elif not torch.is_grad_enabled():
            self._maker().backward += macs

    def _maker(self) -> Call:
        """Return the call that made the node whose backward runs."""
        node = torch._C._current_autograd_node()
        number = node._sequence_nr() if node is not None else 0
        index = bisect_right(self.makers, number, key=lambda maker: maker[0])
        return self.makers[index - 1][1] if index else self.root


def _flops(call: Call) -> int:
    return 2 * (call.total("macs") + call.total("backward"))


def _with_costs(rows: tuple[Row, ...], watcher: TrainingWatcher, memory: Memory) -> Iterator[Row]:
    costs = dict(_costs(watcher.root)) if memory.training_peak else {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        call = row.path, row.kind
        yield replace(row, training=costs.get((*call, seen[call])))
        seen[call] += 1


def _costs(root: Call) -> Iterator[tuple[Key, Training]]:
    """Yield what each call costs, by path, kind and the number of the call there."""
    seen: Counter[tuple[str, str]] = Counter()

    def walk(call: Call) -> Iterator[tuple[Key, Training]]:
        key = call.path, call.kind
        yield (*key, seen[key]), Training(_flops(call), call.total("saved"), call.peak)
        seen[key] += 1
        for child in call.children:
            yield from walk(child)

    yield from walk(root)
