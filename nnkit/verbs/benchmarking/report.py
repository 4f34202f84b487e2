"""The report of a benchmark. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from nnkit.contract.loading import load
from nnkit.contract.spec import ModelSpec

Mode = Literal["forward", "training"]
TITLES: dict[Mode, str] = {"forward": "forward", "training": "training step"}
Verdict = Literal["faster", "slower", "no difference seen"]


@dataclass(frozen=True)
class Samples:
    """What was measured, raw and in order.

    order: the position of each sample among all that were taken in its mode, including the other model's.
    loops: the number of runs in a sample. nanoseconds: wall time of each sample, all its runs together.
    cpu_nanoseconds: the time that all processors spent on this process meanwhile.
    """

    loops: int
    order: tuple[int, ...]
    nanoseconds: tuple[int, ...]
    cpu_nanoseconds: tuple[int, ...]

    @property
    def times(self) -> list[float]:
        """The nanoseconds of one run, from each sample."""
        return [duration / self.loops for duration in self.nanoseconds]


@dataclass(frozen=True)
class Latency:
    """Nanoseconds of one run; a percentile is None if there are too few samples for it."""

    median: float
    p90: float | None
    p99: float | None
    minimum: float


@dataclass(frozen=True)
class Measurement:
    """One model in one mode.

    throughput: samples per second if the model has a batch, else runs per second.
    flops: of a run, as nnkit counts them. mfu: their rate as a share of the matmul probe's. mbu: the rate of
    reading the weights once in each forward, as a share of the copy probe's.
    peak: the most bytes alive at once in a run, including what is alive before it. estimate: the figure of
    `nnkit summary --optimizer`. None means unknown.
    """

    mode: Mode
    latency: Latency
    throughput: float
    flops: int | None
    mfu: float | None
    mbu: float | None
    peak: int | None
    estimate: int | None
    samples: Samples


@dataclass(frozen=True)
class BenchModel:
    """One of the models.

    dtypes: the number of parameter elements by dtype. batch: the size of its dim `batch`, None if it has
    none. untrained: why it has no training step, "" if it has one or none was requested.
    """

    spec: ModelSpec
    parameters: int
    dtypes: Mapping[str, int]
    macs: int | None
    batch: int | None
    measurements: tuple[Measurement, ...]
    untrained: str = ""


@dataclass(frozen=True)
class Ratio:
    """The time of the second model divided by that of the first: the median of pairs of blocks.

    low, high: the interval of a bootstrap over the pairs, at this level of confidence.
    verdict: on the second model. A difference is seen if all of the interval is more than 2 % from 1. Two
    copies of the same model differ by up to that, depending on where their tensors lie in memory.
    """

    mode: Mode
    ratio: float
    low: float
    high: float
    confidence: float
    pairs: int
    verdict: Verdict


@dataclass(frozen=True)
class Probe:
    """What the machine can do, the best of several tries: a large matrix product, and a large copy.

    flops_per_second: by dtype, for those of the models. bytes_per_second: read and written.
    """

    flops_per_second: Mapping[str, float]
    bytes_per_second: float


@dataclass(frozen=True)
class Environment:
    """Where it ran. threads: CPU threads of torch."""

    device: str
    device_name: str
    threads: int
    processors: int
    host: str
    platform: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class BenchReport:
    """The measurements of `models`, and, for two, the `ratios` in each mode that both have.

    before, after: the probes at both ends. optimizer: of the training step. compiled: whether with
    torch.compile. date: when it began, ISO 8601. environment: where it ran. warnings: what makes the numbers
    less than certain.

    Example:

        report = bench("simple-cnn", training=False, rounds=2)
        assert report.models[0].measurements[0].latency.minimum > 0
    """

    SCHEMA = "nnkit.bench/1"

    models: tuple[BenchModel, ...]
    ratios: tuple[Ratio, ...]
    before: Probe
    after: Probe
    optimizer: str
    compiled: bool
    date: str
    environment: Environment
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the models, made distinct."""
        return labels_of([model.spec for model in self.models])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        data = asdict(replace(self, models=()))
        models = [
            {
                "spec": model.spec.to_dict(),
                "assumed": list(model.spec.architecture.assumed),
                "parameters": model.parameters,
                "dtypes": dict(model.dtypes),
                "macs": model.macs,
                "batch": model.batch,
                "measurements": [asdict(measurement) for measurement in model.measurements],
                "untrained": model.untrained,
            }
            for model in self.models
        ]
        return {"schema": self.SCHEMA, "nnkit": __version__, **data, "models": models}

    def _repr_html_(self) -> str:
        """Return the figures and the samples for a notebook, which asks the report itself."""
        return str(load("nnkit.render.bench:as_html")(self))


def labels_of(specs: Sequence[ModelSpec]) -> tuple[str, ...]:
    """Return the names of one or two models, with `left` and `right` if they are the same."""
    names = tuple(spec.name for spec in specs)
    if len(set(names)) == len(names):
        return names
    return tuple(f"{name} ({side})" for name, side in zip(names, ("left", "right"), strict=True))
