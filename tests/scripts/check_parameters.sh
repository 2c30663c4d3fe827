#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_parameters.sh FOLDER [MOST]: no public function or constructor below FOLDER takes more than MOST (6) parameters.
# Namespaces `detail`, private and protected members and local functions are not public. Prints every violation as
# file:line and exits 1, or prints a summary and exits 0.
set -eu
folder=${1:?usage: check_parameters.sh FOLDER [MOST]}
here=$(dirname "$0")
# shellcheck disable=SC2016  # awk, not shell
find "$folder" -name '*.hpp' | LC_ALL=C sort | LC_ALL=C xargs awk -v most="${2:-6}" -f "$here/statements.awk" -f "$here/parameters.awk"
