"""Everything that trains; the only package that imports torch."""

import os

# OpenMP's threads spin while they wait. Next to any other busy process that makes small
# networks many times slower on two cores; sleeping costs little when the machine is idle.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
