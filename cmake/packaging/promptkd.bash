# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# bash completion for promptkd: commands and options as the program's own --help lists them.
_promptkd() {
    local word=${COMP_WORDS[COMP_CWORD]} help commands
    local -a path=()
    local i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD && i < 3; ++i)); do
        [[ ${COMP_WORDS[i]} == [a-z]* ]] || break
        commands=$("${COMP_WORDS[0]}" "${path[@]}" --help 2>/dev/null |
            awk '/^Subcommands:/ { on = 1; next } on && /^  [a-z]/ { print $1 }')
        [[ " ${commands//$'\n'/ } " == *" ${COMP_WORDS[i]} "* ]] || break
        path+=("${COMP_WORDS[i]}")
    done
    help=$("${COMP_WORDS[0]}" "${path[@]}" --help 2>/dev/null)
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(grep -oE -- '--[a-z][a-z0-9-]*' <<<"$help" | sort -u)" -- "$word")
        return
    fi
    commands=$(awk '/^Subcommands:/ { on = 1; next } on && /^  [a-z]/ { print $1 }' <<<"$help")
    if [[ -n $commands && ${#path[@]} -eq $((COMP_CWORD - 1)) ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}
complete -o filenames -F _promptkd promptkd
