"""Warming finds every module that asks for it, and nothing else."""

import subprocess
import sys

from prunequant.warm import modules_with_warm


def test_kernel_modules_are_found_and_the_finder_itself_is_not():
    names = modules_with_warm()
    assert "prunequant.warm" not in names
    assert any(name.endswith("._kernels") for name in names)
    assert len(set(names)) == len(names)


def test_an_unknown_argument_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "prunequant.warm", "--loud"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--loud" in done.stderr
