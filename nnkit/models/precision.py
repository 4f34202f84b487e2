"""The dtypes that a module's weights have, and how they are converted when the user asks for another."""

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

    Complex weights become complex numbers of that precision; there are none of bfloat16, so beside it they
    stay. Integers stay as well.
    """
    if dtype == AS_BUILT:
        return module
    wanted: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype

    def converted(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(COMPLEX.get(wanted, tensor.dtype))
        return tensor.to(wanted) if tensor.is_floating_point() else tensor

    return convert_tensors(module, converted)


def count_dtypes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Return how many elements there are of each dtype, the most first."""
    elements: Counter[str] = Counter()
    for tensor in tensors:
        if not nn.parameter.is_lazy(tensor):
            elements[name_of(tensor.dtype)] += elements_of(tensor)
    return dict(elements.most_common())


def main_dtype(module: nn.Module) -> str:
    """Return the floating-point dtype that most of the parameters have, float32 where none has one."""
    found = count_dtypes(each for each in named_parameters(module).values() if each.is_floating_point())
    return next(iter(found), "float32")


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype: `float32`."""
    return str(dtype).removeprefix("torch.")
