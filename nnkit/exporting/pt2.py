"""Module -> a torch.export program (`.pt2`), which torch runs without the code of the model."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nnkit import metadata
from nnkit.exporting.capture import export_failure, looped_recurrences, quiet
from nnkit.hookspecs import WriteRequest
from nnkit.sampling import Inputs
from nnkit.tensors import tensors_in

EPOCH = (1980, 1, 1, 0, 0, 0)  # the date that torch gives the other members


def write(request: WriteRequest) -> None:
    """Write the program, without stack traces; raises NnkitError when torch can't capture the module."""
    dynamic = tuple(axes and dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in request.dynamic)
    try:
        with quiet(), looped_recurrences(), torch.inference_mode():
            program = torch.export.export(
                request.module, request.inputs, dynamic_shapes=dynamic, strict=False
            )
    except Exception as error:
        raise export_failure(error, request.spec.name, request.spec.inputs) from error
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    # By a handle, because the name of the file would become part of it.
    with quiet(), request.path.open("wb") as file:
        torch.export.save(program, file)


def stamp(path: Path, text: str) -> None:
    """Add to the archive what it tells of itself; the members that were proven stay as they are."""
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(zipfile.ZipInfo(f"{folder}/extra/{metadata.KEY}", EPOCH), text)


def run(path: Path) -> Callable[[Inputs], list[Tensor]]:
    """Return what runs a program."""
    with quiet():
        module = torch.export.load(path).module()

    def call(inputs: Inputs) -> list[Tensor]:
        with torch.inference_mode():
            return list(tensors_in(module(*inputs)))

    return call


def weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a program by their names in the module."""
    with quiet():
        program = torch.export.load(path)
    return {
        **program.state_dict,
        **{name: each for name, each in program.constants.items() if isinstance(each, Tensor)},
    }
