"""Find the inputs of a module from the shapes that its layers take: the first that runs.

Of the shapes that run, the one is best whose layer gets the input. Where a size fits no layer behind it, the
size that does is searched for: what a Linear layer gets grows with it.

    Conv2d(1, 6, 5), …, Linear(400, 120)   at 224: 44,944 features, at 28: 256   ->   at 32: 400
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, product

from nnkit.contract.input_declarations import parse_inputs
from nnkit.models.layer_inputs import SIZES, Shape, shapes_taken
from nnkit.models.trials import Guess, Trial, Trials

MAX_SHAPES = 8  # to try for each input, from as many layers
MAX_COMBINATIONS = 64  # of shapes, where several inputs are guessed
MAX_SIZE = 640  # of a picture, in the search for the size that fits


class LayerSearch:
    """Looks for the inputs `names`.

    Attributes:
        kept: Inputs that are known otherwise.
        written: What annotations say about the axes of an input.
    """

    def __init__(
        self,
        trials: Trials,
        names: Sequence[str],
        kept: Mapping[str, Guess],
        written: Mapping[str, Guess],
    ) -> None:
        self.trials = trials
        self.names = names
        self.kept = kept
        self.written = written
        self.declared = parse_inputs(trials.declared).dims
        self.shapes = list(islice(shapes_taken(trials.module), MAX_SHAPES))

    def find(self) -> list[Guess]:
        """Return guesses that run, with those kept; none if there are none."""
        fallback: list[Guess] = []
        for shapes in islice(product(self.shapes, repeat=len(self.names)), MAX_COMBINATIONS):
            if self.trials.is_over:
                break
            chosen = dict(zip(self.names, shapes, strict=True))
            guesses, trial = self._find_size(chosen)
            if not guesses:
                continue
            if all(self._gets(trial, name, shape) for name, shape in chosen.items()):
                return guesses
            if len(self.names) == 1:  # it may be scaled before a layer gets it
                fallback = fallback or guesses
        return fallback

    def _find_size(self, chosen: Mapping[str, Shape]) -> tuple[list[Guess], Trial]:
        """Return the guesses that run at the first size of pictures, sounds or sequences at which they do."""
        spaces = {shape.space for shape in chosen.values() if shape.space}
        lead = min(spaces, key=lambda space: space == ("time",), default=())
        ratios: dict[int, float] = {}
        for size in SIZES.get(lead, (0,)):
            guesses, trial = self._try(chosen, lead, size)
            if trial.passed:
                return guesses, trial
            if trial.ratio is not None:
                ratios[size] = trial.ratio
        lower = max((size for size, ratio in ratios.items() if ratio < 1), default=0)
        upper = min((size for size, ratio in ratios.items() if ratio > 1), default=MAX_SIZE)
        while ratios and upper - lower > 1 and not self.trials.is_over:
            size = (lower + upper) // 2
            guesses, trial = self._try(chosen, lead, size)
            if trial.passed:
                return guesses, trial
            if trial.ratio is None or trial.ratio == 1:
                break
            lower, upper = (size, upper) if trial.ratio < 1 else (lower, size)
        return [], Trial()

    def _try(
        self, chosen: Mapping[str, Shape], lead: tuple[str, ...], size: int
    ) -> tuple[list[Guess], Trial]:
        guesses = dict(self.kept)
        for name, shape in chosen.items():
            is_sized = shape.space == lead and self.declared.keys().isdisjoint(shape.space)
            guesses[name] = self._guess(name, shape, size if is_sized else 0)
        return list(guesses.values()), self.trials.run(list(guesses.values()))

    def _guess(self, name: str, shape: Shape, size: int) -> Guess:
        source = f"the first layer {shape.layer}" if shape.layer else "the layer itself"
        if name not in self.written:
            return Guess(shape.declare(name, size), source)
        (tensor,) = parse_inputs([self.written[name].text]).tensors
        named = shape.with_axes(tensor.shape) if len(tensor.shape) == len(shape.axes) else shape
        return Guess(named.declare(name, size), f"{self.written[name].source} and {source}")

    def _gets(self, trial: Trial, name: str, shape: Shape) -> bool:
        """Whether a layer that takes this shape got this input."""
        return any(
            replace(other, layer="") == replace(shape, layer="")
            for path in trial.fed.get(name, ())
            for other in shapes_taken(self.trials.module.get_submodule(path))
        )
