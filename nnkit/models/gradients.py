"""Gradients that are looked at one at a time, as backward computes them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def looked_at(module: nn.Module, look: Callable[[str, nn.Parameter], Any]) -> Iterator[None]:
    """Call `look` for each parameter as soon as backward has computed its gradient, then drop the gradient.

    All gradients together would take as much memory as the weights. One may come in parts: a backward of a
    checkpoint with `use_reentrant` is a backward of its own, so a parameter that two such checkpoints use is
    looked at twice.
    """

    def hook(name: str) -> Callable[[Tensor], None]:
        def see(parameter: Any) -> None:
            look(name, parameter)
            parameter.grad = None

        return see

    module.zero_grad()
    handles = [
        parameter.register_post_accumulate_grad_hook(hook(name))  # type: ignore[no-untyped-call]
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
