"""Declares networks of sequences, such as text, sound and time series. Torch-free."""

from collections.abc import Iterator

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_sequence.configs import GPT2Config

NNKIT_PLUGIN_API = "1.1"

# ---- transformer, bert


# ---- gpt2, llama


def _decoder_inputs(layers: int, cached: tuple[str, ...]) -> Iterator[TensorSpec]:
    """Yield what every decoder takes: tokens, and if there are any, the cache and a mask."""
    yield TensorSpec("input_ids", ("batch", "time"), "int64", "index", "vocab_size", "the new tokens")
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
    yield TensorSpec("logits", ("batch", "time", "vocab_size"), description="of the token after each")
    for layer in range(layers):
        for part in ("key", "value"):
            yield TensorSpec(f"present.{layer}.{part}", present, description="of all tokens, in this layer")


def _gpt2_inputs(config: GPT2Config) -> Iterator[TensorSpec]:
    yield from _decoder_inputs(config.n_layer, ("batch", "n_head", "past", "n_embd // n_head"))
    yield TensorSpec(
        "position_ids",
        ("batch", "time"),
        "int64",
        "index",
        "n_positions",
        "where each token stands; otherwise after those in the cache",
        optional=True,
        given=False,
    )


def _gpt2_outputs(config: GPT2Config) -> Iterator[TensorSpec]:
    return _decoder_outputs(config.n_layer, ("batch", "n_head", "past + time", "n_embd // n_head"))


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
    config=GPT2Config,
    inputs=_gpt2_inputs,
    outputs=_gpt2_outputs,
    dims={
        "batch": Dim(default=1, description="texts at once"),
        "time": Dim(default=64, max="n_positions", description="new tokens"),
        "past": Dim(default=16, min=0, max="n_positions - 1", description="tokens in the cache"),
    },
    constraints=("past + time <= n_positions",),
    presets={
        "small": Preset(
            config={"n_embd": 768, "n_layer": 12, "n_head": 12}, description="124,439,808 parameters"
        ),
        "medium": Preset(
            config={"n_embd": 1024, "n_layer": 24, "n_head": 16}, description="354,823,168 parameters"
        ),
        "large": Preset(
            config={"n_embd": 1280, "n_layer": 36, "n_head": 20}, description="774,030,080 parameters"
        ),
        "xl": Preset(
            config={"n_embd": 1600, "n_layer": 48, "n_head": 25}, description="1,557,611,200 parameters"
        ),
        "tiny": Preset(
            config={"vocab_size": 128, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
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


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # transformer, bert
        GPT2,
        # seq2seq-attention, tcn, wavenet
        # mamba, moe
    ]
