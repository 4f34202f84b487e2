"""What torch's allocator counts on rank 0 of two real ranks with fully_shard, beside what nnkit says.

`python measured.py NAME …` prints a line of JSON for each: the two training peaks, in bytes.
"""

import functools
import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

sys.path.insert(0, str(Path(__file__).parents[1] / "summary"))
from allocator import step
from forking import fork

import nnkit
from nnkit.models.tensors import tensors_in
from nnkit.verbs.benchmarking.memory import peak_on_cpu
from nnkit.verbs.parallel.sizing import estimate_sharded
from nnkit.verbs.parallel.strategies import find_called, shard

SIZE = 2
STEPS = 4  # of which the least counts


def encoder():
    layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 4), (torch.randn(2, 128, 256),)


def resnet18():
    return nnkit.build("resnet18"), (torch.randn(4, 3, 64, 64),)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(512, 2048), nn.Linear(2048, 512)

    def forward(self, x):
        return self.second(self.first(x).relu())


def unlisted():
    """No block stands in a list: all is gathered at once."""
    return Two(), (torch.randn(16, 512),)


CASES = {each.__name__: each for each in (encoder, resnet18, unlisted)}


def take_part(rank, file, names):
    torch.set_num_threads(1)
    for name in names:
        module, args = CASES[name]()
        told = estimate_sharded(module, args, {}, SIZE).memory
        dist.init_process_group("gloo", init_method=f"file://{file}-{name}", rank=rank, world_size=SIZE)
        peak = measured(module, args)
        dist.destroy_process_group()
        if rank == 0:
            print(json.dumps({name: [told.training_peak, peak]}), flush=True)


def measured(module, args):
    """Return the most bytes that rank 0 had at once in a training step after the first."""
    called = find_called(module, *args)
    shard(module.train(), init_device_mesh("cpu", (SIZE,)), called)
    stepper = torch.optim.AdamW(module.parameters(), foreach=False)
    step(module, args, stepper)
    state = tensors_in(list(stepper.state.values()))
    resident = sum(local(each).nbytes for each in (*module.parameters(), *module.buffers(), *args, *state))
    for name in ("all_gather_into_tensor", "reduce_scatter_tensor"):
        setattr(dist, name, in_time(getattr(dist, name)))
    return resident + min(peak_on_cpu(lambda: step(module, args, stepper)) for _ in range(STEPS))


def in_time(collective):
    """Let gloo's threads drop what they hold, which they do a moment after the collective is said to be done."""

    @functools.wraps(collective)
    def run(*args, **kwargs):
        work = collective(*args, **kwargs)
        time.sleep(0.02)
        return work

    return run


def local(tensor):
    return getattr(tensor, "_local_tensor", tensor)


if __name__ == "__main__":
    sys.exit(fork(take_part, SIZE, sys.argv[1:]))
