# SPDX-License-Identifier: Apache-2.0
# Used by check_parameters.sh. Walks over the declarations of namespaces and classes; bodies of functions and
# initialisers are skipped. `head` is what has been read of the declaration at hand.

# The text of `head` between the parameter list's parentheses, or "none". Sets `called` to what stands before them.
function parameter_list(head,   i, c, n, angle, start, depth, word) {
    n = length(head); angle = 0
    for (i = 1; i <= n; ++i) {
        c = substr(head, i, 1)
        if (c == "<" && substr(head, 1, i - 1) !~ /operator *<?$/) ++angle
        else if (c == ">" && angle > 0 && substr(head, i - 1, 1) != "-") --angle
        else if (c == "=" && angle == 0 && substr(head, 1, i) !~ "operator *[-+*/=!<>]*=$") return "none"
        else if (c == "(") {
            start = i
            for (depth = 0; i <= n; ++i) {
                c = substr(head, i, 1)
                if (c == "(") ++depth
                if (c == ")" && --depth == 0) break
            }
            if (angle > 0) continue
            word = substr(head, 1, start - 1)
            if (word ~ /(requires|noexcept|alignas|decltype|explicit|__attribute__|sizeof|static_assert) *$/) continue
            if (word ~ /operator *$/) continue  # operator()(…): the second pair holds the parameters
            if (word !~ "[]A-Za-z0-9_>=+*/<!&|%^~)-] *$") continue
            called = word
            return substr(head, start + 1, i - start - 1)
        }
    }
    return "none"
}

function count_parameters(list,   i, c, n, depth, total) {
    gsub(/->/, "", list); gsub(/[ \t]+/, " ", list)
    if (list ~ /^ *(void)? *$/) return 0
    total = 1; n = length(list); depth = 0
    for (i = 1; i <= n; ++i) {
        c = substr(list, i, 1)
        if (c ~ /[(\[{]/ || (c == "<" && substr(list, i - 1, 1) ~ /[A-Za-z0-9_]/)) ++depth
        else if (c ~ /[)\]}>]/ && depth > 0) --depth
        else if (c == "," && depth == 0) ++total
    }
    return total
}

function declared(   list, n) {
    if (hidden[level]) return
    list = parameter_list(head)
    if (list == "none") return
    ++functions
    n = count_parameters(list)
    if (n <= most) return
    sub(/^.*[ &*]/, "", called)
    printf "%s:%d: %s takes %d parameters, more than %d: use a struct of options or a view\n", FILENAME, head_line, called, n, most
    ++bad
}

# What opens: "scope" (namespace, class), "body" or "initialiser of a member" in a constructor's list.
function opens(   text) {
    text = head; gsub(/<[^<>]*>/, "", text); gsub(/<[^<>]*>/, "", text)
    if (text ~ /(^|[ ;])namespace( |$)/ || text ~ /extern *""/) return "scope"
    if (text ~ /(^|[ ])(class|struct|union)( |$)/ && text !~ /\(/ && text !~ /(^| )enum /) return "scope"
    if (text ~ /(^|[ ])(class|struct|union)( |$)/ && text ~ /(alignas|may_alias|__attribute__)/ && text !~ /\) *$/) return "scope"
    return "body"
}

function step(c,   kind) {
    if (skip > 0) {
        if (c == "{") ++skip
        else if (c == "}" && --skip == 0) {
            # A body ends the declaration; an initialiser's braces do not.
            if (!initialiser) { head = ""; head_line = 0 } else head = head "}"
        }
        return
    }
    if (parentheses > 0 || c == "(") {  # nothing inside parentheses opens or ends a declaration
        if (c == "(") ++parentheses
        if (c == ")") --parentheses
        head = head c
        return
    }
    if (c == "{") {
        if (opens() == "scope") {
            kind = head
            hidden[level + 1] = hidden[level] || kind ~ /namespace [A-Za-z0-9_:]*detail/ || kind ~ /namespace *$/
            own_access[level + 1] = hidden[level + 1]
            is_class[level + 1] = kind !~ /namespace/
            if (kind ~ /(^| )class /) hidden[level + 1] = 1
            ++level; head = ""; head_line = 0
            return
        }
        # "Foo(…) : a_(x), b_{y} {": braces behind a name initialise, those behind ")" or "}" are the body.
        kind = head
        gsub(/::/, "", kind)
        initialiser = (kind ~ /\)[^)]*:/ && head ~ /[A-Za-z0-9_>] *$/ && head !~ /(const|noexcept|override|final) *$/) || head ~ /= *$/ || \
                      parameter_list(head) == "none"
        if (!initialiser) declared()
        skip = 1
        return
    }
    if (c == "}") { --level; head = ""; head_line = 0; return }
    if (c == ";") { declared(); head = ""; head_line = 0; return }
    if (c == ":" && is_class[level] && head ~ /^ *(public|protected|private) *$/) {
        hidden[level] = own_access[level] || head !~ /public/
        head = ""; head_line = 0
        return
    }
    if (head_line == 0 && c !~ /[ \t]/) head_line = FNR
    head = head c
}

function finished() {
    if (skip == 0 && level == 0 && parentheses == 0) return
    printf "%s: the check lost its way in this header; its braces do not match\n", file
    ++bad
}
FNR == 1 { if (files) finished(); file = FILENAME; reset_clean(); level = 0; skip = 0; parentheses = 0; head = ""; head_line = 0; hidden[0] = 0; is_class[0] = 0; ++files }
{
    text = clean($0) " "
    # Fast over bodies: only braces matter there.
    n = length(text)
    for (i = 1; i <= n; ++i) {
        if (skip > 0) {
            rest = substr(text, i)
            if (!match(rest, /[{}]/)) break
            i += RSTART - 1
        }
        step(substr(text, i, 1))
    }
}
END {
    if (!files) { print "no headers found"; exit 1 }
    finished()
    printf "%d public functions in %d headers, %d with more than %d parameters\n", functions, files, bad, most
    exit bad > 0
}
