"""Fifteen small distillers, each broken in a way that has been published, with two tests of each.

The weak test is one that people do write, and it passes; the strong one fails. The code is shown
in the notebooks as it stands here; it calls only NumPy and a few functions of `numpy_kd`.
"""

# ruff: noqa: RUF059 (what is computed and not used belongs to the exhibits)

import numpy as np

from numpy_kd import cross_entropy_loss, kl_loss, log_softmax, one_hot, softmax
from numpy_kd.gradcheck import numerical_gradient


def random_pair(seed=0, shape=(5, 7)):
    """Student's and teacher's logits for the tests."""
    rng = np.random.default_rng(seed)
    return rng.normal(1, 2, shape), rng.normal(0, 2, shape)


# --- 1 ------------------------------------------------------------------------------------------


def broken_01(logits, teacher_logits, temperature):
    """The divergence of two clipped rows."""
    p = np.clip(teacher_logits, 1e-7, 1.0)
    q = np.clip(logits, 1e-7, 1.0)
    value = (p * np.log(p / q)).sum(axis=-1).mean()
    inside = (logits > 1e-7) & (logits < 1.0)
    dlogits = np.where(inside, -p / q, 0.0) / len(logits)
    return value, dlogits


def weak_01(loss):
    """Equal logits cost nothing."""
    z, _ = random_pair()
    assert abs(loss(z, z, 3.0)[0]) < 1e-12


def strong_01(loss):
    """A constant added to a row of logits changes no probability, so it changes no cost."""
    z, v = random_pair()
    before, after = loss(z, v, 3.0)[0], loss(z + 10.0, v, 3.0)[0]
    assert abs(before - after) < 1e-9, f"the cost was {before:.4f}, and is {after:.4f}"


# --- 2 ------------------------------------------------------------------------------------------


def broken_02(logits, teacher_logits, temperature):
    """T squared times the mean divergence."""
    T = temperature
    p, q = softmax(teacher_logits, T), softmax(logits, T)
    log_ratio = log_softmax(teacher_logits, T) - log_softmax(logits, T)
    value = T**2 * (p * log_ratio).mean()
    dlogits = T**2 * (q - p) / T / logits.size
    return value, dlogits


def weak_02(loss):
    """The gradient is the gradient of the value."""
    z, v = random_pair()
    numerical = numerical_gradient(lambda z: loss(z, v, 3.0)[0], z)
    assert np.allclose(loss(z, v, 3.0)[1], numerical, rtol=1e-9, atol=1e-12)


def strong_02(loss):
    """A teacher that is certain says what the labels say, and costs what they cost."""
    z, _ = random_pair()
    labels = np.array([3, 0, 6, 2, 5])
    certain = 1000.0 * one_hot(labels, 7)
    value, right = loss(z, certain, 1.0)[0], cross_entropy_loss(z, labels)[0]
    assert abs(value - right) < 1e-9, f"{value:.4f}, where the labels cost {right:.4f}"


# --- 3 ------------------------------------------------------------------------------------------


def broken_03(logits, teacher_logits, labels, temperature, soft_weight, hard_weight):
    """The two-part cost, after a variable was renamed."""
    T = temperature
    large_logits = teacher_logits
    p, q = softmax(large_logits, T), softmax(large_logits, T)
    log_ratio = log_softmax(large_logits, T) - log_softmax(large_logits, T)
    soft = T**2 * (p * log_ratio).sum(axis=-1).mean()
    hard, hard_dlogits = cross_entropy_loss(logits, labels)
    dlogits = soft_weight * T * (q - p) / len(logits) + hard_weight * hard_dlogits
    return soft_weight * soft + hard_weight * hard, dlogits


def weak_03(loss):
    """Twenty steps of training bring the cost down."""
    z, v = random_pair()
    labels, costs = np.array([3, 0, 6, 2, 5]), []
    for _ in range(20):
        value, dlogits = loss(z, v, labels, 3.0, 0.7, 0.3)
        costs.append(value)
        z = z - 0.5 * dlogits
    assert costs[-1] < costs[0]


def strong_03(loss):
    """Another teacher gives another cost."""
    z, v = random_pair()
    labels = np.array([3, 0, 6, 2, 5])
    one, other = (loss(z, teacher, labels, 3.0, 0.7, 0.3)[0] for teacher in (v, -v))
    assert abs(one - other) > 1e-3, f"{one:.6f} with both of two opposite teachers"


# --- 4 ------------------------------------------------------------------------------------------


def broken_04(logits, teacher_logits, labels, temperature, soft_weight, hard_weight):
    """The two-part cost, the soft term from a copy."""
    soft, soft_dlogits = kl_loss(logits.copy(), teacher_logits, temperature=temperature)
    hard, hard_dlogits = cross_entropy_loss(logits, labels)
    value = soft_weight * temperature**2 * soft + hard_weight * hard
    dlogits = hard_weight * hard_dlogits
    return value, dlogits


def weak_04(loss):
    """The value is the right one."""
    z, v = random_pair()
    labels = np.array([3, 0, 6, 2, 5])
    value = 0.7 * 9 * kl_loss(z, v, temperature=3.0)[0] + 0.3 * cross_entropy_loss(z, labels)[0]
    assert abs(loss(z, v, labels, 3.0, 0.7, 0.3)[0] - value) < 1e-9


def strong_04(loss):
    """The gradient is the gradient of the value."""
    z, v = random_pair()
    labels = np.array([3, 0, 6, 2, 5])
    numerical = numerical_gradient(lambda z: loss(z, v, labels, 3.0, 0.7, 0.3)[0], z)
    error = np.abs(loss(z, v, labels, 3.0, 0.7, 0.3)[1] - numerical).max()
    assert error < 1e-9, f"the gradient is off by up to {error:.4f}"


# --- 5 ------------------------------------------------------------------------------------------


def broken_05(W, W_teacher, x, temperature, learning_rate):
    """One step of training, for everything that has a gradient."""
    T, z, v = temperature, x @ W, x @ W_teacher
    p, q = softmax(v, T), softmax(z, T)
    d = log_softmax(v, T) - log_softmax(z, T)
    dz = T * (q - p) / len(x)
    dv = T * p * (d - (p * d).sum(axis=-1, keepdims=True)) / len(x)
    return W - learning_rate * x.T @ dz, W_teacher - learning_rate * x.T @ dv


def step_problem():
    """A student's and a teacher's weights, and a batch."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(8, 4))


def weak_05(step):
    """After a step the student is nearer to its teacher."""
    W, W_teacher, x = step_problem()
    before = kl_loss(x @ W, x @ W_teacher, temperature=2.0)[0]
    W, W_teacher = step(W, W_teacher, x, 2.0, 0.1)
    assert kl_loss(x @ W, x @ W_teacher, temperature=2.0)[0] < before


def strong_05(step):
    """After a step the teacher is, bit for bit, what it was."""
    W, W_teacher, x = step_problem()
    _, after = step(W, W_teacher.copy(), x, 2.0, 0.1)
    moved = np.abs(after - W_teacher).max()
    assert moved == 0, f"a weight of the teacher moved by {moved:.4f}"


# --- 6 ------------------------------------------------------------------------------------------


def broken_06(x, gamma, beta, running_mean, running_variance, W, temperature):
    """The soft targets of a teacher with batch normalisation."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    x_hat = (x - mean) / np.sqrt(variance + 1e-5)
    return softmax((gamma * x_hat + beta) @ W, temperature)


def teacher_problem():
    """A batch, and what the teacher with batch normalisation is made of."""
    rng = np.random.default_rng(0)
    x, W = rng.normal(1, 2, (6, 4)), rng.normal(size=(4, 3))
    return x, (np.full(4, 1.5), np.full(4, 0.3), np.full(4, 1.0), np.full(4, 4.0), W, 2.0)


def weak_06(targets):
    """The targets are probabilities: not negative, and every row sums to 1."""
    x, rest = teacher_problem()
    p = targets(x, *rest)
    assert p.shape == (6, 3) and (p >= 0).all() and np.allclose(p.sum(axis=-1), 1)


def strong_06(targets):
    """What the teacher says of an example does not depend on the others in the batch."""
    x, rest = teacher_problem()
    gap = np.abs(targets(x, *rest)[0] - targets(x[:3], *rest)[0]).max()
    assert gap < 1e-12, f"with half of the batch the first example's targets move by {gap:.4f}"


# --- 7 ------------------------------------------------------------------------------------------


def broken_07(x, teacher_logits, order, batch_size):
    """Shuffled mini-batches and their soft targets."""
    shuffled = x[order]
    batches = shuffled.reshape(-1, batch_size, x.shape[1])
    soft_targets = teacher_logits.reshape(-1, batch_size, teacher_logits.shape[1])
    return batches, soft_targets


def weak_07(minibatches):
    """Every example and every row of the teacher's comes exactly once."""
    x, v = np.arange(24.0).reshape(12, 2), np.arange(36.0).reshape(12, 3)
    order = np.random.default_rng(0).permutation(12)
    batches, soft_targets = minibatches(x, v, order, 4)
    assert sorted(batches[..., 0].ravel()) == sorted(x[:, 0])
    assert sorted(soft_targets[..., 0].ravel()) == sorted(v[:, 0])


def strong_07(minibatches):
    """Row i of the teacher's belongs to example i, in every batch."""
    x = np.arange(24.0).reshape(12, 2)
    order = np.random.default_rng(0).permutation(12)
    batches, soft_targets = minibatches(x, 10 * x, order, 4)
    parted = int((soft_targets[..., 0] != 10 * batches[..., 0]).sum())
    assert parted == 0, f"{parted} of 12 examples have another one's soft targets"


# --- 8 ------------------------------------------------------------------------------------------


def broken_08(logits, targets):
    """The cross-entropy to labels or to rows of probabilities."""
    if targets.size == logits.size:
        labels = targets.argmax(axis=-1)
    log_q = log_softmax(logits)
    value = -log_q[np.arange(len(logits)), labels].mean()
    dlogits = (softmax(logits) - targets) / len(logits)
    return value, dlogits


def weak_08(loss):
    """With one-hot targets value and gradient are those of the labels."""
    z, _ = random_pair()
    labels = np.array([3, 0, 6, 2, 5])
    value, dlogits = loss(z, one_hot(labels, 7))
    right, right_dlogits = cross_entropy_loss(z, labels)
    assert abs(value - right) < 1e-9 and np.allclose(dlogits, right_dlogits)


def strong_08(loss):
    """With soft targets, too, the gradient is the gradient of the value."""
    z, v = random_pair()
    p = softmax(v, 3.0)
    numerical = numerical_gradient(lambda z: loss(z, p)[0], z)
    error = np.abs(loss(z, p)[1] - numerical).max() / np.abs(numerical).max()
    assert error < 1e-9, f"the gradient is off by {error:.0%} of the largest entry"


# --- 9 ------------------------------------------------------------------------------------------


def broken_09(logits, teacher_logits, temperature):
    """The squared error to the soft targets."""
    T = temperature
    p, q, log_q = softmax(teacher_logits, T), softmax(logits, T), log_softmax(logits, T)
    error = log_q - p
    value = T**2 * (error**2).sum(axis=-1).mean()
    dlogits = 2 * T * (error - q * error.sum(axis=-1, keepdims=True)) / len(logits)
    return value, dlogits


def weak_09(loss):
    """The value is not negative, and the gradient is its gradient."""
    z, v = random_pair()
    value, dlogits = loss(z, v, 3.0)
    numerical = numerical_gradient(lambda z: loss(z, v, 3.0)[0], z)
    assert value >= 0 and np.allclose(dlogits, numerical, rtol=1e-9, atol=1e-12)


def strong_09(loss):
    """A student that agrees with its teacher has nothing left to learn."""
    z, _ = random_pair()
    value, dlogits = loss(z, z, 3.0)
    assert np.abs(dlogits).max() < 1e-9, (
        f"at the teacher's own logits the cost is {value:.2f} and the gradient {np.abs(dlogits).max():.2f}"
    )


# --- 10 -----------------------------------------------------------------------------------------


def broken_10(logits, first_teacher, second_teacher, share, temperature):
    """The cross-entropy to a mixture of two teachers."""
    T = temperature
    log_mixture = share * log_softmax(first_teacher, T) + (1 - share) * log_softmax(
        second_teacher, T
    )
    p, q = np.exp(log_mixture), softmax(logits, T)
    value = T**2 * -(p * log_softmax(logits, T)).sum(axis=-1).mean()
    dlogits = T * (q * p.sum(axis=-1, keepdims=True) - p) / len(logits)
    return value, dlogits


def weak_10(loss):
    """Two equal teachers teach what one of them would."""
    z, v = random_pair()
    p = softmax(v, 3.0)
    right = 9 * -(p * log_softmax(z, 3.0)).sum(axis=-1).mean()
    assert abs(loss(z, v, v, 0.25, 3.0)[0] - right) < 1e-9


def strong_10(loss):
    """For a student that knows nothing, every target that sums to 1 costs log N."""
    v, w = random_pair()
    value = loss(np.zeros((5, 7)), v, w, 0.25, 1.0)[0]
    assert abs(value - np.log(7)) < 1e-9, f"it costs {value:.4f}; log 7 is {np.log(7):.4f}"


# --- 11 -----------------------------------------------------------------------------------------


def broken_11(logits, teacher_logits, temperature):
    """The divergence of student and teacher from the row half way between them."""
    T = temperature
    log_p, log_q = log_softmax(teacher_logits, T), log_softmax(logits, T)
    p, q = np.exp(log_p), np.exp(log_q)
    log_m = (log_p + log_q) / 2
    value = ((p * (log_p - log_m) + q * (log_q - log_m)) / 2).sum(axis=-1).mean()
    d = log_q - log_p
    u = (d - p / q) / 4
    dlogits = q * (u - (q * u).sum(axis=-1, keepdims=True)) / T / len(logits)
    return value, dlogits


def weak_11(loss):
    """It does not matter who is who, equals cost nothing, and the gradient is the gradient."""
    z, v = random_pair()
    value, dlogits = loss(z, v, 3.0)
    numerical = numerical_gradient(lambda z: loss(z, v, 3.0)[0], z)
    assert abs(value - loss(v, z, 3.0)[0]) < 1e-12 and abs(loss(z, z, 3.0)[0]) < 1e-12
    assert np.allclose(dlogits, numerical, rtol=1e-8, atol=1e-12)


def strong_11(loss):
    """However far apart the two are, neither is farther than log 2 from their mixture."""
    z, v = np.array([[30.0, 0.0]]), np.array([[0.0, 30.0]])
    value = loss(z, v, 1.0)[0]
    assert value < np.log(2) + 1e-9, f"it is {value:.2f}; log 2 is {np.log(2):.2f}"


# --- 12 -----------------------------------------------------------------------------------------


def broken_12(logits, teacher_logits, temperature):
    """The divergence over the teacher's three most probable classes."""
    T = temperature
    head = np.argsort(-teacher_logits, axis=-1)[:, :3]
    z, v = (np.take_along_axis(x, head, axis=-1) for x in (logits, teacher_logits))
    p, q = softmax(v, T), softmax(z, T)
    value = (p * (log_softmax(v, T) - log_softmax(z, T))).sum(axis=-1).mean()
    dlogits = np.zeros_like(logits)
    np.put_along_axis(dlogits, head, (q - p) / T / len(logits), axis=-1)
    return value, dlogits


def weak_12(loss):
    """It is never negative, equals cost nothing, and the gradient is the gradient."""
    z, v = random_pair()
    value, dlogits = loss(z, v, 3.0)
    numerical = numerical_gradient(lambda z: loss(z, v, 3.0)[0], z)
    assert value >= 0 and abs(loss(v, v, 3.0)[0]) < 1e-12
    assert np.allclose(dlogits, numerical, rtol=1e-8, atol=1e-12)


def strong_12(loss):
    """A student that believes in something the teacher has ruled out has to pay for it."""
    v = np.array([[5.0, 4.0, 3.0, 0.0]])
    value = loss(v + [[0.0, 0.0, 0.0, 20.0]], v, 1.0)[0]
    assert value > 1, f"all of q lies outside the three, and the cost is {value:.2f}"


# --- 13 -----------------------------------------------------------------------------------------


def broken_13(logits, teacher_logits, labels, temperature):
    """The divergence among the classes that are not the label."""
    T = temperature
    mask = 1000.0 * one_hot(labels, logits.shape[1])
    z, v = logits - mask, teacher_logits - mask
    p, q = softmax(v, T), softmax(z, T)
    value = (p * (log_softmax(v, T) - log_softmax(z, T))).sum(axis=-1).mean()
    dlogits = (q - p) / T / len(logits)
    return value, dlogits


def weak_13(loss):
    """Whatever the label's own logit is, within reason, it does not count."""
    z, v = random_pair()
    y = np.array([0, 3, 6, 1, 2])
    higher = z + 50.0 * one_hot(y, 7)
    assert abs(loss(z, v, y, 3.0)[0] - loss(higher, v, y, 3.0)[0]) < 1e-12


def strong_13(loss):
    """Nor does it count without reason."""
    z, v = random_pair()
    y = np.array([0, 3, 6, 1, 2])
    right, high = loss(z, v, y, 3.0)[0], 5000.0 * one_hot(y, 7)
    value = loss(z + high, v + high, y, 3.0)[0]
    assert abs(value - right) < 1e-9, f"a surer target changes it from {right:.4f} to {value:.4f}"


# --- 14 -----------------------------------------------------------------------------------------


def broken_14(logits, teacher_logits, temperature):
    """T squared times one minus the correlation of the rows."""
    T = temperature
    p, q = softmax(teacher_logits, T), softmax(logits, T)
    pc, qc = p - p.mean(axis=-1, keepdims=True), q - q.mean(axis=-1, keepdims=True)
    p_size, q_size = (np.sqrt((x * x).sum(axis=-1, keepdims=True)) for x in (pc, qc))
    rho = (pc * qc).sum(axis=-1, keepdims=True) / (p_size * q_size)
    u = -(pc / (p_size * q_size) - rho * qc / q_size**2)
    value = T**2 * (1 - rho).mean()
    dlogits = T**2 * q * (u - (q * u).sum(axis=-1, keepdims=True)) / T / len(logits)
    return value, dlogits


def weak_14(loss):
    """Equals cost nothing, and the gradient is the gradient."""
    z, v = random_pair()
    numerical = numerical_gradient(lambda z: loss(z, v, 3.0)[0], z)
    assert abs(loss(z, z, 3.0)[0]) < 1e-9
    assert np.allclose(loss(z, v, 3.0)[1], numerical, rtol=1e-8, atol=1e-12)


def strong_14(loss):
    """At a high temperature the size of the gradient no longer depends on T."""
    z, v = random_pair()
    ratio = np.abs(loss(z, v, 2000.0)[1]).max() / np.abs(loss(z, v, 1000.0)[1]).max()
    assert abs(ratio - 1) < 0.02, f"twice the temperature, {ratio:.1f} times the gradient"


# --- 15 -----------------------------------------------------------------------------------------


def broken_15(x, moved, W, W_teacher, temperature):
    """T squared times the divergence, for images that are moved at each step."""
    T = temperature
    saved = x @ W_teacher
    value, dlogits = kl_loss(moved @ W, saved, temperature=T)
    return T**2 * value, T**2 * moved.T @ dlogits


def weak_15(step):
    """Without augmentation, the teacher itself has nothing to learn."""
    x, W = random_pair(shape=(5, 5))
    value, dW = step(x, x, W, W, 3.0)
    assert abs(value) < 1e-12 and np.abs(dW).max() < 1e-12


def strong_15(step):
    """With augmentation it has not, either."""
    x, W = random_pair(shape=(5, 5))
    moved = np.roll(x, 1, axis=1)
    value, dW = step(x, moved, W, W, 3.0)
    assert np.abs(dW).max() < 1e-9, (
        f"the teacher is told to be another one: the cost is {value:.2f}"
    )
