"""The native core is built where there is a compiler; without one, the package installs and runs all the same."""

from setuptools import Extension, setup

setup(
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
    ]
)
