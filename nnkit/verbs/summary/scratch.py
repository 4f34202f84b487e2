"""How much memory an operator allocates on the CPU within one call, and frees before it returns.

Three rules cover kinds of operators: a view allocates nothing, an elementwise operator converts operands of
different dtypes, and a kernel that reads memory in order copies what isn't contiguous. Single operators have
a formula: the large kernels in kernels.py, the small ones here. EXACT lists those that allocate nothing.

All of it was measured: in the events of torch's allocator (2.13, x86), call by call.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import torch
from torch import Tensor

from nnkit.models.tensors import tensors_in
from nnkit.verbs.summary.kernels import DOUBTS as DOUBTS_OF_LARGE
from nnkit.verbs.summary.kernels import HALF, TEMPORARIES

Formula = Callable[[Any, Any], int]

PACKED = 2**16  # bytes of oneDNN's buffers for a product in half precision, at most

# Operators of these namespaces are collectives, or mark a section for the profiler.
WITHOUT_KERNELS = ("c10d", "_c10d_functional", "fsdp", "profiler", "prim")


@dataclass(frozen=True)
class Doubt:
    """A kernel whose rule may be off, and by how many bytes, given the arguments of a call."""

    kernel: str
    size: Callable[[Any], int]


def scratch(operator: Any, args: Any, result: Any) -> int | None:
    """Return the bytes that a call needs beyond its result, or None for an operator without a rule."""
    rule = _rule_for(operator)
    return rule(args, result) if rule else None


@cache
def _rule_for(operator: Any) -> Formula | None:
    name = short_name(operator)
    if formula := FORMULAS.get(name):
        return formula
    if operator.is_view or name in EXACT or operator.namespace in WITHOUT_KERNELS:
        return _nothing
    if name in COPIED:
        return _copies_of(COPIED[name])
    if torch.Tag.pointwise in operator.tags:
        return _conversions
    return _converted_input if name in REDUCTIONS else None


@cache
def doubts_of(operator: Any) -> tuple[Doubt, ...]:
    """Return in which ways the rule for an operator may be off."""
    return tuple(Doubt(kernel, size) for kernel, size in DOUBTS.get(short_name(operator), {}).items())


def short_name(operator: Any) -> str:
    """Return `add` for `aten::add_.Tensor`, and `library::name` for an operator that isn't torch's own."""
    namespace, _, name = operator._schema.name.partition("::")
    return name.rstrip("_") if namespace in ("aten", "prim") else f"{namespace}::{name}"


def _nothing(args: Any, result: Any) -> int:
    return 0


def _numel_bytes(tensor: Tensor) -> int:
    return int(tensor.numel() * tensor.itemsize)  # nbytes of an expanded tensor is that of its shape too


# Rules for kinds of operators.


def _conversions(args: Any, result: Any) -> int:
    """TensorIterator: what has another dtype than the common one is copied, operands and result."""
    return _converted([tensor for tensor in tensors_in(args) if tensor.ndim], result)


def _converted(operands: list[Tensor], result: Any) -> int:
    output = next(iter(tensors_in(result)), None)
    if not operands or output is None:
        return 0
    common = reduce(torch.promote_types, (operand.dtype for operand in operands))
    if output.dtype.is_floating_point and not (common.is_floating_point or common.is_complex):
        common = output.dtype
    copied = sum(operand.numel() for operand in operands if operand.dtype != common)
    returned = output.numel() if output.dtype not in (common, torch.bool) else 0
    return (copied + returned) * common.itemsize


def _chosen(args: Any, result: Any) -> int:
    """`where(condition, a, b)`, `masked_fill(x, mask, value)`: the condition stays as it is."""
    operands = [tensor for tensor in tensors_in(args) if tensor.ndim]
    return _converted([operand for operand in operands if operand.dtype != torch.bool], result)


def _converted_input(args: Any, result: Any) -> int:
    """A reduction to another dtype, as of bool to int64, copies its input to that."""
    output = tensors_in(result)[0]
    same = args[0].dtype == output.dtype or output.dtype == torch.bool
    return 0 if same else args[0].numel() * output.itemsize


def _copies_of(positions: tuple[int, ...]) -> Formula:
    def copies(args: Any, result: Any) -> int:
        return sum(copy_bytes(args[index]) for index in positions if isinstance(args[index], Tensor))

    return copies


def copy_bytes(tensor: Tensor) -> int:
    """Return the bytes of a contiguous copy, which is made of what isn't contiguous in any memory format."""
    if tensor.layout != torch.strided:
        return 0
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    ordered = tensor.is_contiguous() or (
        tensor.ndim in formats and tensor.is_contiguous(memory_format=formats[tensor.ndim])
    )
    return 0 if ordered else _numel_bytes(tensor)


# Formulas of single operators, called with the arguments and the result.


PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


def _products(args: Any, result: Any) -> int:
    """`mm(a, b)`, `addmm(c, a, b)`, `bmm`, `baddbmm`: BLAS takes matrices whose rows or columns are dense."""
    matrices = [tensor for tensor in args if isinstance(tensor, Tensor)][-2:]
    return sum(map(_matrix_copy, matrices))


def _matrix_copy(tensor: Tensor) -> int:
    """Return the bytes of the copy for BLAS: of one matrix of a batch, after the other, unless conjugated."""
    if tensor.layout != torch.strided:
        return 0
    rows, columns = tensor.shape[-2:]
    across, down = tensor.stride(-1), tensor.stride(-2)
    dense = (across == 1 and down >= columns) or (down == 1 and across >= rows)
    if tensor.is_conj():
        return _numel_bytes(tensor)
    return 0 if dense else rows * columns * tensor.itemsize


def _product_with_vector(args: Any, result: Any) -> int:
    """`mv(matrix, vector)`, `addmv(c, matrix, vector)`."""
    return _matrix_copy([tensor for tensor in args if isinstance(tensor, Tensor)][-2])


def _drawn(args: Any, result: Any) -> int:
    """`multinomial(weights, …)`: a random number for each weight."""
    return _numel_bytes(args[0])


def _softmax_without_nan(args: Any, result: Any) -> int:
    """`_safe_softmax(x, dim)`: which scores are hidden, and which rows wholly are."""
    x, dim = args[:2]
    return int(x.numel() + x.numel() // max(x.shape[dim], 1))


def _layer_norm_backward(args: Any, result: Any) -> int:
    """`native_layer_norm_backward(gradient, x, shape, …)`: sums of each thread for weight and bias."""
    gradient, x, shape = args[:3]
    sums = 2 * torch.get_num_threads() * math.prod(shape) * max(x.itemsize, 4)
    return copy_bytes(gradient) + copy_bytes(x) + (sums if any(args[-1][1:]) else 0)


def _batch_norm_backward(args: Any, result: Any) -> int:
    """`native_batch_norm_backward(gradient, x, weight, mean, variance, …, training, …)`."""
    gradient, x = args[:2]
    return _numel_bytes(x) if gradient.is_contiguous() else 2 * x.shape[1] * x.itemsize


def _distances(args: Any, result: Any) -> int:
    """`_euclidean_dist(a, b)`: one product of both, each with two more columns: its norm and ones."""
    return sum(
        _numel_bytes(tensor) + 2 * _numel_bytes(tensor) // max(tensor.shape[-1], 1) for tensor in args[:2]
    )


def _resized(args: Any, result: Any) -> int:
    """`upsample_…2d(x, …)`: to at most 128 rows and columns the channels come last, in copies of both."""
    x = args[0]
    if sum(result.shape[-2:]) > 128 or x.is_contiguous(memory_format=torch.channels_last):
        return _weights_of_resize(result)
    return _numel_bytes(x) + _numel_bytes(result)


def _weights_of_resize(result: Tensor) -> int:
    return sum(result.shape[2:]) * 24  # an index of 8 bytes and a weight of 4, for each of two neighbors


def _resized_smoothly(args: Any, result: Any) -> int:
    """`_upsample_…2d_aa(x, …)`: first the rows, into an image as high as x, then the columns."""
    x = args[0]
    return int(x.numel() // max(x.shape[-1], 1) * result.shape[-1] * x.itemsize)


def _grid(args: Any, result: Tensor) -> int:
    """`affine_grid_generator(theta, size, …)`: homogeneous coordinates, one more than the result has."""
    axes = result.shape[-1]
    return _numel_bytes(result) * (axes + 1) // axes


def _fourier(args: Any, result: Any) -> int:
    """`_fft_r2c(x, dims, …)`, `_fft_c2c`: a copy of x with the transformed axes last and dense."""
    x, dims = args[:2]
    return 0 if _is_dense_in(x, sorted(axis % x.ndim for axis in dims)) else _numel_bytes(x)


def _is_dense_in(x: Tensor, last: list[int]) -> bool:
    """Whether x is contiguous with these axes behind all others."""
    expected = 1
    for axis in reversed([*(axis for axis in range(x.ndim) if axis not in last), *last]):
        if x.shape[axis] > 1 and x.stride(axis) != expected:
            return False
        expected *= x.shape[axis]
    return True


def _inverse_fourier(args: Any, result: Any) -> int:
    """`_fft_c2r(x, dims, …)`: over several axes, a transform of all but the last, and a copy of that."""
    x, dims = args[:2]
    return 2 * _numel_bytes(x) if len(dims) > 1 else _fourier(args, result)


def _log_of_sum(args: Any, result: Tensor) -> int:
    """`logsumexp(x, dims)`: exponentials, and the largest of each row."""
    return _numel_bytes(args[0]) + _numel_bytes(result)


def _reduced_loss(copies: int) -> Formula:
    def loss(args: Any, result: Tensor) -> int:
        return copies * _numel_bytes(args[0]) if result.ndim < args[0].ndim else 0

    return loss


def _triangle(args: Any, result: Any) -> int:
    """`tril(x, …)`: a copy of x where its elements share memory."""
    return _numel_bytes(args[0]) if 0 in args[0].stride() else 0


def _rolled(args: Any, result: Tensor) -> int:
    """`roll(x, shifts, dims)`: one axis after the other."""
    return max((len(args[1]) - 1) * _numel_bytes(result), copy_bytes(args[0]))


def _factorized(args: Any, result: Any) -> int:
    """LAPACK overwrites its input: a copy of it."""
    return _numel_bytes(args[0])


def _bag_backward(args: Any, result: Any) -> int:
    """`_embedding_bag_backward(gradient, indices, …)`: sorted indices, their bags and counts."""
    return 3 * _numel_bytes(args[1])


def _kernels() -> Iterator[tuple[str, Formula]]:
    return (
        (packet._qualified_op_name.partition("::")[2], formula) for packet, formula in TEMPORARIES.items()
    )


FORMULAS: dict[str, Formula] = {
    **dict(_kernels()),
    **dict.fromkeys(PRODUCTS, _products),
    **dict.fromkeys(("mv", "addmv"), _product_with_vector),
    "multinomial": _drawn,
    **dict.fromkeys(
        (
            "upsample_nearest2d",
            "_upsample_nearest_exact2d",
            "upsample_bilinear2d",
        ),
        _resized,
    ),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), _resized_smoothly),
    **dict.fromkeys(("_fft_r2c", "_fft_c2c"), _fourier),
    **dict.fromkeys(("mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy"), _reduced_loss(1)),
    **dict.fromkeys(("linalg_inv_ex", "_linalg_eigh", "_linalg_svd"), _factorized),
    **dict.fromkeys(("where", "masked_fill"), _chosen),
    **dict.fromkeys(("tril", "triu"), _triangle),
    "binary_cross_entropy_with_logits": _reduced_loss(2),
    "_fft_c2r": _inverse_fourier,
    "_safe_softmax": _softmax_without_nan,
    "native_layer_norm_backward": _layer_norm_backward,
    "native_batch_norm_backward": _batch_norm_backward,
    "_euclidean_dist": _distances,
    "affine_grid_generator": _grid,
    "linalg_matrix_exp": lambda args, result: 9 * _numel_bytes(args[0]),
    "logsumexp": _log_of_sum,
    "roll": _rolled,
    "_embedding_bag_backward": _bag_backward,
}

# By how many bytes a rule may be off, given the arguments of a call.


def _half_products(args: Any) -> int:
    """oneDNN packs what it multiplies in half precision, in blocks whose size can't be queried."""
    matrices = [tensor for tensor in args if isinstance(tensor, Tensor)][-2:]
    return sum(map(_numel_bytes, matrices)) + PACKED if matrices[-1].itemsize == HALF else 0


def _by_norm(args: Any) -> int:
    """A matrix exponential takes as many powers as the norm of the matrix asks for."""
    return 12 * _numel_bytes(args[0])


def _pooled_signal(args: Any) -> int:
    """Without gradients max_pool1d keeps no indices, but does under a dispatch mode."""
    x, kernel = args[:2]
    is_signal = not torch.is_grad_enabled() and x.ndim == 4 and x.shape[2] == kernel[0] == 1
    return x.numel() // kernel[-1] * 8 if is_signal else 0


def _values_only(args: Any) -> int:
    """Without gradients svdvals computes no vectors, but does under a dispatch mode."""
    return 0 if torch.is_grad_enabled() else 2 * _numel_bytes(args[0])


def _largest_of_bags(args: Any) -> int:
    """`_embedding_bag_backward(gradient, indices, …, largest, count, by frequency, mode, …)`."""
    gradient, _, _, _, _, largest, _, _, mode = args[:9]
    return _numel_bytes(gradient) + _numel_bytes(largest) if mode == 2 else 0


DOUBTS: dict[str, dict[str, Callable[[Any], int]]] = {
    **DOUBTS_OF_LARGE,
    **{name: {"a product in half precision": _half_products} for name in PRODUCTS},
    "_embedding_bag_backward": {"backward through the largest of a bag": _largest_of_bags},
    "linalg_matrix_exp": {"a matrix exponential": _by_norm},
    "max_pool2d_with_indices": {"max_pool1d": _pooled_signal},
    "_linalg_svd": {"a singular value decomposition": _values_only},
}
"""By operator, and by the name of what may be off."""

COPIED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        """
        upsample_nearest1d_backward upsample_nearest2d_backward upsample_nearest3d_backward
        _upsample_nearest_exact1d_backward _upsample_nearest_exact2d_backward
        _upsample_nearest_exact3d_backward upsample_linear1d_backward upsample_bilinear2d_backward
        upsample_bicubic2d_backward upsample_trilinear3d_backward _upsample_bilinear2d_aa_backward
        _upsample_bicubic2d_aa_backward grid_sampler_2d_backward _adaptive_avg_pool2d_backward
        _adaptive_avg_pool3d_backward adaptive_max_pool2d_backward adaptive_max_pool3d_backward
        avg_pool2d_backward avg_pool3d_backward max_pool2d_with_indices_backward
        max_pool3d_with_indices_backward pixel_shuffle pixel_unshuffle channel_shuffle index_select
        gelu_backward native_layer_norm
        """.split(),
        (0,),
    ),
    **dict.fromkeys(("_softmax_backward_data", "_log_softmax_backward_data", "_cdist_forward"), (0, 1)),
    "_cdist_backward": (0, 1, 2),
    "masked_scatter": (2,),
    **dict.fromkeys(("reflection_pad3d_backward", "replication_pad3d_backward"), (0,)),
}
"""By operator: which arguments it copies where they aren't contiguous."""

REDUCTIONS = frozenset("sum mean prod cumsum nansum norm linalg_vector_norm".split())
"""Reductions that may change the dtype."""

EXACT = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _embedding_bag _linalg_check_errors _linalg_det
    _linalg_slogdet _linalg_solve_ex _local_scalar_dense _log_softmax _pdist_backward _pdist_forward
    _prelu_kernel _prelu_kernel_backward _softmax _sparse_coo_tensor_with_dims_and_tensors _to_copy
    _unsafe_view _weight_norm_interface _weight_norm_interface_backward adaptive_max_pool2d
    adaptive_max_pool3d addbmm addr all amax amin aminmax any arange argmax argmin avg_pool2d avg_pool3d
    bernoulli binary_cross_entropy_backward bucketize cat complex constant_pad_nd copy cummax cummin
    diag_embed diagonal_backward dot elu_backward embedding embedding_dense_backward embedding_renorm
    empty empty_like empty_strided exponential eye fill flip full full_like gather glu glu_backward
    grid_sampler_2d grid_sampler_3d grid_sampler_3d_backward hann_window hardshrink_backward
    hardsigmoid_backward hardswish hardswish_backward hardtanh_backward huber_loss_backward index
    index_add index_copy index_fill index_put leaky_relu_backward linalg_cross linalg_lu_solve
    linalg_solve_triangular linspace log_sigmoid_backward log_sigmoid_forward logcumsumexp max
    max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d median min mish_backward
    mse_loss_backward multi_margin_loss multi_margin_loss_backward native_batch_norm native_group_norm
    native_group_norm_backward new_empty new_empty_strided new_full new_ones new_zeros nll_loss2d_backward
    nll_loss2d_forward nll_loss_backward nll_loss_forward normal ones ones_like polar put rand rand_like
    randn randn_like reflection_pad1d reflection_pad1d_backward reflection_pad2d reflection_pad2d_backward
    reflection_pad3d repeat replication_pad2d replication_pad2d_backward replication_pad3d resize
    rrelu_with_noise rrelu_with_noise_backward scalar_tensor scatter scatter_add searchsorted
    select_backward slice_backward smooth_l1_loss_backward softplus_backward softshrink_backward sort
    split split_with_sizes squeeze stack std take topk transpose unfold_backward uniform unsafe_split
    unsqueeze upsample_bicubic2d upsample_linear1d upsample_nearest3d upsample_trilinear3d var vdot zero
    zeros zeros_like
    """.split()
)
"""Operators that need nothing beyond their result."""
