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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

from torch import Tensor, nn

from nnkit.contract.input_declarations import parse_inputs
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.annotated_inputs import declared_in_annotations
from nnkit.models.example_inputs import Examples, examples_of
from nnkit.models.forward_source import keys_taken
from nnkit.models.guessed_axes import declare_axes
from nnkit.models.layer_inputs import SIZES, Shape, shapes_taken
from nnkit.models.precision import name_of
from nnkit.models.running import BY_NAME, BY_POSITION, signature_of
from nnkit.models.trials import Trial, Trials

MAX_SHAPES = 8  # shapes to try for each input, from as many layers
MAX_COMBINATIONS = 64  # of shapes, where several inputs are guessed
MAX_SIZE = 640  # of a picture, in the search for the size that fits
TIME_LIMIT = 20.0  # seconds
TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class Guess:
    """An input as typed, `x: float32[batch, 8]`, and where that comes from."""

    text: str
    source: str

    @property
    def name(self) -> str:
        """The dotted name of the input."""
        return re.split(r"[:=]", self.text)[0].strip()

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
    given = {name.partition(".")[0] for name in parse_inputs(declared).names}
    keys = keys_taken(module.forward)
    needed = []
    for name, parameter in signature.parameters.items():
        if parameter.kind in (*BY_POSITION, *BY_NAME) and parameter.default is parameter.empty:
            parts = [f"{name}.{key}" for key in keys.get(name, ())] or [name]
            if name not in given:
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
        kept = {
            name: Guess(f"{name}: {LENGTHS_OF_TIME}", "its name") for name in self.needed if is_lengths(name)
        } | written
        if guesses := self._from_layers([name for name in self.needed if name not in kept], kept):
            return guesses
        if not kept or not (guesses := self._from_layers(self.needed, {})):
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

    def _with_bounds(
        self, guesses: dict[str, Guess], examples: Mapping[str, Tensor] | None = None
    ) -> dict[str, Guess]:
        """Return the guesses with a bound for integers: the rows of the table that they are looked up in.

        examples: tensors, which bound those that no table gets.
        """
        fed = self._run(list(guesses.values()), batch=1).fed
        bounded = {}
        for name, guess in guesses.items():
            tables = [self.module.get_submodule(path) for path in fed.get(name, ())]
            rows = [table.num_embeddings for table in tables if isinstance(table, TABLES)]
            bound = f"< {min(rows)}" if rows else _bound_of((examples or {}).get(name), name, guesses)
            is_open = bound and guess.text.endswith("]") and ": int" in guess.text
            bounded[name] = replace(guess, text=f"{guess.text} {bound}") if is_open else guess
        return bounded

    def _from_examples(self, examples: Examples | None) -> dict[str, Guess]:
        """Return the example inputs as far as text can say what they are."""
        if examples is None or self.declared:
            return {}
        tensors = examples.flat.tensors
        as_given = [Guess(_declare(name, tensor), examples.name) for name, tensor in tensors.items()]
        try:
            free = self._declare_axes(as_given, {name: tensor.cpu() for name, tensor in tensors.items()})
        except (NnkitError, NotImplementedError):  # can't be typed, or has no values
            return {}
        for guesses in (free, as_given):
            bounded = self._with_bounds({guess.name: guess for guess in guesses}, tensors)
            if self._runs(list(bounded.values())):
                return bounded
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

    def _declare_axes(
        self, guesses: list[Guess], examples: Mapping[str, Tensor] | None = None
    ) -> list[Guess]:
        """Return the guesses with what is known of the sizes of their axes; as they are if that doesn't run."""
        texts = [*self.declared, *(guess.text for guess in guesses)]

        def runs(dim: str, size: int) -> bool:
            return self.trials.run(texts, **{dim: size}, batch=1).passed

        declared = declare_axes(self.module, self.trials.make_spec(texts), examples, runs)
        exact = [replace(guess, text=declared[guess.name]) for guess in guesses]
        return exact if self._runs(exact) else guesses

    def _at_sizes(
        self, chosen: dict[str, Shape], kept: dict[str, Guess]
    ) -> Iterator[tuple[list[Guess], Trial]]:
        """Yield the guesses that run, at the first size of pictures or sounds at which they do."""
        ratios: dict[int, float] = {}
        spaces = sorted(
            {shape.space for shape in chosen.values()} - {()}, key=lambda space: space == ("time",)
        )
        lead = spaces[0] if spaces else ()
        for size in SIZES.get(lead, (0,)):
            guesses, trial = self._try(chosen, kept, lead, size)
            if trial.passed:
                yield guesses, trial
                return
            if trial.ratio is not None:
                ratios[size] = trial.ratio
        lower = max((size for size, ratio in ratios.items() if ratio < 1), default=0)
        upper = min((size for size, ratio in ratios.items() if ratio > 1), default=MAX_SIZE)
        while ratios and upper - lower > 1 and time.monotonic() < self.end:
            size = (lower + upper) // 2
            guesses, trial = self._try(chosen, kept, lead, size)
            if trial.passed:
                yield guesses, trial
                return
            if trial.ratio is None or trial.ratio == 1:
                return
            lower, upper = (size, upper) if trial.ratio < 1 else (lower, size)

    def _try(
        self, chosen: dict[str, Shape], kept: dict[str, Guess], lead: tuple[str, ...], size: int
    ) -> tuple[list[Guess], Trial]:
        guesses = dict(kept)
        for name, shape in chosen.items():
            text = shape.declare(name, size if shape.space == lead else None)
            guesses[name] = Guess(text, f"the first layer {shape.layer}".rstrip())
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
        lines = " ".join(f'--input "{self._line_to_fill_in(name)}"' for name in missing)
        details = [f"assumed: {guess}" for name, guess in written.items() if name not in missing]
        if self.tried:
            guess, reason = next(iter(self.tried.items()))
            details.append(f"tried: {guess}: {reason}")
        return UsageProblem(
            f"{reference} needs its inputs declared: {', '.join(missing)}",
            f"fill in what it takes: {lines}",
            details,
        )

    def _line_to_fill_in(self, name: str) -> str:
        """Return a declaration for the user to correct: what an input of that name or a first layer takes."""
        last = name.rpartition(".")[2]
        for pattern, shape in LIKELY.items():
            if re.search(pattern, last):
                return f"{name}: {shape}"
        floats = [shape for shape in self.shapes if shape.limit is None]
        return floats[0].declare(name, SIZES.get(floats[0].space, (0,))[0]) if floats else f"{name}: {USUAL}"


def _declare(name: str, tensor: Tensor) -> str:
    """Return an example as typed, all axes fixed."""
    return f"{name}: {name_of(tensor.dtype)}[{', '.join(map(str, tensor.shape))}]"


def is_lengths(name: str) -> bool:
    """Whether an input of that name is the lengths of sequences."""
    return re.search(r"(^|_)len(gth)?s?$", name) is not None


def _bound_of(example: Tensor | None, name: str, guesses: Mapping[str, Guess]) -> str:
    """Return the bound of the integers of an example, as typed."""
    if example is None or example.is_meta or not example.numel():
        return ""
    if is_lengths(name):
        has_time = any(re.search(r"\btime\b", guess.text) for guess in guesses.values())
        return f"in 1..{'time' if has_time else int(example.max())}"
    return f"< {int(example.max()) + 1}" if example.max() > 0 else ""


LENGTHS_OF_TIME = "int64[batch] in 1..time"
USUAL = "float32[batch, 8]"
LIKELY = {
    r"edge_index": "int64[2, edges=16] < 8",
    r"mask": "bool[batch, time]",
    r"(^|_)len(gth)?s?$": LENGTHS_OF_TIME,
    r"^t$|timesteps?$": "int64[batch] < 1000",
    r"ids?$|tokens?|index|indices|labels?": "int64[batch, time] < 1000",
}
"""What an input tends to be whose name matches, for the user to correct."""
