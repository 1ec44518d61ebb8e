"""What `pip install ganaug` alone must be: light, quick to import, and able to make images."""

import importlib.util
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

MOST_MB, MOST_IMPORT_S = 150, 0.5

started = time.perf_counter()
import ganaug  # noqa: E402

import_s = time.perf_counter() - started
for name in ("torch", "prefect", "albumentations", "pandas", "pyarrow"):
    assert importlib.util.find_spec(name) is None, f"{name} came with the base install"

site = Path(sysconfig.get_path("purelib"))
# The runtime is as large as it is; pip and setuptools are the environment's own.
others = [
    folder
    for folder in site.iterdir()
    if not folder.name.startswith(("onnxruntime", "pip", "setuptools", "pkg_resources"))
]
size_mb = sum(file.stat().st_size for folder in others for file in [folder, *folder.rglob("*")]) / 1e6
print(f"{size_mb:.0f} MB beside the runtime; import in {import_s:.3f} s")
assert size_mb < MOST_MB, "the base install has grown"
assert import_s < MOST_IMPORT_S, "import ganaug has become slow"

generator = ganaug.load("exported/digits")
print(generator.sample("3", count=16, seed=0).shape, next(generator.stream(8))[1])

for words in (["-m", "ganaug"], ["-c", "import ganaug; ganaug.to_parquet"]):
    told = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert told.returncode == 1, told
    assert "pip install 'ganaug[produce]'" in told.stderr, told
