"""The seconds of each call."""

import time

from torch import nn

import nnkit
from nnkit.verbs.graph import timing


class Sleeper(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x + 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.short, self.long, self.norm = Sleeper(0.001), Sleeper(0.02), nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.long(self.short(x)).relu())


def test_every_call_has_its_seconds(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 3)
    report = nnkit.graph(Net(), inputs="x: float32[2, 4]", seconds=True)
    seconds = {node.key: node.seconds for node in report.nodes}
    assert [key for key, each in seconds.items() if each is None] == ["x", "output"]
    assert seconds["long"] > seconds["short"] >= 0.001
    assert seconds["long"] >= 0.02
    assert seconds[""] >= seconds["long"] + seconds["short"]
    assert seconds["long.add"] < seconds["long"]


def test_nothing_is_timed_unless_asked_for():
    assert {node.seconds for node in nnkit.graph("simple-cnn").nodes} == {None}
