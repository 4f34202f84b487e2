"""What a benchmark says. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from nnkit.contract.spec import ModelSpec

Mode = Literal["forward", "training"]
TITLES: dict[Mode, str] = {"forward": "forward", "training": "training step"}
Verdict = Literal["faster", "slower", "no difference seen"]


@dataclass(frozen=True)
class Samples:
    """What was measured, raw and in order.

    order: the place of each sample among all that were taken in its mode, those of the other model too.
    loops: how many runs a sample is of. nanoseconds: wall time of each sample, all its runs together.
    cpu_nanoseconds: the time that all processors spent for this process meanwhile.
    """

    loops: int
    order: tuple[int, ...]
    nanoseconds: tuple[int, ...]
    cpu_nanoseconds: tuple[int, ...]

    @property
    def times(self) -> list[float]:
        """The nanoseconds of one run, by each sample."""
        return [each / self.loops for each in self.nanoseconds]


@dataclass(frozen=True)
class Latency:
    """Nanoseconds of one run; a percentile that so few samples can't tell is None."""

    median: float
    p90: float | None
    p99: float | None
    minimum: float


@dataclass(frozen=True)
class Measurement:
    """One model in one mode.

    throughput: per second, samples where the model has a batch, else runs.
    flops: of a run, as nnkit counts them. mfu: the share of the matmul probe's rate that they are done at.
    mbu: the share of the copy probe's rate at which the weights are read, once in a forward.
    peak: the most bytes alive at once in a run, with all that is there before it; estimate: what
    `nnkit summary --optimizer` says of it. None is what isn't known.
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

    dtypes: how many elements of the parameters have which dtype. batch: the size of its dim `batch`, None
    where it has none. untrained: why it has no training step, "" where it has one, or none was asked for.
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
    """The time of the second model by that of the first: the median of pairs of blocks, and its interval.

    low, high: the interval that a bootstrap over the pairs gives at this level of confidence.
    verdict: of the second model; a difference is seen where all of the interval is more than 2 % from 1,
    as much as two copies of one model may differ for where their tensors lie in memory.
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
    """Where it ran. threads: of torch on the CPU."""

    device: str
    device_name: str
    threads: int
    processors: int
    host: str
    platform: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class BenchReport:
    """What `models` took, and, for two, the `ratios` in each mode that both of them have.

    before, after: the probes at both ends. optimizer: of the training step. compiled: whether by
    torch.compile. date: when it began, ISO 8601. environment: where. warnings: what makes the numbers
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
        """What tells the models apart."""
        return labels_of([model.spec for model in self.models])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        data = asdict(replace(self, models=()))
        models = [
            {
                "spec": model.spec.to_dict(),
                "parameters": model.parameters,
                "dtypes": dict(model.dtypes),
                "macs": model.macs,
                "batch": model.batch,
                "measurements": [asdict(each) for each in model.measurements],
                "untrained": model.untrained,
            }
            for model in self.models
        ]
        return {"schema": self.SCHEMA, "nnkit": __version__, **data, "models": models}


def labels_of(specs: Sequence[ModelSpec]) -> tuple[str, ...]:
    """Return the names of one or two models, with `left` and `right` where those are the same."""
    names = tuple(spec.name for spec in specs)
    if len(set(names)) == len(names):
        return names
    return tuple(f"{name} ({side})" for name, side in zip(names, ("left", "right"), strict=True))
