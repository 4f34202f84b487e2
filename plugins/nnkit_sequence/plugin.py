"""Declares networks of sequences, such as text, sound and time series. Torch-free."""

from nnkit import Architecture, hookimpl

NNKIT_PLUGIN_API = "1.1"

# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # transformer, bert
        # gpt2, llama
        # seq2seq-attention, tcn, wavenet
        # mamba, moe
    ]
