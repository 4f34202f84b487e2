"""Guess what forward takes, for a module of the user's own whose inputs are not declared.

In this order, since what an author wrote about forward itself is the most precise, and names the axes:

1. the annotations of forward: `x: Float[Tensor, "batch 3 224 224"]`;
2. example inputs that the class gives: `example_input_array`, `dummy_inputs`;
3. the layers, in order of registration: the first one whose shape runs, best the one that gets the input.

Each guess is confirmed by a run, and is text as a user types it after --input, so it can be repeated and
overruled. Optional parameters of forward keep their defaults.
"""

import inspect
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import torch
from torch import Tensor, nn

from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem
from nnkit.models.annotated_inputs import declared_in_annotations
from nnkit.models.example_inputs import Examples, examples_of
from nnkit.models.forward_source import keys_taken
from nnkit.models.guessed_axes import declare_axes
from nnkit.models.layer_inputs import Shape, shapes_taken
from nnkit.models.running import BY_NAME, BY_POSITION, signature_of
from nnkit.models.trials import Trial, Trials

MAX_SHAPES = 8  # shapes to try for each input, from as many layers
MAX_COMBINATIONS = 64  # of shapes, where several inputs are guessed
MAX_SIZE = 640  # of a picture, in the search for the size that fits
TIME_LIMIT = 20.0  # seconds


@dataclass(frozen=True)
class Guess:
    """An input as typed, `x: float32[batch, 8]`, and where that comes from."""

    text: str
    source: str

    def __str__(self) -> str:
        return f"{self.text}, from {self.source}"


def guess_inputs(
    module: nn.Module,
    reference: str,
    declared: Sequence[str],
    make_spec: Callable[[Sequence[str]], ModelSpec],
) -> list[Guess]:
    """Return a guess for each input that forward needs and the user has not declared.

    declared: what was typed after --input. make_spec: returns the spec for inputs as typed. Raises
    UsageProblem, which names each input that can't be guessed, with a line to fill in.
    """
    return _Guesser(module, declared, make_spec).guess(reference)


def needed_inputs(module: nn.Module, declared: Sequence[str]) -> list[str]:
    """Return the dotted names of the inputs that forward needs beside those declared, in its order.

    A parameter that forward uses as a dict counts as the keys that it looks up.
    """
    signature = signature_of(module)
    if signature is None:
        return []
    given = {text.partition(":")[0].strip() for text in declared}
    keys = keys_taken(module.forward)
    needed = []
    for name, parameter in signature.parameters.items():
        if parameter.kind in (*BY_POSITION, *BY_NAME) and parameter.default is parameter.empty:
            parts = [f"{name}.{key}" for key in keys.get(name, ())] or [name]
            if name not in {text.partition(".")[0] for text in given}:
                needed += parts
    return needed


class _Guesser:
    def __init__(
        self, module: nn.Module, declared: Sequence[str], make_spec: Callable[[Sequence[str]], ModelSpec]
    ) -> None:
        self.module = module
        self.declared = list(declared)
        self.trials = Trials(module, make_spec)
        self.needed = needed_inputs(module, declared)
        self.shapes = list(islice(shapes_taken(module), MAX_SHAPES))
        self.tried: dict[str, str] = {}  # what failed, and why
        self.end = time.monotonic() + TIME_LIMIT

    def guess(self, reference: str) -> list[Guess]:
        written = self._from_annotations()
        examples = self._from_examples(examples_of(self.module))
        is_optional = not self.needed and not self.declared
        if is_optional and not examples and (not self._parameters() or self._runs([])):
            return []
        if is_optional and not examples:
            self.needed = self._parameters()[:1]
        for guesses in ({**examples, **written}, examples):
            if guesses.keys() >= set(self.needed) and self._runs(list(guesses.values())):
                return list(guesses.values())
        kept = {name: guess for name, guess in written.items() if name in self.needed}
        if guesses := self._from_layers([name for name in self.needed if name not in kept], kept):
            return guesses
        if not written or not (guesses := self._from_layers(self.needed, {})):
            raise self._problem(reference, written)
        return guesses

    def _parameters(self) -> list[str]:
        """Return the names of the parameters that forward takes by position."""
        signature = signature_of(self.module) or inspect.Signature()
        return [name for name, parameter in signature.parameters.items() if parameter.kind in BY_POSITION]

    def _runs(self, guesses: Sequence[Guess]) -> bool:
        return self._run(guesses).passed

    def _run(self, guesses: Sequence[Guess], **sizes: int) -> Trial:
        trial = self.trials.run([*self.declared, *(guess.text for guess in guesses)], **sizes)
        if not trial.passed and guesses and not sizes:
            reason = trial.error or "the samples don't come out one by one"
            self.tried.setdefault("; ".join(map(str, guesses)), reason)
        return trial

    def _from_annotations(self) -> dict[str, Guess]:
        """Return what the annotations of the inputs needed say, with the bounds of integers that are looked up."""
        texts = declared_in_annotations(self.module.forward)
        guesses = {name: Guess(texts[name], "its annotation") for name in self.needed if name in texts}
        return self._with_bounds(guesses) if len(guesses) == len(self.needed) else guesses

    def _with_bounds(self, guesses: dict[str, Guess], largest: dict[str, int] | None = None) -> dict[str, Guess]:
        """Return the guesses with a bound for integers: the rows of the table that they are looked up in.

        largest: the largest integer of an example, for those that no table gets.
        """
        fed = self._run(list(guesses.values()), batch=1).fed
        bounded = {}
        for name, guess in guesses.items():
            tables = [self.module.get_submodule(path) for path in fed.get(name, ())]
            rows = [table.num_embeddings for table in tables if isinstance(table, (nn.Embedding, nn.EmbeddingBag))]
            if not rows and largest and largest.get(name):
                rows = [largest[name] + 1]
            is_open = rows and guess.text.endswith("]") and ": int" in guess.text
            bounded[name] = Guess(f"{guess.text} < {min(rows)}", guess.source) if is_open else guess
        return bounded

    def _from_examples(self, examples: Examples | None) -> dict[str, Guess]:
        """Return the example inputs, with the first axis as the batch where it may vary."""
        if examples is None or self.declared:
            return {}
        tensors, source = examples.flat.tensors, examples.name
        largest = {
            name: int(tensor.max())
            for name, tensor in tensors.items()
            if not tensor.is_floating_point() and not tensor.is_complex() and tensor.numel() and not tensor.is_meta
        }
        for batch in (next((tensor.shape[0] for tensor in tensors.values() if tensor.dim()), None), None):
            guesses = {name: Guess(_declare(name, tensor, batch), source) for name, tensor in tensors.items()}
            guesses = self._with_bounds(guesses, largest)
            if self._runs(list(guesses.values())):
                return guesses
        return {}

    def _from_layers(self, names: Sequence[str], kept: dict[str, Guess]) -> list[Guess]:
        """Return guesses for these inputs by what the layers take, beside those kept; none if nothing runs."""
        fallback: list[Guess] = []
        for shapes in islice(product(self.shapes, repeat=len(names)), MAX_COMBINATIONS):
            if time.monotonic() > self.end:
                break
            chosen = dict(zip(names, shapes, strict=True))
            for guesses, trial in self._at_sizes(chosen, kept):
                if all(self._gets(trial, name, shape) for name, shape in chosen.items()):
                    return self._declare_axes(guesses)
                if len(names) == 1:
                    fallback = fallback or guesses
                break
        return self._declare_axes(fallback) if fallback else []

    def _declare_axes(self, guesses: list[Guess]) -> list[Guess]:
        """Return the guesses with what is known of the sizes of their axes; as they are if that doesn't run."""
        texts = [*self.declared, *(guess.text for guess in guesses)]
        spec = self.trials.make_spec(texts)
        fixed = set(spec.input_names) - {_name_of(guess) for guess in guesses}

        def runs(dim: str, size: int) -> bool:
            return self.trials.run(texts, **{dim: size}, batch=1).passed

        declared = declare_axes(self.module, spec, sorted(fixed), runs)
        sources = {_name_of(guess): guess.source for guess in guesses}
        exact = [Guess(text, sources[text.partition(":")[0]]) for text in declared]
        return exact if self._runs(exact) else guesses

    def _at_sizes(
        self, chosen: dict[str, Shape], kept: dict[str, Guess]
    ) -> Iterator[tuple[list[Guess], Trial]]:
        """Yield the guesses that run, at the first size of pictures or sounds at which they do."""
        ratios: dict[int, float] = {}
        sizes = next((shape.sizes for shape in chosen.values() if shape.sizes), (0,))
        for size in sizes:
            guesses, trial = self._try(chosen, kept, size)
            if trial.passed:
                yield guesses, trial
                return
            if trial.ratio is not None:
                ratios[size] = trial.ratio
        lower = max((size for size, ratio in ratios.items() if ratio < 1), default=0)
        upper = min((size for size, ratio in ratios.items() if ratio > 1), default=MAX_SIZE)
        while ratios and upper - lower > 1 and time.monotonic() < self.end:
            size = (lower + upper) // 2
            guesses, trial = self._try(chosen, kept, size)
            if trial.passed:
                yield guesses, trial
                return
            if trial.ratio is None or trial.ratio == 1:
                return
            lower, upper = (size, upper) if trial.ratio < 1 else (lower, size)

    def _try(
        self, chosen: dict[str, Shape], kept: dict[str, Guess], size: int
    ) -> tuple[list[Guess], Trial]:
        guesses = dict(kept)
        for name, shape in chosen.items():
            guesses[name] = Guess(shape.declare(name, size), f"the first layer {shape.layer}".rstrip())
        ordered = [guesses[name] for name in self.needed]
        return ordered, self._run(ordered)

    def _gets(self, trial: Trial, name: str, shape: Shape) -> bool:
        """Whether a layer that takes this shape got this input."""
        for path in trial.fed.get(name, ()):
            for other in shapes_taken(self.module.get_submodule(path)):
                if (other.dtype, other.axes, other.limit) == (shape.dtype, shape.axes, shape.limit):
                    return True
        return False

    def _problem(self, reference: str, written: dict[str, Guess]) -> UsageProblem:
        """Return the error that asks for the inputs that can't be guessed."""
        missing = [name for name in self.needed if name not in written] or self.needed
        lines = " ".join(f'--input "{_line_to_fill_in(name)}"' for name in missing)
        details = [f"assumed: {guess}" for name, guess in written.items() if name not in missing]
        details += [f"tried: {guess}: {reason}" for guess, reason in list(self.tried.items())[:3]]
        return UsageProblem(
            f"{reference} needs its inputs declared: {', '.join(missing)}",
            f"fill in what it takes: {lines}",
            details,
        )


def _name_of(guess: Guess) -> str:
    return guess.text.partition(":")[0]


def _declare(name: str, tensor: Tensor, batch: int | None) -> str:
    """Return an example as typed; `batch` is the size of the axis that may vary, if there is one."""
    axes = [str(size) for size in tensor.shape]
    if batch and axes and tensor.shape[0] == batch:
        axes[0] = f"batch={batch}"
    return f"{name}: {str(tensor.dtype).removeprefix('torch.')}[{', '.join(axes)}]"


def _line_to_fill_in(name: str) -> str:
    """Return a declaration that the user is to correct, by what an input of that name tends to be."""
    last = name.rpartition(".")[2]
    for pattern, shape in LIKELY.items():
        if re.search(pattern, last):
            return f"{name}: {shape}"
    return f"{name}: float32[batch, 8]"


LIKELY = {
    r"edge_index": "int64[2, edges] < nodes",
    r"mask": "bool[batch, time]",
    r"len(gth)?s?$": "int64[batch] in 1..time",
    r"ids?$|tokens?|index|indices|labels?": "int64[batch, time] < 1000",
    r"image|img|pixel|picture": "float32[batch, 3, 224, 224]",
}
