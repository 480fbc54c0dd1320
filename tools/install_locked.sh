#!/bin/sh
# Install what the lock files list, and this project, into the environment of a Python:
#
#     tools/install_locked.sh .venv/bin/python [--packages-only]
#
# The hash of each file is checked, and no code of a package runs while it is installed, except that of rliable, which
# comes as source. The lock files are for Python 3.11 and 3.12 on Linux on x86-64; elsewhere constraints.txt pins the
# versions, without hashes. TORCH=cpu or TORCH=cuda chooses PyTorch's build; by default it is the one that pip would
# take.
set -eu
python=$1
only=${2:-}
cd "$(dirname "$0")/.."

# uv installs several times as fast; it gets the package indexes that pip's variables name
if command -v uv >/dev/null; then
    export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-https://pypi.org/simple}}"
    export UV_INDEX="${UV_INDEX:-${PIP_EXTRA_INDEX_URL:-}}" UV_FIND_LINKS="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
    pip() {
        command=$1
        shift
        uv pip "$command" --quiet --python "$python" "$@"
    }
else
    pip() {
        command=$1
        shift
        "$python" -m pip "$command" --quiet --disable-pip-version-check "$@"
    }
fi

locked() {
    pip install --require-hashes --no-deps --no-build-isolation --only-binary :all: --no-binary rliable \
        -r "requirements/$1.lock"
}

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case "$(uname -sm) $version" in
"Linux x86_64 3.11" | "Linux x86_64 3.12") ;;
*)
    echo "no lock file for $(uname -sm) with Python $version: versions are pinned, hashes are not checked" >&2
    pip install -c constraints.txt -e '.[dev]'
    exit
    ;;
esac

build=${TORCH:-cuda}
cpu_version=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/torch-cpu.lock)
if [ -z "${TORCH:-}" ] && [ "$version" = 3.11 ] &&
    pip install --dry-run --no-deps --only-binary :all: "$cpu_version" >/dev/null 2>&1; then
    build=cpu
fi
for name in build "torch-$build" dev; do
    locked "$name"
done
if [ "$only" != --packages-only ]; then
    pip install --no-deps --no-build-isolation --no-index -e .
    pip check
fi
