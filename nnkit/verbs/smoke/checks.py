"""The checks of a smoke-run. Each takes a Subject, returns what it saw, or raises what is wrong.

Values are compared on a copy with a little noise on every parameter: a head that starts at zero would hide
every difference.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from nnkit.contract.text import format_shape, format_sizes, name_output, plural
from nnkit.verbs.smoke.judging import batch_axis, difference, largest_difference, rows, tolerance_of
from nnkit.verbs.smoke.subject import NOT_DECLARED, Failed, Outputs, Skipped, Subject, Warned

OTHER_SEEDS = (1, 2, 3)  # one of them draws something else, however rarely it matters


def shapes(subject: Subject) -> str:
    """Outputs have the declared shapes and are on the device, at two assignments of the sizes."""
    first, seen = subject.first_run(), []
    for sizes in (subject.sizes, subject.other_sizes):
        if sizes is None:
            continue
        outputs = first.outputs
        if sizes != subject.sizes:
            outputs = subject.evaluate(first.module, subject.inputs(sizes=sizes))
        for declared, tensor in outputs:
            _check_output(subject, declared.name, tensor, subject.spec.shape(declared, sizes), sizes)
            seen.append(f"{declared.name} {format_shape(tensor.shape)}")
    return ", ".join(seen)


def _check_output(
    subject: Subject, name: str, tensor: Tensor, expected: tuple[int, ...], sizes: Mapping[str, int]
) -> None:
    """Raise Failed for an output whose shape or device is not the declared one."""
    if subject.spec.outputs and tuple(tensor.shape) != expected:
        raise Failed(
            f"{name_output(name)} has shape {format_shape(tensor.shape)}, "
            f"but {format_shape(expected)} is declared ({format_sizes(sizes)})"
        )
    if tensor.device.type != subject.device.type:
        raise Failed(f"{name_output(name)} is on {tensor.device}, not on {subject.device}")


def batch_independence(subject: Subject) -> str:
    """Each sample gives the same result alone and in a batch."""
    axes = [batch_axis(tensor) for tensor in subject.spec.inputs]
    if subject.is_random:
        raise Skipped("it draws other random numbers for a sample alone")
    if all(axis is None for axis in axes):
        raise Skipped("the inputs have no dim named batch")
    if subject.has_fixed_batch:
        raise Skipped("it runs only with as many rows as the example has")
    samples = subject.sizes["batch"]
    count = 1 if subject.allows_batch(1) else subject.spec.dims["batch"].least
    if count >= samples:
        raise Skipped(f"a batch smaller than {samples} is not allowed")
    inputs = subject.inputs()
    with subject.noise():
        run = subject.first_run()
        for first in range(samples - count + 1):
            part = [rows(tensor, axis, first, count) for tensor, axis in zip(inputs, axes, strict=True)]
            _compare_samples(subject, run.outputs, subject.evaluate(run.module, part), first, count)
    alone = "alone" if count == 1 else f"{count} at a time"
    return f"{plural(samples, 'sample')}, the same {alone} and in a batch"


def _compare_samples(subject: Subject, batched: Outputs, some: Outputs, first: int, count: int) -> None:
    """Raise Failed where rows of the batch's outputs differ from the outputs of those samples alone."""
    for (declared, in_batch), (_, alone) in zip(batched, some, strict=True):
        axis = batch_axis(declared)
        if axis is None:
            continue
        apart = difference(_without_padding(rows(in_batch, axis, first, count), alone), alone)
        if apart > tolerance_of(in_batch):
            which = f"sample {first}" if count == 1 else f"samples {first} to {first + count - 1}"
            output = name_output(declared.name)
            assumed = "; ".join(subject.spec.architecture.assumed)
            raise Failed(
                f"{which} of {output} differs by {apart:.2g}× its spread when run alone"
                + (f" (assumed: {assumed})" if assumed else "")
            )


def _without_padding(in_batch: Tensor, alone: Tensor) -> Tensor:
    """Return a result cut to the shape that it has alone, if nothing but zeros is cut off.

    A shorter sequence is padded with zeros in a batch, as torch's pad_packed_sequence does it.
    """
    if in_batch.ndim != alone.ndim or any(
        size > own for size, own in zip(alone.shape, in_batch.shape, strict=True)
    ):
        return in_batch
    cut = in_batch[tuple(map(slice, alone.shape))]
    return cut if in_batch.count_nonzero() == cut.count_nonzero() else in_batch


def determinism(subject: Subject) -> str:
    """Two runs in eval mode give the same outputs."""
    apart, name, rounding = subject.once("two runs", lambda: _compare_runs(subject))
    if not rounding:
        raise Failed(f"{name_output(name)} differs between two runs by {apart:.2g}× its spread")
    if apart > 0:
        raise Warned(f"{name_output(name)} differs between two runs by rounding ({apart:.2g}× its spread)")
    return "two eval runs, bit-identical"


def _compare_runs(subject: Subject) -> tuple[float, str, bool]:
    with subject.noise():
        first = subject.first_run()
        return largest_difference(first.outputs, subject.evaluate(first.module, subject.inputs()))


def stochastic(subject: Subject) -> str:
    """The random numbers that it is declared to draw follow the seed."""
    when = subject.spec.architecture.stochastic
    if not when:
        raise Skipped(NOT_DECLARED)
    first, again = _run_seeded(subject, 0), _run_seeded(subject, 0)
    _, name, same = largest_difference(first, again)
    if not same:
        raise Failed(f"{name_output(name)} differs between two runs with one seed")
    if all(largest_difference(first, _run_seeded(subject, seed))[0] == 0 for seed in OTHER_SEEDS):
        if when == "training" and _has_only_idle_dropout(subject.built):
            raise Skipped("every rate of dropout is 0")
        if when == "training":
            raise Warned("no output depends on the seed in training mode: is every rate of dropout 0?")
        raise Failed("no output depends on the seed in eval mode: it draws no random number there")
    if when == "training":
        determinism(subject)
        return "training follows the seed, eval draws nothing"
    return "it follows the seed, in eval mode too"


def _has_only_idle_dropout(module: nn.Module) -> bool:
    """Whether there are layers of dropout, and none drops anything."""
    rates = [each.p for each in module.modules() if isinstance(each, nn.modules.dropout._DropoutNd)]
    return bool(rates) and not any(rates)


def _run_seeded(subject: Subject, seed: int) -> Outputs:
    """Run a copy with torch's generator seeded, in the mode in which it is declared to draw."""
    with subject.noise(), subject.seeded(seed):
        module = subject.copy().train(subject.spec.architecture.stochastic == "training")
        return subject.outputs(module, subject.inputs(), seed)
