"""The types of tensors in GGUF files: how many elements a block has, and how many bytes. Torch-free.

A plain type has blocks of one element and goes by torch's name. A quantized type goes by ggml's, since torch
has none for it. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from typing import NamedTuple


class TensorType(NamedTuple):
    """A type: its name, and the elements and bytes of one block."""

    name: str
    elements: int
    bytes: int


def _small(name: str, size: int) -> TensorType:
    return TensorType(name, 32, size)


def _super(name: str, size: int) -> TensorType:
    return TensorType(name, 256, size)


TYPES = {
    0: TensorType("float32", 1, 4),
    1: TensorType("float16", 1, 2),
    2: _small("Q4_0", 18),
    3: _small("Q4_1", 20),
    6: _small("Q5_0", 22),
    7: _small("Q5_1", 24),
    8: _small("Q8_0", 34),
    9: _small("Q8_1", 40),
    10: _super("Q2_K", 84),
    11: _super("Q3_K", 110),
    12: _super("Q4_K", 144),
    13: _super("Q5_K", 176),
    14: _super("Q6_K", 210),
    15: _super("Q8_K", 292),
    16: _super("IQ2_XXS", 66),
    17: _super("IQ2_XS", 74),
    18: _super("IQ3_XXS", 98),
    19: _super("IQ1_S", 50),
    20: _small("IQ4_NL", 18),
    21: _super("IQ3_S", 110),
    22: _super("IQ2_S", 82),
    23: _super("IQ4_XS", 136),
    24: TensorType("int8", 1, 1),
    25: TensorType("int16", 1, 2),
    26: TensorType("int32", 1, 4),
    27: TensorType("int64", 1, 8),
    28: TensorType("float64", 1, 8),
    29: _super("IQ1_M", 56),
    30: TensorType("bfloat16", 1, 2),
    # 31 to 33 and 36 to 38 are no longer written. They have the blocks of Q4_0 and IQ4_NL in another order.
    31: _small("Q4_0_4_4", 18),
    32: _small("Q4_0_4_8", 18),
    33: _small("Q4_0_8_8", 18),
    34: _super("TQ1_0", 54),
    35: _super("TQ2_0", 66),
    36: _small("IQ4_NL_4_4", 18),
    37: _small("IQ4_NL_4_8", 18),
    38: _small("IQ4_NL_8_8", 18),
    39: _small("MXFP4", 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}
"""The type of each number in a file. 4 and 5 were withdrawn before the format came about."""
