"""Proof that a model trains over many ranks as it does in one process, on the same batch.

Each rank trains a copy of its own on the whole batch, without the others; then all of them train one
together. What is compared is whole: a mean over the ranks, or gathered from their shards.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from nnkit.errors import NnkitError
from nnkit.models.precision import count_dtypes
from nnkit.models.running import bind, without_gradients
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import registered, spread_of, tensors_in
from nnkit.verbs.parallel.strategies import Spread, spread
from nnkit.verbs.parallel.world import World
from nnkit.verbs.smoke.report import CheckResult
from nnkit.verbs.smoke.subject import (
    TOLERANCE,
    Failed,
    Skipped,
    Subject,
    batch_axis,
    difference,
    tolerance_of,
)

STEPS = 3  # of AdamW
LEARNING_RATE = 1e-3
ROUNDING = 10  # times what outputs may lie apart: gradients are sums over many of them
FLOOR = 1e-3  # of the largest gradient: below it there may be nothing but rounding
DRIFT = 0.05  # of the way that the parameters went: where a gradient is all rounding, AdamW steps by it


@dataclass(frozen=True)
class Shares:
    """The inputs of one process and those of this rank, their sizes, and how they were divided."""

    whole: Inputs
    own: Inputs
    sizes: dict[str, int]
    message: str


@dataclass(frozen=True)
class Trained:
    """What a few steps left: the loss and the gradients of the first, all tensors after the last."""

    loss: float
    gradients: dict[str, Tensor]
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Proof:
    """What all ranks found, at these sizes. dtypes: how many elements of the parameters have which."""

    sizes: dict[str, int]
    checks: Sequence[CheckResult]
    dtypes: dict[str, int]


def prove(subject: Subject, world: World, strategy: str) -> Proof:
    """Compare training over the ranks with training in one process; all ranks get the same result."""
    shares = shares_of(subject, world, divide=strategy != "tp")
    module = _settled(subject.fresh())
    dtypes = count_dtypes(module.parameters())
    if not any(each.requires_grad for each in module.parameters()):
        reason = "it has no trainable parameters"
        return Proof(shares.sizes, [CheckResult("launch", "skipped", reason)], dtypes)
    weights = _check("weights", lambda: _same_weights(module))
    alone, names = Spread(module, module, ""), subject.spec.input_names
    loss = Loss.of(alone, names, shares.whole, world.rank)
    one = _train(alone, names, shares.whole, loss)
    mesh = init_device_mesh(subject.device.type, (world.size,))
    over = spread(strategy, _settled(subject.fresh()), mesh, names, shares.whole)
    if over is None:
        reason = f"no Linear or Embedding layer that it calls has a size that {world.size} divides"
        return Proof(shares.sizes, [CheckResult("launch", "skipped", reason)], dtypes)
    many = _train(over, names, shares.own, loss)
    many = replace(many, loss=_mean(many.loss, world, subject.device))
    how = f"{world.size} ranks over {dist.get_backend()}, {shares.message}, {over.message}"
    checks = [
        CheckResult("launch", "passed", f"{how}, norm layers and dropout in eval mode"),
        weights,
        _check("loss", lambda: _same_loss(one, many, loss)),
        _check("gradients", lambda: _same_gradients(one, many)),
        _check("parameters", lambda: _same_parameters(subject.fresh(), one, many)),
        _check("buffers", lambda: _same_buffers(module, one, many)),
    ]
    return Proof(shares.sizes, _of_all_ranks(checks, world), dtypes)


def shares_of(subject: Subject, world: World, divide: bool) -> Shares:
    """Return the inputs of one process, and this rank's share of them; where no batch can be shared, all."""
    sizes, axes = dict(subject.sizes), [batch_axis(tensor) for tensor in subject.spec.inputs]
    alike = "the same input on every rank"
    if not divide:
        reason = alike
    elif subject.given is not None or "batch" not in sizes:
        reason = f"{alike} for lack of a dim called batch"
    elif (batch := _divisible(subject, world.size)) is None:
        reason = f"{alike} for no batch is allowed that {world.size} divides"
    else:
        sizes["batch"], each = batch, batch // world.size
        whole = subject.inputs(sizes=sizes)
        own = tuple(
            tensor if axis is None else tensor.narrow(axis, world.rank * each, each)
            for tensor, axis in zip(whole, axes, strict=True)
        )
        return Shares(whole, own, sizes, f"a batch of {batch} in shares of {each}")
    whole = subject.inputs(sizes=sizes)
    return Shares(whole, whole, sizes, reason)


def _divisible(subject: Subject, parts: int) -> int | None:
    """Return the least batch, no less than that of the checks, of which each part is a batch too."""
    dim = subject.spec.architecture.dims_for(subject.spec.config)["batch"]
    least = -(-subject.sizes["batch"] // parts)
    for each in range(max(least, dim.min), max(least, dim.min) + dim.multiple_of):
        if not dim.problem_with(each) and not dim.problem_with(each * parts):
            return each * parts
    return None


def _settled(module: nn.Module) -> nn.Module:
    """Return the module in eval mode, for statistics of a share and masks of a rank are no fault."""
    module.eval()
    for each in module.modules():
        if isinstance(each, nn.RNNBase):  # cuDNN has no backward for one in eval mode
            each.train()
            each.dropout = 0.0
    return module


@dataclass(frozen=True)
class Loss:
    """A loss of every element of the outputs that is the mean of the losses of equal shares of a batch.

    weights: of each element of each output of the whole batch. scale: the loss, did nothing in it cancel.
    """

    weights: list[Tensor]
    scale: float
    rank: int

    @classmethod
    def of(cls, alone: Spread, input_names: Sequence[str], inputs: Inputs, rank: int) -> "Loss":
        """Return a loss of the outputs for the whole batch, of a model that is in this process alone."""
        found = without_gradients(lambda: _differentiable(alone, input_names, inputs))
        outputs = [each.detach() for each in found]
        generator = torch.Generator().manual_seed(0)
        weights = [torch.randn(each.shape, generator=generator).to(each) for each in outputs]
        pairs = zip(outputs, weights, strict=True)
        return cls(weights, sum(float((each * weight).abs().mean()) for each, weight in pairs), rank)

    def __call__(self, outputs: list[Tensor]) -> Tensor:
        """Return the loss of the outputs for the whole batch, or for this rank's share of it."""
        parts = [
            (each * self._of_share(weight, each, place)).mean()
            for place, (each, weight) in enumerate(zip(outputs, self.weights, strict=True))
        ]
        return sum(parts[1:], parts[0])

    def _of_share(self, weight: Tensor, output: Tensor, place: int) -> Tensor:
        axes = [axis for axis, size in enumerate(weight.shape) if output.shape[axis : axis + 1] != (size,)]
        if not axes:
            return weight
        axis, size = axes[0], output.shape[axes[0]] if output.ndim == weight.ndim else 0
        if len(axes) > 1 or not size or weight.shape[axis] % size:
            raise NnkitError(
                f"output {place} is {tuple(output.shape)} for a share of the batch of {tuple(weight.shape)}",
                "a share must give a share of each output",
            )
        return weight.narrow(axis, self.rank * size, size)


def _differentiable(over: Spread, input_names: Sequence[str], inputs: Inputs) -> list[Tensor]:
    args, keywords = bind(over.inner, input_names, [each.clone() for each in inputs])
    return [each for each in tensors_in(over.module(*args, **keywords)) if each.is_floating_point()]


def _train(
    over: Spread, input_names: Sequence[str], inputs: Inputs, loss_of: Callable[[list[Tensor]], Tensor]
) -> Trained:
    """Train a model a few steps, and return what came of it, gathered from the shards of all ranks."""
    parameters = {name: each for name, each in over.inner.named_parameters() if each.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE, foreach=False)
    first, gradients = 0.0, {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(_differentiable(over, input_names, inputs))
        loss.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            first = float(loss.detach())
            gradients = {
                name: _whole(each.grad).clone() for name, each in parameters.items() if each.grad is not None
            }
        optimizer.step()
    optimizer.zero_grad()
    return Trained(first, gradients, {name: _whole(each) for name, each in registered(over.inner).items()})


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _mean(value: float, world: World, device: torch.device) -> float:
    total = torch.tensor(value, dtype=torch.float32, device=device)
    dist.all_reduce(total)
    return float(total) / world.size


def _check(name: str, compare: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, "passed", compare())
    except Failed as fault:
        return CheckResult(name, "failed", str(fault))
    except Skipped as reason:
        return CheckResult(name, "skipped", str(reason))


def _of_all_ranks(checks: list[CheckResult], world: World) -> list[CheckResult]:
    """Return each check as the first rank found it in which it failed, else as rank 0 did."""
    gathered: list[list[CheckResult]] = [[]] * world.size
    dist.all_gather_object(gathered, checks)
    results = []
    for found in zip(*gathered, strict=True):
        rank = next((rank for rank, each in enumerate(found) if each.status == "failed"), 0)
        told = f"rank {rank}: {found[rank].message}" if rank else found[rank].message
        results.append(replace(found[rank], message=told))
    return results


def _same_weights(module: nn.Module) -> str:
    mine = {name: _digest(each) for name, each in registered(module).items()}
    of_first = [mine]
    dist.broadcast_object_list(of_first, src=0)
    others = [name for name, digest in mine.items() if of_first[0].get(name) != digest]
    if others:
        raise Failed(f"{others[0]} differs from rank 0; it must depend only on the seed")
    return f"{len(mine)} tensors, the same on every rank from the seed"


def _digest(tensor: Tensor) -> str:
    values = tensor.cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=16).hexdigest()


def _same_loss(one: Trained, many: Trained, loss: Loss) -> str:
    apart = abs(one.loss - many.loss)
    if not apart <= tolerance_of(loss.weights[0]) * loss.scale:
        raise Failed(f"{many.loss:.6g} over the ranks, {one.loss:.6g} in one process")
    return f"{many.loss:.4g}, {apart:.1e} from that of one process"


def _same_gradients(one: Trained, many: Trained) -> str:
    """Compare gradients by the spread of each, or of the largest where that is far more."""
    spreads = {name: spread_of(each) for name, each in one.gradients.items()}
    largest = max(spreads.values(), default=0.0)
    worst, where = 0.0, ""
    for name, gradient in one.gradients.items():
        found = many.gradients.get(name, torch.zeros_like(gradient))
        apart = float((found - gradient).abs().max())
        apart /= max(spreads[name], FLOOR * largest) or 1.0
        if not apart <= worst:
            worst, where = apart, name
        if not apart <= ROUNDING * tolerance_of(gradient):
            raise Failed(f"that of {name} differs by {apart:.2g} of its spread from that of one process")
    more = many.gradients.keys() - one.gradients.keys()
    idle = [name for name in more if many.gradients[name].any()]
    if idle:
        raise Failed(f"{idle[0]} gets one over the ranks and none in one process")
    return f"{len(one.gradients)}, at most {worst:.1e} of the spread apart{f' ({where})' if where else ''}"


def _same_parameters(start: nn.Module, one: Trained, many: Trained) -> str:
    """Compare where the parameters went, all together: a single one may have moved only by rounding."""
    before = {name: each for name, each in start.named_parameters() if each.requires_grad}
    names = list(before)
    apart = {name: _norm(many.tensors[name], one.tensors[name]) for name in names}
    moved = sum(_norm(one.tensors[name], before[name]) ** 2 for name in names) ** 0.5
    worst = max(names, key=lambda name: apart[name])
    share = sum(each**2 for each in apart.values()) ** 0.5 / (moved or 1.0)
    told = f"{share:.2g} of their way apart ({worst})"
    if not share <= DRIFT:
        raise Failed(f"after {STEPS} steps of AdamW {told}")
    return f"{len(names)}, after {STEPS} steps of AdamW {told}"


def _norm(one: Tensor, other: Tensor) -> float:
    return float((one.detach() - other.detach()).norm())


def _same_buffers(module: nn.Module, one: Trained, many: Trained) -> str:
    names = [name for name, _ in module.named_buffers()]
    if not names:
        raise Skipped("it has none")
    for name in names:
        apart = difference(one.tensors[name], many.tensors[name])
        if not apart <= TOLERANCE.get(one.tensors[name].dtype, 0.0):
            raise Failed(
                f"after {STEPS} steps {name} differs from one process; it depends on the share of a rank"
            )
    return f"{len(names)}, after {STEPS} steps as in one process"
