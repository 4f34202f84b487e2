"""Guess what forward takes, for a module of the user's own whose inputs are not declared.

In this order, since what an author wrote about forward itself is the most precise, and names the axes:

1. the annotations of forward, where they say every size: `x: Float[Tensor, "batch 3 224 224"]`;
2. example inputs that the class gives: `example_input_array`, `dummy_inputs`;
3. the layers, in order of registration, with the names of axes that annotations give;
4. the annotations, with small sizes for the axes that they only name.

Each guess is confirmed by a run, and is text as a user types it after --input, so it can be repeated and
overruled. Optional parameters of forward keep their defaults.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from nnkit.contract.input_declarations import parse_inputs
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.annotated_inputs import declared_in_annotations
from nnkit.models.example_inputs import Examples, examples_of
from nnkit.models.forward_source import needed_inputs
from nnkit.models.guessed_axes import declare_axes
from nnkit.models.layer_inputs import SIZES, shapes_taken
from nnkit.models.layer_search import LayerSearch
from nnkit.models.precision import name_of
from nnkit.models.running import BY_NAME, BY_POSITION, signature_of
from nnkit.models.trials import Guess, Trials

TABLES = (nn.Embedding, nn.EmbeddingBag)


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
    return _Guesser(Trials(module, declared, make_spec)).guess(reference)


def _parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the parameters of forward, without those that take any number of arguments."""
    signature = signature_of(module) or inspect.Signature()
    kinds = (*BY_POSITION, *BY_NAME)
    return {name: value for name, value in signature.parameters.items() if value.kind in kinds}


class _Guesser:
    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.module = trials.module
        self.needed = needed_inputs(trials.module.forward, parse_inputs(trials.declared).names)

    def guess(self, reference: str) -> list[Guess]:
        if not self.needed and self.trials.declared:
            return []
        if not self.needed:
            examples = self._from_examples(examples_of(self.module))
            if examples or not _parameters(self.module) or self.trials.runs([]):
                return list(examples.values())
            self.needed = list(_parameters(self.module))[:1]  # all are optional, but not all at once
        written = self._from_annotations()
        if guesses := self._as_written(written, exact=True):
            return guesses
        examples = self._from_examples(examples_of(self.module))
        if examples and examples.keys() >= set(self.needed):
            return list(examples.values())
        if guesses := self._from_layers(written) or self._as_written(written, exact=False):
            return self._declare_axes(guesses)
        raise self._problem(reference, written)

    def _from_annotations(self) -> dict[str, Guess]:
        """Return what annotations say about the inputs needed."""
        texts = declared_in_annotations(self.module.forward)
        return {name: Guess(texts[name], "its annotation") for name in self.needed if name in texts}

    def _as_written(self, written: Mapping[str, Guess], exact: bool) -> list[Guess]:
        """Return the annotations if they say what every input is and run; else nothing.

        exact: only if they say every size but that of the batch.
        """
        if not written or written.keys() < set(self.needed):
            return []
        dims = parse_inputs([guess.text for guess in written.values()]).dims
        if exact and dims.keys() - {"batch"}:
            return []
        guesses = self._with_bounds(written)
        return list(guesses.values()) if self.trials.runs(guesses.values()) else []

    def _with_bounds(
        self, guesses: Mapping[str, Guess], examples: Mapping[str, Tensor] | None = None
    ) -> dict[str, Guess]:
        """Return the guesses with a bound for integers: the rows of the table that they are looked up in.

        examples: tensors, which bound those that no table gets.
        """
        fed = self.trials.run(guesses.values(), batch=1).fed
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
        if examples is None or self.trials.declared:
            return {}
        tensors, parameters = examples.flat.tensors, _parameters(self.module)
        as_given = [Guess(_declare(name, tensor), examples.name) for name, tensor in tensors.items()]
        as_given += [
            Guess(f"{name} = {value!r}", examples.name)
            for name, value in examples.flat.constants.items()
            if name not in parameters or not _is_equal(parameters[name].default, value)
        ]
        try:
            free = self._declare_axes(as_given, {name: tensor.cpu() for name, tensor in tensors.items()})
        except (NnkitError, NotImplementedError):  # can't be typed, or has no values
            return {}
        for guesses in (free, as_given):
            bounded = self._with_bounds({guess.name: guess for guess in guesses}, tensors)
            if self.trials.runs(bounded.values()):
                return bounded
        return {}

    def _from_layers(self, written: Mapping[str, Guess]) -> list[Guess]:
        """Return guesses by what the layers take; lengths are known by their name."""
        lengths = {
            name: Guess(f"{name}: {LENGTHS_OF_TIME}", "its name") for name in self.needed if is_lengths(name)
        }
        for kept in (lengths, {}) if lengths else ({},):
            names = [name for name in self.needed if name not in kept]
            if guesses := LayerSearch(self.trials, names, kept, written).find():
                return sorted(guesses, key=lambda guess: self.needed.index(guess.name))
        return []

    def _declare_axes(
        self, guesses: Sequence[Guess], examples: Mapping[str, Tensor] | None = None
    ) -> list[Guess]:
        """Return the guesses with what is known of the sizes of their axes; unchanged if that doesn't run."""
        guesses = list(guesses)

        def runs(dim: str, size: int) -> bool:
            return self.trials.is_over or self.trials.runs(guesses, **{dim: size}, batch=1)

        spec, own = self.trials.spec_of(guesses), parse_inputs(self.trials.declared).dims
        declared = declare_axes(self.module, spec, own, examples, runs)
        exact = [replace(guess, text=declared.get(guess.name, guess.text)) for guess in guesses]
        return exact if self.trials.runs(exact) else guesses

    def _problem(self, reference: str, written: dict[str, Guess]) -> UsageProblem:
        """Return the error that asks for the inputs that can't be guessed."""
        missing = [name for name in self.needed if name not in written] or self.needed
        lines = " ".join(f'--input "{self._line_to_fill_in(name)}"' for name in missing)
        details = [f"assumed: {guess}" for name, guess in written.items() if name not in missing]
        if self.trials.failed:
            guess, reason = next(iter(self.trials.failed.items()))
            details.append(f"tried: {guess}: {reason}")
        return UsageProblem(
            f"{reference} needs its inputs declared: {', '.join(missing)}",
            f"fill in what it takes: {lines}",
            details,
        )

    def _line_to_fill_in(self, name: str) -> str:
        """Return a declaration for the user to correct: what an input of that name or a first layer takes."""
        last = name.rpartition(".")[2]
        shapes = list(shapes_taken(self.module))
        tables = [shape for shape in shapes if shape.limit is not None]
        for pattern, likely in LIKELY.items():
            if re.search(pattern, last):
                return tables[0].declare(name) if tables and pattern is IDS else f"{name}: {likely}"
        layers = [shape for shape in shapes if shape.limit is None]
        return layers[0].declare(name, SIZES.get(layers[0].space, (0,))[0]) if layers else f"{name}: {USUAL}"


def _declare(name: str, tensor: Tensor) -> str:
    """Return an example as typed, all axes fixed."""
    return f"{name}: {name_of(tensor.dtype)}[{', '.join(map(str, tensor.shape))}]"


def _is_equal(default: Any, value: Any) -> bool:
    return type(default) is type(value) and bool(default == value)


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
IDS = r"ids?$|idx|tokens?|index|indices|labels?"
USUAL = "float32[batch, 8]"
LIKELY = {
    r"edge_index": "int64[2, edges=16] < 8",
    r"mask": "bool[batch, time]",
    r"(^|_)len(gth)?s?$": LENGTHS_OF_TIME,
    r"^t$|timesteps?$": "int64[batch] < 1000",
    IDS: "int64[batch, time] < 1000",
}
"""What an input tends to be whose name matches, for the user to correct."""
