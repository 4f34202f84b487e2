"""PointNet against published numbers, a second writing in plain tensor algebra, and ONNX Runtime."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnkit_pointcloud.configs import PointNetConfig, PointNetSegmentationConfig, PointNetVanillaConfig
from nnkit_pointcloud.plugin import nnkit_architectures
from nnkit_pointcloud.pointnet import (
    PointNet,
    PointNetSegmentation,
    PointNetVanilla,
    TransformNet,
    orthogonality_loss,
)

CLASSIFICATION = (PointNet, PointNetConfig)
VANILLA = (PointNetVanilla, PointNetVanillaConfig)
SEGMENTATION = (PointNetSegmentation, PointNetSegmentationConfig)
ALL = [CLASSIFICATION, VANILLA, SEGMENTATION]

every_network = pytest.mark.parametrize(
    ("network", "config"), ALL, ids=["pointnet", "pointnet-vanilla", "pointnet-segmentation"]
)


def built(network, config, **options):
    """Build a network whose parameters and statistics all matter: random, and no transform an identity."""
    torch.manual_seed(0)
    model = network(config(**options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model


def cloud(batch=2, points=17, channels=3, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, points, generator=generator, dtype=dtype)


SIZES = {  # parameters, elements of buffers, tensors of the state dict, multiply-adds, output
    PointNet: (3_480_049, 12_177, 125, 448_025_856, (1, 40)),
    PointNetVanilla: (819_624, 4_231, 51, 151_857_152, (1, 40)),
    PointNetSegmentation: (3_558_907, 12_691, 139, 1_208_888_576, (1, 50, 1024)),
}


@every_network
def test_published_sizes(network, config):
    parameters, buffers, tensors, macs, shape = SIZES[network]
    with torch.device("meta"):
        model = network(config()).eval()
        assert sum(p.numel() for p in model.parameters()) == parameters
        assert sum(b.numel() for b in model.buffers()) == buffers
        assert len(model.state_dict()) == tensors
        with FlopCounterMode(display=False) as counter:
            output = model(torch.empty(1, 3, 1024))
    assert tuple(output.shape) == shape
    assert counter.get_total_flops() == 2 * macs


@every_network
def test_layer_shapes(network, config):
    """The output channels of the linear maps, in the order they run, as in the authors' code."""
    transforms = network is not PointNetVanilla
    expected = [
        *([64, 128, 1024, 512, 256, 9] if transforms else []),
        *[64, 64],
        *([64, 128, 1024, 512, 256, 4096] if transforms else []),
        *[64, 128, 1024],
        *([512, 256, 128, 128, 50] if network is PointNetSegmentation else [512, 256, 40]),
    ]
    seen = []
    model = network(config()).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            module.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    model(cloud())
    assert seen == expected


def _affine(weights, index, rows):
    """Apply the `index`-th linear map and the batch norm behind it to `rows`, a point (or cloud) each."""
    linear, norm = weights[index]
    rows = rows @ linear.weight.reshape(linear.weight.shape[:2]).T + linear.bias
    if norm is None:
        return rows
    rows = (rows - norm.running_mean) / (norm.running_var + 1e-3).sqrt() * norm.weight + norm.bias
    return rows.clamp_min(0)


def _plain_pointnet(model, points):
    """Compute the network for one cloud (N, C) with matrix products alone; `model` lends its weights."""
    modules = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Linear | nn.BatchNorm1d)]
    weights = [
        (m, after if isinstance(after, nn.BatchNorm1d) else None)
        for m, after in zip(modules, [*modules[1:], None], strict=True)
        if not isinstance(m, nn.BatchNorm1d)
    ]
    step = iter(range(len(weights)))

    def through(rows, layers):
        for _ in range(layers):
            rows = _affine(weights, next(step), rows)
        return rows

    def transformed(rows):
        width = rows.shape[1]
        return rows @ through(through(rows, 3).max(0).values, 3).reshape(width, width)

    transforms = not isinstance(model, PointNetVanilla)
    local = through(transformed(points) if transforms else points, 2)
    local = transformed(local) if transforms else local
    summary = through(local, 3).max(0).values
    if isinstance(model, PointNetSegmentation):
        return through(torch.cat([local, summary.expand(len(local), -1)], dim=1), 5).T
    return through(summary, 3)


@every_network
def test_equals_the_equation(network, config):
    model = built(network, config).double()
    x = cloud(dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([_plain_pointnet(model, points.T) for points in x])
        torch.testing.assert_close(model(x), expected, rtol=1e-11, atol=1e-11)


@every_network
def test_order_of_points_does_not_matter(network, config):
    model = built(network, config)
    x = cloud(points=33)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(x)
        if network is PointNetSegmentation:
            expected = expected[..., order]
        torch.testing.assert_close(model(x[..., order]), expected, rtol=1e-5, atol=1e-5)


@every_network
def test_gradient_follows_the_order(network, config):
    """The gradient of a point moves with it, also among points that are equal.

    There are 16 of them, for on some processors those beyond a multiple of the vector are rounded otherwise.
    """
    model = built(network, config).double()
    x = cloud(points=16, dtype=torch.float64)
    x[..., 4] = x[..., 2]
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))

    def gradient(x):
        x = x.clone().requires_grad_()
        model(x).square().sum().backward()
        return x.grad

    torch.testing.assert_close(gradient(x[..., order]), gradient(x)[..., order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("network", "config"), [CLASSIFICATION, VANILLA], ids=["pointnet", "vanilla"])
def test_set_not_list(network, config):
    """A point named twice changes nothing, and the critical points alone decide (the paper's theorem 2)."""
    model = built(network, config)
    x = cloud(batch=1, points=12)
    with torch.no_grad():
        output = model(x)
        torch.testing.assert_close(model(torch.cat([x, x[..., :5]], dim=2)), output, rtol=1e-5, atol=1e-5)
        assert (model(x[..., :5]) - output).abs().max() > 1e-3
    if network is PointNetVanilla:
        features = model.encoder.global_mlp(model.encoder.point_mlp(x))
        critical = features.max(dim=2).indices.unique()
        torch.testing.assert_close(model(x[..., critical]), output, rtol=1e-5, atol=1e-5)


@every_network
def test_clouds_of_a_batch_are_apart(network, config):
    model = built(network, config)
    x = cloud(batch=3)
    with torch.no_grad():
        together = model(x)
        alone = torch.cat([model(row.unsqueeze(0)) for row in x])
    assert len(together) == 3
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_segmentation_sees_the_whole_cloud():
    """Moving one point far out changes the scores of the others, which the global feature tells of it."""
    model = built(*SEGMENTATION)
    x = cloud()
    moved = x.clone()
    moved[..., 0] += 20
    with torch.no_grad():
        difference = (model(moved) - model(x)).abs().amax(dim=(0, 1))
    assert difference.min() > 1e-3


@pytest.mark.parametrize("channels", [3, 64])
def test_transform_net_starts_as_the_identity(channels):
    net = TransformNet(channels)
    matrix = net(cloud(batch=4, channels=channels))
    assert torch.equal(matrix, torch.eye(channels).expand(4, -1, -1))


def test_full_network_starts_as_the_vanilla_one():
    """With identity transforms the two have one equation, so the same weights give the same answer."""
    full, vanilla = PointNet(PointNetConfig()).eval(), PointNetVanilla(PointNetVanillaConfig()).eval()
    result = full.load_state_dict(vanilla.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all("_transform." in key for key in result.missing_keys)
    torch.testing.assert_close(full(cloud()), vanilla(cloud()))


def test_transform_nets_learn_from_the_second_step_on():
    """Their zero weights hold gradients back from what is before them, once."""
    torch.manual_seed(0)
    model = PointNet(PointNetConfig())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    first = model.encoder.feature_transform.mlp[0].weight
    for reached in (False, True):
        optimizer.zero_grad()
        model(cloud(batch=4)).square().sum().backward()
        assert first.grad.any() == reached
        optimizer.step()


def test_initial_values_are_glorots():
    model = PointNetVanilla(PointNetVanillaConfig())
    weight = model.head[0].weight
    bound = (6 / (1024 + 512)) ** 0.5
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert all(
        not m.bias.any()
        for m in model.modules()
        if isinstance(m, nn.Conv1d | nn.Linear) and m.bias is not None
    )


@every_network
def test_every_parameter_learns(network, config):
    model = built(network, config).train()
    model(cloud(batch=3)).square().sum().backward()
    # A batch norm subtracts the bias of the layer in front of it again.
    absorbed = {
        id(layer.bias)
        for sequence in model.modules()
        if isinstance(sequence, nn.Sequential)
        for layer, after in pairwise(sequence)
        if isinstance(after, nn.BatchNorm1d)
    }
    idle = [
        name
        for name, parameter in model.named_parameters()
        if id(parameter) not in absorbed and not parameter.grad.abs().sum() > 0
    ]
    assert not idle


@pytest.mark.parametrize(("network", "config"), [CLASSIFICATION, SEGMENTATION], ids=["class", "segment"])
def test_feature_transform_is_returned_when_asked(network, config):
    model = built(network, config, return_transform=True)
    plain = built(network, config)
    x = cloud()
    logits, transform = model(x)
    torch.testing.assert_close(logits, plain(x))
    assert transform.shape == (2, 64, 64)
    loss = orthogonality_loss(transform)
    expected = sum(torch.linalg.matrix_norm(torch.eye(64) - a @ a.T) ** 2 for a in transform) / 2
    torch.testing.assert_close(loss, expected)
    assert orthogonality_loss(torch.linalg.qr(torch.randn(3, 5, 5)).Q) < 1e-9


def test_dropout_drops_in_training_alone():
    model = built(*CLASSIFICATION, dropout=0.5)
    x = cloud(batch=4)
    assert torch.equal(model(x), model(x))
    model.head.train()
    assert not torch.equal(model(x), model(x))
    keys = PointNet(PointNetConfig(dropout=0.0)).state_dict().keys()
    assert keys == model.state_dict().keys(), "weights don't depend on the dropout they were trained with"


@every_network
def test_other_sizes(network, config):
    model = built(network, config, num_classes=7, in_channels=2)
    points = 5
    shape = (3, 7, points) if network is PointNetSegmentation else (3, 7)
    assert model(cloud(batch=3, points=points, channels=2)).shape == shape
    assert model(cloud(batch=1, points=1, channels=2)).shape[0] == 1


@every_network
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
def test_dtype_follows_the_input(network, config, dtype, tolerance):
    model = built(network, config)
    x = cloud()
    with torch.no_grad():
        expected = model(x)
        output = model.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    assert (output.float() - expected).abs().max() <= tolerance * expected.abs().max()


@every_network
def test_meta_round_trip(network, config):
    model = built(network, config)
    expected = model(cloud())
    with torch.device("meta"):
        empty = network(config()).eval()
    empty.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(empty(cloud()), expected)


def test_learns_shapes():
    """Tells a sphere from a cube from a line, turned at random, on clouds and a size not seen in training."""
    torch.manual_seed(0)

    def batch(size, points):
        labels = torch.arange(size) % 3
        sphere = F.normalize(torch.randn(size, 3, points), dim=1)
        cube = 2 * torch.rand(size, 3, points) - 1
        line = sphere[:, :, :1] * (2 * torch.rand(size, 1, points) - 1)
        rotation = torch.linalg.qr(torch.randn(size, 3, 3)).Q
        shapes = torch.stack([sphere, cube, line])[labels, torch.arange(size)]
        return rotation @ shapes, labels

    model = PointNetVanilla(PointNetVanillaConfig(num_classes=3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(100):
        x, labels = batch(24, 32)
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    model.eval()
    x, labels = batch(150, 50)
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == labels).float().mean()
    assert accuracy >= 0.9


@pytest.mark.filterwarnings("ignore::FutureWarning")
@every_network
def test_exports_with_batch_and_points_dynamic(network, config, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = {} if network is PointNetVanilla else {"return_transform": True}
    model = built(network, config, **options)
    with torch.inference_mode():
        program = torch.onnx.export(
            model,
            (cloud(batch=2, points=5),),
            dynamo=True,
            input_names=["x"],
            dynamic_shapes=({0: "batch", 2: "points"},),
            verbose=False,
        )
    path = tmp_path / "pointnet.onnx"
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    for batch, points in [(2, 5), (1, 1), (3, 64), (5, 37), (1, 200)]:
        x = cloud(batch, points, seed=batch)
        with torch.no_grad():
            expected = model(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for ours, theirs in zip(expected, session.run(None, {"x": x.numpy()}), strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=1e-4, atol=1e-4)


def test_declarations_match_the_networks():
    for architecture in nnkit_architectures():
        module, _, name = architecture.build.partition(":")
        assert module == "nnkit_pointcloud.pointnet"
        network = {n.__name__: n for n, _ in ALL}[name]
        for options in [{}, {"return_transform": True}]:
            if options and network is PointNetVanilla:
                continue
            config = architecture.config(**options)
            sizes = {"batch": 2, "points": 3, "in_channels": 3, "num_classes": config.num_classes}
            outputs = network(config).eval()(cloud(2, 3))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            declared = [
                tuple(sizes.get(axis, axis) for axis in spec.shape)
                for spec in architecture.outputs_for(config)
            ]
            assert [tuple(o.shape) for o in outputs] == declared
