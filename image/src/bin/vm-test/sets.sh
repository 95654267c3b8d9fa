# What is done to each set of disks (sets.rs). Nothing here may write to a disk.
same() {
    "$@" > /tmp/ours 2> /tmp/ours.said < /dev/null; ours=$?
    /usr/libexec/classic/"$@" > /tmp/theirs 2> /tmp/theirs.said < /dev/null; theirs=$?
    [ "$*" != "blkid -c /dev/null" ] || for file in /tmp/ours /tmp/theirs; do sort -o $file $file; done
    if [ $ours = $theirs ] && cmp -s /tmp/ours /tmp/theirs; then
        echo "equal: $*"
    else
        echo "differs: $* ($theirs, $ours)"
        diff /tmp/theirs /tmp/ours | head -20
    fi
}
try() {
    "$@" > /tmp/said 2>&1 < /dev/null
    echo "tried: $* ($?)"
    sed 's/^/said: /' /tmp/said
}
# Of the set's disks and all that stands on them; memory and the image's own layers are not theirs. Of a loop of extended tables the
# kernel makes 250 partitions, of which the first say enough.
nodes() {
    lsblk -rnpo NAME /dev/sd? | grep -vE '/sd[a-z]([3-9][0-9]|[0-9]{3})$' | sort -u | head -96
}
# What util-linux's lsblk knows of a device it has from udev, and that from libblkid; a version as it is.
udev() {
    mkdir -p /run/udev/data
    rm -f /run/udev/data/b*
    for device in /sys/class/block/*; do
        number=$(cat $device/dev)
        /usr/libexec/classic/blkid -p -o udev /dev/${device##*/} 2> /dev/null |
            sed '/^ID_FS_VERSION=/s/\\x20/ /g; s/^/E:/' > /run/udev/data/b$number
    done
}
listings() {
    udev
    same lsblk
    same lsblk -f
    same lsblk -o NAME,KNAME,TYPE,SIZE,RO,RM,LOG-SEC,PHY-SEC,PTTYPE,PARTTYPE,PARTUUID,PARTN,FSVER,FSSIZE,MODEL
    same blkid -c /dev/null
}
tables() {
    same lsblk -s
    same lsblk -t
    same lsblk -J -b
    for disk in /dev/sd?; do
        same fdisk -l $disk
        same fdisk -x $disk
    done
    for node in $(nodes); do same blkid -p -o export $node; done
}
listings
tables
try rescue status
try rescue status --json
try rescue assemble --dry-run
try rescue assemble
for locked in $(lsblk -rnpo NAME,FSTYPE | awk '$2 == "crypto_LUKS" { print $1 }' | sort -u); do
    echo lifeboat | rescue open $locked > /tmp/said 2>&1
    echo "tried: rescue open $locked ($?)"
    sed 's/^/said: /' /tmp/said
done
try rescue assemble
listings
for node in $(nodes); do same blkid -p -o full $node; done
lsblk -rnpo NAME,FSTYPE,MOUNTPOINT | sort -u > /tmp/nodes
while read node kind where; do
    case $kind:$where in
    ?*:/*) continue ;;
    esac
    # Parts of LVM's volumes.
    case $node in
    *_rimage_* | *_rmeta_* | *_mimage_* | *_corig* | *_wcorig* | *-real | *_cvol* | *_imeta* | *_iorig*) continue ;;
    esac
    case $kind:$where in
    :* | *_member:* | swap:* | swsuspend:* | crypto_LUKS:* | DM_*:* | bcache:* | drbd:* | vdo:*) continue ;;
    esac
    mount -o ro $node /mnt > /tmp/said 2>&1 < /dev/null
    echo "tried: mount -o ro $node ($kind) ($?)"
    sed 's/^/said: /' /tmp/said
    if mountpoint -q /mnt; then
        ls -R /mnt > /dev/null
        [ ! -f /mnt/known ] || echo "known: $(cat /mnt/known)"
        if [ -f /mnt/sum ] && [ "$(cat /mnt/sum)" != "$(sha256sum < /mnt/random)" ]; then echo "known: unlike its sum"; fi
        umount /mnt || echo "known: still busy"
    fi
    try fsck -n $node
done < /tmp/nodes
try rescue status
try rescue assemble --stop
for open in $(dmsetup ls --target crypt 2> /dev/null | awk '/^[a-z]/ && !/^No/ { print $1 }'); do try rescue close $open; done
try rescue assemble --stop
