"""Small modules with a tensor in the wrong place, sound ones that look alike, and what simulation can't run."""

import os
import sys

import torch
from seeded import Base
from torch import nn
from torch.nn import functional as F


class MadeInHelper(Base):
    def forward(self, x):
        return helper(super().forward(x))


def helper(y):
    return y @ torch.eye(6)


class OutputMoved(Base):
    def forward(self, x):
        y = super().forward(x).cpu()
        return y * 2


class OutputMade(Base):
    def forward(self, x):
        y = torch.zeros(len(x), 6)
        y[:] = super().forward(x)
        return y


class BufferReplaced(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(6))

    def forward(self, x):
        self.state = torch.ones(6)
        return super().forward(x)


class ListOfConvolutions(nn.Module):
    """Fake tensors don't compare the devices of a convolution themselves."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Conv1d(1, 1, 3)]

    def forward(self, x):
        return self.layers[0](x[:, None])


class ListOfBags(nn.Module):
    """Nor those of an embedding bag."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.EmbeddingBag(6, 3)]

    def forward(self, x):
        return self.layers[0](x.argsort(1))


class HiddenStateOnCpu(nn.Module):
    """Torch's recurrent layers compare devices before they call an operator."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(6, 5, batch_first=True)

    def forward(self, x):
        state = torch.zeros(1, len(x), 5)
        return self.recurrent(x[:, None], (state, state))[0]


class InClosure(Base):
    def __init__(self):
        super().__init__()
        scale = torch.randn(6)
        self.scaled = lambda y: y * scale

    def forward(self, x):
        return self.scaled(super().forward(x))


class OwnBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.full((6,), 2.0)


class BackwardOnCpu(Base):
    def forward(self, x):
        return OwnBackward.apply(super().forward(x))


class NumpyOnDevice(Base):
    def forward(self, x):
        return super().forward(x) * x.detach().numpy().sum()


class FailsEverywhere(Base):
    def forward(self, x):
        return super().forward(x.T)


# Sound


class IndexedFromCpu(Base):
    """Allowed on an accelerator, too: indices, scalars, copies into a tensor, to the CPU and back."""

    def forward(self, x):
        y = super().forward(x)[torch.arange(len(x))][:, [0, 2, 4]] * torch.tensor(2.0)
        z = torch.zeros_like(y)
        z[:] = torch.ones(3)
        y = (y.cpu() + 1).to(y.device)
        return y + z + torch.tensor([1.0, 2.0, 3.0], device=x.device) + x.new_tensor([1, 2, 3])


class NamesItself(Base):
    def forward(self, x):
        return super().forward(x.cuda() + torch.ones(6).to("cuda:0")) + torch.ones(6, device="cuda")


class Autocast(Base):
    def forward(self, x):
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return super().forward(x)


class Expects(Base):
    """What torch raises for mixed devices, the code may catch."""

    def forward(self, x):
        try:
            return x + torch.zeros(6)
        except RuntimeError:
            return super().forward(x)


class TiedLazyNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.lazy = nn.LazyLinear(6)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))

    def forward(self, x):
        return self.normed(F.relu(self.lazy(self.two(self.one(x)))))


class FrozenIndices(nn.Module):
    """Nothing to train, and nothing to take a gradient of."""

    def forward(self, x):
        return x.argmax(1)


# Not for a simulation


class ValueBranch(Base):
    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y


class CountsInNumpy(Base):
    def forward(self, x):
        count = x.argmax(1).cpu().numpy()
        return super().forward(x) * float(count.sum())


class SparseMatrix(Base):
    def forward(self, x):
        places = torch.arange(len(x), device=x.device)
        diagonal = torch.sparse_coo_tensor(torch.stack([places, places]), x[:, 0], (len(x), len(x)))
        return diagonal @ super().forward(x)


class KnowsCpuAndCuda(Base):
    def forward(self, x):
        if x.device.type not in ("cpu", "cuda"):
            raise ValueError("never heard of this device")
        return super().forward(x)


# In a process of its own


class Talks(Base):
    def forward(self, x):
        print("said by the model")
        os.system("echo said by a program")
        return super().forward(x) + torch.zeros(6)


class Exits(Base):
    def forward(self, x):
        sys.exit(0)


class CannotBeBuilt(Base):
    def __init__(self):
        raise ValueError("not today")


def mobilenet():
    """A model of timm's with depthwise convolutions, batch norm and squeeze-and-excitation."""
    import timm

    return timm.create_model("mobilenetv3_small_050")


def vision_transformer():
    """A model of timm's with attention."""
    import timm

    return timm.create_model("test_vit")


def shufflenet():
    """A model of torchvision's that shuffles channels."""
    import torchvision

    return torchvision.models.shufflenet_v2_x0_5()
