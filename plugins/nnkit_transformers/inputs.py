"""What forward of a model takes: for each name of a parameter, the tensors that it may be."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from nnkit import TensorSpec
from nnkit_transformers.sizes import AUDIO, TEXT, VISION, Axis, Sizes

Variant: TypeAlias = Callable[[Sizes], TensorSpec | None]
"""Returns how an input is declared, or None where the configuration lacks one of its sizes."""

GRID = 16
"""Patches along a side of a picture, where its patches come one after the other."""

POOLED = 12
"""The same where three by three or four by four patches become one."""


@dataclass(frozen=True)
class Fixed:
    """The same values in each draw: sizes that other inputs agree with, or a mask that keeps everything."""

    row: tuple[Any, ...]

    def __call__(
        self, shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: Any
    ) -> torch.Tensor:
        """Return the values, repeated along the first axes."""
        return torch.tensor(self.row, dtype=dtype).expand(shape).clone()


@dataclass(frozen=True)
class First:
    """1 at the first places, 0 behind them."""

    count: int

    def __call__(
        self, shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: Any
    ) -> torch.Tensor:
        """Return the mask."""
        return (torch.arange(shape[-1]) < self.count).to(dtype).expand(shape).clone()


def _first(sizes: Sizes) -> TensorSpec | None:
    count = sizes.number("latent_query_num")
    if count is None:
        return None
    what = "1 where a picture stands in the text"
    name = "image_embeds_position_mask"
    return TensorSpec(name, ("batch", "time"), "int64", description=what, sample=First(count))


@dataclass(frozen=True)
class Ending:
    """Tokens below a limit that end in one that is nowhere else, by which some models find the end."""

    limit: int
    last: int

    def __call__(
        self, shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: torch.Generator
    ) -> torch.Tensor:
        """Return random tokens."""
        drawn = torch.randint(0, max(self.limit - 1, 1), shape, generator=generator)
        drawn += drawn >= self.last
        drawn[..., -1] = self.last
        return drawn.to(dtype)


def _ending(sizes: Sizes) -> TensorSpec | None:
    spec, last = tokens("input_ids")(sizes), sizes.number("eos_token_id", within=TEXT)
    if spec is None or last is None or not 0 <= last < sizes.vocabulary:
        return None
    return replace(spec, sample=Ending(sizes.vocabulary, last), index_of=None)


def tensor(
    name: str,
    shape: Callable[[Sizes], tuple[Axis | None, ...]],
    description: str,
    dtype: str = "float",
    **drawn: Any,
) -> Variant:
    """Return how a tensor of a shape by the configuration is declared."""

    def declare(sizes: Sizes) -> TensorSpec | None:
        axes = shape(sizes)
        if any(axis is None for axis in axes):
            return None
        known = tuple(axis for axis in axes if axis is not None)
        return TensorSpec(name, known, dtype, description=description, **drawn)

    return declare


def tokens(
    name: str,
    shape: Callable[[Sizes], tuple[Axis | None, ...]] = lambda sizes: ("batch", "time"),
    description: str = "tokens of a text",
    limit: Callable[[Sizes], int | None] = lambda sizes: None,
) -> Variant:
    """Return how integers below a limit are declared, which is the size of the vocabulary by default."""

    def declare(sizes: Sizes) -> TensorSpec | None:
        spec = tensor(name, shape, description, "int64", sample="index")(sizes)
        return spec and replace(spec, index_of=limit(sizes) or sizes.vocabulary)

    return declare


def features_of_tokens(name: str, description: str, vocabulary: str) -> tuple[Variant, Variant]:
    """Return how one more number for each token is declared: for a text, and for each of several choices.

    vocabulary: the field of the config with the count of such numbers.
    """

    def limit(sizes: Sizes) -> int | None:
        return sizes.number(vocabulary)

    return (
        tokens(name, description=description, limit=limit),
        tokens(name, lambda sizes: ("batch", "choices", "time"), description, limit),
    )


def fixed(
    name: str, shape: tuple[Axis, ...], row: tuple[Any, ...], description: str, dtype: str = "int64"
) -> Variant:
    """Return how values that are always the same are declared."""
    return tensor(name, lambda sizes: shape, description, dtype, sample=Fixed(row))


def _codebooks(sizes: Sizes) -> int | None:
    return sizes.number("num_codebooks", "num_quantizers", "n_codebooks")


def _codebooks_and_text(sizes: Sizes) -> int | None:
    count = _codebooks(sizes)
    return count and count + 1


def _entries(sizes: Sizes) -> int | None:
    return sizes.number("codebook_vocab_size", "audio_vocab_size", "codebook_size", "vocab_size")


def _vocabulary_of_qformer(sizes: Sizes) -> int | None:
    return sizes.number("vocab_size", within=("qformer_config",))


def _channels_of_waveform(sizes: Sizes) -> int:
    return sizes.number("audio_channels", "channels", within=AUDIO) or 1


def _frames_of_30_seconds(sizes: Sizes) -> int:
    positions = sizes.number("max_source_positions", within=AUDIO)
    return 2 * positions if positions else 3000


def _frames_of_tokens(sizes: Sizes) -> str | None:
    """Return the frames of a spectrogram where so many make up a token of the text."""
    frames = sizes.number("audio_length_per_tok")
    return f"{frames} * time" if frames else None


def _latent_width(sizes: Sizes) -> int | None:
    return sizes.number("hidden_size", "latent_dim", "vq_hidden_dimension")


def _series(sizes: Sizes) -> tuple[Axis | None, ...]:
    width = sizes.number("input_size") or 1
    return ("batch", sizes.past, *((width,) if width > 1 else ()))


def _stacked_mels(sizes: Sizes) -> int | None:
    """Return the numbers of a frame where neighbors, and their differences, are stacked before the model."""
    if (stacked := sizes.number("input_size", within=AUDIO)) is not None:
        return stacked
    mels = sizes.number("num_mel_bins", within=AUDIO)
    return 4 * mels if mels else sizes.number("subsampling_conv_channels", within=AUDIO)


def _blocks(sizes: Sizes) -> tuple[Axis | None, ...]:
    """Return the shape of patches that are pictures of their own, as large as a token of the text."""
    side = sizes.patch and sizes.patch * (sizes.number("spatial_merge_size", within=VISION) or 1)
    return (GRID**2, side, side, sizes.channels)


def _halves(sizes: Sizes) -> tuple[Axis | None, ...]:
    """Return the shape of a picture where the model puts two of them on top of each other."""
    height, width = sizes.picture
    return ("batch", sizes.channels, height // 2 if isinstance(height, int) else height, width)


_SPECTROGRAM, _PICTURE = "log-mel spectrograms", "pictures"
_PATCHES = "patches of a picture, in a row"
_SIZES_OF_PICTURE = "frames, rows and columns of patches"

MASK: Variant = tensor(
    "attention_mask",
    lambda sizes: ("batch", "time"),
    "1 at tokens, 0 at padding",
    "int64",
    sample="prefix",
    index_of="time",
)
DECODER: Variant = tokens(
    "decoder_input_ids", lambda sizes: ("batch", "decoder_time"), "tokens that the decoder is given"
)

KNOWN: Mapping[str, tuple[Variant, ...]] = {
    "input_ids": (
        tokens("input_ids"),
        tokens("input_ids", lambda sizes: ("batch", "choices", "time"), "tokens of each choice"),
        tokens(
            "input_ids",
            lambda sizes: ("batch", "time", _codebooks_and_text(sizes)),
            "tokens of each codebook",
            _entries,
        ),
        tokens(
            "input_ids",
            lambda sizes: ("batch", _codebooks(sizes), "time"),
            "tokens of each codebook",
            _entries,
        ),
    ),
    "decoder_input_ids": (DECODER,),
    "attention_mask": (MASK,),
    "pixel_values": (
        tensor("pixel_values", lambda sizes: ("batch", sizes.channels, *sizes.picture), _PICTURE),
        tensor(
            "pixel_values",
            lambda sizes: ("batch", sizes.frames, sizes.channels, *sizes.picture),
            "the frames of a video",
        ),
        tensor("pixel_values", lambda sizes: (GRID**2, sizes.numbers_of_patch), _PATCHES),
        tensor("pixel_values", lambda sizes: (GRID**2, sizes.channels, sizes.patch, sizes.patch), _PATCHES),
        tensor(
            "pixel_values",
            lambda sizes: ("batch", GRID**2, sizes.patch and sizes.channels * sizes.patch**2),
            "patches of pictures",
        ),
        tensor(
            "pixel_values", lambda sizes: ("batch", 2, sizes.channels, *sizes.picture), "pairs of pictures"
        ),
        tensor(
            "pixel_values",
            lambda sizes: (1, sizes.channels, sizes.patch, sizes.patch and sizes.patch * GRID**2),
            _PATCHES,
        ),
        tensor("pixel_values", _blocks, _PATCHES),
        tensor(
            "pixel_values",
            lambda sizes: ("batch", POOLED**2, sizes.patch and sizes.channels * sizes.patch**2),
            _PATCHES,
        ),
        tensor("pixel_values", _halves, _PICTURE),
    ),
    "pixel_values_videos": (
        tensor(
            "pixel_values_videos",
            lambda sizes: ("batch", sizes.frames, sizes.channels, *sizes.picture),
            "the frames of a video",
        ),
    ),
    "input_values": (
        tensor("input_values", lambda sizes: ("batch", "samples"), "waveforms"),
        tensor("input_values", lambda sizes: ("batch", _channels_of_waveform(sizes), "samples"), "waveforms"),
        tensor(
            "input_values",
            lambda sizes: ("batch", sizes.number("max_length"), sizes.number("num_mel_bins")),
            _SPECTROGRAM,
        ),
        tensor("input_values", lambda sizes: ("batch", "frames", sizes.width), "embedded frames"),
    ),
    "input_features": (
        tensor("input_features", lambda sizes: ("batch", "frames", sizes.mels), _SPECTROGRAM),
        tensor(
            "input_features", lambda sizes: ("batch", sizes.mels, _frames_of_30_seconds(sizes)), _SPECTROGRAM
        ),
        tensor("input_features", lambda sizes: ("batch", 1, 1001, sizes.mels), _SPECTROGRAM),
        tensor("input_features", lambda sizes: ("batch", "frames", _stacked_mels(sizes)), _SPECTROGRAM),
        tensor("input_features", lambda sizes: ("batch", sizes.mels, _frames_of_tokens(sizes)), _SPECTROGRAM),
    ),
    "audio_mel": (tensor("audio_mel", lambda sizes: ("batch", "frames", sizes.mels), _SPECTROGRAM),),
    "bbox": (
        tensor(
            "bbox",
            lambda sizes: ("batch", "time", 4),
            "the box of each token on the page",
            "int64",
            sample="zeros",
        ),
    ),
    "hidden_states": (
        tensor("hidden_states", lambda sizes: (GRID**2, sizes.numbers_of_patch), _PATCHES),
        tensor(
            "hidden_states", lambda sizes: ("batch", _channels_of_waveform(sizes), "samples"), "waveforms"
        ),
        tensor("hidden_states", lambda sizes: ("batch", _latent_width(sizes), "frames"), "latent frames"),
    ),
    "grid_thw": (fixed("grid_thw", (1, 3), (1, GRID, GRID), _SIZES_OF_PICTURE),),
    "image_grid_thw": (fixed("image_grid_thw", (1, 3), (1, GRID, GRID), _SIZES_OF_PICTURE),),
    "spatial_shapes": (fixed("spatial_shapes", ("batch", 2), (GRID, GRID), "rows and columns of patches"),),
    "target_sizes": (fixed("target_sizes", (1, 2), (GRID, GRID), "rows and columns of patches"),),
    "pixel_position_ids": (
        fixed(
            "pixel_position_ids",
            ("batch", POOLED**2, 2),
            tuple((column, row) for row in range(POOLED) for column in range(POOLED)),
            "column and row of each patch",
        ),
    ),
    "merge_sizes": (fixed("merge_sizes", (1,), (2,), "patches along a side that are merged"),),
    "is_longer": (fixed("is_longer", ("batch", 1), (0,), "1 for a long recording"),),
    "pixel_attention_mask": (fixed("pixel_attention_mask", ("batch", GRID**2), (1,), "1 at patches"),),
    "input_features_mask": (
        fixed("input_features_mask", ("batch", "frames"), (1,), "1 at frames"),
        tensor(
            "input_features_mask",
            lambda sizes: ("batch", _frames_of_30_seconds(sizes)),
            "1 at frames",
            "int64",
            sample=Fixed((1,)),
        ),
    ),
    "audio_mel_mask": (fixed("audio_mel_mask", ("batch", "frames"), (1,), "true at frames", "bool"),),
    "qformer_input_ids": (
        tokens("qformer_input_ids", description="tokens of the question", limit=_vocabulary_of_qformer),
    ),
    "query_embeds": (tensor("query_embeds", lambda sizes: ("batch", 32, sizes.width), "queries"),),
    "inputs_embeds": (
        tensor("inputs_embeds", lambda sizes: ("batch", "time", sizes.width), "embedded tokens"),
    ),
    "encoder_hidden_states": (
        tensor(
            "encoder_hidden_states",
            lambda sizes: ("batch", 257, sizes.number("encoder_hidden_size")),
            "what is attended to",
        ),
    ),
    "past_values": (
        tensor("past_values", _series, "a time series"),
        tensor(
            "past_values",
            lambda sizes: ("batch", sizes.number("context_length"), sizes.number("num_input_channels")),
            "time series",
        ),
        tensor("past_values", lambda sizes: ("batch", sizes.number("context_length")), "a time series"),
    ),
    "past_time_features": (
        tensor(
            "past_time_features",
            lambda sizes: ("batch", sizes.past, sizes.number("num_time_features") or 0),
            "features of each time",
        ),
    ),
    "past_observed_mask": (
        tensor("past_observed_mask", _series, "1 where a value was observed", sample=Fixed((1,))),
    ),
    "latents": (
        tensor("latents", lambda sizes: ("batch", "frames", _latent_width(sizes)), "latent frames"),
        tensor("latents", lambda sizes: ("batch", _latent_width(sizes), "frames"), "latent frames"),
    ),
    "past_values_padding": (
        tensor(
            "past_values_padding",
            lambda sizes: ("batch", sizes.number("context_length")),
            "1 where a value is missing",
            "int64",
            sample="zeros",
        ),
    ),
    "freq": (
        tokens(
            "freq",
            lambda sizes: ("batch", 1),
            "how often values come",
            lambda sizes: sizes.number("freq_size"),
        ),
    ),
    "decoder_input_values": (
        tensor(
            "decoder_input_values",
            lambda sizes: ("batch", "decoder_time", sizes.width),
            "embedded frames that the decoder is given",
        ),
    ),
    "visual_feats": (
        tensor(
            "visual_feats",
            lambda sizes: ("batch", 36, sizes.number("visual_feat_dim")),
            "regions of a picture",
        ),
    ),
    "visual_pos": (
        tensor(
            "visual_pos",
            lambda sizes: ("batch", 36, sizes.number("visual_pos_dim")),
            "the box of each region",
        ),
    ),
    "image_attention_mask": (
        tensor(
            "image_attention_mask",
            lambda sizes: ("batch", "time", sizes.frames),
            "1 where a token sees a picture",
            "int64",
            sample=Fixed((1,)),
        ),
    ),
    "image_embeds_position_mask": (_first,),
    "prompt_pixel_values": (tensor("prompt_pixel_values", _halves, "pictures to learn from"),),
    "prompt_masks": (tensor("prompt_masks", _halves, "their masks, as pictures"),),
    "task_inputs": (
        tokens(
            "task_inputs",
            lambda sizes: ("batch", sizes.number("task_seq_len")),
            "tokens of the task",
            lambda sizes: sizes.number("text_encoder_vocab_size"),
        ),
    ),
    "input_shape_ids": features_of_tokens(
        "input_shape_ids", "the shape of each character", "shape_vocab_size"
    ),
    "input_pronunciation_ids": features_of_tokens(
        "input_pronunciation_ids", "how each character is pronounced", "pronunciation_vocab_size"
    ),
    "states": (tensor("states", lambda sizes: ("batch", "time", sizes.number("state_dim")), "states"),),
    "actions": (tensor("actions", lambda sizes: ("batch", "time", sizes.number("act_dim")), "actions"),),
    "returns_to_go": (tensor("returns_to_go", lambda sizes: ("batch", "time", 1), "rewards to come"),),
    "timesteps": (
        tokens(
            "timesteps", description="the step of each state", limit=lambda sizes: sizes.number("max_ep_len")
        ),
    ),
    "inputs": (tensor("inputs", lambda sizes: ("batch", 64, sizes.number("d_model")), "an array of inputs"),),
}


def optional_inputs(chosen: tuple[TensorSpec, ...], model_class: Any, sizes: Sizes) -> tuple[TensorSpec, ...]:
    """Return what forward takes as well, and nobody has to give: a mask, and the tokens of a decoder."""
    taken = inspect.signature(model_class.forward).parameters
    shapes = {spec.name: spec.shape for spec in chosen}
    if shapes.get("input_ids") != ("batch", "time"):
        return ()
    more = [
        variant(sizes)
        for name, variant in (("decoder_input_ids", DECODER), ("attention_mask", MASK))
        if name in taken and name not in shapes
    ]
    return tuple(replace(spec, optional=True, given=False) for spec in more if spec)
