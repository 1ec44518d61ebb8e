"""Every kind of classifier in the arena, on real digits: it learns, it repeats, it goes on, and its errors are clear."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from support.digits import digits

from ganaug.arms import STANDARD, find_arms, make_arm
from ganaug.config import EvaluateConfig
from ganaug.errors import SettingsError, TrainingError
from ganaug.training import fits as training_fits
from ganaug.training.arena import run_arena
from ganaug.training.classifiers.choice import Choice, checked, usable
from ganaug.training.classifiers.factory import make

DATA = digits(50)
ROWS = np.random.default_rng(0).permutation(len(DATA))
TRAIN, TEST, NOTHING = DATA.take(ROWS[:100]), DATA.take(ROWS[100:]), DATA.take(np.arange(0))
BEST = "oversampling+albumentations"
CONFIG = EvaluateConfig(arms=("oversampling",), seeds=2, steps=30, workers=2)

MODELS = """
import os
from pathlib import Path
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
import torch
from torch import nn


class Viewing(nn.Module):
    def __init__(self, channels, n_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.LazyLinear(n_classes))

    def forward(self, images):
        maps = self.body(images)
        return self.head(maps.view(len(maps), -1))


def network(image_shape, n_classes):
    height, width, channels = image_shape
    return Viewing(channels, n_classes)

def counted(image_shape, n_classes):
    (Path(__file__).parent / f"{os.getpid()}.pid").touch()
    return network(image_shape, n_classes)

def pipeline(image_shape, n_classes):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))

def neighbours(image_shape, n_classes):
    return KNeighborsClassifier(3)

def failing(image_shape, n_classes):
    raise KeyError("depth")

def nothing(image_shape, n_classes):
    return None

def a_class(image_shape, n_classes):
    return LogisticRegression

def no_probabilities(image_shape, n_classes):
    return LinearSVC()

def too_few(image_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes - 1))

def of_other_images(image_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, n_classes))

def frozen(image_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, n_classes)).requires_grad_(False)

class Lottery(nn.Module):
    # Little but its first weights decides what it says.

    def __init__(self, n_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, n_classes)).requires_grad_(False)
        self.shift = nn.Parameter(torch.zeros(n_classes))

    def forward(self, images):
        return self.body(images) + self.shift

def lottery(image_shape, n_classes):
    return Lottery(n_classes)

class Pair(nn.Module):
    def forward(self, images):
        return images, images

def two_outputs(image_shape, n_classes):
    return Pair()

class Hungry(Viewing):
    def forward(self, images):
        if len(images) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)

def hungry(image_shape, n_classes):
    return Hungry(image_shape[2], n_classes)

only = KNeighborsClassifier()

def shared(image_shape, n_classes):
    return only

number = 3
"""

COMMAND = """
import sys
import numpy as np
import pandas as pd

folder, predictions, seed = sys.argv[1:4]
manifest = pd.read_parquet(folder + "/manifest.parquet")
pixels, test = (np.load(folder + name).astype(float) / 255 for name in ("/images.npy", "/test.npy"))
weights = manifest["draw_weight"].to_numpy()
names = manifest.drop_duplicates("class_id").sort_values("class_id")["class_name"]
means = [np.average(pixels[rows], axis=0, weights=weights[rows])
         for rows in (np.flatnonzero(manifest["class_id"] == k) for k in range(3))]
distance = np.stack([((test - mean) ** 2).sum((1, 2, 3)) for mean in means], axis=1)
probability = np.exp(-distance) / np.exp(-distance).sum(1, keepdims=True)
"""
SAVED = COMMAND + "np.save(predictions, probability)\n"
AS_TABLE = (
    COMMAND + "pd.DataFrame(probability[:, ::-1], columns=list(names)[::-1]).to_csv(predictions + '.csv')\n"
)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The user's module, on the path."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "arena_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    yield tmp_path / "code" / "arena_models.py"
    sys.modules.pop("arena_models", None)


def command(folder, text, extra=""):
    """A setting that runs this program."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(text)
    return f"command: {sys.executable} {folder / 'train.py'} {{folder}} {{predictions}} {{seed}}{extra}"


def arena(folder, classifier, **settings):
    config = CONFIG.model_copy(update={"classifier": classifier, **settings})
    return run_arena(TRAIN, NOTHING, TEST, [2], config, folder)


def fits(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "fits").glob("*.npz")}


@pytest.mark.parametrize("kind", ["resnet-32", "network", "pipeline", "neighbours", "npy", "csv"])
def test_every_kind_of_classifier_learns_real_digits_and_the_verdict_says_which_it_was(
    kind, models, tmp_path
):
    programs = {"npy": SAVED, "csv": AS_TABLE}
    name = kind if kind == "resnet-32" else f"arena_models:{kind}"
    if kind in programs:
        name = command(tmp_path / "program", programs[kind])
    # Augmented images are laid out in memory as no others are, which modules can stumble over.
    found = arena(tmp_path / "run", name, arms=(BEST,) if kind == "network" else ("oversampling",))
    assert found.scores["macro_f1"].min() > 0.75
    assert any(repr(name) in note for note in found.verdict.notes)
    assert json.loads((tmp_path / "run/recipe/recipe.json").read_text())["classifier"] == name
    assert f"measured with the classifier `{name}`" in (tmp_path / "run/recipe/README.md").read_text()
    assert not list((tmp_path / "run/fits").glob("data-*"))


def test_the_verdict_does_not_mention_the_default(tmp_path):
    found = arena(tmp_path, "small-cnn", arms=("real",), steps=4)
    assert not any("classifier of all arms" in note for note in found.verdict.notes)


def test_a_module_gives_the_same_again_and_has_other_first_weights_for_another_seed(models, tmp_path):
    found = []
    for run in ("one", "two"):
        arena(tmp_path / run, "arena_models:lottery", steps=3)
        with np.load(tmp_path / run / "predictions.npz") as stored:
            found.append(stored["probability"][0])
    assert found[0].tobytes() == found[1].tobytes()
    assert np.abs(found[0][0] - found[0][1]).max() > 0.05


def test_processes_that_stay_as_on_a_gpu_train_the_same(models, tmp_path, monkeypatch):
    def processes():
        found = {int(path.stem) for path in models.parent.glob("*.pid")} - {os.getpid()}
        for path in models.parent.glob("*.pid"):
            path.unlink()
        return len(found)

    alone = arena(tmp_path / "alone", "arena_models:counted", seeds=5)
    assert processes() == 5
    plain = training_fits.train_in_processes
    monkeypatch.setattr(
        training_fits, "train_in_processes", lambda *given, stay: plain(*given, stay=not stay)
    )
    together = arena(tmp_path / "together", "arena_models:counted", seeds=5)
    assert processes() == 2
    pd.testing.assert_frame_equal(
        alone.scores.drop(columns="seconds"), together.scores.drop(columns="seconds")
    )


@pytest.mark.parametrize(
    ("choice", "device", "expected"),
    [
        (Choice(), "cpu", (20, False)),
        (Choice(), "cuda", (8, True)),
        (Choice("mine:network", "network"), "cuda", (1, True)),
        (Choice("mine:pipeline", "estimator"), "cuda", (20, False)),
        (Choice("command: mine {folder} {predictions}", "command"), "cuda", (1, False)),
        (Choice("command: mine {folder} {predictions}", "command"), "cpu", (20, False)),
    ],
)
def test_how_many_train_at_a_time(choice, device, expected, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(training_fits, "cores", lambda: 20)
    monkeypatch.setattr(
        training_fits, "train_in_processes", lambda _, workers, __, *, stay: asked.append((workers, stay))
    )
    one = training_fits.Fit(
        make_arm("real"), 0, tmp_path, tmp_path / "fit.npz", (), 0.25, "strong", False, 3, device,
        classifier=choice,
    )  # fmt: skip
    training_fits.train_fits([one], 0, lambda *_: None)
    training_fits.train_fits([one], 3, lambda *_: None)
    assert asked == [expected, (3, expected[1])]


def test_a_network_that_does_not_fit_says_what_to_lower(models, tmp_path):
    with pytest.raises(TrainingError, match=r"out of memory.*fewer train at a time \(`evaluate.workers`\)"):
        arena(tmp_path / "run", "arena_models:hungry", steps=3)


def test_what_is_trained_is_trained_again_when_the_classifier_changes(models, tmp_path):
    settings = {"arms": ("oversampling",), "steps": 2}
    run = tmp_path / "run"

    def new_fits(name):
        before = fits(run) if run.exists() else {}
        arena(run, name, **settings)
        after = fits(run)
        assert before.items() <= after.items()
        return len(after) - len(before)

    assert new_fits("arena_models:pipeline") == 2
    assert new_fits("arena_models:pipeline") == 0
    models.write_text(MODELS + "\n")
    assert new_fits("arena_models:pipeline") == 2
    program = command(tmp_path / "program", SAVED)
    assert new_fits(program) == 2
    command(tmp_path / "program", SAVED + "\n")
    assert new_fits(program) == 2


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("missing", "check the function's name"),
        ("number", "is a int, not a function"),
        ("failing", "failed when called with ((8, 8, 1), 3): KeyError: 'depth'"),
        ("nothing", "made a NoneType; a torch.nn.Module or a scikit-learn estimator is expected"),
        ("a_class", "is expected, as an object"),
        ("no_probabilities", "CalibratedClassifierCV"),
        ("too_few", "maps images of shape (2, 1, 8, 8) to (2, 2); logits of shape (2, 3) are needed"),
        ("of_other_images", "fails on images of shape (2, 1, 8, 8): RuntimeError"),
        ("two_outputs", "to a tuple; logits"),
        ("frozen", "cannot learn"),
        ("shared", "same object twice"),
    ],
)
def test_a_function_that_makes_no_classifier_is_refused_before_training(function, words, models, tmp_path):
    with pytest.raises(SettingsError, match=re.escape(words)) as caught:
        arena(tmp_path / "run", f"arena_models:{function}")
    assert f"evaluate.classifier: 'arena_models:{function}'" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_trying_a_function_does_not_move_torch_s_generator(models, tmp_path):
    import torch

    from ganaug.training.classifiers.factory import examine

    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    examine("arena_models:network", (8, 8, 1), 3)
    assert torch.equal(torch.rand(1), expected)


def test_lazy_layers_have_their_weights_when_the_optimiser_asks(models):
    assert all(p.numel() for p in make("arena_models:network", (8, 8, 1), 3).parameters())


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        (
            "oversampling+mixup",
            "leave out 'oversampling+mixup': 'arena_models:neighbours' cannot take labels",
        ),
        ("logit adjustment", "logits that are shifted"),
        ("deferred re-weighting", "a last part of training"),
        ("class weights", "no sample_weight"),
        ("oversampling+synthetic first", "a last part of training"),
        ("oversampling+discriminator", "in the place of 'arena_models:neighbours'"),
    ],
)
def test_arms_that_an_estimator_cannot_follow_are_refused_before_training(arm, words, models, tmp_path):
    config = CONFIG.model_copy(update={"classifier": "arena_models:neighbours", "arms": ("real", arm)})
    with pytest.raises(SettingsError, match=re.escape(words)):
        run_arena(TRAIN, DATA, TEST, [2], config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


OWN_ARMS = """
from ganaug.arms import make_arm

def mixing(train, synthetic, wanted):
    return make_arm("oversampling+mixup").recipe(train)

def plain(train, synthetic, wanted):
    return make_arm("oversampling").recipe(train)
"""


def test_a_user_s_own_arm_is_judged_by_its_recipe(models, tmp_path):
    (models.parent / "arena_arms.py").write_text(OWN_ARMS)
    estimator = Choice("mine", "estimator", takes_weights=False)
    arms = find_arms(["real", "arena_arms:mixing", "arena_arms:plain"])
    left, notes = usable(estimator, arms, lambda arm: arm.recipe(TRAIN), is_auto=True)
    assert [arm.name for arm in left] == ["real", "arena_arms:plain"]
    assert "'arena_arms:mixing', which cannot take labels that are mixed" in notes[-1]
    sys.modules.pop("arena_arms")


@pytest.mark.parametrize(
    ("made", "takes_weights", "left_out"),
    [
        (LogisticRegression(), True, {"mixup", "cutmix", "logit adjustment", "deferred", "synthetic first"}),
        (
            KNeighborsClassifier(),
            False,
            {
                "mixup",
                "cutmix",
                "logit adjustment",
                "deferred",
                "synthetic first",
                "class weights",
                "effective",
            },
        ),
    ],
)
def test_of_the_usual_arms_those_that_an_estimator_cannot_follow_are_left_out_and_noted(
    made, takes_weights, left_out
):
    from ganaug.training.classifiers.estimator import weight_parameter

    assert bool(weight_parameter(made)) == takes_weights
    arms = find_arms(STANDARD)
    left, notes = usable(
        Choice("mine", "estimator", takes_weights), arms, lambda arm: arm.recipe(TRAIN), is_auto=True
    )
    gone = [arm.name for arm in arms if not any(word in arm.name for word in left_out)]
    assert [arm.name for arm in left] == gone
    assert all(repr(arm.name) in notes[-1] for arm in arms if arm not in left)


def test_arms_left_to_ganaug_are_measured_without_those_that_an_estimator_cannot_follow(
    models, tmp_path, monkeypatch
):
    monkeypatch.setattr("ganaug.arms.QUICK", ("real", "oversampling", "oversampling+mixup"))
    found = arena(tmp_path / "run", "arena_models:pipeline", arms="auto")
    assert set(found.scores["arm"]) == {"real", "oversampling"}
    assert any("'oversampling+mixup', which cannot take labels" in note for note in found.verdict.notes)


@pytest.mark.parametrize("arm", STANDARD)
def test_networks_and_commands_are_given_every_arm(arm):
    for choice in (Choice(), Choice("resnet-32"), Choice("command: a {folder} {predictions}", "command")):
        assert usable(choice, [make_arm(arm)], lambda arm: None, is_auto=False)[0] == [make_arm(arm)]


LOOKING = """
import json, pathlib, shutil, sys
folder = pathlib.Path(sys.argv[1])
shutil.copytree(folder, {kept!r})
sys.exit("seen")
"""


def test_a_command_gets_the_winner_s_format_and_test_images_without_labels(tmp_path):
    kept = tmp_path / "kept"
    with pytest.raises(TrainingError, match="seen"):
        arena(
            tmp_path / "run",
            command(tmp_path / "program", LOOKING.format(kept=str(kept))),
            arms=(BEST,),
            workers=1,
        )
    arena(tmp_path / "other", "small-cnn", arms=(BEST,), steps=30)
    winner = tmp_path / "other" / "recipe"
    names = {path.name for path in winner.iterdir()} - {"README.md"}
    assert names == {"manifest.parquet", "images.npy", "albumentations.yaml", "recipe.json"}
    assert {path.name for path in kept.iterdir()} == names | {"test.npy", "stdout.txt", "stderr.txt"}
    pd.testing.assert_frame_equal(
        pd.read_parquet(kept / "manifest.parquet"), pd.read_parquet(winner / "manifest.parquet")
    )
    for name in ("images.npy", "albumentations.yaml"):
        assert (kept / name).read_bytes() == (winner / name).read_bytes()
    theirs, ours = (json.loads((folder / "recipe.json").read_text()) for folder in (kept, winner))
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert theirs.keys() == ours.keys()
    assert differing == {"verdict", "sentence", "classifier"}
    test = np.load(kept / "test.npy")
    assert sorted(image.tobytes() for image in test) == sorted(image.tobytes() for image in TEST.images)


PLAIN = """
import sys
import numpy as np

predictions, probability = sys.argv[2], np.full((50, 3), 1 / 3)
"""
WRONG = {
    "it fails": (
        "import sys\nprint('epoch 1', file=sys.stderr)\nsys.exit('no such layer')",
        "ended with status 1",
    ),
    "it is killed": ("import os\nos.kill(os.getpid(), 9)", "was killed by signal 9"),
    "its program is broken": ("import nothing_like_it", "No module named 'nothing_like_it'"),
    "it writes nothing": ("", "was not written"),
    "another shape": (PLAIN + "np.save(predictions, probability[:5])", "of shape (5, 3); (50, 3) is needed"),
    "no numbers": (PLAIN + "np.save(predictions, probability * np.nan)", "are not finite numbers in 50 rows"),
    "logits": (PLAIN + "np.save(predictions, -probability)", "are they logits?"),
    "sums": (PLAIN + "np.save(predictions, probability * 2)", "have the sum 2, not 1"),
    "words": (PLAIN + "np.save(predictions, probability.astype(str))", "not numbers"),
    "objects": (PLAIN + "np.save(predictions, probability.astype(object))", "allow_pickle"),
    "a table without a class": (
        "import sys\nopen(sys.argv[2] + '.csv', 'w').write('0,1,two\\n0.5,0.5,0\\n')",
        "predictions.csv has no column '2'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_command_that_goes_wrong_says_how_and_what_it_wrote(case, tmp_path):
    text, words = WRONG[case]
    with pytest.raises(TrainingError) as caught:
        arena(tmp_path / "run", command(tmp_path / "program", text), arms=("real",), workers=1)
    message = str(caught.value)
    assert "training arm 'real' with seed 0 failed: the " in message
    assert words in message
    if case == "it fails":
        assert "epoch 1\n    no such layer" in message
        assert "goes on from there" in message


def test_a_command_named_by_hand_in_the_error_can_be_run_by_hand(tmp_path):
    marker = tmp_path / "broken"
    marker.touch()
    guard = f"import pathlib, sys\nif pathlib.Path({str(marker)!r}).exists(): sys.exit('broken')\n"
    with pytest.raises(TrainingError) as caught:
        arena(tmp_path / "run", command(tmp_path / "program", guard + SAVED), arms=("real",), workers=1)
    by_hand = re.search(r"run it by hand: (.*)", str(caught.value))[1].split()
    marker.unlink()
    subprocess.run(by_hand, check=True)
    assert np.load(by_hand[-2] + ".npy").shape == (50, 3)


def test_fits_that_were_finished_before_a_command_failed_are_kept(tmp_path):
    marker = tmp_path / "broken"
    marker.touch()
    guard = f"import pathlib, sys\nif pathlib.Path({str(marker)!r}).exists() and sys.argv[3] == '1': sys.exit(5)\n"
    name = command(tmp_path / "program", guard + SAVED)
    settings = {"arms": ("real",), "workers": 1}
    with pytest.raises(TrainingError, match="status 5"):
        arena(tmp_path / "run", name, **settings)
    before = fits(tmp_path / "run")
    assert len(before) == 1
    marker.unlink()
    arena(tmp_path / "run", name, **settings)
    assert before.items() <= fits(tmp_path / "run").items()
    assert len(fits(tmp_path / "run")) == 2


# It writes its own number and that of a child of its own, and never ends.
HANGING = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(10_000)"])
where = pathlib.Path({where!r}) / f"pids-{{sys.argv[3]}}"
where.with_suffix(".new").write_text(f"{{os.getpid()}} {{child.pid}}")
where.with_suffix(".new").replace(where)
time.sleep(10_000)
"""


def wait_until(is_so, seconds=120):
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_so()


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(where, count=1):
    """Process ids that so many hanging commands have written."""
    files = sorted(where.glob("pids-?"))
    return [int(pid) for file in files for pid in file.read_text().split()] if len(files) == count else []


needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")


@needs_proc
def test_a_command_that_takes_too_long_is_stopped_with_all_that_it_started(tmp_path):
    name = command(tmp_path / "program", HANGING.format(where=str(tmp_path)))
    with pytest.raises(TrainingError, match=r"not ended after 3 s \(`evaluate\.classifier_max_seconds`\)"):
        arena(tmp_path / "run", name, arms=("real",), workers=1, classifier_max_seconds=3.0)
    assert len(pids(tmp_path)) == 2
    wait_until(lambda: not any(map(is_running, pids(tmp_path))))


@needs_proc
def test_a_command_that_fails_takes_those_beside_it_along(tmp_path):
    wait = f"""
import pathlib, sys, time
while sys.argv[3] == "1":
    if pathlib.Path({str(tmp_path)!r}, "pids-0").exists(): sys.exit("enough")
    time.sleep(0.05)
"""
    name = command(tmp_path / "program", wait + HANGING.format(where=str(tmp_path)))
    with pytest.raises(TrainingError, match="enough"):
        arena(tmp_path / "run", name, arms=("real",), workers=2)
    assert len(pids(tmp_path)) == 2
    wait_until(lambda: not any(map(is_running, pids(tmp_path))))


_SCRIPT = """
import importlib.util, signal, sys
from pathlib import Path

sys.path.insert(0, {tests!r})
spec = importlib.util.spec_from_file_location("arena_tests", {file!r})
tests = importlib.util.module_from_spec(spec)
sys.modules["arena_tests"] = tests
spec.loader.exec_module(tests)
# Whoever starts the tests in the background has Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    tests.arena(Path({folder!r}), {name!r}, arms=("real",))
"""


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_no_command_outlives_the_run(how, tmp_path):
    name = command(tmp_path / "program", HANGING.format(where=str(tmp_path)))
    script = tmp_path / "script.py"
    script.write_text(
        _SCRIPT.format(
            tests=str(Path(__file__).parents[2]), file=__file__, folder=str(tmp_path / "run"), name=name
        )
    )
    run = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_until(lambda: len(pids(tmp_path, 2)) == 4)
    os.kill(run.pid, how)
    run.wait(30)
    wait_until(lambda: not any(map(is_running, pids(tmp_path, 2))))
    assert not any(map(is_running, pids(tmp_path, 2)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[0.5, 0.5]], "are of shape (1, 2), not (1, 3)"),
        ([[0.5, np.nan, 0.5]], "not finite numbers in 1 rows of 1 (row 0)"),
        ([[1.5, -0.5, 0.0]], "go down to -0.5"),
        ([[0.5, 0.3, 0.1]], "have the sum 0.9, not 1"),
    ],
)
def test_only_probabilities_are_scored(values, words):
    with pytest.raises(TrainingError, match=re.escape(words)):
        checked(np.array(values, np.float32), 1, 3, "mine")
    halves = np.array([[0.3333, 0.3333, 0.3334]], np.float16).astype(np.float32)
    assert checked(halves, 1, 3, "mine") is halves
