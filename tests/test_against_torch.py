"""The costs since 2015 by their definitions in PyTorch, whose autograd knows none of our formulas."""

import functools

import numpy as np
import pytest

import numpy_kd as kd

torch = pytest.importorskip("torch")

B, N = 5, 7
RNG = np.random.default_rng(1)
Z, V = RNG.normal(scale=2, size=(2, B, N)) + 0.3
Y = np.array([0, 1, 1, 4, 6])
ROWS = torch.arange(B)
OTHERS = torch.arange(N) != torch.tensor(Y)[:, None]


def kl(p, q):
    return (p * (p / q).log()).sum(-1).mean()


def alpha(a, q, p, z, v, T):
    return ((q**a * p ** (1 - a)).sum(-1) - 1).mean() / (a * (a - 1))


def jensen_shannon(b, q, p, z, v, T):
    m = b * p + (1 - b) * q
    return b * kl(p, m) + (1 - b) * kl(q, m)


def total_variation(q, p, z, v, T):
    return (q - p).abs().sum(-1).mean() / 2


def of_the_others(q, p):
    return (x[OTHERS].reshape(B, N - 1) for x in (q, p))


def decoupled(q, p, z, v, T):
    s, a = q[ROWS, Y], p[ROWS, Y]
    target = kl(torch.stack([a, 1 - a], -1), torch.stack([s, 1 - s], -1))
    among = (x / x.sum(-1, keepdim=True) for x in of_the_others(p, q))
    return 2 * target + 3 * kl(*among)


def normalized(q, p, z, v, T):
    s, a = torch.softmax(z, -1)[ROWS, Y], torch.softmax(v, -1)[ROWS, Y]
    q, p = (x / x.sum(-1, keepdim=True) for x in of_the_others(q, p))
    return -(a * s.log()).mean() - 1.5 * T**2 * (p * q.log()).sum(-1).mean()


def top(k, renormalized, q, p, z, v, T):
    chosen = p.topk(k, -1).indices
    q, p = q.gather(1, chosen), p.gather(1, chosen)
    if renormalized:
        return kl(p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True))
    q_r, p_r = 1 - q.sum(-1), 1 - p.sum(-1)
    return kl(p, q) + (p_r * (p_r / q_r).log()).mean()


def standardized(q, p, z, v, T):
    z, v = ((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, correction=0) for x in (z, v))
    return kl(torch.softmax(v / T, -1), torch.softmax(z / T, -1))


def correlation(q, p, z, v, T):
    rows, columns = ((torch.corrcoef(torch.cat(x)), len(x[0])) for x in ((q, p), (q.T, p.T)))
    rho = [table[:n, n:].diagonal().mean() for table, n in (rows, columns)]
    return 0.7 * (1 - rho[0]) + 1.4 * (1 - rho[1])


def ours_standardized(z, v, temperature):
    return kd.standardized_loss(z, v, loss=functools.partial(kd.kl_loss, temperature=temperature))


def similarity(q, p, z, v, T):
    a, b = (torch.nn.functional.normalize(x @ x.T, dim=1) for x in (z, v))
    return ((a - b) ** 2).mean()


def relational_distance(q, p, z, v, T):
    apart = ~torch.eye(B, dtype=torch.bool)
    a, b = ((d := (x[:, None] - x)[apart].norm(dim=-1)) / d.mean() for x in (z, v))
    return torch.nn.functional.smooth_l1_loss(a, b)


def misaligned(q, p, z, v, T):
    z, v = (x - x.mean(0) for x in (z, v))
    return 1 - (z.T @ v).norm() ** 2 / ((z.T @ z).norm() * (v.T @ v).norm())


def without_temperature(loss, z, v, temperature):
    return loss(z, v)


part = functools.partial
RELATIONS = {
    "similarity": (similarity, kd.similarity_preserving_loss),
    "distance": (relational_distance, kd.relational_distance_loss),
    "alignment": (misaligned, kd.cka_loss),
}
PAIRS = {
    **{
        f"alpha {a}": (part(alpha, a), kd.alpha_divergence_loss, {"alpha": a}) for a in (-1, 0.3, 2)
    },
    **{
        f"beta {b}": (part(jensen_shannon, b), kd.jensen_shannon_loss, {"beta": b, "scaled": False})
        for b in (0.1, 0.5, 0.9)
    },
    "total variation": (total_variation, kd.total_variation_loss, {}),
    "decoupled": (
        decoupled,
        kd.decoupled_loss,
        {"labels": Y, "target_weight": 2, "other_weight": 3},
    ),
    "normalized": (normalized, kd.normalized_kd_loss, {"labels": Y, "other_weight": 1.5}),
    "top 3": (part(top, 3, False), kd.top_k_loss, {"k": 3}),
    "top 3 renormalized": (part(top, 3, True), kd.top_k_loss, {"k": 3, "renormalized": True}),
    "standardized": (standardized, ours_standardized, {}),
    **{
        name: (theirs, part(without_temperature, ours), {})
        for name, (theirs, ours) in RELATIONS.items()
    },
    "correlation": (correlation, kd.correlation_loss, {"row_weight": 0.7, "column_weight": 1.4}),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("T", [1.0, 4.0, 30.0])
def test_value_and_gradient_are_autograds(name, T):
    theirs, ours, how = PAIRS[name]
    z, v = torch.tensor(Z, requires_grad=True), torch.tensor(V)
    expected = theirs(torch.softmax(z / T, -1), torch.softmax(v / T, -1), z, v, T)
    expected.backward()
    gradient = z.grad.numpy()
    value, dlogits = ours(Z, V, temperature=T, **how)
    assert value == pytest.approx(expected.item(), rel=1e-11, abs=1e-15)
    np.testing.assert_allclose(dlogits, gradient, rtol=0, atol=1e-13 * np.abs(gradient).max())
