import subprocess
import sys

import pytest

HEAVY = ("torch", "prefect", "albumentations", "pandas", "onnxruntime")


def fresh(script):
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_importing_ganaug_is_quick():
    script = "import time; t = time.perf_counter(); import ganaug; print(time.perf_counter() - t)"
    assert min(float(fresh(script)[0]) for _ in range(2)) < 0.5


def test_importing_ganaug_loads_nothing_heavy():
    assert fresh(f"import ganaug, sys; print(*[name for name in {HEAVY} if name in sys.modules])") == []


def test_making_images_needs_no_torch_and_no_tables(tiny_model):
    loaded = fresh(
        f"import ganaug, sys; ganaug.load({str(tiny_model)!r}).sample('cat', 2);"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded == ["onnxruntime"]


@pytest.mark.parametrize("module", ["card", "store", "generate", "produce"])
def test_production_needs_no_torch(module):
    heavy = ("torch", "prefect", "albumentations")
    assert fresh(f"import ganaug.{module}, sys; print(*[n for n in {heavy} if n in sys.modules])") == []


def test_the_public_names_are_there_and_others_are_not():
    script = (
        "import ganaug; print(*[hasattr(ganaug, n) for n in ('load', 'Generator', '__version__', 'nothing')])"
    )
    assert fresh(script) == ["True", "True", "True", "False"]
