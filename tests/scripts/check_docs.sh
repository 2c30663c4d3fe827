#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_docs.sh SOURCE_DIR
# The READMEs name only what exists: relative links with their headings, paths and headers in code spans and code
# blocks. No line is longer than 120 characters, README.md is at most 8 kB, the version is that of the notes. Prints every violation as file:line and
# exits 1, or prints a summary and exits 0.
set -eu
cd "${1:?usage: check_docs.sh SOURCE_DIR}"
pages=$(find README.md bench cmake examples include tests -name '*.md' | LC_ALL=C sort)
report=$(mktemp)
trap 'rm -f "$report"' EXIT
complain() { echo "$1" >>"$report"; }

# GitHub's anchors of a page, one a line: headings in lower case, spaces as -, everything else but letters, digits, _
# and - dropped.
anchors() {
    sed -n 's/^##* //p' "$1" | LC_ALL=C tr 'A-Z ' 'a-z-' | LC_ALL=C sed 's/[^a-z0-9_-]//g'
}

# Every name to look up: "line kind name", kind link, path or header.
names() {
    # shellcheck disable=SC2016  # awk, not shell
    LC_ALL=C awk '
    function look(word) {
        gsub(/^[(<"\047]+|[)>"\047,;:.…]+$/, "", word)
        if (word ~ /^promptkd\/.*\.hpp$/) { print FNR, "header", word; return }
        if (word !~ /^[A-Za-z0-9_.\/-]+$/ || word ~ /^(\/|build\/|-)/ || word ~ /\.\.$/) return
        if (word ~ /^(bench|cmake|examples|include|tests)\// || word ~ /^(core|format|device|op|nn|loss|optim|text|image|clip|data|train|learner|distill|evaluate|deploy|experiment)\// ||
            word ~ /\.(hpp|cpp|cu|cmake|sh|py)$/) print FNR, "path", word
    }
    /^```/ { code = !code; next }
    code { for (i = 1; i <= NF; ++i) look($i); next }
    {
        rest = $0
        while (match(rest, /\]\([^)]*\)/)) {
            target = substr(rest, RSTART + 2, RLENGTH - 3)
            if (target !~ /^[a-z]+:/) print FNR, "link", target
            rest = substr(rest, RSTART + RLENGTH)
        }
        n = split($0, part, "`")
        for (i = 2; i <= n; i += 2) {
            m = split(part[i], word, " ")
            for (k = 1; k <= m; ++k) look(word[k])
        }
    }' "$1"
}

# Characters, not bytes: the continuation bytes of UTF-8 do not count.
long_lines() {
    LC_ALL=C awk '{ line = $0; gsub(/[\200-\277]/, "", line); if (length(line) > 120) print FNR }' "$1"
}

checked=0
for page in $pages; do
    folder=$(dirname "$page")
    for line in $(long_lines "$page"); do complain "$page:$line: longer than 120 characters"; done
    while read -r line kind name; do
        [ -n "$line" ] || continue
        checked=$((checked + 1))
        case $kind in
        header) [ -e "include/$name" ] || complain "$page:$line: there is no header <$name>" ;;
        path)
            for base in . "$folder" include/promptkd; do
                [ -e "$base/$name" ] || [ -e "$base/$name.cpp" ] || continue  # bench/step is the program of step.cpp
                continue 2
            done
            complain "$page:$line: there is no $name"
            ;;
        link)
            target=${name%%#*}
            [ -z "$target" ] && file=$page || file=$folder/$target
            if [ ! -e "$file" ]; then
                complain "$page:$line: the link leads nowhere: $name"
            elif [ "$name" != "$target" ] && ! anchors "$file" | grep -qxF -e "${name#*#}"; then
                complain "$page:$line: there is no heading #${name#*#} in $file"
            fi
            ;;
        esac
    done <<END
$(names "$page")
END
done
size=$(wc -c <README.md)
[ "$size" -le 8192 ] || complain "README.md: $size bytes, more than 8 kB; move what a room can say to its README"
# One version, that of the latest notes.
noted=$(sed -n 's/^\*\*\([0-9]*\.[0-9]*\)\.\*\* .*/\1/p' include/promptkd/README.md | head -n 1)
for file in include/promptkd/core/config.hpp examples/python/pyproject.toml cmake/packaging/vcpkg/promptkd/vcpkg.json; do
    grep -q "version\"*[a-z =:]*\"$noted\.[0-9]*\"" "$file" || complain "$file: not of version $noted, the latest in the notes"
done

if [ -s "$report" ]; then
    cat "$report"
    exit 1
fi
echo "$checked names in the documentation, all there"
