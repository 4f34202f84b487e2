"""sampling.py and ends.py: values keep what was declared of them, and what marks one dim agrees."""

import math

import pytest
import torch

from nnkit import Architecture, Dim, TensorSpec
from nnkit.contract.architecture import SAMPLES
from nnkit.contract.spec import make_spec
from nnkit.errors import UsageProblem
from nnkit.models.sampling import sample_inputs
from nnkit.models.user_modules import NoOptions

DIMS = {
    "batch": Dim(default=6, min=0),
    "time": Dim(default=9, min=0),
    "past": Dim(default=4, min=0),
    "speakers": Dim(default=3),
}


def draw(*inputs, seed=0, full=False, **sizes):
    architecture = Architecture(
        name="a", summary="", build="x:y", config=NoOptions, inputs=inputs, outputs=(), dims=DIMS
    )
    return sample_inputs(make_spec(architecture, options=sizes), seed=seed, full=full)


def ends_of(mask):
    """Return the count of each row, after checking that it is True up to there and False behind."""
    assert torch.equal(mask, mask.long().cumprod(-1).bool())
    return mask.sum(-1)


def test_numbers_are_drawn_as_declared():
    positive, unit, angles, times = draw(
        TensorSpec("scale", (1000,), "float16", "positive"),
        TensorSpec("direction", ("batch", 3), "float", "unit"),
        TensorSpec("phase", (1000,), "float", "angles"),
        TensorSpec("times", ("batch", "time"), "float", "sorted"),
    )
    assert positive.dtype == torch.float16
    assert positive.min() > 0
    assert positive.isfinite().all()
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(6))
    assert -math.pi <= angles.min() < -3
    assert 3 < angles.max() <= math.pi
    assert (times.diff(dim=-1) >= 0).all()
    assert times.unique().numel() == 54


def test_sorted_integers_index_and_ascend():
    (ids,) = draw(TensorSpec("ids", ("batch", 50), "int64", "sorted", "time"))
    assert (ids.diff(dim=-1) >= 0).all()
    assert set(ids.unique().tolist()) == set(range(9))


@pytest.mark.parametrize("seed", range(5))
def test_all_that_marks_one_dim_agrees(seed):
    keep, tokens, lengths, padded, by_speaker = draw(
        TensorSpec("keep", ("batch", 1, "time"), "bool", "prefix", "time"),
        TensorSpec("tokens", ("batch", "time"), "int64", "index", 5, padding=0),
        TensorSpec("lengths", ("batch",), "int64", "lengths", "time"),
        TensorSpec("padded", ("time", "batch"), "int64", "suffix", "time"),
        TensorSpec("by_speaker", ("speakers", "batch", "time"), "float", "prefix", "time"),
        seed=seed,
    )
    assert torch.equal(ends_of(keep[:, 0]), lengths)
    assert torch.equal(ends_of(tokens != 0), lengths)
    assert torch.equal(ends_of(padded.T == 0), lengths)
    assert torch.equal(by_speaker, keep[:, 0].float().expand(3, 6, 9))
    assert lengths.min() >= 1
    assert lengths.max() == lengths[0] == 9
    assert lengths.unique().numel() > 1


def test_lengths_of_several_axes_agree_with_masks_in_any_order_of_axes():
    lengths, mask = draw(
        TensorSpec("lengths", ("batch", "speakers"), "int64", "lengths", "time"),
        TensorSpec("mask", ("speakers", "time", "batch"), "bool", "prefix", "time"),
    )
    assert torch.equal(ends_of(mask.permute(2, 0, 1)), lengths)
    assert lengths.unique().numel() > 2


def test_one_sequence_without_a_batch_ends_anywhere():
    ends = {
        int(draw(TensorSpec("m", ("time",), "bool", "prefix", "time"), seed=seed)[0].sum())
        for seed in range(50)
    }
    assert ends == set(range(1, 10))


def test_lengths_of_dims_and_of_numbers_are_their_own():
    source, target, classes, more = draw(
        TensorSpec("source", (200,), "int64", "lengths", "time"),
        TensorSpec("target", (200,), "int64", "lengths", "past"),
        TensorSpec("classes", (200,), "int64", "lengths", 9),
        TensorSpec("more", (200,), "int64", "lengths", 9),
    )
    assert (source.max(), target.max()) == (9, 4)
    assert not torch.equal(classes, more)


def test_padding_may_be_any_integer_and_is_drawn_behind_the_end_alone():
    one, other, mask = draw(
        TensorSpec("one", ("batch", "time"), "int64", "index", 4, padding=3),
        TensorSpec("other", ("batch", "time"), "int64", "index", 4, padding=-100),
        TensorSpec("mask", ("batch", "time"), "bool", "prefix", "time"),
    )
    assert torch.equal(one == 3, ~mask)
    assert torch.equal(other == -100, ~mask)
    assert set(one.unique().tolist()) == {0, 1, 2, 3}
    assert set(other[mask].unique().tolist()) == {0, 1, 2, 3}


def test_full_inputs_have_no_padding():
    lengths, mask, suffix, tokens = draw(
        TensorSpec("lengths", ("batch",), "int64", "lengths", "time"),
        TensorSpec("mask", ("batch", "time"), "bool", "prefix", "time"),
        TensorSpec("suffix", ("batch", "time"), "bool", "suffix", "time"),
        TensorSpec("tokens", ("batch", "time"), "int64", "index", 4, padding=0),
        full=True,
    )
    assert set(lengths.tolist()) == {9}
    assert mask.all()
    assert not suffix.any()
    assert tokens.min() > 0


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("zero", ["time", "batch"])
def test_a_size_of_zero_is_a_size(sample, zero):
    dtype = "int64" if sample in ("index", "sorted", "lengths") else "float"
    axes = {"lengths": (zero,), "adjacency": (zero, zero)}.get(sample, ("batch", "time"))
    padding = 0 if sample in ("index", "sorted") else None
    (drawn,) = draw(TensorSpec("x", axes, dtype, sample, axes[-1], padding=padding), **{zero: 0})
    assert drawn.shape == tuple({"batch": 6, "time": 9, zero: 0}[axis] for axis in axes)


def test_a_mask_runs_along_an_axis_that_is_a_sum():
    mask, sizes = draw(
        TensorSpec("mask", ("batch", "past + time"), "int64", "prefix", "past + time"),
        TensorSpec("x", ("past", "time")),
    )
    assert ends_of(mask == 1).max() == 13
    assert sizes.shape == (4, 9)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            TensorSpec("m", ("batch",), "bool", "prefix", "time"),
            "has no axis 'time' for its prefix to run along",
        ),
        (TensorSpec("m", ("batch", "time"), "bool", "suffix"), "doesn't say what it counts"),
        (TensorSpec("m", ("batch",), "int64", "lengths", "time", least=10), "no integer is from 10 to 9"),
    ],
)
def test_a_mark_without_its_dim_is_refused(tensor, message):
    with pytest.raises(UsageProblem, match=message) as raised:
        draw(tensor, TensorSpec("x", ("time",)))
    assert raised.value.hint
