"""What a good student hands in: every exercise in plain NumPy, written without the library."""

import math

import numpy as np

EPSILON = 1e-5
exp = np.exp


def hardmax(logits):
    rows = np.zeros_like(logits)
    rows[np.arange(len(logits)), logits.argmax(axis=-1)] = 1
    return rows


def shifted(z):
    return z - z.max(axis=-1, keepdims=True)


def softmax(logits, temperature=1.0):
    e = exp(shifted(logits / temperature))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(logits, temperature=1.0):
    z = shifted(logits / temperature)
    return z - np.log(exp(z).sum(axis=-1, keepdims=True))


def soften(probabilities, temperature):
    return softmax(np.log(probabilities), temperature)


def one_hot(labels, num_classes):
    return np.eye(num_classes)[labels]


def smooth_labels(targets, epsilon):
    return (1 - epsilon) * targets + epsilon / targets.shape[-1]


def entropy(p):
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)


def cross_entropy(p, q):
    with np.errstate(all="ignore"):
        return -np.where(p > 0, p * np.log(q), 0).sum(axis=-1)


def kl_divergence(p, q):
    return cross_entropy(p, q) - entropy(p)


def cross_entropy_loss(logits, labels):
    B = len(logits)
    value = -log_softmax(logits)[np.arange(B), labels].mean()
    return value, (softmax(logits) - one_hot(labels, logits.shape[1]).astype(logits.dtype)) / B


def soft_target_loss(logits, targets, temperature):
    value = -(targets * log_softmax(logits, temperature)).sum(axis=-1).mean()
    return value, (softmax(logits, temperature) - targets) / temperature / len(logits)


def kl_loss(logits, teacher_logits, temperature):
    T = temperature
    p, q = softmax(teacher_logits, T), softmax(logits, T)
    difference = log_softmax(teacher_logits, T) - log_softmax(logits, T)
    return (p * difference).sum(axis=-1).mean(), (q - p) / T / len(logits)


def reverse_kl_loss(logits, teacher_logits, temperature):
    T = temperature
    q = softmax(logits, T)
    d = log_softmax(logits, T) - log_softmax(teacher_logits, T)
    kl = (q * d).sum(axis=-1, keepdims=True)
    return kl.mean(), q * (d - kl) / T / len(logits)


def high_temperature_gradient(logits, teacher_logits, temperature):
    a = logits - teacher_logits
    a = a - a.mean(axis=-1, keepdims=True)
    return a / (a.shape[1] * temperature**2)


def logit_matching_loss(logits, teacher_logits):
    a = logits - teacher_logits
    a = a - a.mean(axis=-1, keepdims=True)
    return (a**2).sum(axis=-1).mean() / 2, a / len(a)


def probability_difference(logits, teacher_logits, temperature):
    p = softmax(teacher_logits, temperature)
    a = logits - teacher_logits
    a = (a - a.mean(axis=-1, keepdims=True)) / temperature
    d = a - np.log1p((p * np.expm1(a)).sum(axis=-1, keepdims=True))
    return p * np.expm1(d)


def linear_backward(dy, x, W):
    return dy @ W.T, x.T @ dy, dy.sum(axis=0)


def relu_backward(dy, y):
    return dy * (y > 0)


def mlp_backward(dlogits, x, h, W2):
    dh, dW2, db2 = linear_backward(dlogits, h, W2)
    da = relu_backward(dh, h)
    return x.T @ da, da.sum(axis=0), dW2, db2


def he_normal(fan_in, fan_out, rng):
    return rng.normal(0, math.sqrt(2 / fan_in), (fan_in, fan_out))


def xavier_uniform(fan_in, fan_out, rng):
    a = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-a, a, (fan_in, fan_out))


def standardise(x_train, x):
    deviation = x_train.std(axis=0)
    return (x - x_train.mean(axis=0)) / np.where(deviation == 0, 1, deviation)


def batch_norm(x, gamma, beta, epsilon=EPSILON):
    mean, variance = x.mean(axis=0), x.var(axis=0)
    x_hat = (x - mean) / np.sqrt(variance + epsilon)
    return gamma * x_hat + beta, x_hat, mean, variance


def batch_norm_backward(dy, x_hat, variance, gamma, epsilon=EPSILON):
    g = gamma * dy
    dx = g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0)
    return dx / np.sqrt(variance + epsilon), (dy * x_hat).sum(axis=0), dy.sum(axis=0)


def dropout(x, rate, rng):
    return x * (rng.random(x.shape) >= rate) / (1 - rate)


def momentum_step(parameters, velocity, gradient, learning_rate, momentum):
    velocity = momentum * velocity + gradient
    return parameters - learning_rate * velocity, velocity


def cosine_decay(step, rate, total_steps, floor=0.0):
    share = min(step / total_steps, 1)
    return floor + (rate - floor) / 2 * (1 + math.cos(math.pi * share))


def hinton_loss(logits, teacher_logits, labels, temperature, soft_weight, hard_weight):
    soft, soft_gradient = kl_loss(logits, teacher_logits, temperature)
    hard, hard_gradient = cross_entropy_loss(logits, labels)
    factor = soft_weight * temperature**2
    return factor * soft + hard_weight * hard, factor * soft_gradient + hard_weight * hard_gradient


def training_step(
    W, b, x, teacher_logits, labels, temperature, soft_weight, hard_weight, learning_rate
):
    logits = x @ W + b
    _, dlogits = hinton_loss(logits, teacher_logits, labels, temperature, soft_weight, hard_weight)
    _, dW, db = linear_backward(dlogits, x, W)
    return W - learning_rate * dW, b - learning_rate * db


def pseudo_labels(teacher_logits):
    return teacher_logits.argmax(axis=-1)


def missing_class_bias(logits, labels, missing):
    others = logits.copy()
    others[:, missing] = -np.inf
    gaps = np.sort(others.max(axis=-1) - logits[:, missing])
    candidates = [gaps[0] - 1, *(gaps[:-1] + gaps[1:]) / 2, gaps[-1] + 1]
    errors = []
    for b in candidates:
        moved = logits.copy()
        moved[:, missing] += b
        errors.append((moved.argmax(axis=-1) != labels).sum())
    return float(candidates[int(np.argmin(errors))])


def arithmetic_mean(member_logits, temperature):
    return softmax(member_logits, temperature).mean(axis=0)


def geometric_mean(member_logits, temperature):
    return softmax(member_logits.mean(axis=0), temperature)


def nearest_neighbours(x):
    d = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(d, np.inf)
    return d.argmin(axis=1)


def munge(x, swap_probability, local_variance, rng):
    neighbour = x[nearest_neighbours(x)]
    deviation = np.abs(x - neighbour) / local_variance
    drawn = neighbour + deviation * rng.standard_normal(x.shape)
    return np.where(rng.random(x.shape) < swap_probability, drawn, x)


def warm_kl_loss(logits, teacher_logits, temperature):
    value, gradient = kl_loss(logits, teacher_logits, temperature)
    return temperature**2 * value, temperature**2 * gradient


def repaired_01(logits, teacher_logits, temperature):
    return warm_kl_loss(logits, teacher_logits, temperature)


def repaired_02(logits, teacher_logits, temperature):
    T = temperature
    p, q = softmax(teacher_logits, T), softmax(logits, T)
    log_ratio = log_softmax(teacher_logits, T) - log_softmax(logits, T)
    return T**2 * (p * log_ratio).sum(axis=-1).mean(), T * (q - p) / len(logits)


def repaired_03(logits, teacher_logits, labels, temperature, soft_weight, hard_weight):
    soft, soft_gradient = warm_kl_loss(logits, teacher_logits, temperature)
    hard, hard_gradient = cross_entropy_loss(logits, labels)
    gradient = soft_weight * soft_gradient + hard_weight * hard_gradient
    return soft_weight * soft + hard_weight * hard, gradient


def repaired_04(logits, teacher_logits, labels, temperature, soft_weight, hard_weight):
    return repaired_03(logits, teacher_logits, labels, temperature, soft_weight, hard_weight)


def repaired_05(W, W_teacher, x, temperature, learning_rate):
    dz = warm_kl_loss(x @ W, x @ W_teacher, temperature)[1]
    return W - learning_rate * x.T @ dz, W_teacher


def repaired_06(x, gamma, beta, running_mean, running_variance, W, temperature):
    x_hat = (x - running_mean) / np.sqrt(running_variance + EPSILON)
    return softmax((gamma * x_hat + beta) @ W, temperature)


def repaired_07(x, teacher_logits, order, batch_size):
    batches = x[order].reshape(-1, batch_size, x.shape[1])
    return batches, teacher_logits[order].reshape(-1, batch_size, teacher_logits.shape[1])


def repaired_08(logits, targets):
    return soft_target_loss(logits, targets, 1.0)


def repaired_09(logits, teacher_logits, temperature):
    return warm_kl_loss(logits, teacher_logits, temperature)


def repaired_10(logits, first_teacher, second_teacher, share, temperature):
    p = share * softmax(first_teacher, temperature)
    p = p + (1 - share) * softmax(second_teacher, temperature)
    value, gradient = soft_target_loss(logits, p, temperature)
    return temperature**2 * value, temperature**2 * gradient


# --- regularisers and specialists ---------------------------------------------------------------


def overfitting(test_cross_entropy):
    best, rise = [], []
    for curve in test_cross_entropy:
        lowest = min(curve)
        best.append(list(curve).index(lowest))
        rise.append(curve[-1] - lowest)
    return np.array(best), np.array(rise)


def recovered_share(hard, soft, full):
    shares = 1 - (full - soft) / (full - hard)
    K = len(shares)
    mean = sum(shares) / K
    return mean, math.sqrt(sum((shares - mean) ** 2) / (K * (K - 1)))


def distance_from_labels(teacher_logits, labels, temperature):
    p = softmax(teacher_logits, temperature)
    label = one_hot(labels, p.shape[1]).astype(bool)
    return (1 - p[label].sum() / len(p) + p[~label].sum() / len(p)) / 2


def confusion_covariance(p):
    covariance = np.cov(p, rowvar=False, bias=True).astype(p.dtype)
    for i in range(p.shape[1]):
        covariance[i, i] = max(np.delete(covariance[:, i], i))
    return covariance


def k_means_step(points, centres):
    squared = (points**2).sum(axis=1, keepdims=True) - 2 * points @ centres.T
    nearest = (squared + (centres**2).sum(axis=1)).argmin(axis=1)
    belongs = one_hot(nearest, len(centres)).astype(points.dtype)
    return belongs.T @ points / belongs.sum(axis=0)[:, None]


def dustbin_correction(logits, share):
    p = softmax(logits)
    weights = np.full(
        p.shape[1], share / 0.5, p.dtype
    )  # how often in the data, how often in halves
    weights[-1] = (1 - share) / 0.5
    weighted = p * weights
    return weighted / weighted.sum(axis=1, keepdims=True)


def combined_with_one(p, specialist, classes):
    inside = np.zeros_like(p)
    inside[:, classes] = specialist[:, :-1]
    rest = p.copy()
    rest[:, classes] = 0
    return (p + inside + rest / rest.sum(axis=1, keepdims=True) * specialist[:, -1:]) / 2


def one_round(q, p, named, dustbins, outside):
    total = p + named
    for m in range(len(outside)):
        hidden = q * outside[m]
        total = total + dustbins[:, [m]] * hidden / hidden.sum(axis=1, keepdims=True)
    return total / (1 + len(outside))


# --- since 2015 ---------------------------------------------------------------------------------


def through_softmax(q, u, temperature):
    average = np.einsum("bn,bn->b", q, u)
    return q * (u - average[:, None]) / temperature


def jensen_shannon(logits, teacher_logits, beta, temperature):
    p, q = softmax(teacher_logits, temperature), softmax(logits, temperature)
    m = beta * p + (1 - beta) * q
    rows = beta * (p * np.log(p / m)).sum(-1) + (1 - beta) * (q * np.log(q / m)).sum(-1)
    u = (1 - beta) * np.log(q / m)
    return rows.mean(), through_softmax(q, u, temperature) / len(q)


def top_k(logits, teacher_logits, k, temperature):
    p, q = softmax(teacher_logits, temperature), softmax(logits, temperature)
    value, dlogits = 0.0, np.zeros_like(q)
    for b in range(len(p)):
        order = np.argsort(-teacher_logits[b])
        head, tail = order[:k], order[k:]
        p_r, q_r = p[b, tail].sum(), q[b, tail].sum()
        value += (p[b, head] * np.log(p[b, head] / q[b, head])).sum() + p_r * np.log(p_r / q_r)
        dlogits[b, head] = q[b, head] - p[b, head]
        dlogits[b, tail] = q[b, tail] * (1 - p_r / q_r)
    return value / len(p), dlogits / temperature / len(p)


def repaired_11(logits, teacher_logits, temperature):
    return jensen_shannon(logits, teacher_logits, 0.5, temperature)


def repaired_12(logits, teacher_logits, temperature):
    return top_k(logits, teacher_logits, 3, temperature)


def repaired_13(logits, teacher_logits, labels, temperature):
    others = np.arange(logits.shape[1]) != labels[:, None]
    z, v = (x[others].reshape(len(x), -1) for x in (logits, teacher_logits))
    p, q = softmax(v, temperature), softmax(z, temperature)
    rows = p * (log_softmax(v, temperature) - log_softmax(z, temperature))
    dlogits = np.zeros_like(logits)
    dlogits[others] = ((q - p) / temperature / len(logits)).ravel()
    return rows.sum(axis=-1).mean(), dlogits


def standardized_backward(logits, dstandardized):
    rows = []
    for z, g in zip(logits, dstandardized, strict=True):
        N, sigma = len(z), np.sqrt(((z - z.mean()) ** 2).mean())
        Z = (z - z.mean()) / sigma
        jacobian = (np.eye(N) - 1 / N - np.outer(Z, Z) / N) / sigma
        rows.append(g @ jacobian)
    return np.array(rows, dtype=logits.dtype)


def temperature_slope(logits, teacher_logits, temperature):
    z, v, T = logits, teacher_logits, temperature
    p, q = softmax(v, T), softmax(z, T)
    dp = -p * (v - (p * v).sum(-1, keepdims=True)) / T**2
    dlog_q = -(z - (q * z).sum(-1, keepdims=True)) / T**2
    return (dp * (log_softmax(v, T) - log_softmax(z, T)) - p * dlog_q).sum(axis=-1)


def paired_gap(errors, other_errors):
    d = errors - other_errors
    K = len(d)
    mean = d.sum() / K
    return mean, np.sqrt(((d - mean) ** 2).sum() / (K - 1) / K)


def repaired_14(logits, teacher_logits, temperature):
    p, q = softmax(teacher_logits, temperature), softmax(logits, temperature)
    value, rows = 0.0, []
    for a, b in zip(q, p, strict=True):
        a0, b0 = a - a.mean(), b - b.mean()
        rho = a0 @ b0 / np.sqrt((a0 @ a0) * (b0 @ b0))
        value += (1 - rho) / len(p)
        u = rho * a0 / (a0 @ a0) - b0 / np.sqrt((a0 @ a0) * (b0 @ b0))
        rows.append(a * (u - a @ u) / temperature / len(p))
    return value, np.array(rows)


def repaired_15(x, moved, W, W_teacher, temperature):
    T = temperature
    p, q = softmax(moved @ W_teacher, T), softmax(moved @ W, T)
    rows = p * (log_softmax(moved @ W_teacher, T) - log_softmax(moved @ W, T))
    return T**2 * rows.sum(-1).mean(), T * moved.T @ (q - p) / len(x)
