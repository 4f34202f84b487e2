"""The Vision Transformers: torchvision's key for key and bit for bit, and its published counts."""

import pytest
import torch
from torchvision import models
from torchvision.models import VisionTransformer as Reference
from vision_checks import (
    accuracy_on_digits,
    assert_equal_weights,
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

PUBLISHED = {
    "vit-b-16": models.ViT_B_16_Weights.IMAGENET1K_V1,
    "vit-b-32": models.ViT_B_32_Weights.IMAGENET1K_V1,
    "vit-l-16": models.ViT_L_16_Weights.IMAGENET1K_V1,
    "vit-l-32": models.ViT_L_32_Weights.IMAGENET1K_V1,
    "vit-h-14": models.ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1,
}
# Another size than any default, so that no two numbers in it are alike.
OURS = {
    "image_size": 20,
    "patch_size": 5,
    "blocks": 3,
    "width": 24,
    "heads": 4,
    "mlp_width": 40,
    "num_classes": 7,
    "in_channels": 3,
}


def reference(**options):
    sizes = {
        "image_size": 20,
        "patch_size": 5,
        "num_layers": 3,
        "num_heads": 4,
        "hidden_dim": 24,
        "mlp_dim": 40,
    }
    return Reference(**sizes, num_classes=7, **options)


def pair(dtype=torch.float32, **options):
    """Return our network and torchvision's, made from one seed, with a head that isn't zero."""
    networks = []
    for make in (lambda: build("vit", **OURS, **options), lambda: reference(**options)):
        torch.manual_seed(0)
        network = make().to(dtype)
        torch.nn.init.normal_(network.heads.head.weight)
        networks.append(network)
    return networks


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    meta = PUBLISHED[name].meta
    size = meta["min_size"][0]
    parameters, buffers, macs = counts(name, 1, 3, size, size, image_size=size)
    assert (parameters, buffers) == (meta["num_params"], 0)
    assert round(macs / 1e9, 3) == meta["_ops"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_state_dicts_have_the_keys_and_shapes_of_torchvision(name):
    with torch.device("meta"):
        theirs = models.get_model(name.replace("-", "_"))
    assert layout(build_on_meta(name)) == layout(theirs)


def test_a_seed_draws_the_weights_that_it_draws_in_torchvision():
    torch.manual_seed(0)
    ours = build("vit", **OURS)
    torch.manual_seed(0)
    assert_equal_weights(ours, reference())
    assert not ours.heads.head.weight.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_are_those_of_torchvision(training, dtype):
    ours, theirs = pair(dtype)
    assert_equal_weights(ours, theirs)
    images = torch.randn(3, 3, 20, 20, dtype=dtype)
    results = []
    for network in (ours, theirs):
        x = images.clone().requires_grad_()
        logits = network.train(training)(x)
        logits.square().sum().backward()
        results.append([logits, x.grad, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(left, right) for left, right in zip(*results, strict=True))
    with torch.inference_mode():  # torch takes another way through attention here
        assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_dropout_drops_what_torchvision_drops():
    ours, theirs = pair(dropout=0.3, attention_dropout=0.2)
    images = torch.randn(3, 3, 20, 20)
    outputs = []
    for network in (ours, theirs):
        torch.manual_seed(1)
        outputs.append(network.train()(images))
    assert torch.equal(*outputs)
    assert not torch.equal(ours(images), outputs[0])


@pytest.mark.parametrize("version", ["first", "second"])
def test_files_of_torchvision_load(version, tmp_path):
    """Its published files have the names of its first version."""
    _, theirs = pair()
    state = theirs.state_dict()
    if version == "first":
        for old, new in (("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2.")):
            state = {name.replace(old, new): tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "weights.pth")
    assert_equal_weights(nnkit.build("vit", **OURS, weights=tmp_path / "weights.pth"), theirs)


def test_it_is_sound():
    ours, _ = pair()
    assert_sound(ours, 3, 3, 20, 20)
    ours, _ = pair()
    assert_trains(ours, 2, 3, 20, 20)
    assert_follows_dtype(ours, 2, 3, 20, 20)


def test_the_order_of_patches_matters_only_by_their_positions():
    """The paper's section 3.1: without positions, a Transformer sees a set of patches."""
    ours, _ = pair(torch.float64)
    images = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    rolled = images.roll(5, dims=3)  # each patch moves to the next column
    with torch.no_grad():
        assert not torch.allclose(ours(images), ours(rolled))
        ours.encoder.pos_embedding.zero_()
        torch.testing.assert_close(ours(images), ours(rolled))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"image_size": 30}, "images of 30×30 can't be cut into patches of 4×4"),
        ({"heads": 3}, "3 heads can't share a width of 128 equally"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, fault):
    with pytest.raises(UsageProblem, match=fault):
        nnkit.resolve("vit", **options)


@pytest.mark.slow
def test_it_learns_the_digits():
    torch.manual_seed(0)
    model = build("vit", in_channels=1, image_size=8, patch_size=4, blocks=2, width=32, mlp_width=64)
    assert accuracy_on_digits(model, 8, 1, epochs=10, lr=3e-3) >= 0.9
