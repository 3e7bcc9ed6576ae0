"""Numbers against formulas: is this gradient the derivative of this function, and if not, why?

`slopes` measures a slope and its error; `comparison` has the one rule by which a gradient is judged;
`preconditions` what must hold before any number is compared; `causes` what is said of a wrong one.
"""

from numpy_kd.gradcheck.causes import CAUSES, Case, Cause, Diagnosis, Factor, diagnose
from numpy_kd.gradcheck.check import (
    Derivative,
    assert_gradient,
    check_backward,
    check_gradient,
    differentiate,
    numerical_gradient,
)
from numpy_kd.gradcheck.report import GradientReport

__all__ = [
    "CAUSES",
    "Case",
    "Cause",
    "Derivative",
    "Diagnosis",
    "Factor",
    "GradientReport",
    "assert_gradient",
    "check_backward",
    "check_gradient",
    "diagnose",
    "differentiate",
    "numerical_gradient",
]
