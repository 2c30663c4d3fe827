# SPDX-License-Identifier: Apache-2.0
# Used by check_style.sh. Blocks nest: level counts them; text[level] is what has been read of the statement at hand
# outside all brackets, depth[level] the open brackets in it, line[level] where it began.

# Whether the statement is a declaration: a type and a name, or a word that begins one.
function declares(statement) {
    while (gsub(/<[^<>]*>/, "", statement)) {}
    sub(/^(static|const|constexpr|inline|mutable|extern|typename|thread_local|PROMPTKD_HD|friend|explicit|virtual)( |$)/, "", statement)
    if (statement ~ /^(using|template|namespace|class|struct|union|enum|auto|const|static|constexpr|inline|unsigned|typedef|public|private|protected) /) return 1
    if (statement ~ /^(return|throw|delete|else|goto|co_yield|co_return) /) return 0
    return statement ~ /^[A-Za-z_:][A-Za-z0-9_:.]*[ *&]+[*&]*[A-Za-z_]/
}

function ends(   statement, rest) {
    statement = text[level]
    gsub(/[ \t]+/, " ", statement); sub(/^ /, "", statement)
    do {  # labels and heads stand before the statement
        rest = statement
        sub(/^(case [^:,]*|default) ?: ?/, "", statement)
        sub(/^(if|else if|for|while|switch) ?(constexpr)? ?\(\) ?/, "", statement)
        sub(/^(else|do) /, "", statement)
    } while (rest != statement)
    ++statements
    rest = statement
    gsub(/<<<.*>>>/, "", rest)  # how CUDA launches a kernel
    while (gsub(/<[^<>]*>/, "", rest)) {}
    if (index(rest, ",") && !declares(statement)) {
        printf "%s:%d: several statements in one, chained by commas\n", FILENAME, line[level]
        ++bad
    }
}

function begin() { text[level] = ""; depth[level] = 0; line[level] = 0 }

# Whether "{" opens a block: behind a head, at the beginning of a statement or behind a lambda's parameters; otherwise it
# opens a list of values.
function is_block(before) {
    gsub(/[ \t]+$/, "", before)
    if (before == "" || before ~ /[;{}:]$/) return 1
    if (before ~ /(^|[^A-Za-z0-9_])(else|do|try|mutable|noexcept|const|override|final|extern "")$/) return 1
    if (before ~ /\)$/ || before ~ /\]$/) return 1
    return before ~ /(^|[ ;{}>])(namespace|class|struct|union)( [^()=]*)?$/ || before ~ /\) *(->|:) *[A-Za-z0-9_:<>,.() *&]*$/
}

function step(c) {
    if (c == "(" || c == "[") { ++depth[level]; if (depth[level] == 1) text[level] = text[level] c; recent = recent c; return }
    if (c == ")" || c == "]") { --depth[level]; if (depth[level] == 0) text[level] = text[level] c; recent = recent c; return }
    if (c == "{") {
        if (is_block(recent)) { block[++level] = 1; begin() } else { block[++level] = 0; begin() }
        recent = recent c
        return
    }
    if (c == "}") {
        was_block = block[level]
        --level
        # A block at the beginning level of a statement ends it; a lambda inside brackets or an assignment does not.
        if (was_block && depth[level] == 0 && text[level] !~ /=[^=]*$/ && text[level] !~ /return/) begin()
        recent = was_block ? "}" : "x"
        return
    }
    if (c == ";" && block[level] && depth[level] == 0) { ends(); begin(); recent = c; return }
    if (line[level] == 0 && c !~ /[ \t]/) line[level] = FNR
    if (block[level] && depth[level] == 0) text[level] = text[level] c
    recent = recent c
    if (length(recent) > 400) recent = substr(recent, 200)
}

FNR == 1 {
    if (files && level != 0) { printf "%s: the check lost its way in this file; its braces do not match\n", file; ++bad }
    file = FILENAME; reset_clean(); level = 0; block[0] = 1; begin(); recent = ""; ++files
}
{
    code = clean($0) " "
    n = length(code)
    for (i = 1; i <= n; ++i) step(substr(code, i, 1))
}
END {
    if (!files) { print "no sources found"; exit 1 }
    printf "%d statements in %d files, %d chained by commas\n", statements, files, bad
    exit bad > 0
}
