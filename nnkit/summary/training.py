"""What each call of a model costs in a training step, beside what it costs in the run that is counted."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from torch import nn

from nnkit.summary.counting import Formula
from nnkit.summary.memory import LiveStorages, estimate_memory
from nnkit.summary.report import Memory, Row, SummaryReport, Training
from nnkit.summary.tracing import Call, Watcher, without_attention_fast_path

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
    """Return the report with the memory of a training step and of an inference, and what each row has in it.

    Rows keep the figures of the run in eval mode; a call that a training step doesn't make has none of it.
    Raises NnkitError where the model can't be run in training mode.
    """
    watcher = TrainingWatcher(formulas)
    memory = estimate_memory(module, args, dict(keywords), optimizer, device, watcher)
    return replace(
        report,
        memory=memory,
        rows=tuple(_with_costs(report.rows, watcher, memory)),
        totals=replace(report.totals, training_flops=_flops(watcher.root) if memory.training_peak else 0),
    )


class TrainingWatcher(Watcher):
    """Watches the forward of a training step: its products, what it saves for backward, its memory."""

    def __init__(self, formulas: Mapping[str, Formula]) -> None:
        super().__init__(formulas)
        self.live: LiveStorages | None = None

    @property
    def root(self) -> Call:
        """The outermost call."""
        return self.top.children[0]

    @contextmanager
    def forward(self, live: LiveStorages) -> Iterator[None]:
        """Watch what happens inside."""
        self.live = live
        with without_attention_fast_path(), self.watching():
            yield

    def save(self, size: int) -> None:
        """Note that a storage of so many bytes is kept for backward."""
        self.current.saved += size

    @contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """Have `call` on top of the stack, and note the most bytes that are alive meanwhile."""
        live = self.live
        assert live is not None
        before, live.peak = live.peak, live.live
        try:
            with super().under_way(call):
                yield
        finally:
            call.peak, live.peak = live.peak, max(before, live.peak)


def _flops(call: Call) -> int:
    return 2 * (call.total("macs") + call.total("backward"))


def _with_costs(rows: tuple[Row, ...], watcher: TrainingWatcher, memory: Memory) -> Iterator[Row]:
    costs = dict(_costs(watcher.root)) if memory.training_peak else {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        place = row.path, row.kind
        yield replace(row, training=costs.get((*place, seen[place])))
        seen[place] += 1


def _costs(root: Call) -> Iterator[tuple[Key, Training]]:
    """Yield what each call costs, by path, kind and which of the calls there it is."""
    seen: Counter[tuple[str, str]] = Counter()

    def walk(call: Call) -> Iterator[tuple[Key, Training]]:
        place = call.path, call.kind
        yield (*place, seen[place]), Training(_flops(call), call.total("saved"), call.peak)
        seen[place] += 1
        for child in call.children:
            yield from walk(child)

    yield from walk(root)
