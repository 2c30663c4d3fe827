#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need (Debian, as root), builds the release preset and runs its tests.
usage="usage: sh tests/run.sh [--all] [--exhaustive] [--clang] [--asan] [--tsan] [--cuda] [--offline]
  --all         what continuous integration runs: also --exhaustive, --clang, --asan and --tsan
  --exhaustive  also what takes minutes: each header alone, every way into a host project, benchmarks, learners
  --clang       also clang++: the program built with assertions, and a part of its tests run
  --asan        also clang++ with the sanitizers: unit, golden and fuzz tests
  --tsan        also the thread sanitizer: thread pool, loader, training
  --cuda        also the CUDA backend's compilation for every architecture; needs nvcc, no GPU
  --offline     fetch nothing: tests that need OpenAI's merges are left out unless build/vocab has them"
clang=no
asan=no
tsan=no
cuda=no
exhaustive=no
offline=no
for option in "$@"; do
    case $option in
    --all) clang=yes asan=yes tsan=yes exhaustive=yes ;;
    --exhaustive) exhaustive=yes ;;
    --clang) clang=yes ;;
    --asan) asan=yes ;;
    --tsan) tsan=yes ;;
    --cuda) cuda=yes ;;
    --offline) offline=yes ;;
    -h | --help) echo "$usage" && exit 0 ;;
    *) echo "run.sh: unknown option $option" >&2 && echo "$usage" >&2 && exit 2 ;;
    esac
done

cd "$(dirname "$0")/.." || exit 1
mkdir -p build/vocab || exit 1
. cmake/packages.sh
cores=$(getconf _NPROCESSORS_ONLN || echo 1)
vocab=build/vocab/bpe_simple_vocab_16e6.txt.gz
vocab_sha256=924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a

summary=""
run_start=$(date +%s)
print_summary() {
    echo
    echo "== summary"
    printf '%s' "$summary"
    printf '%-24s %5d s\n' total $(($(date +%s) - run_start))
}
# stage NAME COMMAND…: runs it, notes the time, stops everything when it fails.
stage() {
    stage_name=$1
    shift
    echo
    echo "== $stage_name"
    stage_start=$(date +%s)
    status=0
    "$@" || status=$?
    [ "$status" -eq 0 ] && result=ok || result=FAILED
    summary="$summary$(printf '%-24s %5d s  %s' "$stage_name" $(($(date +%s) - stage_start)) "$result")
"
    [ "$status" -eq 0 ] && return 0
    print_summary
    echo "FAILED: $stage_name" >&2
    exit 1
}

have_vocab() {
    [ -f "$vocab" ] && echo "$vocab_sha256  $vocab" | sha256sum -c --status
}

install_packages() {
    words="$PACKAGES_BUILD $PACKAGES_DEMO $PACKAGES_TEST"
    have_vocab || [ "$offline" = yes ] || words="$words $PACKAGES_FETCH"
    [ "$exhaustive" = no ] || words="$words $PACKAGES_EXHAUSTIVE"
    [ "$clang$asan$tsan" = nonono ] || words="$words $PACKAGES_CLANG"
    # shellcheck disable=SC2086  # a list of words
    packages_ensure build/packages.log $words && echo "all there"
}

# OpenAI's merges come with the wheel of clip-anytorch; pip's own configuration says where from.
fetch_vocab() {
    if have_vocab; then
        echo "$vocab: already there"
        return 0
    fi
    wheel_dir=build/vocab/wheel
    rm -rf "$wheel_dir"
    mkdir -p "$wheel_dir" || return 1
    pip3 download --quiet --no-deps --only-binary=:all: --dest "$wheel_dir" clip-anytorch || {
        echo "pip3 could not download clip-anytorch; --offline runs without it" >&2
        return 1
    }
    python3 -m zipfile -e "$wheel_dir"/*.whl "$wheel_dir" || return 1
    mv "$wheel_dir/clip/$(basename "$vocab")" "$vocab" && rm -rf "$wheel_dir" || return 1
    have_vocab && return 0
    echo "$vocab: wrong SHA-256, expected $vocab_sha256" >&2
    rm -f "$vocab"
    return 1
}

configure() {
    cmake --preset "$1" >"build/configure-$1.log" 2>&1 && return 0
    tail -n 20 "build/configure-$1.log" >&2
    return 1
}
build() { cmake --build --preset "$@" --parallel "$cores"; }
run_tests() { ctest --preset "$@" --output-on-failure --no-tests=error --parallel "$cores"; }

# preset NAME [CTEST OPTION…]: the three stages of one build.
preset() {
    preset_name=$1
    shift
    stage "$preset_name: configure" configure "$preset_name"
    stage "$preset_name: build" build "$preset_name"
    stage "$preset_name: tests" run_tests "$preset_name" "$@"
}

stage packages install_packages
if [ "$offline" = yes ]; then
    export PROMPTKD_OFFLINE=1
else
    unset PROMPTKD_OFFLINE
    stage "OpenAI's merges" fetch_vocab
fi
if command -v ninja >/dev/null 2>&1; then
    export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
fi

if [ "$exhaustive" = yes ]; then
    preset release
    stage "release: benchmarks" build release --target benchmarks learners
else
    export PROMPTKD_FUZZ_SECONDS="${PROMPTKD_FUZZ_SECONDS:-2}"
    preset release --label-exclude exhaustive
fi
# The unit and golden tests are compiled by clang++ for --asan.
[ "$clang" = no ] || preset clang --tests-regex '^program_(distill|errors|tools|weights|zero_shot)$'
[ "$asan" = no ] || preset asan --label-regex '^(unit|golden|fuzz)$'
[ "$tsan" = no ] || preset tsan --label-regex '^threads$'
if [ "$cuda" = yes ]; then
    CUDACXX=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || { echo "run.sh: --cuda needs nvcc" >&2 && exit 1; }
    export CUDACXX
    stage "cuda-compile: configure" configure cuda-compile
    stage "cuda-compile: build" build cuda-compile
fi
print_summary
echo "PASSED"
