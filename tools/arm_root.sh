#!/bin/sh
# A Python for 64-bit Arm that runs here under user-mode emulation, with the pins of the library and of a kernel.
#
#     sh tools/arm_root.sh FOLDER
#
# FOLDER/venv/bin/python is then an interpreter like any other: a script that hands it to qemu, so that what it starts
# by `sys.executable` is emulated as well, and this machine's system need not know the format of its programs. Debian's packages are unpacked,
# not installed: nothing of this machine changes, and no second stage has to run in emulation.
# Needs apt-get, dpkg-deb and qemu-aarch64-static (Debian: qemu-user-static).
set -eu

folder=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
root=$folder/root
venv=$folder/venv

if [ ! -f "$root/.done" ]; then
  rm -rf "$root" "$folder/apt"
  mkdir -p "$root" "$folder/apt/lists/partial" "$folder/apt/archives/partial"
  : > "$folder/apt/status"
  apt() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false \
      -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o Dir::State="$folder/apt" \
      -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt" "$@"
  }
  apt update
  apt -y --download-only install python3 libstdc++6 libgomp1
  for package in "$folder"/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
  done
  rm -rf "$folder/apt"
  touch "$root/.done"
fi

version=$(basename "$(ls -d "$root"/usr/lib/python3.* | tail -n 1)")  # such as python3.11
packages=$venv/lib/$version/site-packages
rm -rf "$venv" && mkdir -p "$venv/bin" "$packages"
cat > "$venv/bin/python" <<END
#!/bin/sh
# A common Arm server's processor: without the scalable vectors and the pointer signing that are slow to emulate.
exec qemu-aarch64-static -cpu neoverse-n1 -L "$root" -0 "$venv/bin/python" "$root/usr/bin/$version" "\$@"
END
chmod +x "$venv/bin/python"
mkdir -p "$venv/share/jupyter/kernels/emulated"
cat > "$venv/share/jupyter/kernels/emulated/kernel.json" <<END
{"argv": ["$venv/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
 "display_name": "Python, emulated", "language": "python"}
END
printf 'home = %s\ninclude-system-site-packages = false\n' "$root/usr/bin" > "$venv/pyvenv.cfg"

# The package itself is read from the checkout; installed is what says which it is.
(cd "$here/.." && "${PYTHON:-python3}" - "$packages" > /dev/null 2>&1 <<END
import sys
from setuptools import build_meta
build_meta.prepare_metadata_for_build_wheel(sys.argv[1])
END
)

# The library, its tests and a kernel, at the pins; what they need besides is resolved by pip.
wanted='numpy scipy numba llvmlite matplotlib pillow safetensors ml_dtypes scikit-learn rich typer pytest pytest-xdist
  hypothesis gfloat ipykernel ipython jupyter-client jupyter-core matplotlib-inline traitlets pygments markdown-it-py PyYAML'
lines=$(sed 's/#.*//' "$here/../requirements.txt" | awk -v wanted="$wanted" '
  BEGIN { n = split(wanted, names, /[ \n]+/); for (i = 1; i <= n; i++) keep[names[i] "=="] = 1 }
  { pin = $1; name = pin; sub(/==.*/, "==", name); if (name in keep) print pin }')
# shellcheck disable=SC2086  # one word a pin
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$packages" --only-binary=:all: \
  --implementation cp --python-version "${version#python}" \
  --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux_2_27_aarch64 \
  --platform manylinux_2_28_aarch64 $lines
