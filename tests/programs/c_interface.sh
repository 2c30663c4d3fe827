# SPDX-License-Identifier: Apache-2.0
# The shared library promptkd_c from a program in C and from Python's ctypes, in several threads: what classify says, and
# nothing visible but its functions. PROMPTKD_BINARY_DIR is the build folder.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
rm -rf run pngs
library=${PROMPTKD_BINARY_DIR:?}/libpromptkd_c.so
cmake --build "$PROMPTKD_BINARY_DIR" --target promptkd_c >build.log 2>&1 || { tail -n 20 build.log >&2 && exit 1; }
symbols=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | LC_ALL=C sort | tr '\n' ' ')
wanted="promptkd_class_name promptkd_classes promptkd_classify promptkd_close promptkd_last_error promptkd_open promptkd_open_bytes promptkd_resolution promptkd_version "
check "the library shows its functions and nothing else: $symbols" test "$symbols" = "$wanted"

# shellcheck disable=SC2086  # a list of options
run 0 distill $models --data "$fashion" --images 200 --fit closed-form --width 64 --out run
python3 "$source_dir/tests/support/fashion_pngs.py" "${fashion#fashion-mnist:}" pngs 9
run 0 classify run/bundle.safetensors pngs --top 10 --json answers.json
check "a program in C compiles" cc -std=c99 -Wall -Wextra -Wpedantic -Werror -I "$source_dir/include" \
    "$source_dir/tests/c/classify.c" -o classify "$library" "-Wl,-rpath,$PROMPTKD_BINARY_DIR"
./classify run/bundle.safetensors pngs/*.png >stdout 2>stderr || { complain "the program in C" && cat stdout >&2; }
check "a line an image" test "$(grep -c '^pngs/0000[0-8].png	T-shirt/top	0\.' stdout)" = 9
check "Python's ctypes, in threads" python3 "$source_dir/tests/c/classify.py" "$library" run/bundle.safetensors answers.json
finish
