#compdef pontoon
# Completion of pontoon for zsh. The program itself says what may follow.
_pontoon() {
    local -a offered
    offered=("${(@f)$($words[1] complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ $offered[1] == :files ]]; then
        _files
    else
        compadd -- "${(@)offered:#}"
    fi
}
if [[ $funcstack[1] == _pontoon ]]; then _pontoon "$@"; else compdef _pontoon pontoon; fi
