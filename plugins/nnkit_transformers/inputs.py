"""What forward of a model takes: a tensor for each name of a parameter, by the configuration."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from nnkit import TensorSpec

Variant = Callable[["Sizes"], TensorSpec | None]


@dataclass(frozen=True)
class Sizes:
    """Looks up sizes in a configuration and in those within it."""

    config: Any

    def parts(self, *names: str) -> list[Any]:
        """Return the nested configurations with one of these names, then the configuration itself."""
        own = [getattr(self.config, name, None) for name in names]
        return [part for part in (*own, self.config) if part is not None]

    def first(self, parts: list[Any], *names: str) -> Any:
        """Return the first of these settings that a part has, or None."""
        for part in parts:
            for name in names:
                value = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
                if value is not None:
                    return value
        return None

    def number(self, parts: list[Any], *names: str) -> int | None:
        """Return the first of these settings that is a number, of a list its first entry."""
        value = self.first(parts, *names)
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    @property
    def text(self) -> list[Any]:
        return self.parts("text_config", "text_encoder_config", "language_config", "encoder", "text_encoder")

    @property
    def decoder(self) -> list[Any]:
        return self.parts("decoder", "decoder_config", "text_config")

    @property
    def vision(self) -> list[Any]:
        return self.parts(
            "vision_config", "image_config", "vision_tower_config", "backbone_config", "image_encoder",
            "detector_config", "vlm_config", "video_config",
        )  # fmt: skip

    @property
    def audio(self) -> list[Any]:
        return self.parts(
            "audio_config", "encoder_config", "speech_config", "audio_encoder", "audio_encoder_config",
            "semantic_model_config", "asr_config",
        )  # fmt: skip

    @property
    def vocabulary(self) -> int:
        return self.number(self.text, "vocab_size", "text_vocab_size", "num_embeddings") or 100

    @property
    def channels(self) -> int:
        return self.number(self.vision, "num_channels", "in_channels", "in_chans", "input_channels") or 3

    @property
    def picture(self) -> tuple[int | str, int | str]:
        """Height and width: fixed where the configuration has a size, dims where it has none."""
        size = self.first(self.vision, "image_size")
        if isinstance(size, Mapping):
            size = (size.get("height"), size.get("width"))
        if isinstance(size, (list, tuple)) and len(size) >= 2:
            return int(size[-2]), int(size[-1])
        if isinstance(size, (list, tuple)) and size:
            size = size[0]
        return (int(size), int(size)) if size else ("image_height", "image_width")

    @property
    def frames(self) -> int:
        return self.number(self.vision, "num_frames", "frames_per_clip", "num_image_with_embedding") or 16

    @property
    def mels(self) -> int:
        names = (
            "num_mel_bins", "feature_size", "input_feat_per_channel", "input_dim", "feat_size", "n_mels",
            "mel_bins", "input_channels", "feature_projection_input_dim", "num_mel_channels", "model_in_dim",
            "input_features_size", "audio_num_mel_bins", "input_size",
        )  # fmt: skip
        return self.number(self.audio, *names) or 80


def tokens(name: str, axis: str = "time", description: str = "tokens of a text") -> Variant:
    """Return how integers below the size of the vocabulary are declared."""

    def declare(sizes: Sizes) -> TensorSpec:
        return _index(name, ("batch", axis), sizes.vocabulary, description)

    return declare


def _index(name: str, shape: tuple[int | str, ...], limit: int, description: str) -> TensorSpec:
    return TensorSpec(name, shape, "int64", sample="index", index_of=limit, description=description)


def numbers(name: str, *shape: int | str, description: str = "") -> Variant:
    """Return how floats of a fixed shape are declared."""
    return lambda sizes: TensorSpec(name, shape, description=description)


def _pixels(name: str, video: bool) -> Variant:
    def declare(sizes: Sizes) -> TensorSpec:
        frames = (sizes.frames,) if video else ()
        what = "the frames of a video" if video else "pictures"
        return TensorSpec(name, ("batch", *frames, sizes.channels, *sizes.picture), description=what)

    return declare


def _waveform(sizes: Sizes) -> TensorSpec:
    return TensorSpec("input_values", ("batch", "samples"), description="waveforms")


def _channels_of_waveform(sizes: Sizes) -> TensorSpec:
    channels = sizes.number(sizes.audio, "audio_channels") or 1
    return TensorSpec("input_values", ("batch", channels, "samples"), description="waveforms")


def _spectrogram(sizes: Sizes) -> TensorSpec:
    return TensorSpec("input_features", ("batch", "frames", sizes.mels), description="log-mel spectrograms")


def _whisper(sizes: Sizes) -> TensorSpec:
    positions = sizes.number(sizes.audio, "max_source_positions")
    frames = 2 * positions if positions else 3000
    return TensorSpec("input_features", ("batch", sizes.mels, frames), description="log-mel spectrograms")


def _of_qformer(sizes: Sizes) -> TensorSpec:
    parts = [part for part in (getattr(sizes.config, "qformer_config", None),) if part is not None]
    limit = sizes.number(parts, "vocab_size") or sizes.vocabulary
    return _index("qformer_input_ids", ("batch", "time"), limit, "tokens of the question")


def _renamed(tensor: TensorSpec, name: str) -> TensorSpec:
    return replace(tensor, name=name)


GRID = 16
"""Patches along a side of the picture, where its patches come one after the other."""


@dataclass(frozen=True)
class Fixed:
    """The same integers in each draw: a size that other inputs have to agree with."""

    row: tuple[int, ...]

    def __call__(
        self, shape: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, generator: Any
    ) -> torch.Tensor:
        return torch.tensor(self.row, dtype=dtype).expand(shape).clone()


def fixed(name: str, shape: tuple[int | str, ...], *row: int, description: str) -> Variant:
    """Return how integers that are always the same are declared."""
    return lambda sizes: TensorSpec(name, shape, "int64", sample=Fixed(row), description=description)


def _patches(name: str) -> Variant:
    """Return how the patches of one picture are declared, one after the other."""

    def declare(sizes: Sizes) -> TensorSpec | None:
        side = sizes.number(sizes.vision, "patch_size", "spatial_patch_size")
        if side is None:
            return None
        depth = sizes.number(sizes.vision, "temporal_patch_size") or 1
        numbers = sizes.channels * depth * side * side
        return TensorSpec(name, (GRID * GRID, numbers), description="patches of a picture, in a row")

    return declare


def _patches_as_pictures(name: str) -> Variant:
    def declare(sizes: Sizes) -> TensorSpec | None:
        side = sizes.number(sizes.vision, "patch_size", "spatial_patch_size")
        if side is None:
            return None
        return TensorSpec(
            name, (GRID * GRID, sizes.channels, side, side), description="patches of a picture, in a row"
        )

    return declare


def _patches_of_batch(name: str) -> Variant:
    def declare(sizes: Sizes) -> TensorSpec | None:
        side = sizes.number(sizes.vision, "patch_size", "spatial_patch_size")
        if side is None:
            return None
        numbers = sizes.channels * side * side
        return TensorSpec(name, ("batch", GRID * GRID, numbers), description="patches of pictures")

    return declare


def _pairs(name: str) -> Variant:
    return lambda sizes: TensorSpec(
        name, ("batch", 2, sizes.channels, *sizes.picture), description="pairs of pictures"
    )


def _hidden(name: str, *names: str, axis: int | str = "time", description: str = "features") -> Variant:
    """Return how features of the width of a layer are declared."""

    def declare(sizes: Sizes) -> TensorSpec | None:
        width = sizes.number([*sizes.text, *sizes.audio], *(names or ("hidden_size", "d_model")))
        return TensorSpec(name, ("batch", axis, width), description=description) if width else None

    return declare


def _series(name: str, *, of_lags: bool = True, values: str = "num_input_channels") -> Variant:
    """Return how a time series is declared: as long as the context and, for some, what is looked back at."""

    def declare(sizes: Sizes) -> TensorSpec | None:
        length = sizes.number([sizes.config], "context_length", "seq_length")
        if length is None:
            return None
        lags = sizes.first([sizes.config], "lags_sequence") if of_lags else None
        length += max(lags) if lags else 0
        width = sizes.number([sizes.config], values)
        shape: tuple[int | str, ...] = ("batch", length)
        if values and width is not None and (width > 1 or values != "input_size"):
            shape = (*shape, width)
        return TensorSpec(name, shape, description="a time series")

    return declare


def _series_time(sizes: Sizes) -> TensorSpec | None:
    length = sizes.number([sizes.config], "context_length")
    lags = sizes.first([sizes.config], "lags_sequence")
    count = sizes.number([sizes.config], "num_time_features") or 0
    if length is None or not lags:
        return None
    return TensorSpec("past_time_features", ("batch", length + max(lags), count), description="times")


def ones(name: str, shape_of: Variant, dtype: str = "int64", axes: int = 2) -> Variant:
    """Return how a mask that keeps everything is declared, with the first axes of another input."""

    def declare(sizes: Sizes) -> TensorSpec | None:
        other = shape_of(sizes)
        if other is None:
            return None
        return TensorSpec(name, other.shape[:axes], dtype, sample=Fixed((1,)), description="1 everywhere")

    return declare


def _boxes(sizes: Sizes) -> TensorSpec:
    return TensorSpec(
        "bbox", ("batch", "time", 4), "int64", sample="zeros", description="the box of each token on the page"
    )


def _latents(sizes: Sizes) -> TensorSpec | None:
    width = sizes.number([sizes.config], "hidden_size", "latent_dim", "vq_hidden_dimension")
    return TensorSpec("latents", ("batch", "frames", width), description="latent frames") if width else None


def _latent_channels(sizes: Sizes) -> TensorSpec | None:
    width = sizes.number([sizes.config], "hidden_size", "latent_dim", "vq_hidden_dimension")
    return TensorSpec("latents", ("batch", width, "frames"), description="latent frames") if width else None


def _waves(name: str) -> Variant:
    def declare(sizes: Sizes) -> TensorSpec:
        channels = sizes.number(sizes.audio, "channels", "audio_channels") or 1
        return TensorSpec(name, ("batch", channels, "samples"), description="waveforms")

    return declare


def _latent_waves(name: str) -> Variant:
    def declare(sizes: Sizes) -> TensorSpec | None:
        width = sizes.number([sizes.config], "hidden_size")
        return TensorSpec(name, ("batch", width, "frames"), description="latent frames") if width else None

    return declare


def _points(name: str) -> Variant:
    def declare(sizes: Sizes) -> TensorSpec | None:
        width = sizes.number([sizes.config], "d_model")
        return TensorSpec(name, ("batch", 64, width), description="an array of inputs") if width else None

    return declare


KNOWN: Mapping[str, tuple[Variant, ...]] = {
    "input_ids": (tokens("input_ids"),),
    "decoder_input_ids": (tokens("decoder_input_ids", "decoder_time", "tokens that the decoder is given"),),
    "pixel_values": (
        _pixels("pixel_values", False),
        _pixels("pixel_values", True),
        _patches("pixel_values"),
        _patches_as_pictures("pixel_values"),
        _patches_of_batch("pixel_values"),
        _pairs("pixel_values"),
    ),
    "pixel_values_videos": (_pixels("pixel_values_videos", True),),
    "input_values": (_waveform, _channels_of_waveform),
    "input_features": (_spectrogram, _whisper),
    "audio_mel": (lambda sizes: _renamed(_spectrogram(sizes), "audio_mel"),),
    "bbox": (_boxes,),
    "hidden_states": (_patches("hidden_states"), _waves("hidden_states"), _latent_waves("hidden_states")),
    "grid_thw": (
        fixed("grid_thw", (1, 3), 1, GRID, GRID, description="frames, rows and columns of patches"),
    ),
    "image_grid_thw": (
        fixed("image_grid_thw", (1, 3), 1, GRID, GRID, description="frames, rows and columns of patches"),
    ),
    "merge_sizes": (fixed("merge_sizes", (1,), 2, description="patches along a side that are merged"),),
    "spatial_shapes": (
        fixed("spatial_shapes", ("batch", 2), GRID, GRID, description="rows and columns of patches"),
    ),
    "pixel_attention_mask": (ones("pixel_attention_mask", _patches_of_batch("")),),
    "input_features_mask": (ones("input_features_mask", _spectrogram),),
    "audio_mel_mask": (ones("audio_mel_mask", _spectrogram, "bool"),),
    "qformer_input_ids": (_of_qformer,),
    "query_embeds": (_hidden("query_embeds", axis=32, description="queries"),),
    "inputs_embeds": (_hidden("inputs_embeds", description="embedded tokens"),),
    "past_values": (
        _series("past_values", values="input_size"),
        _series("past_values", of_lags=False),
        _series("past_values", of_lags=False, values=""),
    ),
    "past_time_features": (_series_time,),
    "past_observed_mask": (ones("past_observed_mask", _series("", values="input_size"), "float", 3),),
    "latents": (_latents, _latent_channels),
    "inputs": (_points("inputs"),),
}


def optional_inputs(tensors: tuple[TensorSpec, ...], model_class: Any) -> tuple[TensorSpec, ...]:
    """Return what forward takes as well, and nobody has to give: masks, and the tokens of a decoder."""
    parameters = inspect.signature(model_class.forward).parameters
    given = {tensor.name: tensor for tensor in tensors}
    more = []
    if "decoder_input_ids" in parameters and "decoder_input_ids" not in given and "input_ids" in given:
        limit = given["input_ids"].index_of
        more.append(
            TensorSpec(
                "decoder_input_ids",
                ("batch", "decoder_time"),
                "int64",
                sample="index",
                index_of=limit,
                description="tokens that the decoder is given",
                optional=True,
                given=False,
            )  # fmt: skip
        )
    if "attention_mask" in parameters and given.get("input_ids", NONE).shape == ("batch", "time"):
        more.append(
            TensorSpec(
                "attention_mask",
                ("batch", "time"),
                "int64",
                sample="prefix",
                index_of="time",
                description="1 at tokens, 0 at padding",
                optional=True,
                given=False,
            )  # fmt: skip
        )
    return tuple(more)


NONE = TensorSpec("", ())
