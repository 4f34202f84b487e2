"""Declares a model by its name. Imports neither PyTorch Geometric nor torch."""

from nnkit import Architecture, DeclareRequest
from nnkit_pyg import encoders, links, message_passing, molecules, parts

MODELS = {
    each.name: each
    for each in (
        *message_passing.MODELS,
        *encoders.MODELS,
        *molecules.MODELS,
        *links.MODELS,
        *parts.MODELS,
    )
}


def declare(request: DeclareRequest) -> Architecture:
    """Return the declaration of a model."""
    return MODELS[request.name]
