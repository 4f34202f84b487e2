"""Graphs to try the graph networks on, and what they make of them."""

import torch
from torch import nn


def graphs():
    """Return name -> (number of nodes, edge_index, edge_weight)."""
    generator = torch.Generator().manual_seed(0)
    directed = torch.randint(20, (2, 60), generator=generator)
    directed = directed[:, directed[0] != directed[1]].unique(dim=1)
    weight = torch.rand(directed.shape[1], generator=generator)
    loops = torch.tensor([[3, 7], [3, 7]])
    with_loops = torch.cat([directed, loops], 1)
    return {
        "undirected": (20, torch.cat([directed, directed.flip(0)], 1).unique(dim=1), None),
        "directed": (20, directed, None),
        "weighted": (20, directed, weight),
        "self-looped": (20, with_loops, None),
        "self-looped, weighted": (20, with_loops, torch.cat([weight, torch.tensor([0.25, 4.0])])),
        "duplicate edges": (20, torch.cat([directed, directed[:, :9]], 1), None),
        "isolated nodes": (30, directed, None),
        "no edges": (5, torch.zeros(2, 0, dtype=torch.int64), None),
    }


def karate():
    """Return edge_index and the four communities of Zachary's club, from PyG."""
    from torch_geometric.datasets import KarateClub

    data = KarateClub()[0]
    return data.edge_index, data.y


def accuracy(model, graph, seed):
    """Train on one member of each community, the others unseen, and return the share that is right."""
    _, labels = karate()
    torch.manual_seed(seed)
    known = torch.tensor([int((labels == label).nonzero()[0]) for label in range(4)])
    x = torch.eye(34)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(x, graph)[known], labels[known]).backward()
        optimizer.step()
    unseen = torch.ones(34, dtype=torch.bool)
    unseen[known] = False
    return float((model.eval()(x, graph).argmax(1) == labels)[unseen].float().mean())


def path_of_seven():
    """Return the edge_index of 0 - 1 - 2 - 3 - 4 - 5 - 6."""
    ends = torch.arange(6)
    return torch.cat([torch.stack([ends, ends + 1]), torch.stack([ends + 1, ends])], 1)


def sees(model, edge_index, node):
    """Return the nodes whose features have an influence on the scores of `node`, by the Jacobian."""
    x = torch.randn(int(edge_index.max()) + 1, 16, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x, edge_index)[node], x)  # (C, N, F)
    return set(jacobian.abs().sum((0, 2)).nonzero().flatten().tolist())


def two_factions(model, seed):
    """Train on the two leaders of the club for 50 steps and return the share of members placed right."""
    import networkx

    club = [data["club"] == "Officer" for _, data in networkx.karate_club_graph().nodes(data=True)]
    labels, leaders = torch.tensor(club).long(), torch.tensor([0, 33])
    edge_index, _ = karate()
    torch.manual_seed(seed)
    x, optimizer = torch.eye(34), torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(x, edge_index)[leaders], labels[leaders]).backward()
        optimizer.step()
    return float((model.eval()(x, edge_index).argmax(1) == labels).float().mean())
