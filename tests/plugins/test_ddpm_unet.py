"""The U-Net of DDPM beside diffusers' UNet2DModel, the counts of the paper, and noise that it learns to see."""

import math

import conftest  # noqa: F401 (makes torchvision, which diffusers imports, importable)
import diffusers
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from zoo import tiny

import nnkit
from nnkit_generative.ddpm_unet import waves

CASES = {
    "labels": {
        "channels": 8,
        "multipliers": (1, 2),
        "attention": (0, 1),
        "blocks": 1,
        "groups": 4,
        "num_classes": 10,
    },
    "no labels": {"channels": 12, "multipliers": (1, 3, 2), "attention": (1,), "blocks": 2, "groups": 3},
    "no attention but in the middle": {"channels": 8, "multipliers": (1, 2, 1), "attention": (), "groups": 2},
}


def theirs(
    channels=128, multipliers=(1, 2, 2, 2), attention=(1,), blocks=2, groups=32, num_classes=0, dropout=0.0
):
    """Return diffusers' network in the configuration of google/ddpm-cifar10-32, with other sizes."""
    levels = range(len(multipliers))
    return diffusers.UNet2DModel(
        block_out_channels=tuple(channels * multiplier for multiplier in multipliers),
        down_block_types=tuple("AttnDownBlock2D" if i in attention else "DownBlock2D" for i in levels),
        up_block_types=tuple("AttnUpBlock2D" if i in attention else "UpBlock2D" for i in reversed(levels)),
        layers_per_block=blocks,
        norm_num_groups=groups,
        num_class_embeds=num_classes or None,
        dropout=dropout,
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )


def ours(dropout=0.0, weights=None, **options):
    levels = len(options["multipliers"])
    return nnkit.build(nnkit.resolve("ddpm-unet", levels=levels, dropout=dropout, weights=weights, **options))


@pytest.mark.parametrize(
    ("preset", "options", "parameters", "printed"),
    [
        ("cifar10", {}, 35_746_307, 35.7e6),
        ("lsun-256", {"multipliers": (1, 1, 2, 2, 4, 4), "attention": (4,)}, 113_673_219, 114e6),
    ],
)
def test_counts_of_the_paper(preset, options, parameters, printed):
    """Appendix B prints 35.7 and 114 million. Names and order are those of diffusers' published networks."""
    model = nnkit.build(nnkit.resolve("ddpm-unet", preset=preset), device="meta")
    with torch.device("meta"):
        reference = theirs(**options)
    shapes = [(name, tensor.shape) for name, tensor in model.state_dict().items()]
    assert shapes == [(name, tensor.shape) for name, tensor in reference.state_dict().items()]
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert parameters == pytest.approx(printed, rel=3e-3)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("training", [False, True])
def test_as_diffusers(tmp_path, case, dtype, tolerance, training):
    """With a file of their weights: outputs, and in float64 the gradients of all parameters and of the image."""
    torch.manual_seed(1)
    options = CASES[case]
    reference = theirs(**options)
    torch.save(reference.state_dict(), tmp_path / "unet.pt")
    model = ours(**options, weights=str(tmp_path / "unet.pt"))
    for each in (model, reference):
        each.to(dtype).train(training)
    image = torch.randn(3, 3, 16, 24, dtype=dtype, requires_grad=True)
    labels = [torch.tensor([0, 9, 3])] if options.get("num_classes") else []
    given = (image, torch.tensor([0, 999, 17]), *labels)
    noise, expected = model(*given), reference(*given).sample
    torch.testing.assert_close(noise, expected, rtol=0, atol=tolerance)
    if dtype == torch.float64:
        direction = torch.randn_like(noise)
        named = dict(reference.named_parameters())
        parameters = {name: (parameter, named[name]) for name, parameter in model.named_parameters()}
        mine, others = zip(*parameters.values(), strict=True)
        gradients = torch.autograd.grad(noise, [image, *mine], direction)
        expected_gradients = torch.autograd.grad(expected, [image, *others], direction)
        torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=1e-10)


def test_files_with_the_names_before_the_renaming_load(tmp_path):
    """google/ddpm-cifar10-32 was written when attention had query, key, value and proj_attn."""
    options = CASES["labels"]
    state = theirs(**options).state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in state.items():
        path, _, part = name.rpartition(".")
        layer = next((layer for layer in old if path.endswith(f".{layer}")), None)
        renamed[name if layer is None else f"{path.removesuffix(layer)}{old[layer]}.{part}"] = tensor
    assert len(renamed.keys() - state.keys()) == 8 * 7  # 7 attentions
    torch.save(renamed, tmp_path / "old.bin")
    loaded = ours(**options, weights=str(tmp_path / "old.bin")).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_without_a_label_nothing_is_added():
    """As theirs with an embedding of zero; theirs refuses to run without labels."""
    torch.manual_seed(2)
    options = CASES["labels"]
    reference = theirs(**options)
    model = ours(**options)
    torch.nn.init.zeros_(reference.class_embedding.weight)
    model.load_state_dict(reference.state_dict())
    image, timestep = torch.randn(2, 3, 8, 8), torch.tensor([5, 500])
    with torch.no_grad():
        expected = reference(image, timestep, torch.tensor([1, 2])).sample
        torch.testing.assert_close(model(image, timestep), expected, rtol=0, atol=1e-5)


def test_waves():
    """Position t, width 4: sin t, sin(t / 10000), cos t, cos(t / 10000)."""
    expected = [math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]
    assert waves(torch.tensor([3]), 4)[0].tolist() == pytest.approx(expected, abs=1e-7)


def test_it_begins_as_no_noise_and_shortcuts():
    """The paper's code draws the last layers of blocks, attention and network at zero scale."""
    model = nnkit.build(tiny("generative/ddpm-unet"))
    zero = {name for name, tensor in model.named_parameters() if name.endswith("weight") and not tensor.any()}
    last = {
        name
        for name, _ in model.named_parameters()
        if name.endswith(("conv2.weight", "to_out.0.weight", "conv_out.weight"))
    }
    assert zero == last


def test_macs_are_those_torch_counts_on_meta():
    spec = tiny("generative/ddpm-unet")
    model = nnkit.build(spec, device="meta").requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.empty(1, 3, 8, 8, device="meta"), *torch.zeros(2, 1, dtype=torch.int64, device="meta"))
    assert nnkit.summarize(spec).totals.macs == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"levels": 3}, "multipliers has 4 entries for 3 levels"),
        ({"multipliers": (1, 0, 1, 1)}, "multipliers must be at least 1, got 0"),
        ({"channels": 100}, "channels must be a multiple of groups, got 100 and 32"),
        ({"attention": (4,)}, "attention must name levels from 0 to 3, got 4"),
        ({"height": 20}, "must be a multiple of 8, got 20"),
    ],
)
def test_what_cannot_be_is_refused(options, problem):
    with pytest.raises(nnkit.NnkitError, match=problem):
        nnkit.resolve("ddpm-unet", **options)


def test_it_learns_to_see_noise():
    """On digits, the error falls far below 1, the variance of the noise, which the mean of all noise has."""
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    model = nnkit.build(tiny("generative/ddpm-unet", in_channels=1, num_classes=0)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0)  # ᾱ of Section 4
    losses = []
    for _ in range(75):
        image, timestep = digits[torch.randint(len(digits), (32,))], torch.randint(1000, (32,))
        noise, share = torch.randn_like(image), kept[timestep][:, None, None, None]
        loss = F.mse_loss(model(share.sqrt() * image + (1 - share).sqrt() * noise, timestep), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(1, abs=0.15)  # it begins by predicting no noise
    assert sum(losses[-25:]) / 25 < 0.3
