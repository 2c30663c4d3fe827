# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034  # the lists are for the scripts that source this file
# Sourced by examples/quickstart.sh and tests/run.sh: the Debian packages that promptkd needs, installed when missing.
# Call packages_ensure; it returns 1 after one clear message when something required stays missing.

# What each purpose needs. A word is a package, or program:package where any program of that name will do.
PACKAGES_BUILD="c++:g++ cmake:cmake ninja:ninja-build libeigen3-dev libstb-dev nlohmann-json3-dev libcli11-dev
zlib1g-dev libzip-dev libspng-dev libdeflate-dev libssl-dev libutf8proc-dev libxtensor-dev libxxhash-dev"
PACKAGES_DEMO="dataset-fashion-mnist"
# MPI: several processes that train one student; cpp-httplib: classify --serve, whose test is a client in Python; promptkd
# works without them. Doxygen: the reference, a test of its own.
PACKAGES_TEST="doctest-dev libbenchmark-dev libopenmpi-dev mpirun:openmpi-bin libcpp-httplib-dev python3:python3
doxygen:doxygen"
# For the one file that the tests download; promptkd itself uses no Python.
PACKAGES_FETCH="python3:python3 pip3:python3-pip ca-certificates"
# For the tests of --exhaustive: the Python package, the packages for pkg-config and Debian.
PACKAGES_EXHAUSTIVE="python3-dev python3-venv pkg-config:pkg-config lintian:lintian"
PACKAGES_CLANG="clang++:clang libclang-rt-14-dev"
# libjpeg-turbo decodes faster when asked for, libwebp and libtiff read further kinds of images, SentencePiece divides
# the texts of SigLIP models; everything else works without them.
PACKAGES_OPTIONAL="libturbojpeg0-dev libwebp-dev libtiff-dev libsentencepiece-dev"

packages_installed() {
    dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

# packages_missing WORD…: prints the packages that are not there.
packages_missing() {
    for word in "$@"; do
        case $word in
        *:*) command -v "${word%%:*}" >/dev/null 2>&1 || echo "${word#*:}" ;;
        *) packages_installed "$word" || echo "$word" ;;
        esac
    done
}

packages_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" >>"$packages_log" 2>&1
}

# The package lists of a fresh machine are empty or old: refresh them only when an installation fails.
packages_install() {
    packages_apt "$@" && return 0
    apt-get -q update >>"$packages_log" 2>&1 || return 1
    packages_apt "$@"
}

# packages_ensure LOG WORD…: installs what is missing; LOG receives apt-get's output. PACKAGES_OPTIONAL is tried too.
packages_ensure() {
    packages_log=$1
    shift
    if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
        echo "Not a Debian system: no package is installed. If the build misses a library, its message names it."
        return 0
    fi
    missing=$(packages_missing "$@")
    # shellcheck disable=SC2086  # a list of words
    optional=$(packages_missing $PACKAGES_OPTIONAL)
    if [ "$(id -u)" -ne 0 ]; then
        [ -z "$missing" ] && return 0
        echo "Missing packages. Install them, then run this again:" >&2
        # shellcheck disable=SC2086
        echo "    sudo apt-get install" $missing $optional >&2
        return 1
    fi
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086
        echo "Installing:" $missing
        # shellcheck disable=SC2086
        if ! packages_install $missing; then
            tail -n 5 "$packages_log" >&2
            # shellcheck disable=SC2086
            echo "apt-get could not install" $missing "(its output is in $packages_log)" >&2
            return 1
        fi
    fi
    if [ -n "$optional" ]; then
        # shellcheck disable=SC2086
        echo "Installing (optional):" $optional
        # shellcheck disable=SC2086
        packages_install $optional || echo "Without $optional: not available here; promptkd works without it."
    fi
}
