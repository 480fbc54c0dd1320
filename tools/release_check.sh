#!/bin/sh
# Build the wheel from the committed files, install it into a new environment, and use it in a folder that contains
# unrelated modules with the same names as packages:
#
#     tools/release_check.sh .venv/bin/python
#
# The script trains, compares, plays and exports, runs the README's Python code, and checks that all files state the
# same version.
set -eu
python=$1
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
for place in 'agents/__init__.py:__version__ = "%s"' 'CITATION.cff:version: %s' 'CHANGELOG.md:## %s'; do
    line=$(printf "${place#*:}" "$version")
    grep -qF "$line" "${place%%:*}" || { echo "expected '$line' in ${place%%:*}, the version in pyproject.toml" >&2; exit 1; }
done

mkdir "$work/source" "$work/elsewhere"
git archive HEAD | tar -x -C "$work/source"
"$python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$work" "$work/source"
"$python" -m venv "$work/a venv"
"$work/source/tools/install_locked.sh" "$work/a venv/bin/python" --packages-only
"$work/a venv/bin/python" -m pip install --quiet --no-deps --no-index "$work"/flow_rl_zoo-"$version"-*.whl

cd "$work/elsewhere"
for module in agents zoo random gymnasium; do echo "raise SystemExit('imported an unrelated module $module')" > "$module.py"; done
PATH="$work/a venv/bin:$PATH"
unset PYTHONPATH
installed=$(python -P -c 'import agents; print(agents.__file__)')
case $installed in "$work/a venv"/*) ;; *) echo "expected the wheel's package, got $installed" >&2; exit 1 ;; esac
maze=pointmaze-medium-navigate-singletask-task1-v0
zoo train --algo qam --env $maze --quick --seeds 0-1 --offline-steps 200 --eval-episodes 2 --num-threads 1 \
    --dataset generate --dataset-size 5000 --dataset-dir data
zoo compare logs/ --published mini -o report/
zoo enjoy --algo qam --env $maze --trained --episodes 1 --video qam.gif
zoo evaluate --algo fql --env $maze --trained
zoo export --algo qam --env $maze -o qam.onnx
sed -n '/^```python$/,/^```$/p' "$root/README.md" | sed '/^```/d; s/100_000/5_000/; s/(1_000/(30/' | python -P -
cd "$root"
echo "flow-rl-zoo $version: the wheel trains, compares, plays, exports and runs the README"
