#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_style.sh SOURCE_DIR: a statement does one thing. `a = 1, b = 2;` is two; the commas of declarations, of calls and
# of the heads of loops are none of that. Prints every violation as file:line and exits 1, or prints a summary.
set -eu
cd "${1:?usage: check_style.sh SOURCE_DIR}"
# shellcheck disable=SC2016  # awk, not shell
find include examples tests bench \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' \) | LC_ALL=C sort |
    LC_ALL=C xargs awk -f tests/scripts/statements.awk -f tests/scripts/style.awk
