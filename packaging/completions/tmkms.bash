# bash completion for tmkms

_tmkms_nitro() {
    local enclave='--cid --port --timeout --vsock-uds' registers='--pcr0 --pcr1 --pcr2 --pcr3 --pcr4 --pcr8 --pcr16'

    case $1 in
    start) words='--port --verbose --vsock-uds' ;;
    run)
        words='--config --eif --cid --qemu --simulate --debug-mode --statefile --uds --port --vsock-uds --verbose'
        words+=' --role --instance'
        ;;
    run-enclave)
        words='--eif-path --cpu-count --memory --enclave-cid --enclave-name --debug-mode --qemu --simulate --vsock-uds'
        words+=' --role --instance'
        ;;
    describe-enclaves) words='--metadata' ;;
    terminate-enclave) words='--enclave-name --enclave-id --all' ;;
    push-config) words="--config --json --log-port --verbose $enclave" ;;
    persist) words='--port --statefile --chain --config --cid --verbose --vsock-uds' ;;
    proxy) words='--port --uds --tcp --verbose --vsock-uds' ;;
    kms-proxy) words='--port --region --allow --verbose --vsock-uds' ;;
    logs) words='--port --vsock-uds' ;;
    seal) words='--key-id --region --context --endpoint --kms-root --output' ;;
    keygen)
        words="--key-id --region --context --endpoint --kms-port --kms-root --output-prefix --output $enclave $registers"
        words+=' --accept-debug --root'
        ;;
    attest) words="--nonce --user-data --output $enclave" ;;
    verify) words="$registers --accept-debug --root --nonce --max-age --at-document-time" ;;
    measure-config) words='--config' ;;
    kms-policy) words='--account --role --eif --pcr0 --pcr1 --pcr2 --pcr8 --instance --config --admin --debug' ;;
    build-enclave)
        words='--kernel --init --nsm-module --cmdline --debug --name --version --metadata --signing-certificate --private-key --output-file'
        ;;
    describe-eif) words='--eif-path' ;;
    verify-build) words='--kernel --init --nsm-module --cmdline --debug' ;;
    sign-eif) words='--eif-path --signing-certificate --private-key' ;;
    pcr) words='--input --signing-certificate' ;;
    pcr3 | pcr4) ;;
    *) return ;;
    esac
    words+=' --help'
}

_tmkms_options() {
    local target='--config --chain --state-file --key --pubkey'

    case $1,$2 in
    start,*) words='--config --verbose --help' ;;
    check,*) words='--config --help' ;;
    init,*) words='--networks --nitro --force --help' ;;
    pubkey,*) words='--config --chain --format --prefix --type --help' ;;
    version,*) words='--help' ;;
    softsign,keygen) words='--type --force --help' ;;
    softsign,import) words='--format --type --force --help' ;;
    state,init | state,repair) words="--height $target --help" ;;
    state,show) words="--json $target --help" ;;
    state,import) words="--format --force $target --help" ;;
    state,export) words="--format $target --help" ;;
    nitro,*) _tmkms_nitro "$2" ;;
    esac
}

_tmkms_values() {
    case $1,$2 in
    --format,pubkey | -f,pubkey) words='all hex base64 bech32 cosmos-json comet-json address valcons' ;;
    --format,softsign | -f,softsign) words='json base64 raw' ;;
    --format,state) words='interchange tmkms cometbft' ;;
    --type,* | -t,*) words='consensus account' ;;
    --networks,* | -n,*) words='cosmoshub irishub sentinelhub osmosis core' ;;
    -c,* | --config,* | --state-file,* | --key,* | -s,* | --statefile,* | -u,* | --uds,* | --eif,* | --root,* | \
        --kms-root,* | -o,* | --output,* | --vsock-uds,* | --kernel,* | --init,* | --nsm-module,* | --metadata,* | --output-file,* | \
        --eif-path,* | --signing-certificate,* | --private-key,* | --input,*) ;; # files
    *) return 1 ;;
    esac
}

_tmkms() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]:-} sub=${COMP_WORDS[2]:-} words=

    case $COMP_CWORD,$command in
    1,*) words='init start check softsign pubkey state nitro version help --help --version' ;;
    2,softsign) words='keygen import help --help' ;;
    2,state) words='init show import export repair help --help' ;;
    2,nitro)
        words='run start push-config persist proxy kms-proxy logs seal keygen attest verify measure-config kms-policy'
        words+=' build-enclave describe-eif verify-build sign-eif pcr pcr3 pcr4'
        words+=' run-enclave describe-enclaves terminate-enclave help --help'
        ;;
    *) _tmkms_values "$previous" "$command" || _tmkms_options "$command" "$sub" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

complete -F _tmkms tmkms
