"""The options of the networks of sequences, such as text, sound and time series. Torch-free."""

# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe
