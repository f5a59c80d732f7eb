#!/usr/bin/env bash
# Builds .venv on top of a Python that has DIALS; see CONTRIBUTING.md.
# PYTHON=/path/to/python chooses that Python. pip and apt write to build/env.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
unfinished=$venv/.unfinished
stamp=$venv/.stamp
log=build/env.log
conda_hint="Install DIALS from conda-forge with 'mamba env create -f environment.yml',\
 activate that environment ('conda activate diffuse') and run make again."

mkdir -p build
if command -v flock >/dev/null; then
    exec 9>build/env.lock
    flock 9
fi
if [ -e "$stamp" ] && [ ! -e "$unfinished" ]; then
    newer=$(find setup.py pyproject.toml constraints-debian.txt tools/make_env.sh \
        -newer "$stamp")
    [ -n "$newer" ] || exit 0
fi
: >"$log"

fail() {
    echo "make env: $1" >&2
    exit 1
}

logged() {
    "$@" >>"$log" 2>&1 9>&- || {
        tail -n 25 "$log" >&2
        fail "'$*' failed; the lines above are the end of $log."
    }
}

# A virtual environment is no base for another one: its sys.prefix would be wrong.
has_dials() {
    "$1" - >>"$log" 2>&1 <<'PYTHON'
import sys

assert sys.version_info >= (3, 10) and sys.prefix == sys.base_prefix
import cctbx
import dials
import dxtbx
PYTHON
}

find_dials() {
    local candidate path
    local candidates=(python3 ${CONDA_PREFIX:+"$CONDA_PREFIX/bin/python3"} /usr/bin/python3)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        path=$(command -v "$candidate") || continue
        if has_dials "$path"; then
            echo "$path"
            return
        fi
    done
    return 1
}

can_apt() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true; }; } \
        2>/dev/null
}

apt() {
    local command=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
    [ "$(id -u)" = 0 ] || command=(sudo "${command[@]}")
    logged "${command[@]}" -o DPkg::Lock::Timeout=600 "$@"
}

if ! base=$(find_dials); then
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON cannot import dials, dxtbx and cctbx."
    can_apt || fail "no Python with DIALS was found. $conda_hint"
    echo "Installing DIALS with apt-get; this takes about two minutes (log: $log)."
    apt update
    apt-cache show dials >>"$log" 2>&1 \
        || fail "this system has no package of DIALS. $conda_hint"
    apt install -y --no-install-recommends dials python3-venv
    base=$(find_dials) \
        || fail "DIALS was installed, but cannot be imported (see $log). $conda_hint"
fi

if ! "$base" -c "import ensurepip" >>"$log" 2>&1; then
    can_apt || fail "$base cannot make virtual environments;\
 install its venv module (Debian: the package python3-venv) and run make again."
    echo "Installing python3-venv with apt-get (log: $log)."
    apt update
    apt install -y --no-install-recommends python3-venv
fi

# libtbx looks for its build below sys.prefix, which a virtual environment changes: the
# last word is that location, or nothing where libtbx does not depend on sys.prefix.
read -r version numpy_major libtbx_build < <("$base" - 2>>"$log" <<'PYTHON'
import os
import sys

import libtbx.load_env
import numpy

from dials.util.version import dials_version

build = os.path.relpath(abs(libtbx.env.build_path), sys.prefix)
if build.startswith(os.pardir) or os.environ.get("LIBTBX_BUILD"):
    build = ""
print(dials_version().split()[-1], numpy.__version__.split(".")[0], build)
PYTHON
) || fail "the DIALS of $base cannot tell its version (see $log). $conda_hint"
prefix=$("$base" -c "import sys; print(sys.prefix)")
echo "Found DIALS $version ($base); setting up $venv (log: $log)."

home=$("$base" -c "import os, sys; print(os.path.dirname(sys._base_executable))")
if [ -e "$unfinished" ] || ! grep -qxF "home = $home" "$venv/pyvenv.cfg" 2>/dev/null; then
    rm -rf "$venv"
fi
mkdir -p "$venv"
touch "$unfinished"
[ -x $venv/bin/pip ] || logged "$base" -m venv --system-site-packages "$venv"
if [ -n "$libtbx_build" ] && [ ! -e "$venv/$libtbx_build" ]; then
    mkdir -p "$(dirname "$venv/$libtbx_build")"
    ln -sfn "$prefix/$libtbx_build" "$venv/$libtbx_build"
fi

# Debian gives its h5py another name, so that pip would install a second one; dxtbx can
# read NeXus files only through the h5py that shares its HDF5 library.
logged "$venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sysconfig
from pathlib import Path

import h5py

try:
    importlib.metadata.version("h5py")
except importlib.metadata.PackageNotFoundError:
    version = h5py.__version__
    site = Path(sysconfig.get_path("purelib"))
    folder = site / f"h5py-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: h5py\nVersion: {version}\n"
    (folder / "METADATA").write_text(text)
    (folder / "RECORD").write_text("")
    (folder / "INSTALLER").write_text("make env\n")
PYTHON

pip=("$venv/bin/python" -m pip install --disable-pip-version-check --no-input)
requirements=("setuptools>=64" wheel)
if [ "$numpy_major" = 1 ]; then
    pip+=(-c constraints-debian.txt)
    requirements+=("coverage>=7")
fi
logged "${pip[@]}" "${requirements[@]}"
logged "${pip[@]}" --no-build-isolation -e ".[test]"
logged "$venv/bin/python" -c "import dxtbx, iotbx.phil, numba, diffuse_core.plugins"
echo "Compiling the inner loops; this takes about a minute."
logged "$venv/bin/python" -m diffuse_core.warm_up

rm "$unfinished"
touch "$stamp"
echo "$venv is ready: . $venv/bin/activate"
