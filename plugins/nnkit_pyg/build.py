"""Builds a model from its options, as a user of PyTorch Geometric would write it."""

import inspect
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, GENConv, models

from nnkit import UsageProblem, did_you_mean, settings_of

NONE = "none"


def build(name: str, config: Any) -> nn.Module:
    """Return the model of this name. Raises UsageProblem for options that it doesn't take."""
    arguments = _arguments(name, config)
    make = MAKERS.get(name, partial(_construct, getattr(models, name)))
    try:
        return make(arguments)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UsageProblem(
            f"pyg/{name} can't be built with these options: {error}",
            f"see what each may be: nnkit info pyg/{name}",
        ) from error


def _arguments(name: str, config: Any) -> dict[str, Any]:
    """Return the options by the names of the constructor's parameters."""
    typed = {key: None if value == NONE else value for key, value in vars(config).items() if key != "set"}
    settings = settings_of(config)
    if twice := [key for key in settings if key in typed]:
        flag = f"--{twice[0].replace('_', '-')}"
        raise UsageProblem(f"{twice[0]} is an option of its own", f"give it as {flag}")
    known = _settings_taken_by(name)
    if unknown := [key for key in settings if key not in known]:
        hint = did_you_mean(unknown[0], {*known, *typed}) or _listed(known - {*typed})
        raise UsageProblem(f"pyg/{name} has no option {unknown[0]!r}", hint)
    return {**typed, **settings}


def _listed(known: set[str]) -> str:
    return f"it takes by --set: {', '.join(sorted(known))}" if known else "it has no options beside its own"


def _settings_taken_by(name: str) -> set[str]:
    """Return the parameters of a constructor, and of what it passes its keyword arguments on to."""
    model = getattr(models, name)
    known, accepts_more = _parameters(model)
    if accepts_more and name in PASSED_ON:
        known = known | _parameters(PASSED_ON[name]())[0]
    return known


def _parameters(of: Callable[..., Any]) -> tuple[set[str], bool]:
    parameters = inspect.signature(of).parameters.values()
    named = {each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    return named, any(each.kind is each.VAR_KEYWORD for each in parameters)


def _convolution(name: str) -> Callable[[], Callable[..., Any]]:
    def find() -> Callable[..., Any]:
        from torch_geometric import nn as layers

        found: Callable[..., Any] = getattr(layers, name)
        return found

    return find


PASSED_ON = {
    "GCN": _convolution("GCNConv"),
    "GraphSAGE": _convolution("SAGEConv"),
    "GIN": _convolution("GINConv"),
    "GAT": _convolution("GATConv"),
    "PNA": _convolution("PNAConv"),
    "EdgeCNN": _convolution("EdgeConv"),
    "LightGCN": _convolution("LGConv"),
    "NeuralFingerprint": _convolution("MFConv"),
}
"""The layer that takes the keyword arguments that a model doesn't name."""


def _construct(model: Callable[..., nn.Module], arguments: dict[str, Any]) -> nn.Module:
    return model(**arguments)


def _pna(arguments: dict[str, Any]) -> nn.Module:
    lists = {key: list(arguments[key]) for key in ("aggregators", "scalers")}
    return models.PNA(**{**arguments, **lists, "deg": torch.tensor(arguments["deg"])})


class DeepGCNLayer(models.DeepGCNLayer):
    """A layer of DeepGCN with names for its arguments."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        updated: Tensor = super().forward(x, edge_index)
        return updated


def _deep_gcn_layer(arguments: dict[str, Any]) -> nn.Module:
    channels = arguments.pop("channels")
    return DeepGCNLayer(GENConv(channels, channels), nn.LayerNorm(channels), nn.ReLU(), **arguments)


def _graph_unet(arguments: dict[str, Any]) -> nn.Module:
    return models.GraphUNet(depth=arguments.pop("levels"), **arguments)


def _polynormer(arguments: dict[str, Any]) -> nn.Module:
    attention = arguments.pop("attention")
    model = models.Polynormer(**arguments)
    model._global = attention  # which its users set once the local part is trained
    return model


class GPSE(models.GPSE):
    """GPSE on tensors, where PyTorch Geometric's takes them in a Data object."""

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        of_node = x.new_zeros(len(x), self.post_mp.node_target_dim)
        of_graph = x.new_zeros(0, self.post_mp.graph_target_dim)
        targets = {"y": of_node, "y_graph": of_graph}  # which it only passes on
        predicted: Tensor = super().forward(Data(x=x, edge_index=edge_index, batch=batch, **targets))[0]
        return predicted


class RENet(models.RENet):
    """RE-Net on tensors, where PyTorch Geometric's takes them in a Data object."""

    def forward(
        self,
        sub: Tensor,
        rel: Tensor,
        obj: Tensor,
        h_sub: Tensor,
        h_sub_t: Tensor,
        h_sub_batch: Tensor,
        h_obj: Tensor,
        h_obj_t: Tensor,
        h_obj_batch: Tensor,
    ) -> tuple[Tensor, Tensor]:
        data = Data(
            sub=sub,
            rel=rel,
            obj=obj,
            h_sub=h_sub,
            h_sub_t=h_sub_t,
            h_sub_batch=h_sub_batch,
            h_obj=h_obj,
            h_obj_t=h_obj_t,
            h_obj_batch=h_obj_batch,
        )
        objects, subjects = super().forward(data)
        return objects, subjects


class Encoder(nn.Module):
    """The encoder of Deep Graph Infomax in its paper on citations: one layer of GCN, then PReLU."""

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.conv = GCNConv(in_channels, hidden_channels)
        self.prelu = nn.PReLU(hidden_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        encoded: Tensor = self.prelu(self.conv(x, edge_index))
        return encoded


class DeepGraphInfomax(models.DeepGraphInfomax):
    """Deep Graph Infomax with names for its arguments."""

    def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoded, corrupted, summary = super().forward(x, edge_index)
        return encoded, corrupted, summary


def _deep_graph_infomax(arguments: dict[str, Any]) -> nn.Module:
    encoder = Encoder(arguments["in_channels"], arguments["hidden_channels"])
    return DeepGraphInfomax(arguments["hidden_channels"], encoder, _summarize, _corrupt)


def _summarize(encoded: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:
    return encoded.mean(dim=0).sigmoid()


def _corrupt(x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    return x[torch.randperm(x.size(0), device=x.device)], edge_index


class Neighbors(nn.Module):
    """Finds the nearest atoms within the cutoff, in torch alone: SchNet lets its user choose how."""

    def __init__(self, cutoff: float, max_num_neighbors: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.most = max_num_neighbors

    def forward(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        distances = (pos[:, None] - pos[None]).norm(dim=-1)
        others = ~torch.eye(len(pos), dtype=torch.bool, device=pos.device)
        near = (distances <= self.cutoff) & (batch[:, None] == batch[None]) & others
        ranks = distances.masked_fill(~near, torch.inf).argsort(dim=0).argsort(dim=0)  # among each atom's
        source, target = (near & (ranks < self.most)).nonzero(as_tuple=True)
        return torch.stack([source, target]), (pos[source] - pos[target]).norm(dim=-1)


def _schnet(arguments: dict[str, Any]) -> nn.Module:
    if find_spec("pyg_lib") is None:
        neighbors = Neighbors(arguments["cutoff"], arguments["max_num_neighbors"])
        return models.SchNet(**arguments, interaction_graph=neighbors)
    return models.SchNet(**arguments)


def _node2vec(arguments: dict[str, Any]) -> nn.Module:
    ring = torch.arange(arguments["num_nodes"])
    return models.Node2Vec(torch.stack([ring, ring.roll(-1)]), **arguments)


def _hetero_jumping_knowledge(arguments: dict[str, Any]) -> nn.Module:
    return models.HeteroJumpingKnowledge(["paper", "author"], **arguments)


MAKERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "PNA": _pna,
    "DeepGCNLayer": _deep_gcn_layer,
    "GraphUNet": _graph_unet,
    "Polynormer": _polynormer,
    "GPSE": partial(_construct, GPSE),
    "SchNet": _schnet,
    "RENet": partial(_construct, RENet),
    "DeepGraphInfomax": _deep_graph_infomax,
    "Node2Vec": _node2vec,
    "HeteroJumpingKnowledge": lambda arguments: models.HeteroJumpingKnowledge(
        ["paper", "author"], **arguments
    ),
}
"""What isn't built by its constructor alone."""
