#!/bin/sh
# Find a Python that is new enough and let it make the environment.   environment.sh VENV [PYTHON]
set -eu
cd "$(dirname "$0")/.."
venv=$1
wanted=${2:-}

if [ "$venv" = system ]; then
    exec python tools/environment.py system
fi
if [ -x "$venv/bin/python" ] && [ -z "$wanted" ]; then
    exec "$venv/bin/python" tools/environment.py "$venv"
fi
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
for python in ${wanted:-python3.13 python3.12 python3.11 python3 python}; do
    # Run it: a name on the path may be a version manager's stub that only prints an error.
    if "$python" -c "$new_enough" >/dev/null 2>&1; then
        exec "$python" tools/environment.py "$venv"
    fi
done
{
    echo "No Python 3.11 or newer was found${wanted:+ under the name $wanted}."
    echo "Seen: $( (${wanted:-python3} --version) 2>&1 | head -n 1)"
    echo "Install one (any of 3.11, 3.12, 3.13), or name yours:   make book PYTHON=/path/to/python3.12"
    echo "With conda:   conda env create -f environment.yml && conda activate prunequant && make book VENV=system"
} >&2
exit 1
