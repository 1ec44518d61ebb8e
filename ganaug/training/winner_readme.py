"""The README of a recipe that leaves: what it is, and the lines of torch that load it."""

from __future__ import annotations

import pandas as pd

from ganaug.arms import Arm
from ganaug.classifier_name import DEFAULT
from ganaug.recipe import Recipe

_TEXT = """# The training set that did best: `{name}`

{meaning}.

{sentence}

{counts} Every image, its class, where it is from and how often it is drawn stand in
`manifest.parquet`; row k of it is image k of `images.npy`. `recipe.json` has the loss and all other numbers.
{late}{start}{measured}
## Load it in torch

Run in this folder; needs torch, pandas and pyarrow{needs}. Scale images to [-1, 1] at test time too.

```python
{snippet}```
{decision}"""

_DECISION = """
## Decide

The trained classifier's logits are moved before it decides: they are too low for classes of which it saw few
images. `decision_offsets` are the mean of what was chosen for each classifier that was measured. With logarithms
of probabilities in the place of logits the same holds.

```python
def decide(model, images):
    logits = model(images)
    return (logits + torch.tensor(recipe["decision_offsets"], device=logits.device)).argmax(1)
```
"""

_LOAD = """import json

{import_augment}import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

with open("recipe.json", encoding="utf-8") as file:
    recipe = json.load(file)
manifest = pd.read_parquet("manifest.parquet")
pixels = np.load("images.npy", mmap_mode="r")
class_ids, is_augmented = manifest["class_id"].to_numpy(), manifest["is_augmented"].to_numpy()
{load_augment}

class TrainingSet(Dataset):
    def __len__(self):
        return len(manifest)

    def __getitem__(self, row):
        image = pixels[row].copy()
{augment}        return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1, int(class_ids[row])


def loader(late=False, **settings):
    weights = manifest["late_draw_weight" if late else "draw_weight"].tolist()
    sampler = WeightedRandomSampler(weights, len(manifest))
    return DataLoader(TrainingSet(), recipe["batch"], sampler=sampler, **settings)


def loss(logits, labels, late=False):
    weights = torch.tensor(recipe["late_loss_weights" if late else "loss_weights"], device=logits.device)
    offsets = torch.tensor(recipe["logit_offsets"], device=logits.device)
    smoothing = recipe["label_smoothing"]
    each = cross_entropy(logits + offsets, labels, reduction="none", label_smoothing=smoothing)
    return (each * weights[labels]).mean()


def training_loss(model, images, labels, late=False):
{mixing}"""

_AUGMENT = """        if is_augmented[row]:
            image = augment(image=image)["image"].reshape(image.shape)
"""
_LOAD_AUGMENT = """augment = albumentations.load("albumentations.yaml", data_format="yaml")
"""

_MIXING = {
    "none": """    return loss(model(images), labels, late)
""",
    "mixup": """    share = float(np.random.beta(recipe["mixup_alpha"], recipe["mixup_alpha"]))
    partner = torch.randperm(len(images))
    logits = model(share * images + (1 - share) * images[partner])
    return share * loss(logits, labels, late) + (1 - share) * loss(logits, labels[partner], late)
""",
    "cutmix": """    if np.random.random() >= recipe["cutmix_probability"]:
        return loss(model(images), labels, late)
    height, width = images.shape[2:]
    side = np.sqrt(1 - np.random.beta(recipe["cutmix_alpha"], recipe["cutmix_alpha"]))
    tall, broad = round(height * side), round(width * side)
    top, left = np.random.randint(height) - tall // 2, np.random.randint(width) - broad // 2
    rows, columns = slice(max(top, 0), max(top + tall, 0)), slice(max(left, 0), max(left + broad, 0))
    partner, mixed = torch.randperm(len(images)), images.clone()
    mixed[:, :, rows, columns] = images[partner, :, rows, columns]
    share = 1 - mixed[0, 0, rows, columns].numel() / (height * width)
    logits = model(mixed)
    return share * loss(logits, labels, late) + (1 - share) * loss(logits, labels[partner], late)
""",
}


def readme(arm: Arm, recipe: Recipe, manifest: pd.DataFrame, sentence: str, classifier: str) -> str:
    """The README's text.

    Args:
        arm: The arm that won.
        recipe: Its recipe.
        manifest: Its images.
        sentence: The verdict.
        classifier: What was trained by it.
    """
    is_augmented = bool(manifest["is_augmented"].any())
    snippet = _LOAD.format(
        import_augment="import albumentations\n" if is_augmented else "",
        load_augment=_LOAD_AUGMENT if is_augmented else "",
        augment=_AUGMENT if is_augmented else "",
        mixing=_MIXING[recipe.mixing],
    )
    counts = manifest["origin"].value_counts()
    words = {"real": "real", "synthetic": "synthetic", "computed": "computed from real ones"}
    parts = [f"{counts[origin]} {word}" for origin, word in words.items() if origin in counts]
    late, start = "", ""
    if recipe.late is not None:
        late = (
            f"\nFrom {recipe.late.begins:.0%} of the steps on pass `late=True` to `loader` and `training_loss`: "
            "draws and class weights change there.\n"
        )
    if arm.start == "discriminator":
        start = (
            "\nThe classifier that was measured started from the features of the base GAN's discriminator, "
            "`train/base/discriminator.safetensors` of the run.\n"
        )
    return _TEXT.format(
        name=arm.name,
        meaning=arm.meaning[:1].upper() + arm.meaning[1:],
        sentence=sentence,
        counts=f"It has {' + '.join(parts)} images.",
        late=late,
        start=start,
        measured="" if classifier == DEFAULT else f"\nIt was measured with the classifier `{classifier}`.\n",
        needs=" and albumentations" if is_augmented else "",
        snippet=snippet,
        decision="" if recipe.decision_offsets is None else _DECISION,
    )
