"""Every bad input, through the command line: what came, what to do, no traceback, nothing half-written."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ganaug import cli


def image(seed: int, size: int = 12) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def folder_of(root: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            (root / name / f"{k}.png").write_bytes(image(hash_of(name, k)))
    return root


def hash_of(name: str, k: int) -> int:
    return sum(map(ord, name)) * 1000 + k


def archive_with(root: Path, member: str) -> Path:
    path = root / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        for k in range(8):
            file.writestr(f"photos/cat/{k}.png", image(k))
            file.writestr(f"photos/dog/{k}.png", image(100 + k))
        file.writestr(member, image(1000))
    return path


def tar_with_link(root: Path) -> Path:
    path = root / "photos.tar"
    with tarfile.open(path, "w") as file:
        link = tarfile.TarInfo("photos/cat/0.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return path


def zip_bomb(root: Path) -> Path:
    path = root / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for k in range(4):
            file.writestr(f"cat/{k}.png", bytes(60_000_000))
    return path


def table_of(root: Path, rows: list[dict[str, str]]) -> Path:
    folder_of(root / "images", cat=6, dog=6)
    pd.DataFrame(rows).to_csv(root / "table.csv", index=False)
    return root / "table.csv"


def broken(root: Path) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for k in range(5):
            (root / name / f"{k}.png").write_text("this is not an image")
    return root


def bomb_images(root: Path) -> Path:
    folder_of(root, cat=6, dog=6)
    Image.new("1", (20_000, 20_000)).save(root / "cat" / "bomb.png")
    return root


def pickled(root: Path) -> Path:
    np.savez(root / "data.npz", images=np.array([{"a": 1}, None], dtype=object), labels=np.array([0, 1]))
    return root / "data.npz"


def unknown_suffix(root: Path) -> Path:
    (root / "data.docx").write_text("a letter")
    return root / "data.docx"


def flat_folder(root: Path) -> Path:
    (root / "0.png").write_bytes(image(0))
    return root


GOOD_ROW = {"image": "images/cat/0.png", "label": "cat"}
BAD = {
    "a missing path": (lambda root: root / "nowhere", "does not exist"),
    "an empty folder": (lambda root: root, "no image"),
    "images without class folders": (flat_folder, "folder per class"),
    "one class only": (lambda root: folder_of(root, cat=6), "one class"),
    "a class with one image": (lambda root: folder_of(root, cat=6, dog=1), "dog"),
    "all images broken": (broken, "cannot be read"),
    "a decompression bomb image": (bomb_images, "pixels"),
    "a table without the column": (lambda root: table_of(root, [{"a": "1", "b": "2"}]), "column"),
    "a table with unknown paths": (
        lambda root: table_of(root, [GOOD_ROW, {"image": "no.png", "label": "dog"}]),
        "no.png",
    ),
    "a table that leaves its folder": (
        lambda root: table_of(root, [GOOD_ROW, {"image": "../../etc/passwd", "label": "dog"}]),
        "passwd",
    ),
    "an archive with an absolute path": (lambda root: archive_with(root, "/etc/cat.png"), "/etc/cat.png"),
    "an archive that climbs out": (lambda root: archive_with(root, "photos/../../cat.png"), "cat.png"),
    "an archive with a link": (tar_with_link, "link"),
    "an archive that is a bomb": (zip_bomb, "unpack"),
    "arrays with pickled objects": (pickled, "object"),
    "a file of an unknown kind": (unknown_suffix, "docx"),
}


def ganaug(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ganaug", *words])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_a_clear_error_and_leaves_nothing_half_written(case, tmp_path, monkeypatch, capsys):
    make, expected = BAD[case]
    (tmp_path / "data").mkdir()
    source = make(tmp_path / "data")
    run_dir = tmp_path / "run"
    assert ganaug(monkeypatch, "plan", str(source), "--run-dir", str(run_dir)) == 1
    message = capsys.readouterr().err
    assert expected in " ".join(message.split())
    assert "Traceback" not in message
    assert not (run_dir / "split").exists()
    assert not (run_dir / "plan").exists()


def test_unreadable_files_are_listed_in_the_run_folder(tmp_path, monkeypatch, capsys):
    source, run_dir = tmp_path / "data", tmp_path / "run"
    folder_of(source, cat=40, dog=40)
    (source / "cat" / "torn.png").write_bytes(image(1)[:60])
    words = ["plan", str(source), "--run-dir", str(run_dir)]
    assert ganaug(monkeypatch, *words) == 1
    assert "torn.png" in (run_dir / "unreadable.csv").read_text()
    assert "data.max_bad_share" in " ".join(capsys.readouterr().err.split())
    assert ganaug(monkeypatch, *words, "--data.max-bad-share", "0.05") == 0
    assert "torn.png" in (run_dir / "split" / "unreadable.csv").read_text()
    assert "torn.png" in capsys.readouterr().out


def test_all_wrong_settings_come_in_one_message(monkeypatch, capsys, tmp_path):
    code = ganaug(
        monkeypatch, "run", "--train.stps", "5", "--train.batch", "-1", "--run-dir", str(tmp_path / "r")
    )
    message = " ".join(capsys.readouterr().err.split())
    assert code == 1
    assert "did you mean train.steps?" in message
    assert "train.batch" in message
    assert not (tmp_path / "r").exists()


def test_an_option_without_a_value_or_a_second_path_is_refused(monkeypatch, capsys):
    assert ganaug(monkeypatch, "run", "a", "b", "--train.steps") == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "one path is enough" in message
    assert "needs a value" in message


def test_a_run_folder_of_another_dataset_is_refused(monkeypatch, capsys, tmp_path):
    first, second = folder_of(tmp_path / "first", cat=6, dog=6), folder_of(tmp_path / "second", cow=6, emu=6)
    run_dir = str(tmp_path / "run")
    assert ganaug(monkeypatch, "plan", str(first), "--run-dir", run_dir) == 0
    assert ganaug(monkeypatch, "plan", str(second), "--run-dir", run_dir) == 1
    assert "another dataset" in " ".join(capsys.readouterr().err.split())


def test_a_step_before_its_time_says_which_to_run_first(monkeypatch, capsys, tmp_path):
    source = folder_of(tmp_path / "data", cat=30, dog=8)
    words = [str(source), "--run-dir", str(tmp_path / "run")]
    assert ganaug(monkeypatch, "produce", *words) == 1
    assert "ganaug plan" in " ".join(capsys.readouterr().err.split())
    assert ganaug(monkeypatch, "plan", *words) == 0
    assert ganaug(monkeypatch, "produce", *words) == 1
    assert "ganaug export" in " ".join(capsys.readouterr().err.split())


def test_a_run_folder_that_cannot_be_made_is_a_clear_error(monkeypatch, capsys, tmp_path):
    source = folder_of(tmp_path / "data", cat=6, dog=6)
    (tmp_path / "file").write_text("in the way")
    assert ganaug(monkeypatch, "plan", str(source), "--run-dir", str(tmp_path / "file" / "run")) == 1
    assert "cannot write" in " ".join(capsys.readouterr().err.split())


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["ganaug", "plan", str(tmp_path / "nowhere"), "--debug"])
    with pytest.raises(FileNotFoundError):
        cli.main()


def test_the_printed_settings_are_a_settings_file(monkeypatch, capsys, tmp_path):
    assert ganaug(monkeypatch, "run", "--print-config", "--train.steps", "500") == 0
    file = tmp_path / "run.yaml"
    file.write_text(capsys.readouterr().out)
    assert ganaug(monkeypatch, "run", "--config", str(file), "--print-config") == 0
    assert "steps: 500" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["run", *cli._STEP_HELP, "models"])
def test_every_verb_has_a_help_that_names_its_settings(verb, monkeypatch, capsys):
    assert ganaug(monkeypatch, verb, "--help") == 0
    page = capsys.readouterr().out
    assert "--store" in page or "--config" in page
    if verb in {"train", "produce"}:
        assert f"--{verb}.seed" in page


def test_a_swapped_or_damaged_graph_is_refused(monkeypatch, capsys, tmp_path, write_model):
    model = tmp_path / "exported" / "cats" / "1"
    write_model(model)
    (tmp_path / "exported" / "cats" / "current.json").write_text('{"version": 1}')
    words = ["models", "--store", str(tmp_path / "exported")]
    assert ganaug(monkeypatch, *words) == 0
    assert "verified" in capsys.readouterr().out
    graph = next(model.glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    assert ganaug(monkeypatch, *words) == 1
    assert "verified" not in capsys.readouterr().out


def test_a_command_whose_packages_are_missing_names_the_extra(monkeypatch, capsys, tmp_path):
    # None in sys.modules is how Python itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "prefect", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pipeline"]:
        monkeypatch.delitem(sys.modules, name)
    assert ganaug(monkeypatch, "run", "--run-dir", str(tmp_path / "run")) == 1
    assert "ganaug[all]" in " ".join(capsys.readouterr().err.split())
