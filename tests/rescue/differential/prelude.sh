top() { f=$1; shift; [ ! -p "$f" ] || return 1; printf '%s\n' "$@" | cat - "$f" > "$R/.new"; cat "$R/.new" > "$f"; rm "$R/.new"; }
bottom() { f=$1; shift; [ ! -p "$f" ] || return 1; printf '%s\n' "$@" >> "$f"; }
dropin() { f=$R/etc/ssh/sshd_config.d/$1; shift; mkdir -p "${f%/*}"; printf '%s\n' "$@" > "$f"; }
prefix() { O=$1 awk '{ print ENVIRON["O"] $0 }' "$A" > "$R/.new"; cat "$R/.new" > "$A"; rm "$R/.new"; }
field() {
    N=$2 V=$4 awk -F: -v OFS=: -v n="$3" '$1 == ENVIRON["N"] { $n = ENVIRON["V"] } 1' "$R/etc/$1" > "$R/.new"
    cat "$R/.new" > "$R/etc/$1"; rm "$R/.new"
}
