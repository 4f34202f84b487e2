"""Declares networks of sequences, such as text, sound and time series. Torch-free."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_sequence.configs import MambaConfig, MoEConfig

NNKIT_PLUGIN_API = "1.1"

# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe


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
    config=MambaConfig,
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
        "State dicts of MambaForCausalLM and MambaModel of transformers load unchanged, and so do the files of "
        "the authors, whose vocabulary of 50,277 tokens is filled up to 50,280.",
        "--scan loop takes the tokens one after the other, and is a Scan of ONNX in an exported file. --scan "
        "chunked takes those of a chunk together, in log2(chunk_size) rounds: fewer and larger steps, for "
        "accelerators.",
        "conv_state and ssm_state continue a text: give what the call before returned, and one new token or "
        "more. Their size doesn't grow with the text.",
        "ssm_state has the channels last, where transformers has them before the numbers of the state.",
        "Padding may come before or after a text. It changes no scores, but what is kept after padding is as if "
        "h had gone on without input.",
        "Weights start as in the authors' code. In transformers all linear layers start with a standard "
        "deviation of 0.1.",
        "The head is the embedding. The layers add to x in the dtype of the model, where the authors' code adds "
        "in float32; the scan is in float32 there and here.",
    ),
)


MOE = Architecture(
    name="moe",
    summary="Mixture of experts: a layer that sends each token to a few of many feed-forward networks",
    family="mixture of experts",
    build="nnkit_sequence.moe:MixtureOfExperts",
    config=MoEConfig,
    inputs=(
        TensorSpec("x", ("batch", "time", "hidden_size"), description="tokens"),
        TensorSpec(
            "mask",
            ("batch", "time"),
            "bool",
            sample="keep",
            description="False at padding",
            optional=True,
            given=False,
        ),
    ),
    outputs=(
        TensorSpec("y", ("batch", "time", "hidden_size"), description="what is added to each token"),
        TensorSpec("loss", (), description="how unequally the experts are used; top_k if equally"),
    ),
    dims={
        "batch": Dim(default=1, description="sequences in a batch"),
        "time": Dim(default=16, description="tokens per sequence"),
    },
    causal="time",
    padding=("mask",),
    unsupported={
        "compile": "how many tokens an expert gets is known only at run time, so that torch.compile makes "
        "several graphs of it",
    },
    presets={
        "mixtral": Preset(
            config={"hidden_size": 4096, "intermediate_size": 14336},
            description="a layer of Mixtral 8x7B, 1,409,318,912 parameters",
        ),
        "switch": Preset(
            config={
                "hidden_size": 768,
                "intermediate_size": 3072,
                "top_k": 1,
                "expert": "relu",
                "normalize": False,
                "capacity_factor": 1.25,
            },
            description="a layer of google/switch-base-8, 37,754,880 parameters",
        ),
        "tiny": Preset(
            config={"hidden_size": 16, "intermediate_size": 32, "experts": 4},
            description="trains and exports in seconds",
        ),
    },
    paper=(
        "Shazeer et al.: Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer, "
        "ICLR 2017, https://arxiv.org/abs/1701.06538; capacity and loss: Fedus, Zoph, Shazeer: Switch "
        "Transformers, 2021, https://arxiv.org/abs/2101.03961"
    ),
    equation=(
        "p = softmax(W_g x);  y = Σ p_i E_i(x) / Σ p_i over the top k;  "
        "E(x) = W_down (silu(W_gate x) ⊙ W_up x);  loss = E Σ f_i P_i"
    ),
    notes=(
        "It is the layer alone: add x to y around it, and a factor of about 0.01 times loss to what is trained. "
        "Without the loss, a few experts soon get all tokens.",
        "State dicts of transformers' MixtralSparseMoeBlock load unchanged. --top-k 1 --no-normalize --expert "
        "relu is the layer of Switch Transformers, whose experts are single layers there and stacked here.",
        "The paper adds noise to the scores of the gate in training. As in Mixtral and in Switch Transformers' "
        "published code, there is none here: the loss balances alone.",
        "With --capacity-factor, each expert has a limited number of seats for each sequence, given to tokens in "
        "their order. A token without a seat has y = 0 and goes on by the residual. Order in time, so that no "
        "token depends on later ones; the papers seat first choices first.",
        "Only the chosen experts are computed, one after the other, each for its own tokens. So MACs are of "
        "top_k experts per token, and of fewer with --capacity-factor or padding.",
        "Weights start with a variance of 0.1 / inputs, as Switch Transformers recommend.",
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # transformer, bert
        # gpt2, llama
        # seq2seq-attention, tcn, wavenet
        MAMBA,
        MOE,
    ]
