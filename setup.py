"""The native core is built where there is a compiler; without one, the package installs and runs all the same.

The pages of the manual go into the package as `zhumo/manual`, where a desk finds them; in a checkout they lie in docs.
"""

import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

PAGES = [*sorted(Path("docs").glob("*.md")), *sorted(Path().glob("README*.md"))]


class BuildWithManual(build_py):
    """The package and its manual."""

    def run(self):
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib, "zhumo", "manual")
            shutil.rmtree(folder, ignore_errors=True)  # pages that are no more
            self.mkpath(str(folder))
            for page in PAGES:
                self.copy_file(str(page), str(folder / page.name))


setup(
    cmdclass={"build_py": BuildWithManual},
    ext_modules=[
        Extension(
            "zhumo.engine._core",
            ["zhumo/engine/native/core.c"],
            depends=[f"zhumo/engine/native/{name}.h" for name in ("core", "path", "team")],
            # No -march: which processor it is for is found out when it runs.
            extra_compile_args=["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-pthread"],
            extra_link_args=["-pthread", "-lm"],
            optional=True,
        )
    ],
)
