# SPDX-License-Identifier: Apache-2.0
# What is installed: headers alone without a build, pkg-config, manual pages made of --help, completions, Debian packages;
# and a host project that gets none of it.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
rm -rf headers prefix man host host-build packages
mkdir -p host man

# Headers alone: no program, no CLI11, nothing compiled.
check "the headers are configured without programs" cmake -S "$source_dir" -B headers -DPROMPTKD_BUILD_PROGRAM=OFF \
    -DPROMPTKD_BUILD_TESTS=OFF -DPROMPTKD_BUILD_BENCH=OFF -DPROMPTKD_CUDA=OFF -DCLI11_DIR=/nowhere >configure.log 2>&1
check "and installed without a build" cmake --install headers --prefix prefix >install.log 2>&1
check "no program is among them" test ! -e prefix/bin
pc=$(find prefix -name promptkd.pc)
check "a pkg-config file" test -n "$pc"
if command -v pkg-config >/dev/null; then
    flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags promptkd)
    echo '#include <promptkd/core/error.hpp>
int main() { promptkd::require(true, "fine"); }' >host/small.cpp
    # shellcheck disable=SC2086  # a list of options
    check "pkg-config's flags compile" c++ $flags -fsyntax-only host/small.cpp
    # shellcheck disable=SC2086  # a list of options
    check "older C++ ends in a line that says so" \
        sh -c 'c++ "$@" 2>&1 | grep -c "error:" >errors; grep -q "^2$" errors' sh $flags -std=c++17 -fsyntax-only host/small.cpp
fi

# A host project: no rules for its installation, no further language, a word about the instruction set.
cat >host/CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.22)
project(host LANGUAGES CXX)
add_subdirectory("$source_dir" promptkd)
END
check "a host project is configured" cmake -S host -B host-build >host.log 2>&1
check "its kernels are chosen at run time: no warning" test "$(grep -c 'x86-64-v3' host.log)" = 0
check "it installs nothing of ours" cmake --install host-build --prefix host-prefix >host-install.log 2>&1
check "no file" test ! -e host-prefix
check "it has no CUDA" test "$(grep -c CMAKE_CUDA_COMPILER host-build/CMakeCache.txt)" = 0
if [ "$(uname -m)" = x86_64 ]; then
    rm -rf host-build
    check "one that forbids it" cmake -S host -B host-build -DCMAKE_CXX_FLAGS=-DPROMPTKD_NO_DISPATCH >host.log 2>&1
    check "is told that it will be slow" grep -q 'x86-64-v3' host.log
    rm -rf host-build
    check "not where a faster set is asked for" cmake -S host -B host-build \
        "-DCMAKE_CXX_FLAGS=-DPROMPTKD_NO_DISPATCH -march=x86-64-v3" >host.log 2>&1
    check "no word about it" test "$(grep -c 'x86-64-v3' host.log)" = 0
fi

# Units for different processors in one program are an error, not a crash or another speed.
if [ "$(uname -m)" = x86_64 ]; then
    printf '%s\n' '#include <promptkd/device/cpu.hpp>' 'int other() { return promptkd::Cpu<float>(1).threads(); }' >host/a.cpp
    printf '%s\n' '#include <promptkd/device/cpu.hpp>' '#include <iostream>' 'int other();' 'int main() {' \
        'try { return other() - 1; } catch (const promptkd::Error& e) { std::cout << e.what() << std::endl; return 3; } }' \
        >host/b.cpp
    eigen=-I$(sed -n 's/^Eigen3_DIR:PATH=\(.*\)\/share\/.*/\1/p' headers/CMakeCache.txt)/include/eigen3
    for set in x86-64-v2 x86-64-v3; do
        check "a unit for $set" c++ -std=c++20 -pthread "-march=$set" -I "$source_dir/include" "$eigen" -c host/a.cpp -o a-$set.o
    done
    check "another unit" c++ -std=c++20 -pthread -march=x86-64-v2 -I "$source_dir/include" "$eigen" -c host/b.cpp -o b.o
    check "same sets" c++ -pthread a-x86-64-v2.o b.o -o same
    check "run" ./same
    # What is compiled differently has names of its own: the linker keeps both.
    nm -C a-x86-64-v2.o a-x86-64-v3.o | grep -oE 'promptkd::abi[a-z0-9_]*::Cpu<float, float>::Cpu' | sort -u >names
    check "names carry the sets: $(tr '\n' ' ' <names)" test "$(wc -l <names)" = 2
    check "different sets" c++ -pthread a-x86-64-v3.o b.o -o different
    status=0
    ./different >said || status=$?
    check "are refused: $(cat said)" test "$status" = 3
    check "in a line that says so" grep -q 'different instruction sets' said
fi

# A shared library of a host that hides what it does not mark shows nothing of ours.
printf '%s\n' '#include <promptkd/clip/model.hpp>' '#include <promptkd/device/cpu.hpp>' \
    '#define SHOWN __attribute__((visibility("default")))' \
    'SHOWN bool heavy(promptkd::Cpu<float>& d) {' \
    'return promptkd::ClipModel<promptkd::Cpu<float>>(d, {}).weight_bytes() > 1000000; }' \
    >host/plugin.cpp
# shellcheck disable=SC2086  # two lists of options
check "a shared library" c++ -std=c++20 -fPIC -shared -fvisibility=hidden -I "$source_dir/include" "$eigen" \
    host/plugin.cpp -o plugin.so
nm -D --defined-only plugin.so | awk '{ print $3 }' | grep -E '^_Z(T[ISV]|GV|Z)*N[KVR]*8promptkd' >shown || true
check "shows none of our symbols: $(head -n 3 shown)" test ! -s shown
check "but its own" sh -c "nm -DC --defined-only plugin.so | grep -q ' heavy('"

# Manual pages: one for each command, every option of --help in it.
check "manual pages" sh "$source_dir/cmake/packaging/man_pages.sh" "$promptkd" man 1.2.3
for command in demo train distill classify evaluate export-onnx bundle-add-classes; do
    check "a page for $command" test -s "man/promptkd-$command.1"
done
"$promptkd" classify --help | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u >options
tr -d '\\' <man/promptkd-classify.1 >page
while read -r option; do grep -q -- "$option" page || complain "classify's page has no $option"; done <options
check "the version stands in it" grep -q 'promptkd 1.2.3' man/promptkd.1
if command -v man >/dev/null; then
    MANWIDTH=100 man -l --warnings man/promptkd-distill.1 2>warnings >text || complain "man cannot read its page"
    check "without warnings" test ! -s warnings
fi

# Completion in bash: commands, commands of commands, options, files.
if command -v bash >/dev/null; then
    cat >complete.bash <<'END'
. "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_promptkd
printf '%s\n' "${COMPREPLY[@]}"
END
    completion=$source_dir/cmake/packaging/promptkd.bash
    bash complete.bash "$completion" "$promptkd" cla >words
    check "cla becomes classify" test "$(cat words)" = classify
    bash complete.bash "$completion" "$promptkd" export "" >words
    check "export offers onnx" grep -q '^onnx$' words
    bash complete.bash "$completion" "$promptkd" classify --flag >words
    check "options of the command" test "$(cat words)" = --flag-unfamiliar
fi

# A Debian package of the headers.
if command -v dpkg-deb >/dev/null; then
    check "cpack" sh -c 'cd headers && cpack -G DEB >cpack.log 2>&1'
    check "a package" test -s headers/libpromptkd-dev_*_all.deb
    dpkg-deb -c headers/libpromptkd-dev_*_all.deb >contents
    check "with the headers" grep -q 'usr/include/promptkd/promptkd.hpp' contents
    check "and the CMake package" grep -q 'promptkdConfig.cmake' contents
fi
finish
