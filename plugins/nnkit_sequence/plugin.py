"""Declares networks of sequences, such as text, sound and time series. Torch-free."""

from nnkit import Architecture, hookimpl
from nnkit_sequence.declared.convolutions import TCN, WAVENET
from nnkit_sequence.declared.recurrences import MAMBA, SEQ2SEQ_ATTENTION
from nnkit_sequence.declared.transformers import BERT, GPT2, LLAMA, MOE, TRANSFORMER

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        TRANSFORMER,
        BERT,
        GPT2,
        LLAMA,
        SEQ2SEQ_ATTENTION,
        TCN,
        WAVENET,
        MAMBA,
        MOE,
    ]
