import inspect
import pickle
from pathlib import Path

import pytest

from ganaug import errors

KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.GanaugError)
]
ARGUMENTS = {
    errors.SettingsError: (["train.steps: too few", "train.batch: too small"],),
    errors.MissingExtraError: ("training", "train"),
    errors.PathNotFoundError: ("no/such/folder", "folder"),
    errors.TooManyUnreadableError: ("too many", ["a.png", "b.png"]),
    errors.MissingStepError: ("produce", "train", Path("runs/digits")),
    errors.UnknownClassError: (["cow"], ["cat", "dog"], "pets"),
    errors.UnmatchedLabelError: ({3: "cow"}, ["cat", "dog"], "pets"),
    errors.LeakError: (["3 copies"], {"cat": [1, 2]}),
    errors.NotPublishedError: ("the verdict is 'hurts'.",),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_another_process_is_the_same_error(kind):
    error = kind(*ARGUMENTS.get(kind, ("what came, what is allowed, what to do",)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) != ""
    assert vars(again) == vars(error)
