"""A module of the user's is as it was after a summary, and whatever it holds, its totals are told."""

import pytest
import torch
from torch import nn

import nnkit


class Restless(nn.Module):
    """Changes all that it has when it runs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.count, self.seen, self.nested, self.plain = 0, [], {"sizes": [1]}, torch.zeros(3)

    def forward(self, x):
        self.count += 1
        self.seen.append(x)
        self.nested["sizes"].append(2)
        self.plain += 1
        self.extra = True
        self.layer.weight.data.mul_(2)
        self.layer.bias.data = torch.ones(8)
        return self.layer(torch.cat(self.seen)) * x.mul_(0).sum()


def test_what_forward_changes_is_put_back():
    module, x = Restless(), torch.randn(2, 8)
    weights, given = {name: each.clone() for name, each in module.state_dict().items()}, x.clone()
    macs = [nnkit.summarize(module, [x]).totals.macs for _ in range(2)]
    assert macs == [2 * 64, 2 * 64]
    assert (module.count, module.seen, module.nested) == (0, [], {"sizes": [1]})
    assert not hasattr(module, "extra")
    assert not module.plain.any()
    assert all(torch.equal(each, weights[name]) for name, each in module.state_dict().items())
    assert torch.equal(x, given)


def test_gradients_that_forward_makes_are_not_left_behind():
    class Forces(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 8)

        def forward(self, x):
            x.requires_grad_()
            self.layer(x).sum().backward()
            return x.grad

    module, x = Forces(), torch.randn(5, 3)
    # Forward, and in backward the gradients of x and of the weight.
    assert nnkit.summarize(module, [x]).totals.macs == 3 * 5 * 3 * 8
    assert (module.layer.weight.grad, x.grad, x.requires_grad) == (None, None, False)


def test_a_model_that_differentiates_in_its_forward_runs_with_gradients():
    class Potential(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, x):
            x.requires_grad_()
            return -torch.autograd.grad(self.energy(x).sum(), x)[0]

    report = nnkit.summarize(Potential(), [torch.randn(5, 3)])
    assert report.totals.macs == 2 * 5 * (3 * 16 + 16)  # forward, and the gradient of x


class Shadowed(nn.Module):
    """Has attributes of its own where torch has methods."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.modules, self.parameters, self.buffers, self.named_modules = [1], {"a": 1}, 3, None

    def forward(self, x):
        return self.layer(x)


class Lazy(nn.Module):
    """Has a layer that gets its shape when it runs, and one that never runs."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.never = nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.LazyLinear(3)

    def forward(self, x):
        return self.norm(self.layer(x))


class Sparse(nn.Module):
    """Multiplies by a sparse matrix of eight non-zeros, a buffer or a parameter."""

    def __init__(self, kind, layout):
        super().__init__()
        matrix = torch.eye(8).to_sparse(layout=layout)
        if kind == "buffer":
            self.register_buffer("matrix", matrix)
        else:
            self.matrix = nn.Parameter(matrix, requires_grad=False)
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.matrix @ self.layer(x)


def test_attributes_that_hide_methods_of_torch_are_no_matter():
    totals = nnkit.summarize(Shadowed(), [torch.randn(2, 8)]).totals
    assert (totals.parameters, totals.macs, totals.unused) == (36, 64, ())


def test_a_lazy_module_stays_lazy_and_its_totals_are_those_of_its_first_run():
    module = Lazy()
    totals = nnkit.summarize(module, [torch.randn(2, 8)]).totals
    assert (totals.parameters, totals.macs) == (8 * 4 + 4 + 2 * 4, 64)
    assert nn.parameter.is_lazy(module.layer.weight)
    assert type(module.norm) is nn.LazyBatchNorm1d


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.parametrize("kind", ["buffer", "parameter"])
def test_sparse_tensors_count_what_they_store(kind, layout):
    totals = nnkit.summarize(Sparse(kind, layout), [torch.randn(8, 4)]).totals
    stored = 8 * 4 + (2 * 8 if layout == torch.sparse_coo else 9 + 8) * 8  # values, and indices
    assert totals.macs == 8 * 4 * 4 + 8 * 4
    if kind == "buffer":
        assert (totals.parameters, totals.buffers, totals.buffer_bytes) == (20, 8, stored)
    else:
        assert (totals.parameters, totals.buffers, totals.parameter_bytes) == (28, 0, 80 + stored)
