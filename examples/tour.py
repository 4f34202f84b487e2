"""A tour of nnkit from Python, cell by cell; run it whole, or in an editor that knows `# %%`."""

# %% What is in a network, without building its weights
import tempfile
from pathlib import Path

import torch

import nnkit

report = nnkit.summarize("resnet50", num_classes=1000)
print(f"{report.totals.parameters:,} parameters, {report.totals.macs:,} multiply-adds")
for row in report.rows:
    if row.depth == 1:
        print(f"{row.path:10} {row.type:18} {row.output_shapes[0]}")

# %% The same network from a file that names every choice
folder = Path(__file__).parent
spec = nnkit.resolve(str(folder / "specs" / "resnet18-cifar10.yaml"))
model = nnkit.build(spec)
print(model(torch.randn(2, 3, 32, 32)).shape)

# %% A file that is proven: run beside the module in ONNX Runtime, at several sizes of the graph
with tempfile.TemporaryDirectory() as place:
    export = nnkit.export("gcn", Path(place) / "gcn.onnx")
for proof in export.checks:
    print(f"{dict(proof.sizes)} differs by {proof.max_abs_diff:.1g} where the spread is {proof.scale:.2g}")

# %% Does it run, train and behave here? A module of one's own needs example inputs
mine = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
for check in nnkit.smoke_run(mine, [torch.randn(4, 8)]).checks:
    print(check.status, check.name, check.message)
