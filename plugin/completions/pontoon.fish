# Completion of pontoon for fish. The program itself says what may follow.
function __pontoon_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l offered ($words[1] complete -- $words[2..-1] 2>/dev/null)
    if test "$offered[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $offered
    end
end
complete -c pontoon -f -a '(__pontoon_complete)'
