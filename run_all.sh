#!/usr/bin/env bash
# Sets up the environment, then runs the study or its tests; ./run_all.sh --help lists the options.
set -eu
# The working folder stays the caller's, so that relative paths, given or printed, are right there.
root="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)"
case "$root" in
    *:*)
        echo "run_all.sh: $root has a colon, at which Python splits lists of paths: rename the folder" >&2
        exit 2
        ;;
esac

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "run_all.sh: no Python 3.11 or newer was found: install one (or activate the conda environment)" >&2
    exit 2
}

make_venv() (
    cd -- "$root"
    wanted="$(cksum pyproject.toml constraints.txt)"
    if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    echo "setting up .venv (once; about 6.7 GB)"
    "$1" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable '.[study,teach,test]' || {
        echo "run_all.sh: the packages could not be installed; mend what pip says above and call again" >&2
        exit 2
    }
    echo "$wanted" >.venv/installed
)

export PYTHONHASHSEED="${PYTHONHASHSEED:-0}"
export CUBLAS_WORKSPACE_CONFIG="${CUBLAS_WORKSPACE_CONFIG:-:4096:8}"
# A GPU's float32 is float32: its shortened form, TF32, is torch's default for convolutions.
export NVIDIA_TF32_OVERRIDE="${NVIDIA_TF32_OVERRIDE:-0}"
# Large pages for torch's large tensors: without them a third of a training step is spent on page faults.
export THP_MEM_ALLOC_ENABLE="${THP_MEM_ALLOC_ENABLE:-1}"
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-1073741824}" MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1073741824}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

venv=yes
for argument in "$@"; do
    shift
    if [ "$argument" = "--no-venv" ]; then venv=no; else set -- "$@" "$argument"; fi
done

if [ "${1:-}" = "test" ] && [ "$#" -gt 1 ]; then
    echo "run_all.sh: test takes no options but --no-venv" >&2
    exit 2
fi

python="$(find_python)"
"$python" -c 'import sys; sys.argv[1].encode()' "$root" 2>/dev/null || {
    echo "run_all.sh: the path $(printf %q "$root") is not UTF-8, as notebooks are: rename the folder" >&2
    exit 2
}
case "${1:-}" in
    test | compare | site | photo | assignments) ;;
    data) # what fetches and builds nothing needs no packages
        for argument in "$@"; do
            case "$argument" in -h | --help | --list) exec "$python" -P -m saliencylib.data.get "${@:2}" ;; esac
        done
        ;;
    *)
        "$python" -P -m saliencylib.study.plan "$@"
        for argument in "$@"; do
            case "$argument" in -h | --help) exit 0 ;; esac
        done
        ;;
esac
if [ "$venv" = yes ]; then
    make_venv "$python"
    python="$root/.venv/bin/python"
    PATH="$root/.venv/bin:$PATH"
fi

case "${1:-}" in
    test) ;;
    compare | site) exec "$python" -P -m "saliencylib.study.$1" "${@:2}" ;;
    data) exec "$python" -P -m saliencylib.data.get "${@:2}" ;;
    assignments) exec "$python" "$root/notebooks/assignments/prove.py" "${@:2}" ;;
    *) exec "$python" -P -m saliencylib.study.run "$@" ;;
esac

for variable in SALIENCY_DATA SALIENCY_CACHE; do # the tests and the kernels have other working folders
    case "${!variable:-}" in "" | /* | "~"*) ;; *) export "$variable=$PWD/${!variable}" ;; esac
done
cd -- "$root"
SALIENCY_RESULTS="$(mktemp -d)"
export SALIENCY_RESULTS
trap 'rm -rf "$SALIENCY_RESULTS"' EXIT
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m pytest -q tests --ignore=tests/after_notebooks
"$python" -m pytest -q --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
    notebooks/*.ipynb tests/after_notebooks
