# bash completion for tmkms

_tmkms() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]:-} words=

    case $previous in
    -c | --config | --state-file | --key)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --format)
        case $command in
        pubkey) words='all hex base64 bech32 cosmos-json comet-json address valcons' ;;
        state) words='interchange tmkms cometbft' ;;
        esac
        ;;
    -t | --type) words='consensus account' ;;
    -f) words='json base64 raw' ;;
    -n | --networks) words='cosmoshub irishub sentinelhub osmosis core' ;;
    *)
        case $COMP_CWORD,$command in
        1,*) words='init start check softsign pubkey state version help --help --version' ;;
        2,softsign) words='keygen import --help' ;;
        2,state) words='init show import export repair --help' ;;
        *,start) words='--config --verbose --help' ;;
        *,check) words='--config --help' ;;
        *,init) words='--networks --force --help' ;;
        *,pubkey) words='--config --format --prefix --help' ;;
        *,softsign) words='--type --force --help' ;;
        *,state) words='--config --chain --state-file --key --pubkey --height --format --force --json --help' ;;
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

complete -F _tmkms tmkms
