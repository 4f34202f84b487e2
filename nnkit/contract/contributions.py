"""What a plugin can add beside architectures: formats, pictures, checks, formulas, executors. Torch-free.

Each is a frozen, keyword-only dataclass, so that fields can be added later. `name` is what a user types, and
`summary` describes it in one line. What their functions are called with is in `requests.py`.

The examples run as they are, in a package `nnkit_yours`. They use the names of `nnkit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CORE_FORMATS = ("onnx", "safetensors", "pt2")
CORE_EXECUTOR = "local"
CORE_PICTURES = {
    "html": ".html", "svg": ".svg", "png": ".png", "mermaid": ".mmd", "dot": ".dot", "json": ".json",
}  # fmt: skip
CORE_CHECKS = tuple(
    "shapes finite gradients updates batch-independence batch-sizes determinism eval-state inputs-unchanged "
    "input-effect in-place optional-inputs causality padding permutation pointwise stochastic tied "
    "registry round-trip cast placement derivative "
    "overfit compile export autocast half train-determinism gradient-checkpointing channels-last".split()
)


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """A format to export to. The functions are named as `module:function` and imported when needed.

    Attributes:
        name: What a user types after `--format`.
        suffix: The suffix of its files, with the dot.
        summary: One line that describes it.
        write: Called with a WriteRequest.
        run: Called with the path; returns a function from a tuple of tensors, in declared order, to a list
            of tensors. The file is proven by running it; without `run` it isn't.
        weights: Called with the path; returns the tensors in the file by their names in the module. They
            are compared bit for bit.
        stamp: Called with the path and a text to put into the file: the ModelSpec and the proof, as JSON.
        requires: Packages that must be installed, each with the command that installs it.
        takes_trees: Whether `write` is given the model itself also where forward takes trees or constants.
            Then `run` takes the tensors in the order in which `inputs` and `keywords` hold them.

    Example:

        exporter = Exporter(
            name="openvino",
            suffix=".xml",
            summary="OpenVINO IR",
            write="nnkit_openvino.openvino_ir:write",
            run="nnkit_openvino.openvino_ir:run",
            requires={"openvino": "pip install openvino"},
        )
        assert exporter.weights is None  # the file is proven by running it
    """

    name: str
    suffix: str
    summary: str
    write: str
    run: str | None = None
    weights: str | None = None
    stamp: str | None = None
    requires: Mapping[str, str] = field(default_factory=dict)
    takes_trees: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A format that `nnkit graph` draws. The function is named as `module:function` and imported when needed.

    Attributes:
        name: What the format is called.
        suffix: The suffix of its files, with the dot, by which a user chooses it.
        summary: One line that describes it.
        draw: Called with a DrawRequest; returns the content of the file, as text or bytes.
        requires: Packages that must be installed, each with the command that installs it.
        draws_two: Whether it draws `other` too.

    Example:

        picture = Picture(
            name="tikz",
            suffix=".tex",
            summary="TikZ, for LaTeX",
            draw="nnkit_yours.tikz:draw",
        )
        assert not picture.requires
    """

    name: str
    suffix: str
    summary: str
    draw: str
    requires: Mapping[str, str] = field(default_factory=dict)
    draws_two: bool = False


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of `nnkit smoke-run`.

    Attributes:
        name: What a user types after `--check`.
        summary: One line that describes it.
        run: `module:function`, called with a `nnkit.Subject`. It returns what it found, or raises
            `nnkit.Failed` (`Warned`, `Skipped`) with the reason.
        full: Whether it is slow and runs only with `--full`.

    Example:

        check = Check(name="bounded", summary="Outputs stay small", run="nnkit_yours.checks:bounded")
        assert not check.full
    """

    name: str
    summary: str
    run: str
    full: bool = False


@dataclass(frozen=True, kw_only=True)
class OperatorFormula:
    """The cost of one call of a custom operator.

    Attributes:
        operator: The qualified name of the operator, `namespace::name`.
        macs: `module:function`, called as `function(args, kwargs, result)`; returns the multiply-adds, or
            None to leave the call uncounted.

    Example:

        def scan_macs(args, kwargs, result):
            return args[0].numel()

        formula = OperatorFormula(operator="yours::scan", macs="nnkit_yours.counting:scan_macs")
        assert formula.operator.count("::") == 1
    """

    operator: str
    macs: str


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Where the models of a sweep run.

    Attributes:
        name: What a user types after `--executor`.
        summary: One line that describes it.
        run: `module:generator function`, called with an ExecuteRequest; yields what `Executed` describes.
            If it is closed, or Ctrl-C interrupts it, it cancels the unfinished tasks in its `finally`.
        requires: Packages that must be installed, each with the command that installs it.

    Example:

        executor = Executor(
            name="slurm",
            summary="an array of Slurm jobs",
            run="nnkit_slurm.slurm:run",
            requires={"submitit": "pip install submitit"},
        )
        assert executor.name == "slurm"
    """

    name: str
    summary: str
    run: str
    requires: Mapping[str, str] = field(default_factory=dict)
