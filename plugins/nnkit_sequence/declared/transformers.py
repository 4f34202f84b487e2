"""Declares the Transformers and the layer of experts that some of them have. Torch-free."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec

if TYPE_CHECKING:
    from nnkit_sequence.configs import GPT2Config, LlamaConfig


def _tokens(name: str, time: str, limit: str = "vocabulary", description: str = "") -> TensorSpec:
    return TensorSpec(name, ("batch", time), "int64", "index", limit, description)


def _real(name: str, time: str, dtype: str, description: str) -> TensorSpec:
    return TensorSpec(name, ("batch", time), dtype, "prefix", time, description, optional=True)


TRANSFORMER = Architecture(
    name="transformer",
    summary="Encoder of a source and causal decoder of a target, by attention only",
    build="nnkit_sequence.transformer:Transformer",
    config="nnkit_sequence.configs:TransformerConfig",
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
        "Positions are computed, not learned, so that any length runs. Those beyond the ones trained on may "
        "still come out wrong.",
    ),
)

BERT = Architecture(
    name="bert",
    summary="Encoder in which every token sees both sides; pretrained by filling in hidden tokens",
    build="nnkit_sequence.bert:Bert",
    config="nnkit_sequence.configs:BertConfig",
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
        "trained. Only attention_mask hides it from other tokens.",
        "--dropout sets the dropout of values and of attention weights, which are 0.1 both in the paper.",
        "The bias of the keys changes no output, since it adds the same to all scores of a query. It is in "
        "every published file.",
        "gelu is exact, by the error function, and the norms have ε = 10⁻¹², as in the authors' code.",
    ),
)


def _decoder_inputs(layers: int, cached: tuple[str, ...]) -> Iterator[TensorSpec]:
    """Yield what every decoder takes: tokens, and if there are any, the cache and a mask."""
    yield TensorSpec("input_ids", ("batch", "time"), "int64", "index", "vocabulary", "the new tokens")
    for layer in range(layers):
        for part in ("key", "value"):
            name = f"past_key_values.{layer}.{part}"
            yield TensorSpec(
                name, cached, description="of earlier tokens, in this layer", optional=True, given=False
            )
    yield TensorSpec(
        "attention_mask",
        ("batch", "past + time"),
        "bool",
        "keep",
        description="False at tokens that no other may see, such as padding",
        optional=True,
        given=False,
    )


def _decoder_outputs(layers: int, present: tuple[str, ...]) -> Iterator[TensorSpec]:
    """Yield what every decoder returns: logits and the cache."""
    yield TensorSpec("logits", ("batch", "time", "vocabulary"), description="of the token after each")
    for layer in range(layers):
        for part in ("key", "value"):
            yield TensorSpec(f"present.{layer}.{part}", present, description="of all tokens, in this layer")


def _gpt2_inputs(config: "GPT2Config") -> Iterator[TensorSpec]:
    yield from _decoder_inputs(config.layers, ("batch", "heads", "past", "width // heads"))
    yield TensorSpec(
        "position_ids",
        ("batch", "time"),
        "int64",
        "index",
        "context",
        "where each token stands; otherwise after those in the cache",
        optional=True,
        given=False,
    )


def _gpt2_outputs(config: "GPT2Config") -> Iterator[TensorSpec]:
    return _decoder_outputs(config.layers, ("batch", "heads", "past + time", "width // heads"))


CACHE_NOTE = (
    "The cache is an input and an output, and may be empty. Names are those of transformers' exports, so one "
    "ONNX file (--with past_key_values) reads a prompt and continues it."
)
MASK_NOTE = "A token that the mask hides still sees itself, so that no softmax is over nothing."

GPT2 = Architecture(
    name="gpt2",
    summary="GPT-2: a decoder that continues text, with a cache of the tokens before",
    family="transformer",
    build="nnkit_sequence.gpt2:GPT2",
    config="nnkit_sequence.configs:GPT2Config",
    inputs=_gpt2_inputs,
    outputs=_gpt2_outputs,
    dims={
        "batch": Dim(default=1, description="texts at once"),
        "time": Dim(default=64, max="context", description="new tokens"),
        "past": Dim(default=16, min=0, max="context - 1", description="tokens in the cache"),
    },
    constraints=("past + time <= context",),
    presets={
        "small": Preset(
            config={"width": 768, "layers": 12, "heads": 12}, description="124,439,808 parameters"
        ),
        "medium": Preset(
            config={"width": 1024, "layers": 24, "heads": 16}, description="354,823,168 parameters"
        ),
        "large": Preset(
            config={"width": 1280, "layers": 36, "heads": 20}, description="774,030,080 parameters"
        ),
        "xl": Preset(
            config={"width": 1600, "layers": 48, "heads": 25}, description="1,557,611,200 parameters"
        ),
        "tiny": Preset(
            config={"vocabulary": 128, "context": 64, "width": 32, "layers": 2, "heads": 4},
            sizes={"time": 16, "past": 8},
            description="for a quick try, with characters as tokens",
        ),
    },
    causal="time",
    padding=("attention_mask",),
    tied=[("transformer.wte.weight", "lm_head.weight")],
    stochastic="training",
    paper="Radford et al.: Language Models are Unsupervised Multitask Learners, 2019, "
    "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
    equation="x = x + attention(norm(x)),  x = x + W₂ gelu(W₁ norm(x)),  logits = W_e norm(x)",
    notes=(
        "State dicts of transformers' GPT2LMHeadModel load as they are, and so do the files that OpenAI's "
        "weights are published in.",
        "The paper counts 117M, 345M, 762M and 1542M parameters; its own files hold what the presets say.",
        CACHE_NOTE,
        MASK_NOTE,
        "With padding on the left, give position_ids too: otherwise padding counts as places.",
    ),
)


def _llama_inputs(config: "LlamaConfig") -> Iterator[TensorSpec]:
    return _decoder_inputs(config.layers, ("batch", "kv_heads", "past", "width // heads"))


def _llama_outputs(config: "LlamaConfig") -> Iterator[TensorSpec]:
    return _decoder_outputs(config.layers, ("batch", "kv_heads", "past + time", "width // heads"))


def _llama(description: str, rope_factor: int, **sizes: int | bool) -> Preset:
    config = {"vocabulary": 128_256, "kv_heads": 8, "rope_factor": rope_factor, **sizes}
    return Preset(config=config, description=description)


LLAMA = Architecture(
    name="llama",
    summary="Llama 3: a decoder with rotary positions, grouped queries and a cache",
    family="transformer",
    build="nnkit_sequence.llama:Llama",
    config="nnkit_sequence.configs:LlamaConfig",
    inputs=_llama_inputs,
    outputs=_llama_outputs,
    dims={
        "batch": Dim(default=1, description="texts at once"),
        "time": Dim(default=64, description="new tokens"),
        "past": Dim(default=16, min=0, description="tokens in the cache"),
    },
    presets={
        "1b": _llama(
            "1,235,814,400 parameters, Llama 3.2", 32, width=2048, layers=16, heads=32, hidden=8192, tied=True
        ),
        "3b": _llama(
            "3,212,749,824 parameters, Llama 3.2", 32, width=3072, layers=28, heads=24, hidden=8192, tied=True
        ),
        "8b": _llama(
            "8,030,261,248 parameters, Llama 3.1", 8, width=4096, layers=32, heads=32, hidden=14_336
        ),
        "70b": _llama(
            "70,553,706,496 parameters, Llama 3.1", 8, width=8192, layers=80, heads=64, hidden=28_672
        ),
        "405b": _llama(
            "405,853,388,800 parameters, Llama 3.1", 8, width=16_384, layers=126, heads=128, hidden=53_248
        ),
    },
    causal="time",
    padding=("attention_mask",),
    paper="Grattafiori et al.: The Llama 3 Herd of Models, 2024, https://arxiv.org/abs/2407.21783",
    equation="x = x + attention(norm(x)),  x = x + W_down (silu(W_gate norm(x)) ⊙ W_up norm(x)),  "
    "norm(x) = g ⊙ x / √(mean x² + ε)",
    notes=(
        "State dicts of transformers' LlamaForCausalLM load as they are.",
        "The default is a small one to learn with; the published sizes are presets.",
        "For Llama 3 of April 2024, whose context isn't stretched, add --rope-factor 1 to the presets.",
        "The context has no limit here: what the model makes of longer ones is another question.",
        CACHE_NOTE,
        MASK_NOTE,
    ),
)


MOE = Architecture(
    name="moe",
    summary="Mixture of experts: a layer that sends each token to a few of many feed-forward networks",
    family="mixture of experts",
    build="nnkit_sequence.moe:MixtureOfExperts",
    config="nnkit_sequence.configs:MoEConfig",
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
        "It is the layer alone: add x to y around it, and about 0.01 times the loss to what is trained. "
        "Without the loss, a few experts soon get all tokens.",
        "State dicts of transformers' MixtralSparseMoeBlock load unchanged. --top-k 1 --no-normalize "
        "--expert relu is the layer of Switch Transformers, whose experts are separate layers in "
        "transformers and stacked here.",
        "The paper adds noise to the scores of the gate in training. Here, as in Mixtral, there is none.",
        "With --capacity-factor, each expert has a limited number of seats for each sequence, given to "
        "tokens in their order, so that no token depends on later ones. The paper of Shazeer has no such "
        "limit. A token without a seat has y = 0 and goes on by the residual.",
        "Only chosen experts are computed, one after the other, each for its own tokens. So MACs are of "
        "top_k experts per token, and of fewer with --capacity-factor or padding.",
        "Weights start with a variance of 0.1 / inputs, as Switch Transformers recommend.",
    ),
)
