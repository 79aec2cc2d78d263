"""Maps the repository's top-level folders, the rooms, to the subpackages of ``dropdrift``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ("benchmarks", "data", "kernels", "launchers", "models", "sharding", "training")

version = re.search(r'__version__ = "(.+)"', Path("src/dropdrift/__init__.py").read_text())
assert version is not None

setup(
    version=version[1],
    packages=["dropdrift"]
    + [f"dropdrift.{room}" for room in ROOMS]
    + [f"dropdrift.{room}.{name}" for room in ROOMS for name in find_packages(room)],
    package_dir={"dropdrift": "src/dropdrift", **{f"dropdrift.{room}": room for room in ROOMS}},
    package_data={
        "dropdrift": ["py.typed"],
        "dropdrift.kernels": ["feature_dropout/*.c", "ahead_of_time/*.json"],
        "dropdrift.launchers": [
            "recipes/*.yaml",
            "experiments/*.yaml",
            "plan/configurations/*.yaml",
        ],
        "dropdrift.sharding": ["*.yaml", "saved/*.json"],
    },
)
