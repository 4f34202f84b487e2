"""CLIP: transformers' CLIPModel key for key, its outputs and gradients, and pairs that find each other."""

import conftest  # noqa: F401 (makes torchvision, and so transformers, importable)
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel
from vision_checks import ARCHITECTURES, build, build_on_meta, layout

import nnkit
from nnkit.errors import UsageProblem

# Numbers of which no two are alike.
OURS = {
    "image_size": 20, "patch_size": 5, "vision_width": 24, "vision_blocks": 3, "vision_heads": 4,
    "vocabulary": 30, "context": 11, "text_width": 18, "text_blocks": 2, "text_heads": 3, "embedding": 14,
}  # fmt: skip
END = 29


def reference(attention="sdpa", **options):
    """Return transformers' network of the same size."""
    sizes = {**OURS, "activation": "quick_gelu", "eos": END, **options}
    text = {
        "vocab_size": sizes["vocabulary"], "max_position_embeddings": sizes["context"],
        "hidden_size": sizes["text_width"], "intermediate_size": 4 * sizes["text_width"],
        "num_hidden_layers": sizes["text_blocks"], "num_attention_heads": sizes["text_heads"],
        "hidden_act": sizes["activation"], "bos_token_id": 1, "eos_token_id": sizes["eos"],
    }  # fmt: skip
    vision = {
        "image_size": sizes["image_size"], "patch_size": sizes["patch_size"],
        "hidden_size": sizes["vision_width"], "intermediate_size": 4 * sizes["vision_width"],
        "num_hidden_layers": sizes["vision_blocks"], "num_attention_heads": sizes["vision_heads"],
        "hidden_act": sizes["activation"],
    }  # fmt: skip
    return CLIPModel(
        CLIPConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=sizes["embedding"],
            attn_implementation=attention,
        )
    )


def pair(dtype=torch.float32, **options):
    """Return our network and transformers' with the same weights."""
    torch.manual_seed(0)
    theirs = reference(**options).to(dtype)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    options.pop("eos", None)
    ours = build("clip", **OURS, **options).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


def texts_and_images(dtype=torch.float32):
    """Return four texts of different lengths, each closed by its end token, their mask, and three images."""
    torch.manual_seed(1)
    lengths = torch.tensor([9, 4, 7, 2])
    places = torch.arange(9)
    ids = torch.randint(0, END, (4, 9))
    ids[places == lengths[:, None] - 1] = END
    ids[places >= lengths[:, None]] = 0
    return ids, places < lengths[:, None], torch.randn(3, 3, 20, 20, dtype=dtype)


def outputs_of(result):
    return [result.logits_per_image, result.logits_per_text, result.text_embeds, result.image_embeds]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "mask"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize(
    "options", [{}, {"eos": 2}, {"activation": "gelu"}], ids=["29 ends", "2 ends", "gelu"]
)
def test_outputs_and_gradients_are_those_of_transformers(dtype, tolerance, masked, training, options):
    """For eos_token_id 2, which OpenAI's configs have, transformers takes the highest token of a text."""
    ours, theirs = pair(dtype, **options)
    ids, mask, images = texts_and_images(dtype)
    found = []
    for network, attention_mask in ((ours, mask), (theirs, mask.long())):
        x = images.clone().requires_grad_()
        result = network.train(training)(
            input_ids=ids, pixel_values=x, attention_mask=attention_mask if masked else None
        )
        outputs = outputs_of(result)
        sum((output * (1 + torch.arange(output.shape[1]))).sum() for output in outputs).backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((outputs, [x.grad, *(gradients[name] for name in sorted(gradients))]))
    (outputs, gradients), (expected, expected_gradients) = found
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=tolerance)
    largest = max(gradient.abs().max() for gradient in expected_gradients)
    torch.testing.assert_close(
        gradients, expected_gradients, rtol=10 * tolerance, atol=tolerance * largest.item()
    )


@pytest.mark.parametrize("name", ["vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336"])
def test_published_sizes_have_the_parameters_and_keys_of_transformers(name):
    """Its preset promises the count of the files of that name, which the reference confirms."""
    preset = ARCHITECTURES["clip"].presets[name]
    ours = build_on_meta("clip", **preset.config)
    default = ARCHITECTURES["clip"].config()
    sizes = {field: getattr(default, field) for field in OURS}
    with torch.device("meta"):
        theirs = reference(**{**sizes, "eos": 49407, **preset.config})
    assert sorted(layout(ours)) == sorted(layout(theirs))
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    assert f"{parameters:,} parameters" in preset.description


def test_multiply_adds_are_those_of_the_matrices():
    """Of one image and one text of 77 tokens: patches, both towers and projections, and their similarity."""
    counter = FlopCounterMode(display=False)
    with counter:
        build_on_meta("clip")(
            torch.zeros(1, 77, dtype=torch.int64, device="meta"), torch.empty(1, 3, 224, 224, device="meta")
        )

    def tower(tokens, width):
        return 12 * (12 * tokens * width**2 + 2 * tokens**2 * width)

    patches = 49 * 3 * 32 * 32 * 768
    expected = patches + tower(50, 768) + tower(77, 512) + 768 * 512 + 512 * 512 + 512
    assert counter.get_total_flops() // 2 == expected


def test_weights_are_drawn_as_in_transformers():
    """From distributions of the same width: the values depend on the order in which modules are made."""
    sizes = {"vision_width": 96, "text_width": 60, "embedding": 50, "vocabulary": 500}
    ours, theirs = build("clip", **{**OURS, **sizes}), reference(**sizes)
    drawn = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        if tensor.ndim == 0 or name.endswith("bias") or "norm" in name:
            torch.testing.assert_close(tensor, drawn[name], rtol=1e-4, atol=0)
        else:
            spread = tensor.std() / drawn[name].std()
            assert abs(spread - 1) < 4 * tensor.numel() ** -0.5, name


def test_files_of_transformers_load(tmp_path):
    """As save_pretrained writes them, and with the numbers of the positions that older ones have."""
    _, theirs = pair()
    theirs.save_pretrained(tmp_path)
    ids, _, images = texts_and_images()
    expected = theirs(ids, images).logits_per_image
    state = theirs.state_dict()
    state["text_model.embeddings.position_ids"] = torch.arange(11)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(state, tmp_path / "older.bin")
    for file in ("model.safetensors", "older.bin"):
        ours = nnkit.build("clip", **OURS, weights=tmp_path / file).eval()
        torch.testing.assert_close(ours(ids, images).logits_per_image, expected, rtol=1e-5, atol=1e-5)


def test_without_similarity_the_embeddings_are_the_same_and_files_still_load(tmp_path):
    ours, theirs = pair()
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    plain = nnkit.build("clip", **OURS, similarity=False, weights=tmp_path / "weights.pt").eval()
    ids, _, images = texts_and_images()
    expected = ours(ids, images)
    embeddings = plain(ids, images)
    assert embeddings._fields == ("text_embeds", "image_embeds")
    assert torch.equal(embeddings.text_embeds, expected.text_embeds)
    assert torch.equal(embeddings.image_embeds, expected.image_embeds)
    assert "logit_scale" not in dict(plain.named_parameters())


def test_what_follows_the_end_of_a_text_changes_nothing():
    """With a mask whatever it is; without one as long as no token is higher than the end."""
    ours, _ = pair(torch.float64)
    ids, mask, images = texts_and_images(torch.float64)
    alone = torch.cat(
        [ours(row[real][None], images).text_embeds for row, real in zip(ids, mask, strict=True)]
    )
    others = torch.where(mask, ids, torch.randint(0, END + 1, ids.shape))
    torch.testing.assert_close(ours(ids, images).text_embeds, alone)
    torch.testing.assert_close(ours(ids, images, mask).text_embeds, alone)
    torch.testing.assert_close(ours(others, images, mask).text_embeds, alone)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"patch_size": 30}, "images of 224×224 can't be cut into patches of 30×30"),
        ({"text_heads": 7}, "7 heads can't share a width of 512 equally"),
        ({"vision_heads": 7}, "7 heads can't share a width of 768 equally"),
        ({"time": 78}, "must be at most 77"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, fault):
    with pytest.raises(UsageProblem, match=fault):
        nnkit.resolve("clip", **options)


def test_images_find_the_texts_that_name_their_color_and_place():
    """Squares of three colors in four corners: texts are matched that were never seen with these images."""
    torch.manual_seed(0)
    model = nnkit.build("clip", preset="tiny")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    everything = torch.cartesian_prod(torch.arange(3), torch.arange(4))  # (12, 2): color, corner

    def draw(what):
        images = 0.1 * torch.randn(len(what), 3, 32, 32)
        for image, (color, corner) in zip(images, what.tolist(), strict=True):
            top, left = 16 * (corner // 2), 16 * (corner % 2)
            image[color, top : top + 16, left : left + 16] += 1
        words = torch.stack((what[:, 0] + 1, what[:, 1] + 10), dim=1)
        return F.pad(words, (0, 1), value=1999), images

    pairs = torch.arange(12)
    for _ in range(60):
        loss = F.cross_entropy((similar := model(*draw(everything))).logits_per_image, pairs)
        loss = loss + F.cross_entropy(similar.logits_per_text, pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        similar = model.eval()(*draw(everything))
    assert (similar.logits_per_image.argmax(1) == pairs).float().mean() >= 0.9
    assert (similar.logits_per_text.argmax(1) == pairs).float().mean() >= 0.9
