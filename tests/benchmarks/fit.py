"""A whole fit against scikit-learn's `MLPClassifier`, and the memory of an epoch on MNIST.

python tests/benchmarks/fit.py                   the 8 x 8 digits, 64-64-10, hard labels
python tests/benchmarks/fit.py --hidden 256 256

Both take the same number of steps of SGD with Nesterov's momentum on the same batches' size, from
the same kind of first weights, and neither looks at validation data. Soft targets scikit-learn does
not have. The epoch on MNIST is measured where its files are (NUMPY_KD_DATA).
"""

import gc
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import measuring
from measuring import Contender

import numpy_kd as kd
from numpy_kd.datasets import load_digits, load_mnist
from numpy_kd.losses import cross_entropy_loss
from numpy_kd.training import fit

RATE, MOMENTUM, GOAL = 0.05, 0.9, 0.5


def ours(hidden, epochs, batch):
    data = load_digits()

    def whole_fit():
        network = kd.MLP((64, *hidden, 10), seed=0)
        optimizer = kd.SGD(momentum=MOMENTUM, nesterov=True)
        how = {"loss": cross_entropy_loss, "optimizer": optimizer, "schedule": RATE, "rng": 0}
        how |= {"epochs": epochs, "batch_size": batch, "progress": False}
        fit(network, data.x_train, data.labels_train, **how)
        return network.predict(data.x_test)

    return whole_fit


def scikit_learn(hidden, epochs, batch):
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    warnings.simplefilter("ignore")  # "not converged": the number of epochs is what was asked for

    def whole_fit():
        network = MLPClassifier(
            hidden,
            solver="sgd",
            alpha=0.0,
            batch_size=batch,
            learning_rate_init=RATE,
            momentum=MOMENTUM,
            max_iter=epochs,
            n_iter_no_change=epochs + 1,
            tol=0.0,
            random_state=0,
        )
        network.fit(data.x_train, data.labels_train)
        return network.predict(data.x_test)

    return whole_fit


def peak_of_an_epoch(sizes=(784, 800, 800, 10), batch=128) -> dict[str, int]:
    """Bytes at the peak of a distillation's epoch on MNIST, and what they are to stay below."""
    data = load_mnist()
    x, rng = data.x_train, np.random.default_rng(0)
    teacher_logits = 5 * rng.standard_normal((len(x), sizes[-1]), dtype=np.float32)
    gc.collect()
    tracemalloc.start()
    try:
        network = kd.MLP(sizes, seed=0)
        fit(network, x, teacher_logits, loss=soft, epochs=1, batch_size=batch, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    held = x.nbytes + teacher_logits.nbytes
    activations = 4 * batch * sum(sizes)
    allowed = held + 4 * network.parameters.nbytes + 2 * activations
    return {"peak": held + peak, "allowed": allowed, "data": held}


def soft(logits, teacher_logits):
    return kd.losses.hinton_loss(
        logits, teacher_logits, temperature=20.0, soft_weight=1.0, hard_weight=0.0
    )


def main():
    parser = measuring.arguments(__doc__.splitlines()[0], repeats=7)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=200, help="200 is scikit-learn's default")
    options = parser.parse_args()
    threads = measuring.equal_threads(options.threads)
    print(f"threads: {threads}")
    sizes = f"64-{'-'.join(map(str, options.hidden))}-10"
    title = f"fit of {sizes} to the digits, {options.epochs} epochs, batch {options.batch}"
    work = tuple(options.hidden), options.epochs, options.batch
    right = load_digits().labels_test
    contenders = {"numpy_kd": Contender(ours, *work, threads=options.threads)}
    try:
        accuracy = {"scikit-learn": float(np.mean(scikit_learn(*work)() == right))}
        contenders["scikit-learn"] = Contender(scikit_learn, *work, threads=options.threads)
    except ImportError:
        accuracy = {}
        print("scikit-learn is not installed: pip install '.[bench]'")
    accuracy["numpy_kd"] = float(np.mean(ours(*work)() == right))
    seconds = measuring.contest(contenders, options.repeats)
    rows = measuring.table(title, seconds, "numpy_kd", {"scikit-learn": GOAL})
    print("  test accuracy: " + ", ".join(f"{name} {a:.3f}" for name, a in accuracy.items()))
    results = {"machine": measuring.machine(threads), "fit": rows, "accuracy": accuracy}
    try:
        results["memory"] = memory = peak_of_an_epoch()
        print(
            f"\nAn epoch on MNIST, 784-800-800-10: {memory['peak'] / 1e6:.1f} MB at its peak, of "
            f"them {memory['data'] / 1e6:.1f} MB of data; data, 4 x parameters and the activations "
            f"of two batches are {memory['allowed'] / 1e6:.1f} MB"
        )
    except FileNotFoundError as error:
        print(f"\nno epoch on MNIST: {error}")
    measuring.write(options.json, results)


if __name__ == "__main__":
    main()
