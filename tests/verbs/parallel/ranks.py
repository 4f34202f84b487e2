"""Two ranks in one world that prove case after case: `python ranks.py "ddp lstm" "fsdp faulty.py:Sound"`.

The ranks are forked, so that torch is imported once. What rank 0 found is printed as JSON, case by case.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from forking import fork

import nnkit
from nnkit.contract.spec import make_spec
from nnkit.models.user_modules import architecture_of_code
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.parallel.parity import prove
from nnkit.verbs.parallel.world import World
from nnkit.verbs.smoke.subject import Subject

SIZE = 2


def spec_of(reference):
    if ".py:" not in reference:
        return nnkit.resolve(reference)
    path = Path(__file__).with_name(reference)
    return make_spec(architecture_of_code(str(path), ["x: float32[batch, 6]"]))


def take_part(rank, file, cases):
    torch.set_num_threads(1)  # the pool of threads isn't forked with the process
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=SIZE)
    for case in cases:
        strategy, reference = case.split()
        subject = Subject(spec_of(reference), plugin_manager(), torch.device("cpu"))
        found = prove(subject, World(rank, SIZE, rank), strategy)
        if rank == 0:
            lines = {check.name: [check.status, check.message] for check in found.checks}
            print(json.dumps({case: lines}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(fork(take_part, SIZE, sys.argv[1:]))
