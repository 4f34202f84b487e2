"""Proof that a model trains over many ranks as it does in one process, on the same batch.

Each rank first trains its own copy on the whole batch, without the others. Then all ranks train one model
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

from nnkit.contract.signature import Signature
from nnkit.contract.text import format_shape, plural
from nnkit.errors import NnkitError
from nnkit.models.precision import count_dtypes
from nnkit.models.running import bind, without_gradients
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import registered, spread_of, tensors_in
from nnkit.verbs.parallel.strategies import Spread, spread
from nnkit.verbs.parallel.world import World
from nnkit.verbs.smoke.judging import TOLERANCE, batch_axis, difference, tolerance_of
from nnkit.verbs.smoke.report import CheckResult
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject

STEPS = 3  # of AdamW
LEARNING_RATE = 1e-3
ROUNDING = 10  # times the tolerance of outputs: gradients are sums over many of them
FLOOR = 1e-3  # of the largest gradient: a gradient below it may be nothing but rounding
DRIFT = 0.05  # of the distance the parameters moved: AdamW turns a gradient of mere rounding into a full step


@dataclass(frozen=True)
class Shares:
    """The inputs of one process, and how they are divided over the ranks.

    Attributes:
        whole: the inputs of one process.
        own: this rank's share of them.
        sizes: of the whole inputs.
        message: how they were divided.
    """

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
    """What all ranks found.

    Attributes:
        sizes: of the inputs of all ranks together.
        checks: the results.
        dtypes: how many elements of the parameters have which dtype.
    """

    sizes: dict[str, int]
    checks: Sequence[CheckResult]
    dtypes: dict[str, int]


def prove(subject: Subject, world: World, strategy: str) -> Proof:
    """Compare training over the ranks with training in one process; all ranks get the same result."""
    shares = divide_inputs(subject, world, divide=strategy != "tp")
    module = _prepare(subject.fresh())
    dtypes = count_dtypes(module.parameters())
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return _skip(shares, dtypes, "it has no trainable parameters")
    weights = _check("weights", lambda: _compare_weights(module))
    names = subject.spec.signature
    unspread = Spread(module, module, "")
    loss = Loss.draw(unspread, names, shares.whole, world.rank)
    alone = _train(unspread, names, shares.whole, loss)
    mesh = init_device_mesh(subject.device.type, (world.size,))
    over_ranks = spread(strategy, _prepare(subject.fresh()), mesh, names, shares.whole)
    if over_ranks is None:
        reason = f"it calls no Linear or Embedding layer with a size divisible by {world.size}"
        return _skip(shares, dtypes, reason)
    together = _train(over_ranks, names, shares.own, loss)
    together = replace(together, loss=_average(together.loss, world, subject.device))
    setup = f"{world.size} ranks over {dist.get_backend()}, {shares.message}, {over_ranks.message}"
    checks = [
        CheckResult("launch", "passed", f"{setup}, norm layers and dropout in eval mode"),
        weights,
        _check("loss", lambda: _compare_loss(alone, together, loss)),
        _check("gradients", lambda: _compare_gradients(alone, together)),
        _check("parameters", lambda: _compare_parameters(subject.fresh(), alone, together)),
        _check("buffers", lambda: _compare_buffers(module, alone, together)),
    ]
    return Proof(shares.sizes, _gather_results(checks, world), dtypes)


def _skip(shares: Shares, dtypes: dict[str, int], reason: str) -> Proof:
    return Proof(shares.sizes, [CheckResult("launch", "skipped", reason)], dtypes)


def divide_inputs(subject: Subject, world: World, divide: bool) -> Shares:
    """Return the inputs of one process and this rank's share of them: all where they can't be divided."""
    sizes = dict(subject.sizes)
    same_input = "the same input on every rank"
    if not divide:
        message = same_input
    elif "batch" not in sizes:
        message = f"{same_input} because it has no dim named batch"
    elif (batch := _find_divisible_batch(subject, world.size)) is None:
        message = f"{same_input} because no allowed batch is divisible by {world.size}"
    else:
        sizes["batch"] = batch
        whole = subject.inputs(sizes=sizes)
        share = batch // world.size
        own = []
        for declared, tensor in zip(subject.spec.inputs, whole, strict=True):
            axis = batch_axis(declared)
            own.append(tensor if axis is None else tensor.narrow(axis, world.rank * share, share))
        return Shares(whole, tuple(own), sizes, f"a batch of {batch} in shares of {share}")
    whole = subject.inputs(sizes=sizes)
    return Shares(whole, whole, sizes, message)


def _find_divisible_batch(subject: Subject, parts: int) -> int | None:
    """Return the smallest batch, at least that of other checks, whose equal parts are allowed too."""
    dim = subject.spec.dims["batch"]
    at_least = -(-subject.sizes["batch"] // parts)  # rounded up
    smallest = max(at_least, dim.min)
    for share in range(smallest, smallest + dim.multiple_of):
        if not dim.problem_with(share) and not dim.problem_with(share * parts):
            return share * parts
    return None


def _prepare(module: nn.Module) -> nn.Module:
    """Return the module in eval mode: statistics of a share and dropout masks of a rank differ rightly."""
    module.eval()
    for submodule in module.modules():
        if isinstance(submodule, nn.RNNBase):  # cuDNN has no backward for one in eval mode
            submodule.train()
            submodule.dropout = 0.0
    return module


@dataclass(frozen=True)
class Loss:
    """A loss over every element of the outputs; its mean over equal shares is the loss of the whole batch.

    Attributes:
        weights: of each element of each output of the whole batch.
        scale: the loss if no terms canceled out.
        rank: whose share of the weights applies.
    """

    weights: list[Tensor]
    scale: float
    rank: int

    @classmethod
    def draw(cls, alone: Spread, signature: Signature, inputs: Inputs, rank: int) -> "Loss":
        """Draw the weights for the outputs of the whole batch, from a model in this process only."""
        outputs = without_gradients(lambda: _run_differentiable(alone, signature, inputs))
        generator = torch.Generator().manual_seed(0)
        weights, scale = [], 0.0
        for output in (output.detach() for output in outputs):
            weight = torch.randn(output.shape, generator=generator).to(output)
            weights.append(weight)
            scale += float((output * weight).abs().mean())
        return cls(weights, scale, rank)

    def __call__(self, outputs: list[Tensor]) -> Tensor:
        """Return the loss of the outputs for the whole batch, or for this rank's share of it."""
        terms = []
        for index, (output, weight) in enumerate(zip(outputs, self.weights, strict=True)):
            terms.append((output * self._take_share(weight, output, index)).mean())
        return sum(terms[1:], terms[0])

    def _take_share(self, weight: Tensor, output: Tensor, index: int) -> Tensor:
        """Return the weights for an output, along the one axis where it is a share of the whole."""
        axes = [axis for axis, size in enumerate(weight.shape) if output.shape[axis : axis + 1] != (size,)]
        if not axes:
            return weight
        axis = axes[0]
        size = output.shape[axis] if output.ndim == weight.ndim else 0
        if len(axes) > 1 or not size or weight.shape[axis] % size:
            raise NnkitError(
                f"output {index} has shape {format_shape(output.shape)} for a share of the batch, "
                f"and {format_shape(weight.shape)} for the whole batch",
                "a share of the batch must give a share of each output",
            )
        return weight.narrow(axis, self.rank * size, size)


def _run_differentiable(model: Spread, signature: Signature, inputs: Inputs) -> list[Tensor]:
    args, keywords = bind(model.inner, signature, [tensor.clone() for tensor in inputs])
    outputs = tensors_in(model.module(*args, **keywords))
    return [tensor for tensor in outputs if tensor.is_floating_point()]


def _train(
    model: Spread, signature: Signature, inputs: Inputs, compute_loss: Callable[[list[Tensor]], Tensor]
) -> Trained:
    """Train a model for a few steps, and return the result, gathered from the shards of all ranks."""
    named = model.inner.named_parameters()
    parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE, foreach=False)
    first_loss, gradients = 0.0, {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = compute_loss(_run_differentiable(model, signature, inputs))
        loss.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            first_loss = float(loss.detach())
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    gradients[name] = _gather_shards(parameter.grad).clone()
        optimizer.step()
    optimizer.zero_grad()
    tensors = {name: _gather_shards(tensor) for name, tensor in registered(model.inner).items()}
    return Trained(first_loss, gradients, tensors)


def _gather_shards(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _average(value: float, world: World, device: torch.device) -> float:
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


def _gather_results(checks: list[CheckResult], world: World) -> list[CheckResult]:
    """Return each check as found by the first rank in which it failed, or else by rank 0."""
    by_rank: list[list[CheckResult]] = [[]] * world.size
    dist.all_gather_object(by_rank, checks)
    results = []
    for results_by_rank in zip(*by_rank, strict=True):
        failed_ranks = [rank for rank, check in enumerate(results_by_rank) if check.status == "failed"]
        rank = failed_ranks[0] if failed_ranks else 0
        check = results_by_rank[rank]
        results.append(replace(check, message=f"rank {rank}: {check.message}") if rank else check)
    return results


def _compare_weights(module: nn.Module) -> str:
    digests = {name: _hash(tensor) for name, tensor in registered(module).items()}
    broadcast = [digests]
    dist.broadcast_object_list(broadcast, src=0)
    of_rank_0 = broadcast[0]
    different = [name for name, digest in digests.items() if of_rank_0.get(name) != digest]
    if different:
        raise Failed(f"{different[0]} differs from rank 0; it must depend only on the seed")
    return f"{plural(len(digests), 'tensor')}, the same on every rank from the seed"


def _hash(tensor: Tensor) -> str:
    values = tensor.cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=16).hexdigest()


def _compare_loss(alone: Trained, together: Trained, loss: Loss) -> str:
    apart = abs(alone.loss - together.loss)
    if not apart <= tolerance_of(loss.weights[0]) * loss.scale:
        raise Failed(f"{together.loss:.6g} over the ranks, {alone.loss:.6g} in one process")
    return f"{together.loss:.4g}, within {apart:.1e} of one process"


def _compare_gradients(alone: Trained, together: Trained) -> str:
    """Compare each gradient by its own spread, or by a share of the largest spread where that is more."""
    spreads = {name: spread_of(gradient) for name, gradient in alone.gradients.items()}
    largest_spread = max(spreads.values(), default=0.0)
    worst, worst_name = 0.0, ""
    for name, gradient in alone.gradients.items():
        other = together.gradients.get(name, torch.zeros_like(gradient))
        apart = float((other - gradient).abs().max())
        apart /= max(spreads[name], FLOOR * largest_spread) or 1.0
        if not apart <= worst:
            worst, worst_name = apart, name
        if not apart <= ROUNDING * tolerance_of(gradient):
            raise Failed(f"the gradient of {name} differs by {apart:.2g}× its spread from one process")
    for name in together.gradients.keys() - alone.gradients.keys():
        if together.gradients[name].any():
            raise Failed(f"{name} gets a gradient over the ranks and none in one process")
    where = f" ({worst_name})" if worst_name else ""
    return f"{len(alone.gradients)}, which differ by at most {worst:.1e}× their spread{where}"


def _compare_parameters(start: nn.Module, alone: Trained, together: Trained) -> str:
    """Compare how far the parameters moved, all together: a single one may move by its rounding only."""
    before = {name: parameter for name, parameter in start.named_parameters() if parameter.requires_grad}
    apart = {name: _distance(together.tensors[name], alone.tensors[name]) for name in before}
    moved = sum(_distance(alone.tensors[name], parameter) ** 2 for name, parameter in before.items()) ** 0.5
    share = sum(distance**2 for distance in apart.values()) ** 0.5 / (moved or 1.0)
    worst_name = max(apart, key=lambda name: apart[name])
    difference_text = f"differ by {share:.2g} of the distance they moved ({worst_name})"
    if not share <= DRIFT:
        raise Failed(f"after {STEPS} steps of AdamW they {difference_text}")
    return f"{len(before)}, which after {STEPS} steps of AdamW {difference_text}"


def _distance(left: Tensor, right: Tensor) -> float:
    return float((left.detach() - right.detach()).norm())


def _compare_buffers(module: nn.Module, alone: Trained, together: Trained) -> str:
    names = [name for name, _ in module.named_buffers()]
    if not names:
        raise Skipped("it has no buffers")
    for name in names:
        expected = alone.tensors[name]
        apart = difference(expected, together.tensors[name])
        if not apart <= TOLERANCE.get(expected.dtype, 0.0):
            raise Failed(
                f"after {STEPS} steps {name} differs from one process: it depends on the share of the batch"
            )
    return f"{len(names)}, after {STEPS} steps as in one process"
