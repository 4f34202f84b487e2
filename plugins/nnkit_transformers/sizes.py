"""Looks up the sizes of inputs in a configuration, and in those within it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Axis: TypeAlias = int | str

TEXT = ("text_config", "text_encoder_config", "language_config", "encoder", "text_encoder", "model_config")
VISION = (
    "vision_config", "image_config", "vision_tower_config", "backbone_config", "image_encoder",
    "detector_config", "vlm_config", "video_config", "model_args",
)  # fmt: skip
AUDIO = (
    "audio_config", "encoder_config", "speech_config", "audio_encoder", "audio_encoder_config",
    "semantic_model_config", "asr_config",
)  # fmt: skip
MELS = (
    "num_mel_bins", "feature_size", "input_feat_per_channel", "input_dim", "feat_size", "n_mels", "mel_bins",
    "input_channels", "feature_projection_input_dim", "num_mel_channels", "model_in_dim",
    "input_features_size", "audio_num_mel_bins", "input_feat_size", "input_size",
)  # fmt: skip
"""Names of the number of mel bands of a spectrogram."""


@dataclass(frozen=True)
class Sizes:
    """The sizes that a configuration gives its inputs."""

    config: Any

    def parts(self, names: Sequence[str]) -> list[Any]:
        """Return the nested configurations of these names, those within them, then the configuration."""
        own = [part for name in names if (part := getattr(self.config, name, None)) is not None]
        deeper = [part for each in own for name in names if (part := getattr(each, name, None)) is not None]
        return [*own, *deeper, self.config]

    def first(self, names: Sequence[str], within: Sequence[str] = ()) -> Any:
        """Return the first of these settings that a configuration has, of those `within` first; or None."""
        for part in self.parts(within):
            for name in names:
                value = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
                if value is not None:
                    return value
        return None

    def number(self, *names: str, within: Sequence[str] = ()) -> int | None:
        """Return the first of these settings as a number, of a list its first entry; or None."""
        value = self.first(names, within)
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    @property
    def vocabulary(self) -> int:
        """The number of different tokens."""
        return self.number("vocab_size", "text_vocab_size", "num_embeddings", within=TEXT) or 100

    @property
    def channels(self) -> int:
        """The channels of a picture."""
        return self.number("num_channels", "in_channels", "in_chans", "input_channels", within=VISION) or 3

    @property
    def picture(self) -> tuple[Axis, Axis]:
        """Height and width: fixed where the configuration has a size, dims where it has none."""
        names = ("image_size", "max_img_size", "img_size")
        size = self.first(names, within=VISION) or self._scaled_down() or self._of_timm()
        if isinstance(size, Mapping):
            size = (size.get("height"), size.get("width"))
        if isinstance(size, (list, tuple)) and len(size) >= 2:
            return int(size[-2]), int(size[-1])
        if isinstance(size, (list, tuple)) and size:
            size = size[0]
        return (int(size), int(size)) if size else ("image_height", "image_width")

    def _scaled_down(self) -> int | None:
        """The side of a picture of which the smallest copy is one patch; None where no copies are made."""
        ratios = self.first(("scaled_images_ratios",))
        return round(self.patch / min(ratios)) if ratios and self.patch else None

    def _of_timm(self) -> tuple[int, int] | None:
        """Height and width where a model of timm takes pictures of no other size."""
        name = self.first(("architecture",), within=VISION)
        if not isinstance(name, str):
            return None
        from timm import get_pretrained_cfg

        known = get_pretrained_cfg(name)
        return known.input_size[-2:] if known is not None and known.fixed_input_size else None

    @property
    def patch(self) -> int | None:
        """The pixels along a side of a patch."""
        return self.number("patch_size", "spatial_patch_size", within=VISION)

    @property
    def numbers_of_patch(self) -> int | None:
        """The numbers in a patch, of all frames that it spans."""
        frames = self.number("temporal_patch_size", "patch_temporal", within=VISION) or 1
        return self.patch and self.channels * frames * self.patch**2

    @property
    def frames(self) -> int:
        """The frames of a video."""
        names = ("num_frames", "frames_per_clip", "num_image_with_embedding")
        return self.number(*names, within=VISION) or 16

    @property
    def mels(self) -> int:
        """The mel bands of a spectrogram."""
        return self.number(*MELS, within=AUDIO) or 80

    @property
    def width(self) -> int | None:
        """The features of a token, or of a frame."""
        return self.number("hidden_size", "d_model", within=TEXT) or self.number(
            "hidden_size", "d_model", within=AUDIO
        )

    @property
    def past(self) -> int | None:
        """The steps of a time series that a model is given, with those that it looks back at."""
        length, lags = self.number("context_length"), self.first(("lags_sequence",))
        return length + max(lags) if length is not None and lags else None
