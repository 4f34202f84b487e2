"""Declares the networks that take a sequence step by step. Torch-free."""

from nnkit import Architecture, Dim, Preset, TensorSpec

SEQ2SEQ_ATTENTION = Architecture(
    name="seq2seq-attention",
    summary="RNNsearch: a recurrent decoder that attends to the source before each word it writes",
    build="nnkit_sequence.seq2seq_attention:Seq2SeqAttention",
    config="nnkit_sequence.configs:Seq2SeqAttentionConfig",
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


def _mamba_size(width: int, layers: int, parameters: str) -> Preset:
    return Preset(
        config={"hidden_size": width, "num_hidden_layers": layers},
        description=f"{parameters} parameters, as published",
    )


STATES = {
    "conv_state": ("num_hidden_layers", "batch", "expand * hidden_size", "conv_kernel - 1"),
    "ssm_state": ("num_hidden_layers", "batch", "state_size", "expand * hidden_size"),
}
KEPT = {
    "conv_state": "the last inputs of each convolution",
    "ssm_state": "h, what each channel remembers",
}

MAMBA = Architecture(
    name="mamba",
    summary="Mamba: a language model of selective state spaces, linear in time",
    family="state space",
    build="nnkit_sequence.mamba:Mamba",
    config="nnkit_sequence.configs:MambaConfig",
    inputs=(
        TensorSpec("tokens", ("batch", "time"), "int64", sample="index", index_of="vocab_size"),
        TensorSpec(
            "mask",
            ("batch", "time"),
            "bool",
            sample="keep",
            description="False at padding",
            optional=True,
            given=False,
        ),
        *(
            TensorSpec(
                name, shape, description=f"{KEPT[name]} after the tokens before", optional=True, given=False
            )
            for name, shape in STATES.items()
        ),
    ),
    outputs=(
        TensorSpec("scores", ("batch", "time", "vocab_size"), description="of each next token"),
        *(
            TensorSpec(f"next_{name}", shape, description=f"{KEPT[name]} after these tokens")
            for name, shape in STATES.items()
        ),
    ),
    dims={
        "batch": Dim(default=1, description="sequences in a batch"),
        "time": Dim(default=16, description="tokens per sequence"),
    },
    causal="time",
    padding=("mask",),
    tied=(("backbone.embeddings.weight", "lm_head.weight"),),
    presets={
        "130m": _mamba_size(768, 24, "129,135,360"),
        "370m": _mamba_size(1024, 48, "371,516,416"),
        "790m": _mamba_size(1536, 48, "793,204,224"),
        "1.4b": _mamba_size(2048, 48, "1,372,178,432"),
        "2.8b": _mamba_size(2560, 64, "2,768,345,600"),
        "tiny": Preset(
            config={"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
            description="trains and exports in seconds",
        ),
    },
    paper=(
        "Gu, Dao: Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023, "
        "https://arxiv.org/abs/2312.00752"
    ),
    equation=(
        "Δ, B, C = f(u);  h_t = exp(Δ_t A) ⊙ h_{t-1} + Δ_t B_t u_t;  y_t = C_t h_t + D u_t;  "
        "x = x + W_out (y(silu(conv(u))) ⊙ silu(z)),  u, z = W_in RMSNorm(x)"
    ),
    notes=(
        "State dicts of transformers' MambaForCausalLM and MambaModel load unchanged, and so do the "
        "authors' files, whose vocabulary of 50,277 tokens is filled up to 50,280.",
        "--scan loop takes one token after the other, and is a Scan of ONNX in an exported file. --scan "
        "chunked takes the tokens of a chunk together, in log2(chunk_size) rounds: fewer and larger steps, "
        "for accelerators.",
        "conv_state and ssm_state continue a text: give what the call before returned, and one new token or "
        "more. Their size doesn't grow with the text.",
        "ssm_state has the channels last. In transformers they come before the numbers of the state.",
        "Padding may come before or after a text and changes no scores. What is kept after padding is as if "
        "h had gone on without input.",
        "Weights start as in the authors' code. In transformers all linear layers start with a standard "
        "deviation of 0.1.",
        "The head is the embedding. The scan is always in float32 or float64, as in the authors' code. "
        "Layers are summed in the dtype of the model, where the authors sum in float32.",
    ),
)
