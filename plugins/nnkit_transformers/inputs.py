"""What forward of a model takes: a tensor for each name of a parameter, by the configuration."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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


KNOWN: Mapping[str, tuple[Variant, ...]] = {
    "input_ids": (tokens("input_ids"),),
    "decoder_input_ids": (tokens("decoder_input_ids", "decoder_time", "tokens that the decoder is given"),),
    "pixel_values": (_pixels("pixel_values", False), _pixels("pixel_values", True)),
    "pixel_values_videos": (_pixels("pixel_values_videos", True),),
    "input_values": (_waveform, _channels_of_waveform),
    "input_features": (_spectrogram, _whisper),
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
