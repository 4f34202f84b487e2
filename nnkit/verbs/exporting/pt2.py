"""Module -> a torch.export program (`.pt2`), which torch runs without the code of the model."""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import ConstantArgument, InputKind

from nnkit.contract.axes import names_in
from nnkit.contract.requests import WriteRequest
from nnkit.errors import first_line
from nnkit.models import metadata
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import tensors_in
from nnkit.verbs.exporting.bounds import check_ranges, relax
from nnkit.verbs.exporting.capture import capture, export_failure, quiet
from nnkit.verbs.exporting.pt2_archive import checked_archive

EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of the members that torch writes


def write(request: WriteRequest) -> None:
    """Write the program, without stack traces; raises NnkitError when torch can't capture the module."""
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for tensor, axes in zip(request.tensors, request.dynamic, strict=True):
        shapes[tensor] = dict.fromkeys(axes or (), torch.export.Dim.DYNAMIC)
    keywords = dict(request.keywords)
    export = partial(
        torch.export.export, args=request.inputs, kwargs=keywords, dynamic_shapes=shapes, strict=False
    )
    try:
        program = capture(export, request.module, request.inputs, keywords)
    except Exception as error:
        inputs = {tensor.name: tensor for tensor in request.spec.inputs}
        raise export_failure(error, request.spec.reference, inputs, request.spec.without) from error
    _check_ranges(program, request)
    relax(program)
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    # Through a handle: given a path, torch would write the name of the file into it.
    with quiet(), request.path.open("wb") as file:
        torch.export.save(program, file)


def _check_ranges(program: torch.export.ExportedProgram, request: WriteRequest) -> None:
    """Raise VerificationFailed where a dim may be larger or smaller than the program allows."""
    axes = {id(tensor): names for tensor, names in zip(request.tensors, request.dynamic, strict=True)}
    in_order = [axes[id(tensor)] for tensor in tensors_in([request.inputs, request.keywords])]
    names = {name for names in in_order for name in (names or {}).values()}
    spec = request.spec
    free = spec.dims.free(set().union(*map(names_in, names)), spec.sizes)
    check_ranges(program, spec.reference, in_order, free)


def stamp(path: Path, text: str) -> None:
    """Add the stamp to the archive; the members that were proven stay as they are."""
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(zipfile.ZipInfo(f"{folder}/extra/{metadata.KEY}", EPOCH), text)


def run(path: Path) -> Callable[[Inputs], list[Tensor]]:
    """Return what runs a program. Raises NnkitError where opening the file would run code in it."""
    program = _load(path)
    with quiet():
        module = program.module()

    def call(inputs: Inputs) -> list[Tensor]:
        tensors = iter(inputs)
        leaves = [
            spec.arg.value if isinstance(spec.arg, ConstantArgument) else next(tensors)
            for spec in program.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT
        ]
        args, keywords = torch.utils._pytree.tree_unflatten(leaves, program.call_spec.in_spec)
        return list(tensors_in(module(*args, **keywords)))

    return call


def weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a program by their names in the module.

    Raises NnkitError where opening the file would run code in it.
    """
    program = _load(path)
    return {
        **program.state_dict,
        **{name: value for name, value in program.constants.items() if isinstance(value, Tensor)},
    }


def _load(path: Path) -> torch.export.ExportedProgram:
    with checked_archive(path) as archive, quiet():
        try:
            return torch.export.load(archive)
        except Exception as error:  # torch has no exception class of its own for this
            raise metadata.damaged(path, first_line(error)) from error
