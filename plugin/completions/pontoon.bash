# Completion of pontoon for bash. The program itself says what may follow.
_pontoon() {
    local word words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=()
    while IFS= read -r word; do
        case $word in
            :files) compopt -o default 2>/dev/null ;;
            *) COMPREPLY+=("$word") ;;
        esac
    done < <("$1" complete -- "${words[@]}" 2>/dev/null)
}
complete -F _pontoon pontoon
