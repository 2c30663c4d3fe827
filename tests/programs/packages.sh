# SPDX-License-Identifier: Apache-2.0
# Packages that others install: Debian's of the headers, the program and the C interface, which lintian accepts; the
# Conan recipe with a host project. PROMPTKD_BINARY_DIR: the build folder. PROMPTKD_OFFLINE: without Conan, which pip
# fetches.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
rm -rf packages conan environment
mkdir packages

check "cpack" sh -c 'cd packages && cpack -G DEB --config "$1/CPackConfig.cmake" >cpack.log 2>&1' sh \
    "${PROMPTKD_BINARY_DIR:?}"
for package in libpromptkd-dev promptkd; do
    check "the package $package" sh -c "ls packages/${package}_*.deb >/dev/null"
done
dpkg-deb -c packages/promptkd_*.deb >contents
for file in bin/promptkd share/man/man1/promptkd-classify.1.gz share/doc/promptkd/changelog.gz \
    share/bash-completion/completions/promptkd share/zsh/vendor-completions/_promptkd; do
    check "$file in it" grep -q "usr/$file$" contents
done
if command -v lintian >/dev/null; then
    # cpack itself writes the calls of ldconfig.
    lintian --suppress-tags maintscript-calls-ldconfig --fail-on error,warning packages/*.deb >lintian.out 2>&1 || complain "lintian: $(grep '^[EW]:' lintian.out | head -n 5)"
else
    echo "lintian is not there: its part is left out"
fi

# The versions of recipe and port are the library's.
version=$("$promptkd" --version | sed 's/promptkd //')
check "the port's version" grep -q "\"version\": \"$version\"" "$source_dir/cmake/packaging/vcpkg/promptkd/vcpkg.json"
if [ -n "${PROMPTKD_OFFLINE-}" ]; then
    echo "skipped: offline"
    finish
    exit
fi
check "pip installs Conan" sh -c 'python3 -m venv environment && environment/bin/pip install --quiet "conan>=2,<3"' >pip.log 2>&1
CONAN_HOME=$PWD/conan
export CONAN_HOME
environment/bin/conan profile detect >conan.log 2>&1
check "a package of the headers, and a host project" environment/bin/conan create "$source_dir/cmake/packaging/conan" \
    --no-remote -o '&:dependencies=system' -s compiler.cppstd=20 -c tools.cmake.cmake_layout:test_folder="$PWD/host" \
    >conan.log 2>&1
check "the host project ran" grep -q "^promptkd $version$" conan.log
check "the recipe names what it needs from Conan" sh -c 'environment/bin/conan inspect "$1" 2>&1 | grep -q "^name: promptkd"' \
    sh "$source_dir/cmake/packaging/conan"
finish
