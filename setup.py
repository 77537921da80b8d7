"""Which folders the package is made of; all else about it stands in pyproject.toml.

Recipes and configurations lie beside the package in a checkout, and in it when it is installed.
"""

from setuptools import find_namespace_packages, find_packages, setup

setup(
    packages=[
        *find_packages(include=["asr", "asr.*"]),
        *(f"asr.{name}" for name in find_packages(include=["recipes", "recipes.*"])),
        *(f"asr.{name}" for name in find_namespace_packages(include=["conf", "conf.*"])),
    ],
    package_dir={"asr.recipes": "recipes", "asr.conf": "conf"},
)
