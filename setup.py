"""One step of the build that pyproject.toml cannot say: an installed package brings the text of the book along."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from llmcourse import passages  # noqa: E402 - it needs nothing but the standard library


class BuildWithPassages(build_py):
    """Build the package, and write the sections of the book beside it, for `python -m llmcourse ask`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable package reads the sources themselves
            passages.store(passages.collect(HERE), Path(self.build_lib) / "llmcourse/passages.json")


setup(cmdclass={"build_py": BuildWithPassages})
