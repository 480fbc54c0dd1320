#!/bin/sh
# Install what the lock files list, and this project, into the environment of a Python:
#
#     tools/install_locked.sh .venv/bin/python [--packages-only]
#
# The hash of each file is checked, and no code of a package runs while it is installed, except that of rliable, which
# comes as source. The lock files are for Python 3.11 to 3.14 on Linux on x86-64; elsewhere constraints.txt pins the
# versions, without hashes. TORCH=cpu or TORCH=cuda chooses PyTorch's build; by default it is the one that pip would
# take.
set -eu
python=$1
only=${2:-}
cd "$(dirname "$0")/.."

pip() {
    command=$1
    shift
    "$python" -m pip "$command" --quiet --disable-pip-version-check "$@"
}

# uv installs in a fifth of the time; what it cannot reach, pip may: it knows more ways to log in
setting() {
    "$python" -m pip config list | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | sed 's/\\n/ /g' | tr '\n' ' '
}
export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$(setting index-url)}"
export UV_INDEX="${UV_INDEX:-$(setting extra-index-url)}"
export UV_FIND_LINKS="${UV_FIND_LINKS:-$(setting find-links | tr -s ' ' ',')}"
export UV_COMPILE_BYTECODE=1 UV_INDEX_STRATEGY=unsafe-best-match UV_SYSTEM_CERTS=1 # as pip does; hashes say what may be taken
uv=$(dirname "$python")/uv

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case "$(uname -sm) $version" in
"Linux x86_64 3.11" | "Linux x86_64 3.12" | "Linux x86_64 3.13" | "Linux x86_64 3.14") ;;
*)
    echo "no lock file for $(uname -sm) with Python $version: versions are pinned, hashes are not checked" >&2
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
    # but what pyproject.toml overrides
    broken=$(pip check | grep -v 'requires labmaze\|^rliable .* arch\|^No broken') || true
    [ -z "$broken" ] || { echo "$broken" >&2; exit 1; }
fi
