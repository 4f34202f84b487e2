"""Random graphs and molecules as example inputs."""

from collections.abc import Mapping

import torch
from torch import Tensor

SPREAD = 4.0  # in Å, of the atoms of a molecule along each axis


def edges(
    shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Draw an edge_index (2, E) of distinct directed edges without self-loops.

    Edges repeat where fewer than E of those exist.
    """
    nodes, number = sizes["nodes"] if "nodes" in sizes else sizes["num_nodes"], shape[1]
    possible = nodes * (nodes - 1)
    if number > possible:
        codes = torch.randint(max(possible, 1), (number,), generator=generator)
    elif possible < 4 * number:
        codes = torch.randperm(possible, generator=generator)[:number]
    else:  # of twice as many as needed, enough are distinct
        codes = torch.unique(torch.randint(max(possible, 1), (2 * number + 64,), generator=generator))
        codes = codes[torch.randperm(len(codes), generator=generator)[:number]]
    source, target = codes % max(nodes - 1, 1), codes // max(nodes - 1, 1)
    shift = (source >= target) & (nodes > 1)
    return torch.stack([source + shift, target]).to(dtype)


def graph_of_node(
    shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Draw the graph that each node is in, ascending. Every graph has a node."""
    [nodes], graphs = shape, sizes["graphs"]
    others = torch.randint(graphs, (nodes - graphs,), generator=generator)
    return torch.cat([torch.arange(graphs), others]).sort().values.to(dtype)


def atomic_numbers(
    shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Draw elements up to plutonium; 0 is none."""
    return torch.randint(1, 95, shape, generator=generator).to(dtype)


def positions(
    shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Draw the positions of atoms, most of which are within the cutoff of each other."""
    return (torch.rand(shape, generator=generator) * SPREAD).to(dtype)
