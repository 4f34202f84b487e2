"""What every image classifier is held to, and the digits that it learns."""

import importlib
import warnings
from functools import cache

import numpy as np
import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnkit_vision.plugin import nnkit_architectures

ARCHITECTURES = {architecture.name: architecture for architecture in nnkit_architectures()}


def build(name, **options):
    """Build an architecture as declared."""
    architecture = ARCHITECTURES[name]
    module, function = architecture.build.split(":")
    return getattr(importlib.import_module(module), function)(architecture.config(**options))


def build_on_meta(name, **options):
    """Build an architecture without weights."""
    with torch.device("meta"):
        return build(name, **options).eval()


def counts(name, *shape, **options):
    """Return parameters, elements of buffers and multiply-adds, without weights or data."""
    model = build_on_meta(name, **options)
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.empty(*shape, device="meta"))
    parameters, buffers = (
        sum(tensor.numel() for tensor in tensors) for tensors in (model.parameters(), model.buffers())
    )
    return parameters, buffers, counter.get_total_flops() // 2


def children_shapes(model, *shape):
    """Return [name, type, input shape, output shape] of each child that runs, in order."""
    rows, hooks = [], []
    for name, child in model.named_children():

        def record(module, inputs, output, name=name):
            rows.append([name, type(module).__name__, list(inputs[0].shape), list(output.shape)])

        hooks.append(child.register_forward_hook(record))
    model(torch.empty(*shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return rows


def layout(model):
    """Return name, shape and dtype of everything in the state dict, in order."""
    return [(name, tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()]


def assert_equal_weights(ours, theirs):
    """Same names, same order, same values."""
    assert layout(ours) == layout(theirs)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def layers(model):
    """Return every layer that computes, with its constants, in order."""
    layers = [module for module in model.modules() if not list(module.children())]
    skipped = ("StochasticDepth", "Permute", "Identity")
    return [repr(layer) for layer in layers if type(layer).__name__ not in skipped]


def assert_trains_and_evaluates_like(ours, theirs, images):
    """Bit for bit the same: outputs, gradients and statistics of a step in training, outputs in evaluation."""
    outputs = []
    for model in (ours.train(), theirs.train()):
        for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.momentum = (
                None  # the statistics of this batch alone, with which evaluation tells images apart
            )
        torch.manual_seed(1)
        outputs.append(model(images))
        outputs[-1].square().mean().backward()
    assert torch.equal(*outputs)
    assert outputs[0].std() > 0
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad), name
    assert_equal_weights(ours, theirs)
    with torch.no_grad():
        expected = theirs.eval()(images)
        assert torch.equal(ours.eval()(images), expected)
        assert expected.std() > 1e-3


def assert_sound(model, *shape):
    """Images don't mix, not even in number, and forward makes no tensor on a device of its own choice."""
    torch.manual_seed(0)
    images = torch.randn(shape)
    model.eval()
    with torch.no_grad():
        scores = model(images)
        assert len(scores) == len(images)
        assert scores.std() > 0
        alone = torch.cat([model(image) for image in images.split(1)])
        torch.testing.assert_close(alone, scores, rtol=1e-3, atol=1e-4 * scores.abs().max().item())
        assert model.to("meta")(images.to("meta")).shape == scores.shape


def assert_trains(model, *shape):
    """One backward pass in training leaves a gradient on every parameter."""
    torch.manual_seed(0)
    outputs = model.train()(torch.randn(shape))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(output.square().sum() for output in outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def assert_follows_dtype(model, *shape):
    """The results have the dtype of the input, and float64 and bfloat16 agree with float32."""
    torch.manual_seed(0)
    images = torch.randn(shape)
    model.eval()
    with torch.no_grad():
        scores = model(images)
        for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.1)):
            other = model.to(dtype)(images.to(dtype))
            assert other.dtype == dtype
            scale = scores.abs().max().item()
            torch.testing.assert_close(other.float(), scores, rtol=0, atol=tolerance * scale)


def assert_exports(model, architecture, config, traced, others):
    """Export with every declared dim dynamic, and compare in ONNX Runtime at the other sizes.

    traced, others: sizes by dim. Gradients and statistics apart, this is what a user deploys.
    """
    (spec,) = architecture.inputs_for(config)
    dims = architecture.dims_for(config)
    dynamic = {axis: name for axis, name in enumerate(spec.shape) if name in dims}

    def images(sizes):
        return torch.randn([sizes.get(axis, getattr(config, str(axis), axis)) for axis in spec.shape])

    torch.manual_seed(0)
    with torch.inference_mode():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model.eval(),
                (images(traced),),
                dynamo=True,
                dynamic_shapes=[dynamic],
                input_names=[spec.name],
                verbose=False,
            )
        session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        declared = session.get_inputs()[0].shape
        assert [declared[axis] for axis in dynamic] == list(dynamic.values())
        for sizes in others:
            x = images(sizes)
            expected = model(x)
            (result,) = session.run(None, {spec.name: x.numpy()})
            scale = expected.abs().max().item()
            np.testing.assert_allclose(
                result, expected.numpy(), rtol=0, atol=1e-5 * scale, err_msg=str(sizes)
            )


def spread_weights(model):
    """Redraw the weights, so that a deep network without normalization still tells images apart."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return model


@cache
def digits(size, channels):
    """Return scikit-learn's digits, enlarged: 1437 images to train on and 360 to test with."""
    data = load_digits()
    images = F.interpolate(torch.tensor(data.images[:, None] / 16, dtype=torch.float32), size=size)
    images = images.expand(-1, channels, -1, -1).contiguous()
    targets = torch.tensor(data.target)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    return images[train], targets[train], images[test], targets[test]


def accuracy_on_digits(model, size, channels, epochs=10, lr=1e-3, scores=lambda outputs: outputs):
    """Train on the digits and return the share of the test digits told right."""
    images, targets, test_images, test_targets = digits(size, channels)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(targets), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(scores(model(images[rows])), targets[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return (scores(model(test_images)).argmax(1) == test_targets).float().mean().item()
