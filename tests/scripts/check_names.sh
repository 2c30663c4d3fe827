#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_names.sh SOURCE_DIR
# The weights of CLIP are named in one file, clip/schema.hpp: none of its names stands in quotes anywhere else in the
# library or in the programs. Prints every other place and exits 1, or prints a summary and exits 0.
set -eu
root=${1:?usage: check_names.sh SOURCE_DIR}
schema=include/promptkd/clip/schema.hpp
cd "$root"
# Names in the rows of the tables, without those of buffers, which are ordinary words.
names=$(sed -n '/^namespace rows/,/^}  \/\/ namespace rows/p' "$schema" | grep -v 'R::buffer' | grep -o '"[^"][^"]*"' | sort -u)
count=$(printf '%s\n' "$names" | wc -l)
if [ "$count" -lt 50 ]; then
    echo "$schema: only $count names found; the tables have another form than this check knows"
    exit 1
fi
# Modules of a block are named by them, too: attn.in_proj, self_attn.q_proj.
modules=$(printf '%s\n' "$names" | sed -n 's/[._]\(weight\|bias\)"$/"/p' | grep '\.' | sort -u)
for third in q k v; do
    modules="$modules
$(printf '%s\n' "$modules" | sed -n "s/\*/$third/p")"
done
names="$names
$modules"
if printf '%s\n' "$names" | grep -rnF -f - include examples --include='*.hpp' --include='*.cpp' | grep -v "^$schema:"; then
    echo "a weight of CLIP is named outside $schema; ask the schema for it by its role"
    exit 1
fi
echo "$count names, each in one file"
