"""Training over two ranks is held against training in one process, and what is wrong with it is found."""

import json
from pathlib import Path

import pytest
from conftest import python

RANKS = str(Path(__file__).with_name("ranks.py"))
LINES = ["launch", "weights", "loss", "gradients", "parameters", "buffers"]

ZOO = ["lstm", "gcn"]
SOUND = [
    *(
        f"{strategy} {name}"
        for strategy in ("ddp", "fsdp", "tp")
        for name in ("faulty.py:Sound", "faulty.py:Tied")
    ),
    *(f"{strategy} {name}" for strategy in ("ddp", "fsdp", "tp") for name in ZOO),
]
SKIPPED = {
    "ddp faulty.py:Frozen": "it has no trainable parameters",
    "tp faulty.py:NothingToSplit": "it calls no Linear or Embedding layer with a size divisible by 2",
}
FAULTS = {  # what fails in them, and what one of the messages says
    "ddp faulty.py:OutputsByRank": (["loss"], "over the ranks, 0.0225945 in one process"),
    "tp faulty.py:OutputsByRank": (["loss"], "over the ranks, 0.0225945 in one process"),
    # AdamW makes the same of gradients that are all twice too large.
    "ddp faulty.py:DividesByTheBatch": (["loss", "gradients"], "the gradient of first.weight differs by"),
    "fsdp faulty.py:DividesByTheBatch": (["loss", "gradients"], "the gradient of first.weight differs by"),
    "ddp faulty.py:BatchStatistics": (["loss", "gradients", "parameters"], "of the distance they moved"),
    "ddp faulty.py:MixesTheBatch": (["loss", "gradients", "parameters"], "of the distance they moved"),
    "fsdp faulty.py:DropoutInEval": (["loss", "gradients", "parameters"], "of the distance they moved"),
    "ddp faulty.py:UnusedOnOneRank": (["gradients", "parameters"], "the gradient of gate differs by"),
    "ddp faulty.py:OwnWeights": (
        ["weights", "loss", "gradients", "parameters"],
        "rank 1: first.bias differs from rank 0; it must depend only on the seed",
    ),
    "ddp faulty.py:FollowsItsShare": (["buffers"], "seen differs from one process"),
    "fsdp faulty.py:FollowsItsShare": (["buffers"], "seen differs from one process"),
}  # fmt: skip


def proofs_of(cases):
    ended = python(RANKS, *cases)
    assert ended.returncode == 0, ended.stderr
    found = {}
    for line in ended.stdout.splitlines():
        found.update(json.loads(line))
    return found


@pytest.fixture(scope="module")
def proofs():
    return proofs_of([*SOUND, *SKIPPED, *FAULTS])


@pytest.mark.parametrize("case", SOUND)
def test_a_sound_model_trains_as_in_one_process(proofs, case):
    lines = proofs[case]
    assert list(lines) == LINES
    assert {status for name, (status, _) in lines.items() if name != "buffers"} == {"passed"}
    assert lines["buffers"][0] in ("passed", "skipped")


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_fails_where_it_shows(proofs, case):
    failing, told = FAULTS[case]
    lines = proofs[case]
    assert [name for name, (status, _) in lines.items() if status == "failed"] == failing
    assert any(told in message for status, message in lines.values() if status == "failed")


@pytest.mark.parametrize("case", SKIPPED)
def test_what_makes_no_sense_is_skipped_with_the_reason(proofs, case):
    assert proofs[case] == {"launch": ["skipped", SKIPPED[case]]}


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("ddp lstm", "a batch of 4 in shares of 2, replicated by DistributedDataParallel"),
        ("ddp gcn", "the same input on every rank because it has no dim named batch"),
        ("fsdp faulty.py:Sound", "2 blocks and the rest sharded by fully_shard"),
        ("fsdp lstm", "the whole model sharded by fully_shard"),
        ("tp lstm", "the same input on every rank, 1 of 1 Linear and Embedding layers split"),
        # Not the tied table, nor the last layer, nor the one of which the weight is read alone.
        ("tp faulty.py:Tied", "2 of 5 Linear and Embedding layers split"),
    ],
)
def test_the_first_line_says_how_it_was_spread(proofs, case, told):
    status, message = proofs[case]["launch"]
    assert status == "passed"
    assert told in message
    assert message.startswith("2 ranks over gloo")
    assert message.endswith("norm layers and dropout in eval mode")


@pytest.mark.slow
def test_larger_models_of_the_zoo():
    cases = ["ddp pointer-network", "ddp simple-cnn", "fsdp resnet18", "tp gru", "tp pointnet"]
    for case, lines in proofs_of(cases).items():
        assert {status for status, _ in lines.values()} <= {"passed", "skipped"}, case
        assert list(lines) == LINES, case
