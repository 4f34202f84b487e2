"""What torch.export says when it fails is an error with a way out."""

import pytest
import sympy
from sympy.solvers.inequalities import solve_univariate_inequality

from nnkit.verbs.exporting.capture import export_failure


def test_sizes_that_sympy_cannot_compare_can_be_fixed():
    size = sympy.Symbol("x", real=True)
    with pytest.raises(NotImplementedError) as refused:
        solve_univariate_inequality(sympy.Eq(size / 8 - sympy.floor(sympy.floor(size / 4) / 2), 0), size)
    problem = export_failure(refused.value, "net", {})
    assert "NotImplementedError: The inequality" in problem.message
    assert "--static" in problem.hint


def test_an_optional_input_that_is_left_out_is_the_first_thing_to_try():
    problem = export_failure(TypeError("'NoneType' object is not subscriptable"), "net", {}, ["mask"])
    assert problem.hint.startswith("it may need what is left out: --with mask; ")
