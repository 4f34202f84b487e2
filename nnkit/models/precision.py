"""The dtypes of a module's weights, and their conversion to the one that the user asks for."""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nnkit.contract.spec import AS_BUILT
from nnkit.models.members import convert_tensors, named_parameters
from nnkit.models.tensors import elements_of

COMPLEX = {
    torch.float16: torch.complex32,
    torch.float32: torch.complex64,
    torch.float64: torch.complex128,
}


def convert(module: nn.Module, dtype: str | torch.dtype) -> nn.Module:
    """Convert the weights of `module` itself to `dtype`; "as built" leaves them as they are.

    Complex weights become complex numbers of that precision, except for bfloat16, which has none. Integers
    are not converted.
    """
    if dtype == AS_BUILT:
        return module
    target: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype

    def convert_tensor(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(COMPLEX.get(target, tensor.dtype))
        return tensor.to(target) if tensor.is_floating_point() else tensor

    return convert_tensors(module, convert_tensor)


def count_dtypes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Return the number of elements of each dtype, the most common first."""
    elements: Counter[str] = Counter()
    for tensor in tensors:
        if not nn.parameter.is_lazy(tensor):
            elements[name_of(tensor.dtype)] += elements_of(tensor)
    return dict(elements.most_common())


def main_dtype(module: nn.Module) -> str:
    """Return the most common floating-point dtype of the parameters, float32 where none has one."""
    parameters = named_parameters(module).values()
    counts = count_dtypes(parameter for parameter in parameters if parameter.is_floating_point())
    return next(iter(counts), "float32")


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype: `float32`."""
    return str(dtype).removeprefix("torch.")
