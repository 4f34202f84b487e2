"""MLP-Mixer and ResMLP: timm's key for key and bit for bit, and the counts of the papers."""

from functools import partial

import pytest
import timm
import torch
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from vision_checks import (
    accuracy_on_digits,
    assert_follows_dtype,
    assert_sound,
    assert_trains,
    build,
    build_on_meta,
    counts,
    layout,
)

import nnkit
from nnkit.errors import UsageProblem

# Another size than any default, so that no two numbers in it are alike.
OURS = {"image_size": 20, "patch_size": 5, "blocks": 3, "width": 24, "num_classes": 7}
MIXER = {"tokens_mlp_width": 12, "channels_mlp_width": 96}
RESMLP = {"mlp_width": 96, "layer_scale": 0.3}


def reference(name):
    sizes = {"img_size": 20, "patch_size": 5, "num_blocks": 3, "embed_dim": 24, "num_classes": 7}
    if name == "mixer":
        return MlpMixer(**sizes)
    return MlpMixer(**sizes, mlp_ratio=4, block_layer=partial(ResBlock, init_values=0.3), norm_layer=Affine)


def ours_of(name):
    return build(name, **OURS, **(MIXER if name == "mixer" else RESMLP))


def pair(name, dtype=torch.float32):
    """Return our network and timm's with the same weights, and a head that isn't zero."""
    theirs = reference(name).to(dtype)
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = ours_of(name).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mixer-s-32", 19), ("mixer-s-16", 18), ("mixer-b-32", 60),
        ("mixer-b-16", 59), ("mixer-l-32", 206), ("mixer-l-16", 207),
    ],
)  # fmt: skip
def test_mixers_have_the_parameters_of_the_paper(name, millions):
    """In its Table 1, without the head."""
    model = build_on_meta(name)
    body = sum(tensor.numel() for path, tensor in model.named_parameters() if not path.startswith("head"))
    assert abs(body / 1e6 - millions) < 1  # it rounds and cuts by turns


@pytest.mark.parametrize(
    ("name", "millions", "gmacs"),
    [
        ("resmlp-12", 15.4, 3.0),
        ("resmlp-24", 30.0, 6.0),
        ("resmlp-36", 44.7, 8.9),
        ("resmlp-big-24", 129.1, 100.2),
    ],
)
def test_resmlps_have_the_counts_of_the_paper(name, millions, gmacs):
    parameters, buffers, macs = counts(name, 1, 3, 224, 224)
    assert (round(parameters / 1e6, 1), buffers) == (millions, 0)
    assert round(macs / 1e9, 1) == gmacs


def test_counts_of_mixer_b_16():
    """12 blocks, each of two MLPs across 768 features and two across 196 patches."""
    across_patches = 768 * 2 * 196 * 384
    across_features = 196 * 2 * 768 * 3072
    macs = 196 * 3 * 16 * 16 * 768 + 12 * (across_patches + across_features) + 768 * 1000
    assert counts("mixer-b-16", 1, 3, 224, 224) == (59_880_472, 0, macs)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        *((f"mixer-{size}-{patch}", f"mixer_{size}{patch}_224") for size in "sbl" for patch in (32, 16)),
        *(
            (f"resmlp-{size}", f"resmlp_{size.replace('-', '_')}_224")
            for size in ("12", "24", "36", "big-24")
        ),
    ],
)
def test_state_dicts_have_the_keys_and_shapes_of_timm(name, theirs):
    with torch.device("meta"):
        expected = timm.create_model(theirs)
    assert layout(build_on_meta(name)) == layout(expected)


def test_the_branches_of_a_deeper_resmlp_start_smaller(monkeypatch):
    """The values of timm."""
    monkeypatch.setattr("nnkit_vision.resmlp.ResMLP", lambda *sizes: sizes)
    scales = {name: build(f"resmlp-{name}")[4] for name in ("12", "24", "36", "big-24")}
    assert scales == {"12": 1e-4, "24": 1e-5, "36": 1e-6, "big-24": 1e-6}


@pytest.mark.parametrize("name", ["mixer", "resmlp"])
def test_a_seed_draws_the_weights_that_it_draws_in_timm(name):
    torch.manual_seed(0)
    ours = ours_of(name).state_dict()
    torch.manual_seed(0)
    theirs = reference(name).state_dict()
    torch.testing.assert_close(ours.pop("stem.proj.weight"), theirs.pop("stem.proj.weight"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not ours["head.weight"].any()


@pytest.mark.parametrize("name", ["mixer", "resmlp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_are_those_of_timm(name, training, dtype):
    images = torch.randn(3, 3, 20, 20, dtype=dtype)
    results = []
    for network in pair(name, dtype):
        x = images.clone().requires_grad_()
        logits = network.train(training)(x)
        logits.square().sum().backward()
        results.append([logits, x.grad, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(left, right) for left, right in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["mixer", "resmlp"])
def test_it_is_sound(name):
    assert_sound(pair(name)[0], 3, 3, 20, 20)
    assert_trains(pair(name)[0], 2, 3, 20, 20)
    assert_follows_dtype(pair(name)[0], 2, 3, 20, 20)


def test_files_of_timm_load(tmp_path):
    theirs = reference("mixer")
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = nnkit.build("mixer", **OURS, **MIXER, weights=tmp_path / "weights.pth")
    images = torch.randn(2, 3, 20, 20)
    assert torch.equal(ours.norm(ours.blocks(ours.stem(images))), theirs.forward_features(images))


def test_files_of_the_authors_load(tmp_path):
    """facebookresearch/deit has other names for the same tensors, and affine weights without their axes of 1."""
    _, theirs = pair("resmlp")
    names = {"stem.": "patch_embed.", "linear_tokens": "attn", "mlp_channels": "mlp", "ls": "gamma_"}
    state = {}
    for key, tensor in theirs.state_dict().items():
        name = key
        for timms, authors in names.items():
            name = name.replace(timms, authors)
        state[name] = tensor.flatten() if name.endswith(("alpha", "beta")) else tensor
    assert "blocks.0.attn.weight" in state
    assert "blocks.2.gamma_1" in state
    torch.save({"model": state}, tmp_path / "weights.pth")
    ours = nnkit.build("resmlp", **OURS, **RESMLP, weights=tmp_path / "weights.pth")
    images = torch.randn(2, 3, 20, 20)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_patches_of_a_resmlp_without_its_layer_across_them_do_not_meet():
    """Each block is linear across the patches: without that layer, a patch changes its own features alone."""
    ours, _ = pair("resmlp", torch.float64)
    for block in ours.blocks:
        torch.nn.init.zeros_(block.linear_tokens.weight)
    images = torch.randn(1, 3, 20, 20, dtype=torch.float64)
    features = ours.blocks(ours.stem(images))
    images[:, :, :5, :5] += 1  # the first patch
    changed = (ours.blocks(ours.stem(images)) - features).abs().sum(dim=(0, 2)) > 0
    assert changed.tolist() == [True, *[False] * 15]


@pytest.mark.parametrize("name", ["mixer", "resmlp"])
def test_sizes_that_do_not_fit_are_refused(name):
    with pytest.raises(UsageProblem, match="images of 30×30 can't be cut into patches of 4×4"):
        nnkit.resolve(name, image_size=30)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "widths"), [("mixer", MIXER), ("resmlp", {"mlp_width": 96})])
def test_it_learns_the_digits(name, widths):
    torch.manual_seed(0)
    model = build(name, in_channels=1, image_size=8, patch_size=2, blocks=2, width=24, **widths)
    assert accuracy_on_digits(model, 8, 1, epochs=12, lr=1e-2) >= 0.9
