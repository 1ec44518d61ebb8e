"""Two processes train one GAN as one does, go on after any kill, and say what went wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from support.bars import bars, game_of, settings

from ganaug.config import TrainConfig
from ganaug.errors import DeviceError, ModelError, PathNotFoundError, SettingsError, TrainingError
from ganaug.training.checkpoint import pack, save_tensors
from ganaug.training.gans import train_base, train_class
from ganaug.training.launch import TOGETHER, Job
from ganaug.training.networks import GENERATOR_FILE
from ganaug.training.players import SUMMARY_FILE
from ganaug.training.step import play_step

STEPS = 10
GAMES: dict[str, tuple[tuple[int, int, int], str, dict[str, object]]] = {
    # What is a mean over images is the same in parts.
    "relativistic, R1, R2": ((8, 8, 1), "cgan", {}),
    "least-squares, R1, LeCam": (
        (8, 8, 1),
        "cgan",
        {"loss": "least-squares", "regularizers": {"r1": 0.3, "lecam": 0.1}},
    ),
    "pair, gradient penalty": ((8, 8, 1), "pair", {"regularizers": {"r2": 0.3, "wgan-gp": 1.0}}),
    "convolutions, spectral norm": (
        (16, 16, 3),
        "strided",
        {"loss": "hinge", "regularizers": {"spectral-norm": 1.0}},
    ),
}
_PLAY = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
import torch.distributed as dist
dist.init_process_group("gloo", init_method="file://{folder}/meet", rank=int(sys.argv[1]), world_size=2)
from training.test_distributed import play
play({folder!r} + "/" + sys.argv[1])
dist.destroy_process_group()
"""


def play(folder: str) -> None:
    """Play each game and leave the players' weights."""
    for number, (shape, recipe, changes) in enumerate(GAMES.values()):
        players, game = game_of(bars(shape), settings(recipe, **changes))
        for _ in range(STEPS):
            play_step(players, game, players.preset)
        tensors = pack("generator", players.generator.state_dict())
        tensors |= pack("discriminator", players.discriminator.state_dict())
        save_tensors(Path(f"{folder}-{number}.safetensors"), tensors)


def test_two_processes_play_the_same_steps_as_one(tmp_path: Path) -> None:
    script = _PLAY.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    both = [subprocess.Popen([sys.executable, "-c", script, str(rank)]) for rank in range(2)]
    play(str(tmp_path / "alone"))
    assert [process.wait(120) for process in both] == [0, 0]
    for number, name in enumerate(GAMES):
        alone, first, second = (
            load_file(tmp_path / f"{who}-{number}.safetensors") for who in ("alone", "0", "1")
        )
        assert max(float((first[key] - second[key]).abs().max()) for key in first) == 0.0, name
        # Not the discriminator's biases: the relativistic loss has no gradient for the last one,
        # and Adam makes whole steps of what rounding leaves there.
        own = [key for key in first if key.startswith("generator")]
        apart = torch.cat([(first[key] - alone[key]).abs().flatten() for key in own])
        # Of convolutions some CPUs sum a gradient that is nearly nothing the other way round, and Adam makes
        # whole steps of that as well; the ten steps move weights by 4e-3 on average.
        assert float((apart >= 1e-4).float().mean()) <= (0.02 if "convolutions" in name else 0.0), name
        assert float(apart.mean()) < 2e-5, name


def lecam(processes: int) -> TrainConfig:
    regularizers = {"r1": 0.3, "r2": 0.3, "lecam": 0.1}
    # Enough steps to be killed in the middle of them.
    return settings("cgan", regularizers=regularizers, processes=processes, steps=200, learning_rate=2e-4)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two processes that torchrun was told by hand to start."""
    folder = tmp_path_factory.mktemp("straight")
    bars().save(folder / "data")
    job = Job(
        data=folder / "data",
        config=lecam(1),
        folder=folder / "model",
        device="cpu",
        threads=max(1, torch.get_num_threads() // 2),
    )
    (folder / "job.json").write_text(job.model_dump_json())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "ganaug.training.together", str(folder / "job.json")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '{"done": 1600, "total": 1600}' in done.stdout
    return folder / "model"


def test_two_processes_leave_the_weights_of_one(straight: Path, tmp_path: Path) -> None:
    train_base(bars(), lecam(1), tmp_path, device="cpu")
    one, two = load_file(tmp_path / GENERATOR_FILE), load_file(straight / GENERATOR_FILE)
    assert one.keys() == two.keys()
    for name, weights in one.items():
        torch.testing.assert_close(weights, two[name], atol=1e-3, rtol=0)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Everything that trains in a folder: torchrun and what it started."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"{folder}/{TOGETHER}" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


_TRAIN = """
import sys
sys.path.insert(0, {tests!r})
import os, signal, torch
from pathlib import Path
from training.test_distributed import bars, lecam, processes_of, train_base
torch.set_num_threads({threads})
def progress(done, total):
    if done >= 8 * 8:
        print(len(processes_of(Path({folder!r}))), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
train_base(bars(), lecam(2), Path({folder!r}), device="cpu", progress=progress)
"""


def test_killed_processes_leave_no_orphans_and_end_with_the_same_bits(straight: Path, tmp_path: Path) -> None:
    folder, heard = tmp_path / "model", []
    script = _TRAIN.format(
        tests=str(Path(__file__).parents[1]), folder=str(folder), threads=torch.get_num_threads()
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "3\n"), killed.stderr
    deadline = time.monotonic() + 20
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(folder) == []
    assert list((folder / "checkpoints").glob("*.safetensors"))

    def kill_all(done: int, total: int) -> None:
        heard.append(done)
        if done >= 16 * 8:
            for process in processes_of(folder):
                process.kill()

    with pytest.raises(TrainingError, match="to go on"):
        train_base(bars(), lecam(2), folder, device="cpu", progress=kill_all)
    assert heard[0] > 8, "the second training began at the beginning"
    summary = train_base(bars(), lecam(2), folder, device="cpu")
    assert summary["steps"] == 200
    for name in (GENERATOR_FILE, "players.safetensors", "network.json", "curves.parquet"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in straight.iterdir())


_PARENT = '''
import subprocess, sys, time
child = """
import threading, time
from ganaug.training.together import end_with_parent
threading.Thread(target=end_with_parent, args=({how},)).start()
time.sleep(0.5)  # it has seen its parent alive
print(1, flush=True)
"""
child = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
'''


@pytest.mark.parametrize("how", [True, False], ids=["by input", "by parent"])
def test_a_process_that_says_nothing_ends_with_its_parent_too(how: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(how=how)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    deadline = time.monotonic() + 60
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _lives(child)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_an_error_of_a_process_arrives_as_it_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        train_class(bars(), 2, tmp_path / "nowhere", None, lecam(2), tmp_path / "own", device="cpu")
    assert "network.json" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "own" / TOGETHER).exists()


def test_what_cannot_be_shared_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"train\.batch to a multiple"):
        train_base(bars(), settings("cgan", processes=3), tmp_path, device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="2 processes with a GPU each, and torch finds 1"):
        train_base(bars(), lecam(2), tmp_path, device="cuda")
    assert not list(tmp_path.iterdir())


def test_a_finished_training_starts_no_processes(straight: Path) -> None:
    written = (straight / SUMMARY_FILE).stat().st_mtime_ns
    assert train_base(bars(), lecam(2), straight, device="cpu")["steps"] == 200
    assert (straight / SUMMARY_FILE).stat().st_mtime_ns == written


def test_a_job_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="job file"):
        Job.load(tmp_path / "job.json")
    (tmp_path / "job.json").write_text('{"data": "a", "config": {"batsh": 1}, "folder": "b"}')
    with pytest.raises(SettingsError, match=r"job\.json: config\.batsh"):
        Job.load(tmp_path / "job.json")
    (tmp_path / "job.json").write_text('{"data": "nowhere", "config": {}, "folder": "b"}')
    with pytest.raises(PathNotFoundError, match="training images 'nowhere'"):
        Job.load(tmp_path / "job.json")
