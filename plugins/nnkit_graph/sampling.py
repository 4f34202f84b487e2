"""Random graphs as example inputs."""

from collections.abc import Mapping

import torch
from torch import Tensor


def distinct_edges(
    shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Draw an edge_index (2, E) of distinct directed edges without self-loops.

    Edges repeat where fewer than E of those exist.
    """
    nodes, edges = sizes["nodes"], shape[1]
    possible = nodes * (nodes - 1)
    if edges > possible:
        return torch.randint(nodes, shape, generator=generator).to(dtype)
    if possible < 4 * edges:
        codes = torch.randperm(possible, generator=generator)[:edges]
    else:  # of twice as many as needed, enough are distinct
        codes = torch.unique(torch.randint(max(possible, 1), (2 * edges + 64,), generator=generator))
        codes = codes[torch.randperm(len(codes), generator=generator)[:edges]]
    target = codes // max(nodes - 1, 1)
    source = codes % max(nodes - 1, 1)
    return torch.stack([source + (source >= target), target]).to(dtype)  # (2, E)
