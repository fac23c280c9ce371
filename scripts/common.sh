# Shared by the scripts in this folder: where the project is, and how they talk to people. Sourced, never run.
# shellcheck shell=bash
# shellcheck disable=SC2034 # the colours are for those that source this

self=$(readlink -f -- "${BASH_SOURCE[1]}")
root=${self%/scripts/*}

# Colours on a terminal, none on a pipe.
if [[ -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    red=$'\e[31m' green=$'\e[32m' dim=$'\e[2m' off=$'\e[0m' terminal=1
else
    red='' green='' dim='' off='' terminal=''
fi

# Progress, on standard error: standard output belongs to the program that is run.
say() {
    printf '%s\n' "${dim}ltsh:${off} $*" >&2
}

complain() {
    printf '%s\n' "${red}ltsh:${off} $*" >&2
}

die() {
    complain "$@"
    exit 1
}

# The comment that opens a script is its --help.
show_help() {
    sed -n '/^# shellcheck/d; 2,/^[^#]/{s/^# \{0,1\}//p}' "$self"
}
