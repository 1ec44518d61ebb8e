"""torchrun over several machines: here two agents that meet over the network, with a process each."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.bars import bars, settings

from ganaug.training.launch import Job

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


def test_two_machines_train_what_two_processes_of_one_train(tmp_path: Path) -> None:
    bars().save(tmp_path / "data")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = ["--standalone", "--nproc-per-node", "2"]
    two = ["--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1"]
    two += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test"]
    train = ["-m", "ganaug.training.together"]
    for name, agents in (("one", [one]), ("two", [two, two])):
        job = Job(
            data=tmp_path / "data",
            config=settings("cgan", steps=40),
            folder=tmp_path / name,
            device="cpu",
            threads=1,
        )
        (tmp_path / f"{name}.json").write_text(job.model_dump_json())
        started = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    *words,
                    *train,
                    str(tmp_path / f"{name}.json"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for words in agents
        ]
        try:
            for agent in started:
                _, wrong = agent.communicate(timeout=240)
                assert agent.returncode == 0, wrong
        finally:
            for agent in started:
                agent.kill()
    for file in ("generator.safetensors", "players.safetensors", "curves.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
