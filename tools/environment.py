"""Make the environment: a venv, the exact pins of requirements.txt, this package in place.

    python tools/environment.py .venv        make or update .venv
    python tools/environment.py system       use the environment this Python belongs to

Standard library only, and written so that an old Python can still read it far enough to say that it is too old.
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOISE = (" is ignored: it is ", "[notice]", "Looking in ", "Requirement already satisfied")
OFFLINE = ("Failed to establish a new connection", "Temporary failure in name resolution", "ConnectTimeout",
           "No matching distribution found", "Network is unreachable", "Connection refused")  # fmt: skip


def stop(message):
    """Say what is wrong and what to do, without a traceback."""
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(1)


def pip(python, *arguments):
    """Run pip, passing on what it says except the noise; the lines it printed and its exit status."""
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    lines = []
    for line in process.stdout:
        if any(noise in line for noise in NOISE):
            continue
        lines.append(line)
        sys.stdout.write("  " + line)
        sys.stdout.flush()
    return process.wait(), "".join(lines)


def install(python):
    """The pins, then this package in place and without its floors: the pins meet them."""
    print("Installing the pinned packages (the first time takes minutes; torch is the largest)")
    for arguments in (
        ("install", "--quiet", "--progress-bar", "off", "-r", "requirements.txt"),
        ("install", "--quiet", "--progress-bar", "off", "--no-deps", "-e", "."),
    ):
        status, said = pip(python, *arguments)
        if status == 0:
            continue
        hint = "pip could not install the packages; its message stands above. Nothing is broken: run the command again."
        if any(sign in said for sign in OFFLINE):
            hint = (
                "pip could not reach the package index, or it has no such version for this Python"
                f" ({sys.version.split()[0]}).\nThe first run needs the network; afterwards the book builds and"
                " reads without it. Check the connection (or pip's proxy and index settings) and run it again."
            )
        stop(hint)


def make_venv(path):
    """A venv at `path` with pip in it, or a clear word on what the machine lacks."""
    python = os.path.join(path, "bin", "python")
    if os.path.exists(python) and subprocess.call([python, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0:
        return python
    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        stop(
            f"This Python ({sys.executable}) has no `venv` or `ensurepip`.\n"
            f"On Debian or Ubuntu:   apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv\n"
            "or name another Python:   make book PYTHON=/path/to/python3.12"
        )
    print(f"Making {os.path.relpath(path, ROOT)} with Python {sys.version.split()[0]}")
    try:
        venv.EnvBuilder(with_pip=True, clear=os.path.exists(path), symlinks=os.name != "nt").create(path)
    except (OSError, subprocess.CalledProcessError) as error:
        stop(f"The environment {path} could not be made: {error}")
    return python


def main(where):
    """Make or check the environment named `where`."""
    if sys.version_info < (3, 11):  # noqa: UP036  (an old Python may be given by hand)
        stop("Python %d.%d is too old: 3.11 or newer is needed." % sys.version_info[:2])  # noqa: UP031
    if where == "system":
        print(f"Using the active environment at {sys.prefix}")
        if sys.prefix == sys.base_prefix and "CONDA_PREFIX" not in os.environ:
            stop("No environment is active: activate one (conda activate prunequant), or leave VENV away.")
        python = sys.executable
        check = "import prunequant, jupyter_book, nbval, torch"
        if subprocess.call([python, "-c", check], stderr=subprocess.DEVNULL) == 0:
            return
    else:
        python = make_venv(os.path.join(ROOT, where))
    install(python)


if __name__ == "__main__":
    main(sys.argv[1])
