"""The list of packages. All else about the build is in pyproject.toml.

`packages.find` of pyproject.toml does not see what is a package by `package-dir` alone, as tasks and boards
are: it left them out of wheel and sdist. A written list would leave out the next new package.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["rmbench", "rmbench.*"]), "rmbench._tasks", "rmbench._boards"])
