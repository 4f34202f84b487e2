"""What each of many ranks needs is told without the ranks, and is what two real ones need."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import python
from torch import nn

import nnkit
from nnkit.errors import NnkitError, UsageProblem

MEASURED = str(Path(__file__).with_name("measured.py"))


def perceptron():
    return nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(8)))


def test_shards_are_a_part_of_the_whole_and_a_block_is_gathered_at_a_time():
    module, x = perceptron(), torch.randn(2, 256)
    told = {ranks: nnkit.summarize(module, [x], fsdp=ranks).sharded for ranks in (1, 4, 64)}
    for ranks, sharded in told.items():
        memory = sharded.memory
        assert memory.parameters == memory.gradients == 8 * 256 * 256 * 4 // ranks
        assert sharded.gathered == 256 * 256 * 4 * 1, "one block, the next is still in its buffer"
        assert sharded.blocks == tuple("01234567")
        assert memory.optimizer == "adamw"
        assert memory.optimizer_state == pytest.approx(2 * memory.parameters, rel=0.01)
    assert told[1].memory.saved == told[64].memory.saved == 7 * 2 * 256 * 4  # what the layers took
    assert told[64].memory.training_peak < told[4].memory.training_peak < told[1].memory.training_peak


def test_the_process_is_left_as_it_was(tmp_path):
    module, x = perceptron(), torch.randn(2, 256)
    before, resize = [each.clone() for each in module.parameters()], torch.UntypedStorage.resize_
    nnkit.summarize(module, [x], fsdp=8)
    assert type(module[0]) is nn.Linear
    assert all(torch.equal(one, other) for one, other in zip(module.parameters(), before, strict=True))
    assert torch.UntypedStorage.resize_ is resize
    assert not dist.is_initialized()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with pytest.raises(UsageProblem, match="a process group is already initialized"):
            nnkit.summarize(module, [x], fsdp=8)
    finally:
        dist.destroy_process_group()


class LooksAtValues(nn.Linear):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


def test_what_needs_values_is_run_for_real_and_told_so():
    told = nnkit.summarize(LooksAtValues(4, 4), [torch.ones(2, 4)], fsdp=2).sharded
    assert told.memory.note.startswith("measured in a run on the CPU: aten._local_scalar_dense")
    assert told.memory.parameters == (4 * 4 + 4) * 4 // 2


class Faulty(nn.Linear):
    def forward(self, x):
        if self.training:
            raise RuntimeError("not in training")
        return super().forward(x)


def test_a_model_that_does_not_train_is_an_error():
    with pytest.raises(NnkitError, match="a training step failed: RuntimeError: not in training"):
        nnkit.summarize(Faulty(4, 4), [torch.ones(2, 4)], fsdp=2)
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fsdp": 0}, "one rank or more, got 0"), ({"fsdp": 2, "optimizer": "lion"}, "unknown optimizer lion")],
)
def test_what_can_not_be_is_refused(options, message):
    with pytest.raises(UsageProblem, match=message):
        nnkit.summarize("simple-cnn", **options)


def test_the_command_line(nnkit_command):
    told = nnkit_command("summary", "gcn", "--fsdp", "4")
    assert told.code == 0
    assert "sharded      by fully_shard over 4 ranks, in 2 blocks (convs.0, convs.1) and the rest" in told.out
    assert "per rank     training needs" in told.out
    assert "gathered at once" in told.out
    assert nnkit_command("summary", "gcn", "--fsdp", "0").code == 2
    both = nnkit_command("summary", "simple-cnn", "--fsdp", "4", "--batch", "max", "--memory", "1GB")
    assert (both.code, both.err.splitlines()[0]) == (2, "Error: --fsdp estimates one size, not the largest")


def test_on_cuda_every_storage_is_a_multiple_of_a_block(nnkit_command):
    told = nnkit_command("summary", "simple-cnn", "--fsdp", "4", "--device", "cuda", "--json")
    memory = json.loads(told.out)["sharded"]["memory"]
    assert memory["training_peak"] % 512 == 0
    assert "CPU's kernels" in memory["note"]


@pytest.mark.slow
def test_two_real_ranks_need_what_was_told():
    ended = python(MEASURED, "unlisted", "encoder")
    assert ended.returncode == 0, ended.stderr
    found = {}
    for line in ended.stdout.splitlines():
        if line.startswith("{"):
            found.update(json.loads(line))
    assert set(found) == {"unlisted", "encoder"}
    for name, (told, measured) in found.items():
        assert told == pytest.approx(measured, rel=0.02), name
