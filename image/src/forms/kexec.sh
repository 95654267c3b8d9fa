#!/bin/sh
# Lifeboat @VERSION@ for x86-64: takes over from the Linux that this is run on, keeps its addresses, keys and host keys.
# sh lifeboat-kexec.sh --help says more; --dry-run shows what it would do. Behind these lines lie a program, kernel and
# initramfs: copy the file as it is.
set -eu

die() {
    echo "lifeboat-kexec: $*" >&2
    exit 1
}

self=$0
length=$(wc -c 2> /dev/null < "$self") || length=0
if ! head -n 2 "$self" 2> /dev/null | tail -n 1 | grep -q '^# Lifeboat '; then
    die "cannot read itself: save it as a file, and run that: ssh HOST 'd=\$(mktemp -d /dev/shm/l.XXXXXX) && cat > \$d/l.sh && sh \$d/l.sh' < lifeboat-kexec.sh"
fi
[ "$length" -eq @LENGTH@ ] || die "is $length bytes long and should be @LENGTH@: copy it again"
[ "$(uname -s)" = Linux ] || die "runs on Linux, and this is $(uname -s)"
[ "$(uname -m)" = x86_64 ] || die "is for x86_64, and this machine runs $(uname -m)"

# In memory, where programs may be run. Where they may not in /dev/shm and /run, the program may lie on a disk while it
# runs: it alone, which holds no secret. Nothing else is written anywhere.
program=
for place in /dev/shm /run /tmp /var/tmp /root .; do
    directory=$(mktemp -d "$place/lifeboat.XXXXXX" 2> /dev/null) || continue
    trap 'rm -rf "$directory"' EXIT
    trap 'exit 1' HUP INT TERM
    if dd if="$self" of="$directory/takeover" bs=512 skip=@SKIP@ count=@COUNT@ 2> /dev/null &&
        chmod 700 "$directory/takeover" && "$directory/takeover" --version > /dev/null 2>&1; then
        program=$directory/takeover
        break
    fi
    rm -rf "$directory"
done
[ -n "$program" ] || die "found no place where a program may be run: /dev/shm, /run, /tmp, /var/tmp, /root and the current directory were tried"

status=0
"$program" --bundle "$self" --kernel @KERNEL@ --initramfs @INITRAMFS@ "$@" || status=$?
exit $status
