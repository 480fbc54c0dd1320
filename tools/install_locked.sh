#!/bin/sh
# Install the packages in the lock files, and this project, into a Python environment:
#
#     tools/install_locked.sh .venv/bin/python [--packages-only]
#
# The hash of each file is checked. No package runs code while it is installed, except rliable, which has no wheel. The
# lock files are for Python 3.11 to 3.14 on x86-64 Linux; elsewhere constraints.txt pins the versions, without hashes.
# TORCH=cpu or TORCH=cuda selects PyTorch's build; the default is the build that pip would install.
set -eu
python=$1
only=${2:-}
cd "$(dirname "$0")/.."

pip() {
    command=$1
    shift
    "$python" -m pip "$command" --quiet --disable-pip-version-check "$@"
}

# uv takes a fifth of pip's time; if uv fails, try pip, which supports more ways to log in to an index
setting() {
    "$python" -m pip config list | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | sed 's/\\n/ /g' | tr '\n' ' '
}
export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$(setting index-url)}"
export UV_INDEX="${UV_INDEX:-$(setting extra-index-url)}"
export UV_FIND_LINKS="${UV_FIND_LINKS:-$(setting find-links | tr -s ' ' ',')}"
export UV_COMPILE_BYTECODE=1 UV_INDEX_STRATEGY=unsafe-best-match UV_SYSTEM_CERTS=1 # as pip does; hashes ensure that only locked files are installed
uv=$(dirname "$python")/uv

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case "$(uname -sm) $version" in
"Linux x86_64 3.11" | "Linux x86_64 3.12" | "Linux x86_64 3.13" | "Linux x86_64 3.14") ;;
*)
    echo "no lock file for $(uname -sm) with Python $version: installing pinned versions without checking hashes" >&2
    pip install -c constraints.txt uv
    "$uv" pip install --quiet --python "$python" -c constraints.txt -e '.[dev]'
    exit
    ;;
esac

build=${TORCH:-cuda}
cpu_version=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/torch-cpu.lock)
if [ -z "${TORCH:-}" ] && [ "$version" = 3.11 ] &&
    pip install --dry-run --no-deps --only-binary :all: "$cpu_version" >/dev/null 2>&1; then
    build=cpu
fi
pip install --require-hashes --no-deps --only-binary :all: -r requirements/build.lock
for name in "torch-$build" dev; do
    set -- install --quiet --require-hashes --no-deps --no-build-isolation --only-binary :all: --no-binary rliable \
        -r "requirements/$name.lock"
    "$uv" pip "$@" --python "$python" || "$python" -m pip "$@"
done
if [ "$only" != --packages-only ]; then
    pip install --no-deps --no-build-isolation --no-index -e .
    # ignore the requirements that pyproject.toml overrides
    broken=$(pip check | grep -v 'requires labmaze\|^rliable .* arch\|^No broken') || true
    [ -z "$broken" ] || { echo "$broken" >&2; exit 1; }
fi
