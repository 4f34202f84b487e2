"""Declares networks of sequences, such as text, sound and time series. Torch-free."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_sequence.configs import BertConfig, TransformerConfig

NNKIT_PLUGIN_API = "1.1"

# ---- transformer, bert


def _tokens(name: str, time: str, limit: str = "vocabulary", description: str = "") -> TensorSpec:
    return TensorSpec(name, ("batch", time), "int64", "index", limit, description)


def _real(name: str, time: str, dtype: str, description: str) -> TensorSpec:
    return TensorSpec(name, ("batch", time), dtype, "prefix", time, description, optional=True)


TRANSFORMER = Architecture(
    name="transformer",
    summary="Encoder of a source and causal decoder of a target, by attention only",
    build="nnkit_sequence.transformer:Transformer",
    config=TransformerConfig,
    inputs=[
        _tokens("source", "source_time", description="tokens of the source"),
        _tokens("target", "target_time", description="tokens of the target so far, behind a token to begin"),
        _real("source_mask", "source_time", "bool", "True at tokens, False at padding"),
        _real("target_mask", "target_time", "bool", "True at tokens, False at padding"),
    ],
    outputs=[
        TensorSpec(
            "logits",
            ("batch", "target_time", "vocabulary"),
            description="scores of the token after each of the target",
        )
    ],
    dims={
        "batch": Dim(default=1, description="pairs of source and target in a batch"),
        "source_time": Dim(default=16, description="tokens of the source"),
        "target_time": Dim(default=12, description="tokens of the target"),
    },
    causal="target_time",
    padding=("source_mask", "target_mask"),
    tied=[("embedding.weight", "head.weight")],
    stochastic="training",
    presets={
        "base": Preset(description="base of the paper: 63,082,496 parameters, 65M in its Table 3"),
        "big": Preset(
            config={"width": 1024, "heads": 16, "hidden": 4096, "dropout": 0.3},
            description="big of the paper: 214,245,376 parameters, 213M in its Table 3",
        ),
        "tiny": Preset(
            config={"vocabulary": 100, "width": 32, "layers": 2, "heads": 4, "hidden": 64},
            description="trains and exports in seconds",
        ),
    },
    family="transformer",
    paper="Vaswani et al.: Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762",
    equation=(
        "attention(Q, K, V) = softmax(Q Kᵀ / √d) V;  x = norm(x + attention(x, x, x)), "
        "norm(x + W₂ relu(W₁ x));  y = the same, causal, with norm(y + attention(y, x, x)) in between;  "
        "logits = E y"
    ),
    notes=(
        "The text of the paper says about 37,000 tokens, which is the default and gives 63.1M and 214.2M "
        "parameters. Its Table 3 says 65M and 213M: base and its variants (C) follow from 41,000 tokens, big "
        "from 35,800.",
        "The layers have the names and shapes of torch.nn.Transformer, which embeds nothing: its state dict "
        "loads with --final-norm and --no-strict.",
        "torch.nn.Transformer has another norm behind each stack. The paper has none; --final-norm adds it.",
        "Dropout is where the paper puts it: on each sublayer's output and on the embedded tokens. torch.nn "
        "and the authors' later code also drop attention weights and hidden units.",
        "Masks are True at tokens. The masks of torch.nn.Transformer are True at padding.",
        "Positions are computed for whatever length comes, so no length is too long.",
    ),
)

BERT = Architecture(
    name="bert",
    summary="Encoder in which every token sees both sides; pretrained by filling in hidden tokens",
    build="nnkit_sequence.bert:Bert",
    config=BertConfig,
    inputs=[
        _tokens("input_ids", "time", description="tokens, [CLS] first"),
        TensorSpec(
            "token_type_ids",
            ("batch", "time"),
            "int64",
            "index",
            "token_types",
            "0 in the first sentence, 1 in the second; without it 0 everywhere",
            optional=True,
        ),
        _real("attention_mask", "time", "int64", "1 at tokens, 0 at padding"),
    ],
    outputs=[
        TensorSpec("last_hidden_state", ("batch", "time", "width"), description="each token in its context"),
        TensorSpec("pooler_output", ("batch", "width"), description="the whole text, from [CLS]"),
    ],
    dims={
        "batch": Dim(default=1, description="texts in a batch"),
        "time": Dim(default=32, max="context", description="tokens of a text"),
    },
    padding=("attention_mask",),
    stochastic="training",
    presets={
        "base": Preset(description="bert-base-uncased: 109,482,240 parameters"),
        "base-cased": Preset(
            config={"vocabulary": 28996}, description="bert-base-cased: 108,310,272 parameters"
        ),
        "large": Preset(
            config={"width": 1024, "layers": 24, "heads": 16, "hidden": 4096},
            description="bert-large-uncased: 335,141,888 parameters",
        ),
        "tiny": Preset(
            config={"width": 128, "layers": 2, "heads": 2, "hidden": 512},
            description="the smallest of Turc et al. 2019: 4,385,920 parameters",
        ),
        "mini": Preset(
            config={"width": 256, "layers": 4, "heads": 4, "hidden": 1024},
            description="of Turc et al. 2019: 11,170,560 parameters",
        ),
        "small": Preset(
            config={"width": 512, "layers": 4, "heads": 8, "hidden": 2048},
            description="of Turc et al. 2019: 28,763,648 parameters",
        ),
        "medium": Preset(
            config={"width": 512, "layers": 8, "heads": 8, "hidden": 2048},
            description="of Turc et al. 2019: 41,373,184 parameters",
        ),
    },
    family="transformer",
    paper="Devlin et al.: BERT, NAACL 2019, https://arxiv.org/abs/1810.04805; the smaller sizes: Turc et al. "
    "2019, https://arxiv.org/abs/1908.08962",
    equation=(
        "x = norm(E[token] + P[position] + S[type]);  x = norm(x + W_o attention(W_q x, W_k x, W_v x)), "
        "norm(x + W₂ gelu(W₁ x));  pooled = tanh(W_p x₀)"
    ),
    notes=(
        "State dicts of BertModel in transformers load unchanged, with equal outputs. So do files of a whole "
        "task, such as bert-base-uncased: `bert.` is taken off the names and the head is left out.",
        "The heads of pretraining, for hidden tokens and the next sentence, are not part of this network.",
        "Token 0 is padding, as in the published vocabularies: its embedding begins as zeros and isn't "
        "trained. That alone hides nothing; attention_mask does.",
        "--dropout sets the dropout of values and of attention weights, which are 0.1 both in the paper.",
        "The bias of the keys changes no output, since it adds the same to all scores of a query. It is in "
        "every published file.",
        "gelu is exact, by the error function, and the norms have ε = 10⁻¹², as in the authors' code.",
    ),
)


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        TRANSFORMER,
        BERT,
        # gpt2, llama
        # seq2seq-attention, tcn, wavenet
        # mamba, moe
    ]
