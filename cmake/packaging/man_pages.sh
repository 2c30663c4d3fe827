#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# man_pages.sh PROGRAM FOLDER VERSION: manual pages promptkd.1 and promptkd-COMMAND.1 in FOLDER, made of --help.
set -eu
[ $# -eq 3 ] || { echo "usage: man_pages.sh PROGRAM FOLDER VERSION" >&2 && exit 2; }
program=$1
folder=$2
version=$3
mkdir -p "$folder"
rm -f "$folder"/promptkd*.1

# The commands of a level: the words that begin the lines under "Subcommands:".
commands_of() { awk '/^Subcommands:/ { on = 1; next } on && /^  [a-z]/ { print $1 }'; }

# page NAME HELP: the help text as a page. Of an option the head stands in bold, what it means behind it.
page() {
    awk -v name="$1" -v version="$version" '
    function text(s) { gsub(/…/, "...", s); gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); if (s ~ /^[.\x27]/) s = "\\\\&" s; return s }
    BEGIN { printf ".TH %s 1 \"\" \"promptkd %s\" \"User Commands\"\n.SH NAME\n", toupper(text(name)), version }
    NR == 1 { printf "%s \\- %s\n", text(name), text($0); next }
    /^Usage:/ { printf ".SH SYNOPSIS\n%s\n", text(substr($0, 8)); next }
    /^[A-Z][A-Za-z ()=\x27]*:$/ { sub(/:$/, ""); printf ".SH %s\n", toupper(text($0)); next }
    /^ +[-a-z]/ && match($0, /[^ ]  +[^ ]/) {
        head = substr($0, 1, RSTART); sub(/^ +/, "", head)
        rest = substr($0, RSTART + RLENGTH - 1)
        printf ".TP\n.B %s\n%s\n", text(head), text(rest)
        next
    }
    /^  [-a-z]/ { sub(/^ +/, ""); printf ".TP\n.B %s\n", text($0); next }
    /^$/ { next }
    { sub(/^ +/, ""); print text($0) }
    END { if (name != "promptkd") print ".SH SEE ALSO\n.BR promptkd (1)" }' "$2" >"$folder/$1.1"
}

help=$(mktemp)
trap 'rm -f "$help"' EXIT
# describe NAME WORD…: the page of a command, and those of its own commands.
describe() {
    describe_name=$1
    shift
    "$program" "$@" --help >"$help"
    page "$describe_name" "$help"
}
describe promptkd
for command in $(commands_of <"$help"); do
    describe "promptkd-$command" "$command"
    for part in $(commands_of <"$help"); do
        describe "promptkd-$command-$part" "$command" "$part"
    done
done
