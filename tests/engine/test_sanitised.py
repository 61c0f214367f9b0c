"""The native core under the address and the undefined-behaviour sanitiser, fed with random models and steps; and its
threads under the thread sanitiser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zhumo

SOURCE = Path(zhumo.__file__).parent / "engine" / "native" / "core.c"
ROUNDS = 300


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_random_models_and_steps_touch_nothing_they_should_not(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no compiler")
    checks = [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    flags = ["-std=gnu11", "-Wno-psabi", "-shared", "-fPIC", "-pthread", "-o", str(tmp_path / "_core.so"), str(SOURCE)]
    subprocess.run([gcc, *checks, *flags, "-lm"], check=True)
    first = subprocess.run(
        [gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    env = {**os.environ, "LD_PRELOAD": first, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), str(tmp_path), str(ROUNDS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [str(tmp_path / "_core.so"), str(ROUNDS)]


@pytest.mark.timeout(600)
def test_the_threads_race_nowhere(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no compiler")
    flags = ["-fsanitize=thread", "-g", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"]
    driver, program = str(Path(__file__).with_name("team.c")), str(tmp_path / "team")
    subprocess.run([gcc, *flags, f"-I{SOURCE.parent}", driver, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
