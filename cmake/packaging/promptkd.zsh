#compdef promptkd
# SPDX-License-Identifier: Apache-2.0
# zsh completion for promptkd: commands and options as the program's own --help lists them.
_promptkd() {
    local -a path commands options
    local i help
    for ((i = 2; i < CURRENT && i < 4; ++i)); do
        [[ $words[i] == [a-z]* ]] || break
        commands=(${(f)"$($words[1] $path --help 2>/dev/null | awk '/^Subcommands:/ { on = 1; next } on && /^  [a-z]/ { print $1 }')"})
        (($commands[(Ie)$words[i]])) || break
        path+=($words[i])
    done
    help=$($words[1] $path --help 2>/dev/null)
    commands=(${(f)"$(awk '/^Subcommands:/ { on = 1; next } on && /^  [a-z]/ { print $1 }' <<<"$help")"})
    options=(${(fu)"$(grep -oE -- '--[a-z][a-z0-9-]*' <<<"$help")"})
    if [[ $words[CURRENT] == -* ]]; then
        compadd -a options
    elif (($#commands && $#path == CURRENT - 2)); then
        compadd -a commands
    else
        _files
    fi
}
_promptkd "$@"
