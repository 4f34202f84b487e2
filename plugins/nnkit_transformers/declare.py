"""Declares a model type of transformers as an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnkit import Architecture, DeclareRequest, NnkitError, TensorSpec
from nnkit_transformers.building import Builder
from nnkit_transformers.dims import dims_of
from nnkit_transformers.inputs import KNOWN, optional_inputs
from nnkit_transformers.options import options_of
from nnkit_transformers.outputs import unsupported
from nnkit_transformers.probe import Input, find_inputs, read_inputs
from nnkit_transformers.settings import configuration
from nnkit_transformers.sizes import Sizes
from nnkit_transformers.tasks import BASE, model_class_of, tasks_of


def declare(request: DeclareRequest) -> Architecture:
    """Return the architecture of a model type."""
    model_type = request.name
    tasks = tasks_of(model_type)
    task = BASE if BASE in tasks else next(iter(tasks))
    model_class = model_class_of(model_type, task)  # a package that it needs and that is missing shows now
    inputs = Inputs(model_type, tuple(read_inputs(request.row.detail if request.row else "").items()))
    return Architecture(
        name=model_type,
        summary=f"{tasks[task]} of transformers" + (f", and {len(tasks) - 1} heads" * (len(tasks) > 1)),
        build=Builder(model_type, inputs.taken),
        config=options_of(model_type),
        inputs=inputs,
        outputs=(),
        dims=dims_of(model_type),
        unsupported=unsupported(model_class),
    )


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model type under its options.

    known: the inputs of the tasks that the catalog knows.
    """

    model_type: str
    known: tuple[tuple[str, tuple[Input, ...]], ...] = ()

    def __call__(self, options: Any) -> tuple[TensorSpec, ...]:
        """Return the tensors that forward takes."""
        sizes = Sizes(configuration(self.model_type, options))
        chosen = self._chosen(options)
        tensors = tuple(KNOWN[name][variant](sizes) for name, variant in chosen)
        more = optional_inputs(tensors, model_class_of(self.model_type, options.task), sizes)
        return (*tensors, *more)

    def taken(self, options: Any) -> Mapping[str, bool]:
        """Return the parameters of forward, and whether each may be left out."""
        return {tensor.name: tensor.optional for tensor in self(options)}

    def _chosen(self, options: Any) -> tuple[Input, ...]:
        if chosen := dict(self.known).get(options.task):
            return chosen
        found = find_inputs(self.model_type, type(options)(task=options.task))
        if not found.inputs:  # the default options may not give a model at all
            found = find_inputs(self.model_type, options)
        if not found.inputs:
            model = f"transformers/{self.model_type}"
            raise NnkitError(
                f"the inputs of {model} for {options.task} are not known: {found.problem}",
                f"choose another task or other options: nnkit info {model}",
            )
        return found.inputs
