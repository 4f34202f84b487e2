"""GCN beside PyG's GCNConv in its best form, on graphs of two sizes: forward, training step, memory.

    python tests/benchmarks/bench_graph.py [--rounds 10] [--quick]

Both keep the normalised graph (`cached`); PyG gets the adjacency as a CSR tensor, which is its fastest
on the CPU. Times of the processor are taken in turn, ours and theirs, in one process; peaks of memory in a
process each.

The floor is what the forward pass takes at least on this machine, in the order X W, then Â: the dense
products at the rate of a large one, the rows of features that Â gathers at the rate of one sparse product
(it gathers faster than `index_select`), and bias and relu in place at the rate of a copy. All rates are
measured without new memory.
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

import nnkit

SIZES = {  # nodes, directed edges, features, hidden, classes, layers
    "cora": (2_708, 10_556, 1433, 16, 7, 2),
    "ogbn-arxiv": (169_343, 2 * 1_166_243, 128, 256, 40, 3),
}
QUICK = {"tiny": (500, 4_000, 32, 16, 4, 2)}


class Rival(nn.Module):
    """PyG's layers in the same network."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv

        layers = (GCNConv(size, following, cached=True) for size, following in pairwise(sizes))
        self.convs = nn.ModuleList(layers)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        for depth, conv in enumerate(self.convs):
            if depth > 0:
                x = nn.functional.dropout(x.relu(), 0.5, self.training)
            x = conv(x, adjacency)
        return x


def undirected(nodes: int, edges: int) -> Tensor:
    """Return an edge_index of distinct edges, each in both directions."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(nodes, (2, edges), generator=generator)
    pairs = pairs[:, pairs[0] < pairs[1]].unique(dim=1)
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)[: edges // 2]]
    return torch.cat([pairs, pairs.flip(0)], dim=1)


def contestant(name: str, whose: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return (network, features, graph) of one side, with the same weights for both."""
    nodes, edges, features, hidden, classes, layers = {**SIZES, **QUICK}[name]
    edge_index = undirected(nodes, edges)
    ours = nnkit.build(
        "gcn",
        in_channels=features,
        hidden_channels=hidden,
        num_classes=classes,
        num_layers=layers,
        cached=True,
    )
    x = torch.randn(nodes, features, generator=torch.Generator().manual_seed(1))
    if whose == "ours":
        return ours, x, edge_index
    rival = Rival([features, *[hidden] * (layers - 1), classes]).eval()
    rival.load_state_dict(ours.state_dict())
    target, source = edge_index.flip(0)
    ones, indices = torch.ones(edge_index.shape[1]), torch.stack([target, source])
    entries = torch.sparse_coo_tensor(indices, ones, (nodes, nodes), check_invariants=False)
    return rival, x, entries.coalesce().to_sparse_csr()


def forward(model: nn.Module, x: Tensor, graph: Tensor) -> Tensor:
    """Run it for its scores."""
    with torch.no_grad():  # what PyG caches in inference mode can't be trained on
        return model.eval()(x, graph)


def training_step(model: nn.Module, x: Tensor, graph: Tensor) -> Tensor:
    """Run it forward and backward."""
    model.train().zero_grad()
    scores = model(x, graph)
    scores.square().mean().backward()
    return scores


def seconds(action: Callable[..., object], *args: object) -> float:
    """Return the time that a call takes of the processor."""
    start = time.process_time()
    action(*args)
    return time.process_time() - start


class Floor:
    """The least time of a forward pass, by rates that are measured in turn with what it is compared to."""

    def __init__(self, name: str, x: Tensor, edge_index: Tensor) -> None:
        _, _, features, hidden, classes, layers = {**SIZES, **QUICK}[name]
        self.nodes, self.sizes = x.shape[0], [features, *[hidden] * (layers - 1), classes]
        target, source = edge_index.flip(0)
        shape, ones = (self.nodes, self.nodes), torch.ones(len(source))
        graph = torch.sparse_coo_tensor(torch.stack([target, source]), ones, shape, check_invariants=False)
        self.graph = graph.coalesce().to_sparse_csr()
        self.share = len(source) / (len(source) + self.nodes)  # of the entries: the network adds loops
        self.table, self.target = torch.randn(2, self.nodes, hidden)
        self.square, self.product = torch.randn(2048, 2048), torch.empty(2048, 2048)

    def measure(self) -> float:
        """Return the floor in seconds, at the rates of this moment."""
        outputs = self.sizes[1:]
        dense = sum(self.nodes * one * other for one, other in pairwise(self.sizes))
        dense_rate = 2048**3 / seconds(lambda: torch.mm(self.square, self.square, out=self.product))
        gather_rate = self.share * self.table.shape[1] / seconds(self._multiply)  # features a second
        pass_rate = self.table.numel() / seconds(lambda: self.target.copy_(self.table))
        # A bias in each layer, a relu in all but the last.
        passed = self.nodes * (sum(outputs) + sum(outputs[:-1]))
        return dense / dense_rate + sum(outputs) / gather_rate + passed / pass_rate

    def _multiply(self) -> None:
        torch.addmm(self.target, self.graph, self.table, beta=0, out=self.target)


def peak(name: str, whose: str, action: str) -> float:
    """Return the growth of memory in MB of a few calls, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, whose, action]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _print_peak(name: str, whose: str, action: str) -> None:
    model, x, graph = contestant(name, whose)
    run = forward if action == "forward" else training_step
    run(*contestant("tiny", whose))  # so that torch has loaded what it loads at the first call
    Path("/proc/self/clear_refs").write_text("5")  # begin the high-water mark anew
    before = _status("VmRSS")
    for _ in range(2):
        run(model, x, graph)
    print((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def compare(name: str, rounds: int) -> None:
    """Print a line for the forward pass and one for the training step."""
    ours, theirs = contestant(name, "ours"), contestant(name, "theirs")
    floor = Floor(name, *ours[1:])
    for action in (forward, training_step):
        scores, wanted = action(*ours), action(*theirs)
        if action is forward:
            assert torch.allclose(scores, wanted, atol=1e-4), "the two don't compute the same"
        pairs, floors = [], []
        for number in range(rounds):  # who goes first changes from round to round
            if number % 2:
                one = seconds(action, *ours)
                pairs.append((one, seconds(action, *theirs)))
            else:
                other = seconds(action, *theirs)
                pairs.append((seconds(action, *ours), other))
            if action is forward:
                floors.append(floor.measure())
        middle = [statistics.median(column) * 1e3 for column in zip(*pairs, strict=True)]
        memory = [peak(name, whose, action.__name__) for whose in ("ours", "theirs")]
        print(
            f"{name:12} {action.__name__:14} ours {middle[0]:8.1f} ms   PyG {middle[1]:8.1f} ms   "
            f"ratio {spread([one / other for one, other in pairs])}   "
            f"memory {memory[0]:6.0f} MB, PyG {memory[1]:6.0f} MB",
            flush=True,
        )
        if floors:
            times = [one / least for (one, _), least in zip(pairs, floors, strict=True)]
            print(
                f"{name:12} {'  the floor':14}      {statistics.median(floors) * 1e3:8.1f} ms"
                f"{'':19}ratio {spread(times)}",
                flush=True,
            )


def spread(ratios: list[float]) -> str:
    """Return the median with the least and the most."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Compare at each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a tiny graph, to see that it runs")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse")
    if args.peak:
        _print_peak(*args.peak)
        return
    for name in QUICK if args.quick else SIZES:
        compare(name, args.rounds)


if __name__ == "__main__":
    main()
