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


@pytest.mark.parametrize(
    ("without", "use"),
    [
        (("pandas", "pyarrow", "torch"), "ganaug.GanSample({model!r}, {{'cat': 1.0}})"),
        (
            ("pandas", "pyarrow", "torch"),
            "ganaug.GanOverSampler(model={model!r}).fit_resample(numpy.zeros((3, 8, 8), 'uint8'), ['cat', 'cat', 'dog'])",
        ),
        (("pandas", "pyarrow"), "ganaug.SyntheticDataset({model!r}, 3)[0]"),
        (("pandas", "pyarrow"), "ganaug.balanced([(numpy.zeros((8, 8), 'uint8'), 0)], {model!r}, to=2)[1]"),
        (("pandas", "pyarrow"), "next(iter(ganaug.SyntheticBatches({model!r}, 2)))"),
    ],
    ids=["GanSample", "GanOverSampler", "SyntheticDataset", "balanced", "SyntheticBatches"],
)
def test_an_adapter_needs_the_library_that_it_serves_and_no_other(tiny_model, without, use):
    code = f"import numpy\n{use.format(model=str(tiny_model))}\nprint('done')"
    assert fresh(_without(without, code)) == ["done"]


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("GanOverSampler", "imblearn", "sampler"),
        ("GanSample", "albumentations", "albumentations"),
        ("balanced", "torch", "train"),
        ("to_parquet", "pyarrow", "produce"),
    ],
)
def test_a_name_without_its_library_says_which_extra_brings_it(name, package, extra):
    code = f"try:\n    ganaug.{name}\nexcept ganaug.errors.MissingExtraError as error:\n    print(error)"
    told = " ".join(fresh(_without((package,), f"import ganaug.errors\n{code}")))
    assert told == f"ganaug.{name} needs optional packages: pip install 'ganaug[{extra}]'"


def _without(packages, code):
    return f"""
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Gone())
import ganaug
{code}
"""


def test_the_public_names_are_there_and_others_are_not():
    script = (
        "import ganaug; print(*[hasattr(ganaug, n) for n in ('load', 'Generator', '__version__', 'nothing')])"
    )
    assert fresh(script) == ["True", "True", "True", "False"]
