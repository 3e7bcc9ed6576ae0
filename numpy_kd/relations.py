"""Costs of what rows are to each other: similarity, distance, alignment.

They compare a (B, B) table of the student's rows with the teacher's. So the two may have different
widths, a scale or a rotation of the space changes nothing, and hidden features will do as well as
logits. What they do not say is which column is which class: alone they cannot teach a classifier to
name its classes, beside labels they can help.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks
from numpy_kd.losses import Loss
from numpy_kd.probability import _like, _quietly


@_quietly
def similarity_preserving_loss(logits, teacher_logits) -> Loss:
    """SP: which rows point the same way (Tung and Mori 2019, eq. 3 and 4).

        G = z z^T,    A_i = G_i / |G_i|  row by row,    C = sum_ij (A - A of the teacher)_ij**2 / B**2
        with a = dC/dA:   dC/dG_i = (a_i - A_i <A_i, a_i>) / |G_i|,    dC/dz = (dC/dG + dC/dG^T) z

    Parameters: `logits` (B, N) the student's logits or features; `teacher_logits` (B, M) its
    teacher's. A row of zeros is similar to nothing: its A_i is 0.
    Returns: value in [0, 4 / B], dlogits (B, N).
    Raises `ValueError` for another number of rows, NaN or infinite entries, an empty batch.

    >>> z, v = [[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]
    >>> value, dlogits = similarity_preserving_loss(z, v)
    >>> round(value, 4), dlogits.round(4)
    (0.1992, array([[ 0.   , -0.312],
           [-0.624,  0.   ]]))
    """
    z, v, size = _rows_of_both(logits, teacher_logits)
    A, length = _unit_rows(z @ z.T)
    apart = A - _unit_rows(v @ v.T)[0]
    a = 2 * apart / len(z) ** 2
    dG = (a - A * (A * a).sum(axis=1, keepdims=True)) / length
    return _value((apart * apart).sum() / len(z) ** 2), (dG + dG.T) @ z / size


@_quietly
def relational_distance_loss(logits, teacher_logits) -> Loss:
    """RKD-D: how far rows are from each other, in units of their mean distance (Park et al. 2019).

        P_ij = |z_i - z_j| / mu,    mu the mean over the pairs i != j          (their eq. 6 and 7)
        C = mean over pairs of h(P - P of the teacher),   h(e) = e**2 / 2 within 1, |e| - 1/2 beyond
        with g = dC/dP:   dC/d|z_i - z_j| = (g_ij - mean over pairs of g P) / mu

    and a distance's own slope in z_i is the unit vector from z_j to z_i, as z_i stands in two pairs.

    Parameters: `logits` (B, N) the student's logits or features; `teacher_logits` (B, M) its
    teacher's. Two equal rows have no direction between them, and do not push each other. Where all
    rows are equal, as with a single one, there is nothing to compare with: the distances are 0.
    Returns: value >= 0, dlogits (B, N).
    Raises `ValueError` for another number of rows, NaN or infinite entries, an empty batch.

    >>> z, v = [[0.0], [1.0], [2.0]], [[0.0], [0.0], [1.0]]
    >>> value, dlogits = relational_distance_loss(z, v)
    >>> round(value, 4), dlogits.round(4)
    (0.1875, array([[-0.1875],
           [ 0.375 ],
           [-0.1875]]))
    """
    z, v, size = _rows_of_both(logits, teacher_logits)
    pairs = max(len(z) * (len(z) - 1), 1)
    P, mu, towards = _relative_distances(z, pairs)
    e = P - _relative_distances(v, pairs)[0]
    near = np.abs(e.real) <= 1
    sign = np.sign(e.real)
    value = np.where(near, e * e / 2, sign * e - 0.5).sum() / pairs
    g = np.where(near, e, sign) / pairs
    slope = (g - (g * P).sum() / pairs) / mu
    return _value(value), 2 * (slope[:, :, None] * towards).sum(axis=1) / size


@_quietly
def cka_loss(logits, teacher_logits) -> Loss:
    """One minus linear CKA, the alignment of two representations (Kornblith et al. 2019, sec. 3).

        K = zc zc^T,  L = vc vc^T,  zc = z - mean over the rows
        CKA = <K, L> / (|K| |L|),    C = 1 - CKA
        dC/dK = -(L / (|K| |L|) - CKA K / |K|**2),    dC/dz = 2 dC/dK zc

    A correlation of two tables: compare `correlation_loss`. It is 0 where the teacher's rows are the
    student's, turned, scaled and moved.

    Parameters: `logits` (B, N) the student's logits or features; `teacher_logits` (B, M) its
    teacher's. Where all rows of one are equal there is no correlation: it counts as 0, and there is
    no gradient.
    Returns: value in [0, 1], dlogits (B, N), which sums to 0 over the rows.
    Raises `ValueError` for another number of rows, NaN or infinite entries, an empty batch.

    >>> z, v = [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0], [1.0], [0.0]]
    >>> value, dlogits = cka_loss(z, v)
    >>> round(value, 4), dlogits.round(4)
    (0.7132, array([[ 0.0272, -0.1902],
           [-0.3803, -0.0543],
           [ 0.3532,  0.2445]]))
    """
    z, v, size = _rows_of_both(logits, teacher_logits)
    z, v = _centred(z), _centred(v)
    (K, K_norm), (L, _) = _unit(z @ z.T), _unit(v @ v.T)
    cka = (K * L).sum()
    return _value(1 - cka), 2 * (cka * K - L) @ z / K_norm / size


# --- tables of a batch ------------------------------------------------------------------------------


def _relative_distances(z, pairs: int):
    """`|z_i - z_j| / mu`, `mu`, and unit vectors from z_j to z_i, (B, B, N): 0 between equal rows."""
    between = z[:, None, :] - z[None, :, :]
    squares = (between * between).sum(axis=-1)
    distance = np.sqrt(np.where(squares == 0, 0, squares))
    mu = distance.sum() / pairs
    mu = mu if mu != 0 else mu + np.inf
    one = np.where(squares == 0, 1, distance)
    return distance / mu, mu, between / one[:, :, None]


def _unit_rows(table):
    """Each row divided by its length, and the lengths: those of zeros stay 0, and count as inf."""
    length = np.sqrt((table * table).sum(axis=1, keepdims=True))
    length = np.where(length == 0, np.inf, length)
    return table / length, length


def _unit(table):
    """The table divided by its norm, and the norm: one of zeros stays 0, its norm counts as inf."""
    norm = np.sqrt((table * table).sum())
    norm = norm if norm != 0 else norm + np.inf
    return table / norm, norm


def _centred(z):
    z = z - z[:1]  # rows that are equal become 0 exactly
    return z - z.mean(axis=0)


def _rows_of_both(logits, teacher_logits):
    """Both in one dtype, divided by their largest entry; and the student's, for its gradient."""
    z, v = _checks.batch("logits", logits), _checks.batch("teacher_logits", teacher_logits)
    _checks.same_length("teacher_logits", v, "logits", z)
    z, v = (z.astype(v.dtype), v) if v.dtype.kind == "c" != z.dtype.kind else (z, _like(v, z))
    size = _largest(z)
    return z / size, v / _largest(v), size


def _largest(z):
    size = np.abs(z.real).max()
    return size if size > 0 else size + 1


def _value(value) -> float:
    """A Python number (complex for the complex step); what rounding leaves below 0 becomes 0."""
    value = value.item()
    return value if value.real >= 0 else value - value.real
