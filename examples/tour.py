"""A tour of nnkit in Python. Run the whole file, or cell by cell in an editor that supports `# %%`."""

# %% What is inside a network, without allocating its weights
import tempfile
from pathlib import Path

import torch

import nnkit

report = nnkit.summarize("resnet50", num_classes=1000)
print(f"{report.totals.parameters:,} parameters, {report.totals.macs:,} multiply-adds")
for row in report.rows:
    if row.depth == 1:
        print(f"{row.path:10} {row.type:18} {row.output_shapes[0]}")

# %% A network from a file that sets every option
folder = Path(__file__).parent
spec = nnkit.resolve(str(folder / "specs" / "resnet18-cifar10.yaml"))
model = nnkit.build(spec)
print(model(torch.randn(2, 3, 32, 32)).shape)

# %% An export that is proven: compared with the module in ONNX Runtime, at several sizes of the graph
with tempfile.TemporaryDirectory() as folder:
    export = nnkit.export("gcn", Path(folder) / "gcn.onnx")
for proof in export.checks:
    print(f"{dict(proof.sizes)} differs by {proof.max_abs_diff:.1g} where the spread is {proof.scale:.2g}")

# %% Does it run, train and behave on this machine? Your own module needs example inputs
mine = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
for check in nnkit.smoke_run(mine, [torch.randn(4, 8)]).checks:
    print(check.status, check.name, check.message)
