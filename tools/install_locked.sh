#!/bin/sh
# Install what the lock files list, and this project, into the environment of a Python:
#
#     tools/install_locked.sh .venv/bin/python
#
# Each file's hash is checked, and no code of a package runs while it is installed, except rliable's, which comes as
# source. The lock files are for Python 3.11 and 3.12 on Linux on x86-64; elsewhere constraints.txt pins the versions,
# without hashes.
set -eu
python=$1
cd "$(dirname "$0")/.."

pip() {
    "$python" -m pip --disable-pip-version-check "$@"
}

locked() {
    pip install --quiet --require-hashes --no-deps --no-build-isolation --only-binary :all: --no-binary rliable \
        -r "requirements/$1.lock"
}

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case "$(uname -sm) $version" in
"Linux x86_64 3.11" | "Linux x86_64 3.12") ;;
*)
    echo "no lock file for $(uname -sm) with Python $version: versions are pinned, hashes are not checked" >&2
    pip install --quiet -c constraints.txt -e '.[dev]'
    exit
    ;;
esac

# PyTorch's CPU build, if pip is set up to find it, as a plain `pip install torch` would do
cpu_build=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/torch-cpu.lock)
if [ "$version" = 3.11 ] && pip install --quiet --dry-run --no-deps --only-binary :all: "$cpu_build" >/dev/null 2>&1; then
    torch=torch-cpu
else
    torch=torch-cuda
fi
for name in build "$torch" dev; do
    locked "$name"
done
pip install --quiet --no-deps --no-build-isolation --no-index -e .
pip check
