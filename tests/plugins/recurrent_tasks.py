"""Problems that a recurrent network must be able to learn."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def learn_temporal_xor(net: nn.Module, time: int = 8, steps: int = 400) -> tuple[float, float]:
    """Train a classifier of every step to tell whether a bit differs from the one before (Elman 1990).

    Returns its final loss and accuracy.
    """
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        bits, differs = _xor(generator, 32, time)
        optimizer.zero_grad()
        F.nll_loss(net(bits)[0][:, 1:].flatten(0, 1), differs).backward()
        optimizer.step()
    bits, differs = _xor(generator, 512, time)
    with torch.no_grad():
        log_probs = net(bits)[0][:, 1:].flatten(0, 1)
    return F.nll_loss(log_probs, differs).item(), (log_probs.argmax(1) == differs).float().mean().item()


def learn_to_add(layer: nn.Module, time: int = 30, steps: int = 600) -> float:
    """Train a layer (2 features, batch first) and a head on the adding problem; returns its squared error.

    The sum of the two marked values of a sequence; always answering their mean, 1, gives 0.1667.
    """
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(layer.hidden_size, 1)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(steps):
        x, total = _addition(generator, 64, time)
        optimizer.zero_grad()
        F.mse_loss(head(layer(x)[0][:, -1]).squeeze(1), total).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    x, total = _addition(generator, 1000, time)
    with torch.no_grad():
        return F.mse_loss(head(layer(x)[0][:, -1]).squeeze(1), total).item()


def _xor(generator: torch.Generator, batch: int, time: int) -> tuple[Tensor, Tensor]:
    bits = torch.randint(0, 2, (batch, time), generator=generator)
    return bits.unsqueeze(-1).float(), (bits[:, 1:] ^ bits[:, :-1]).flatten()


def _addition(generator: torch.Generator, batch: int, time: int) -> tuple[Tensor, Tensor]:
    values = torch.rand(batch, time, generator=generator)
    marked = torch.rand(batch, time, generator=generator).topk(2).indices
    marks = torch.zeros(batch, time).scatter(1, marked, 1.0)
    return torch.stack([values, marks], dim=-1), (values * marks).sum(1)
