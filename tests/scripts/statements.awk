# SPDX-License-Identifier: Apache-2.0
# What the checks of the code read: C++ without comments, preprocessor lines and the contents of strings, the lines kept.
# clean(line) is called once a line, in order; reset_clean() at the beginning of a file.
function reset_clean() { in_comment = 0; raw_end = ""; continued = 0 }
function clean(line,   out, c, two, i, n, before) {
    if (continued || (!in_comment && raw_end == "" && line ~ /^[ \t]*#/)) { continued = line ~ /\\$/; return "" }
    out = ""
    while (line != "") {
        if (raw_end != "") {
            i = index(line, raw_end)
            if (!i) return out
            line = substr(line, i + length(raw_end)); raw_end = ""; out = out "\""
        } else if (in_comment) {
            i = index(line, "*/")
            if (!i) return out
            line = substr(line, i + 2); in_comment = 0
        } else if (match(line, /["'\/]/)) {
            before = substr(line, 1, RSTART - 1); out = out before
            c = substr(line, RSTART, 1); two = substr(line, RSTART, 2); line = substr(line, RSTART + 1)
            if (two == "//") return out
            if (two == "/*") { in_comment = 1; line = substr(line, 2); continue }
            if (c == "/") { out = out c; continue }
            if (c == "\"" && before ~ /R$/) {
                i = index(line, "("); raw_end = ")" substr(line, 1, i - 1) "\""; line = substr(line, i + 1)
                out = substr(out, 1, length(out) - 1) "\""; continue
            }
            if (c == "'" && before ~ /[0-9a-fA-F]$/ && line ~ /^[0-9a-fA-F]/) continue  # 1'000
            n = length(line)
            for (i = 1; i <= n && substr(line, i, 1) != c; ++i) if (substr(line, i, 1) == "\\") ++i
            line = substr(line, i + 1); out = out c c
        } else { out = out line; line = "" }
    }
    return out
}
