"""Synthetic images for a classifier written in numpy: no torch, no framework.

    pip install 'ganaug[data]'
    python examples/numpy_only.py

Softmax regression on real digits, of which 3, 5 and 8 have five training images each, tested on real
images that neither it nor the generator has seen: on the images as they are, with the rare ones repeated,
and with synthetic ones of the rare classes until all have as many.
"""

from __future__ import annotations

import numpy as np
from digits_split import RARE, split_digits

import ganaug

STEPS, RATE, DECAY = 1500, 0.5, 1e-4


def main() -> None:
    """Train three ways and print the recall of the rare classes and of the others."""
    train, held_out = split_digits()
    images, labels, most = train.images, train.class_ids, int(train.counts().max())
    rare = [train.class_names.index(name) for name in RARE]
    lacking = [most - int(train.counts()[class_id]) for class_id in rare]

    made = ganaug.load("exported/digits").sample(RARE, lacking)
    repeated = np.concatenate(
        [np.resize(np.flatnonzero(labels == k), n) for k, n in zip(rare, lacking, strict=True)]
    )
    ways = {
        "as they are": (images, labels),
        "repeated": (np.concatenate([images, images[repeated]]), np.append(labels, labels[repeated])),
        "synthetic": (np.concatenate([images, made]), np.append(labels, np.repeat(rare, lacking))),
    }
    print(
        f"{len(images)} real images, {len(made)} more of {', '.join(RARE)}; {len(held_out)} held-out images\n"
    )
    print(f"{'':12} {'recall of 3, 5, 8':>18}   {'of the others':>13}")
    for name, (chosen, own) in ways.items():
        is_found = predict(fit(chosen, own), held_out.images) == held_out.class_ids
        recalls = [is_found[held_out.class_ids == k].mean() * 100 for k in range(10)]
        others = [value for k, value in enumerate(recalls) if k not in rare]
        print(f"{name:12} {np.mean([recalls[k] for k in rare]):>18.1f}   {np.mean(others):>13.1f}")


def fit(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights (pixels + 1, classes) of softmax regression, by gradient descent with momentum."""
    inputs, wanted = columns(images), np.eye(labels.max() + 1)[labels]
    weights = np.zeros((inputs.shape[1], wanted.shape[1]))
    speed = np.zeros_like(weights)
    for _ in range(STEPS):
        logits = inputs @ weights
        odds = np.exp(logits - logits.max(1, keepdims=True))
        gradient = inputs.T @ (odds / odds.sum(1, keepdims=True) - wanted) / len(inputs)
        speed = 0.9 * speed - RATE * (gradient + DECAY * weights)
        weights += speed
    return weights


def predict(weights: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The likeliest class id of each image."""
    return np.argmax(columns(images) @ weights, axis=1)


def columns(images: np.ndarray) -> np.ndarray:
    """(N, pixels + 1): pixels from 0 to 1, and a one for the bias."""
    return np.pad(images.reshape(len(images), -1) / 255, ((0, 0), (0, 1)), constant_values=1)


if __name__ == "__main__":
    main()
