#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# documentation_filter.sh HEADER: the header as Doxygen reads it, line by line. What would have to be repeated in every
# header is added here:
#   the group of its room (the folder below include/promptkd);
#   a comment for `using T = typename D::Scalar;` and its like;
#   a declaration of several variables becomes several, so that its comment holds for each of them.
# An include inside a namespace is left out: Doxygen would look for the file.
room=$(echo "$1" | sed -n 's|.*/promptkd/\([a-z]*\)/.*|\1|p')
[ -n "$room" ] || exec cat "$1"
exec awk -v room="$room" '
# Whether the line declares several variables and nothing else; then type and name[1..names] are set.
function declares(line,   depth, i, c, start, n) {
    if (line !~ /^ +[A-Za-z_][^(){}]*;$/ || line ~ /^ +(return|using|friend|typedef|delete|throw|goto|case|else) /) return 0
    sub(/^ +/, "", line); sub(/;$/, "", line)
    names = 0; depth = 0; start = 1; n = length(line)
    for (i = 1; i <= n; ++i) {
        c = substr(line, i, 1)
        if (c == "<") ++depth
        else if (c == ">") --depth
        else if (c == "," && depth == 0) { name[++names] = substr(line, start, i - start); start = i + 1 }
    }
    name[++names] = substr(line, start)
    if (names < 2) return 0
    initial = ""
    if (match(name[1], / = /)) { initial = substr(name[1], RSTART); name[1] = substr(name[1], 1, RSTART - 1) }
    if (!match(name[1], / [*&]*[A-Za-z_0-9\[\]]+$/)) return 0
    type = substr(name[1], 1, RSTART)
    name[1] = substr(name[1], RSTART + 1) initial
    return 1
}
/^#include <stb\// { print ""; next }
/^namespace promptkd(::[a-z_]+)* \{$/ && !/detail/ { print $0 " /** @addtogroup " room " */ /** @{ */"; next }
/^\}  \/\/ namespace promptkd(::[a-z_]+)*$/ && !/detail/ { print "/** @} */ " $0; next }
/^ *\/\/\/($| )/ { text = $0; sub(/^ *\/\/\/ ?/, "", text); before = before " " text; print; next }
/^ *using [TA] = typename D::(Scalar|Activation);$/ { print $0 "  ///< Of the device."; before = ""; next }
{
    code = $0; after = ""
    if (match(code, / *\/\/\/< ?/)) { after = substr(code, RSTART + RLENGTH); code = substr(code, 1, RSTART - 1) }
    comment = before " " after
    if (comment !~ /^ *$/ && declares(code)) {
        line = ""
        for (i = 1; i <= names; ++i)
            line = line (i == 1 ? "" : " ") type name[i] ";" (i > 1 || after != "" ? " /**< " comment " */" : "")
        print line
    } else print
    before = ""
}' "$1"
