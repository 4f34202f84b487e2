"""Declares networks of sequences, such as text, sound and time series. Torch-free."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_sequence.configs import Seq2SeqAttentionConfig

NNKIT_PLUGIN_API = "1.1"

# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet

SEQ2SEQ_ATTENTION = Architecture(
    name="seq2seq-attention",
    summary="RNNsearch: a recurrent decoder that attends to the source before each word it writes",
    build="nnkit_sequence.seq2seq_attention:Seq2SeqAttention",
    config=Seq2SeqAttentionConfig,
    inputs=[
        TensorSpec(
            "source",
            ("batch", "source_time"),
            "int64",
            sample="index",
            index_of="source_vocabulary",
            description="words to translate",
        ),
        TensorSpec(
            "target",
            ("batch", "target_time"),
            "int64",
            sample="index",
            index_of="target_vocabulary",
            description="their translation so far: a start symbol, and the words after it",
        ),
        TensorSpec(
            "lengths",
            ("batch",),
            "int64",
            sample="lengths",
            index_of="source_time",
            description="real words in each source, at least 1; the rest is padding",
            optional=True,
        ),
    ],
    outputs=[
        TensorSpec(
            "scores",
            ("batch", "target_time", "target_vocabulary"),
            description="of the word after each word of the target, before the softmax",
        ),
        TensorSpec(
            "weights",
            ("batch", "target_time", "source_time"),
            description="the share of each source word in each context: the alignment",
        ),
    ],
    dims={
        "batch": Dim(default=1, description="sentences at once"),
        "source_time": Dim(default=12, description="words of the source"),
        "target_time": Dim(default=10, description="words of the target"),
    },
    causal="target_time",
    padding=("lengths",),
    presets={
        "paper": Preset(
            config={
                "source_vocabulary": 30_000,
                "target_vocabulary": 30_000,
                "embedding_size": 620,
                "hidden_size": 1000,
                "alignment_size": 1000,
                "maxout_size": 500,
            },
            sizes={"source_time": 30, "target_time": 30},
            description="RNNsearch, English to French: 80.4 million parameters (appendix A.2.3)",
        ),
    },
    family="recurrent",
    paper=(
        "Bahdanau, Cho, Bengio: Neural Machine Translation by Jointly Learning to Align and Translate, ICLR "
        "2015, https://arxiv.org/abs/1409.0473"
    ),
    equation=(
        "α_i = softmax_j(v_a^T tanh(W_a s_{i-1} + U_a h_j));  c_i = Σ_j α_ij h_j;  "
        "t_i = maxout(U_o s_{i-1} + V_o E y_{i-1} + C_o c_i);  p(y_i) = softmax(W_o t_i);  "
        "s_i = GRU([E y_{i-1}; c_i], s_{i-1})"
    ),
    notes=(
        "The GRUs reset the state before the product, as in the paper. Weights of torch.nn.GRU, which resets "
        "after it, have the names of the encoder's, but make another network.",
        "z keeps the old state, as in torch. In this paper z takes the new state: its weights work once the "
        "signs of those of z are flipped.",
        "The output uses the state before the word, s_{i-1}, as in the paper's appendix. The main text has "
        "s_i.",
        "The paper leaves the biases out of its equations. Here each sum has one, except that of v_a: a "
        "constant added to all scores doesn't change their softmax. The encoder has two, as in torch.",
        "Weights start as torch draws them. In the paper v_a starts at 0, so that all source words weigh the "
        "same, and the other matrices start orthogonal or with a standard deviation of at most 0.01.",
        "The words of the target are given, as in training. To translate, append the likeliest word and call "
        "the network again. There is no beam search.",
        "In eager mode both loops are Python's. In ONNX, the encoder is the operator GRU and the decoder a "
        "Scan, for any number of words.",
    ),
)


# ---- mamba, moe


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # transformer, bert
        # gpt2, llama
        SEQ2SEQ_ATTENTION,
        # mamba, moe
    ]
