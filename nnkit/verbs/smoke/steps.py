"""The steps of training: which outputs train which parameters.

A model of several networks has several steps, each with its own outputs and parameters; any other has one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nnkit.contract.signature import is_within
from nnkit.verbs.smoke.judging import projection
from nnkit.verbs.smoke.subject import Failed, Outputs, Subject


@dataclass(frozen=True)
class Step:
    """A step of training. Without a name it is the only one: all outputs train all parameters.

    Example:

        step = Step("generator", outputs=("fake_score",), trains=("generator",))
        assert list(step.parameters_of(nn.ModuleDict({"generator": nn.Linear(2, 1)}))) == [
            "generator.weight", "generator.bias",
        ]
    """

    name: str = ""
    outputs: Sequence[str] = ()
    trains: Sequence[str] = ()

    def __str__(self) -> str:
        return f"step {self.name}: " if self.name else ""

    def choose(self, outputs: Outputs) -> Outputs:
        """Return the outputs that its loss is made of."""
        if not self.name:
            return outputs
        return [
            (declared, tensor)
            for declared, tensor in outputs
            if any(is_within(declared.name, name) for name in self.outputs)
        ]

    def loss_of(self, outputs: Outputs) -> Tensor:
        """Return its loss. Raises Failed where there are no outputs to make it of."""
        chosen = self.choose(outputs)
        if self.name and not chosen:
            raise Failed(f"{self}forward returns no output {' or '.join(self.outputs)}")
        return projection(chosen)

    def parameters_of(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """Return the trainable parameters that it moves."""
        return {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
            and (not self.name or any(is_within(name, path) for path in self.trains))
        }


WHOLE = Step()


def steps_of(subject: Subject) -> Iterator[Step]:
    """Yield the steps of training: those declared, or the one that trains everything."""
    declared = subject.spec.architecture.steps
    for name, step in declared.items():
        yield Step(name, step.outputs, step.trains)
    if not declared:
        yield WHOLE
