"""Balance rare image classes with GANs, and measure on real images whether it helped.

>>> import ganaug
>>> ganaug.__version__.count(".")
2
"""

__version__ = "0.1.0"
