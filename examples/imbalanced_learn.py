"""Rare digits with scikit-learn and imbalanced-learn: nothing, random copies, SMOTE and a GAN.

Three of scikit-learn's ten digits are cut to five training images each. A classifier is trained on
what each sampler makes of that, and tested on half of all real images, which no sampler ever saw.

    pip install 'ganaug[train]'
    python examples/imbalanced_learn.py                  # under a minute on two cores
    python examples/imbalanced_learn.py --splits 10      # the same with more certainty
    python examples/imbalanced_learn.py --classifier forest
"""

import argparse
import time

import numpy as np
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import Pipeline
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from ganaug import GanOverSampler

RARE, EACH = (3, 5, 8), 5
CLASSIFIERS = {"svc": SVC(), "forest": RandomForestClassifier(random_state=0)}


def pipelines(classifier, steps, seed):
    """A sampler works while the pipeline is fitted, never when it predicts."""
    samplers = {
        "nothing": "passthrough",
        "RandomOverSampler": RandomOverSampler(random_state=seed),
        # SMOTE's own five neighbours would be one more than five images have.
        "SMOTE": SMOTE(k_neighbors=EACH - 1, random_state=seed),
        "GanOverSampler": GanOverSampler(image_shape=(8, 8), white=16, steps=steps, random_state=seed),
        # Without image_shape the 64 pixels are columns of a table.
        "GanOverSampler, rows": GanOverSampler(random_state=seed),
    }
    return {
        name: Pipeline([("sampler", sampler), ("classifier", clone(CLASSIFIERS[classifier]))])
        for name, sampler in samplers.items()
    }


def split(seed):
    """Half of the real digits to train on, with the rare ones cut, and half to test on."""
    images, labels = load_digits(return_X_y=True)  # (1797, 64), 0 is black and 16 is white
    X, X_test, y, y_test = train_test_split(images, labels, test_size=0.5, stratify=labels, random_state=seed)
    rng = np.random.default_rng(seed)
    own = [rng.permutation(np.flatnonzero(y == digit)) for digit in range(10)]
    rows = np.concatenate([of[:EACH] if digit in RARE else of for digit, of in enumerate(own)])
    return X[rows], y[rows], X_test, y_test


def main():
    """Print what was trained, then a line per sampler."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="training steps of the GAN on images")
    parser.add_argument("--classifier", choices=CLASSIFIERS, default="svc")
    settings = parser.parse_args()

    recalls, seconds = {}, {}
    for seed in range(settings.splits):
        X, y, X_test, y_test = split(seed)
        for name, pipeline in pipelines(settings.classifier, settings.steps, seed).items():
            started = time.perf_counter()
            found = pipeline.fit(X, y).predict(X_test)
            seconds.setdefault(name, []).append(time.perf_counter() - started)
            recalls.setdefault(name, []).append(recall_score(y_test, found, labels=RARE, average="macro"))
            if name.startswith("Gan"):
                generator = pipeline["sampler"].generator_
                print(
                    f"split {seed}: {name} trained {generator.summary['steps']} steps on "
                    f"{sum(generator.trained_on.values())} real images, {generator.trained_on['3']} of them a 3"
                )

    print(f"\nRecall of {RARE} in held-out real images, {settings.splits} splits, {settings.classifier}\n")
    print(f"{'':22}{'mean %':>8}{'worst %':>9}{'best %':>8}{'s a fit':>9}")
    for name, values in recalls.items():
        share = 100 * np.array(values)
        print(
            f"{name:22}{share.mean():8.1f}{share.min():9.1f}{share.max():8.1f}{np.mean(seconds[name]):9.1f}"
        )


if __name__ == "__main__":
    main()
