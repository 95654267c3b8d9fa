# Sourced by bash in the machine: many loop devices, and how a tool is measured.
images=/run/images
PATH=/tmp/ours:$PATH
# `files N`: images for N devices. Of every eight loop devices the first has a GPT with two partitions, so eight are ten devices.
files() {
    mkdir -p $images
    mountpoint -q $images || mount -t tmpfs -o size=80% none $images
    local i
    for ((i = 0; i < $(loops "$1"); i++)); do
        file=$images/$i
        [ -e $file ] && continue
        case $((i % 8)) in
        0)
            truncate -s 12M $file
            printf 'label: gpt\nstart=2048, size=8192, name=root%d\nsize=8192, type=S, name=swap%d\n' $i $i | /usr/sbin/sfdisk -q $file
            mke2fs -q -F -t ext4 -E offset=1048576 -L root$i $file 4M
            ;;
        1 | 2 | 3 | 4) truncate -s 4M $file && mke2fs -q -F -t ext4 -L disk$i $file ;;
        5) truncate -s 4M $file && mkfs.vfat -n VFAT$i $file > /dev/null ;;
        6) truncate -s 4M $file && mkswap -q -L swap$i $file ;;
        7) truncate -s 4M $file ;;
        esac
    done
}
# `loops N`: how many loop devices these are. Four are four disks.
loops() { if [ "$1" -lt 10 ]; then echo "$1"; else echo $(($1 * 8 / 10)); fi; }
# `attach N`: the loop devices that are still wanted, one after the other without a pause.
attach() {
    local i last=$(loops "$1")
    for ((i = $(cat /tmp/attached 2> /dev/null || echo 0); i < last; i++)); do
        losetup -P -f $images/$i || exit
    done
    echo $last > /tmp/attached
}
# Ticks (100 a second) of devd and of the workers that it has waited for.
devd_ticks() {
    local stat
    stat=$(cat /proc/"$(cat /tmp/devd 2> /dev/null || pidof devd | tee /tmp/devd)"/stat)
    set -- ${stat##*) }
    echo $((${12} + ${13} + ${14} + ${15}))
}
# `quiet SECONDS`: waits until devd takes less than a tick in a second, and prints its ticks.
quiet() {
    local before=-2 now=$(devd_ticks) i
    for ((i = 0; i < $1 && now > before + 1; i++)); do
        before=$now
        sleep 1
        now=$(devd_ticks)
    done
    echo $now
}
# `once NAME COMMAND...`: one line: name, wall clock and processor time in microseconds, most bytes held by all its processes together.
once() {
    local name=$1 group=/tmp/cgroup/measured began ended
    shift
    mkdir $group
    began=$EPOCHREALTIME
    (echo $BASHPID > $group/cgroup.procs && exec "$@") > /dev/null 2>&1
    ended=$EPOCHREALTIME
    echo "$name	$((${ended/./} - ${began/./}))	$(sed -n 's/^usage_usec //p' $group/cpu.stat)	$(cat $group/memory.peak)"
    # A worker that was not waited for ends at once.
    until rmdir $group 2> /dev/null; do :; done
}
# `measure ROUNDS`: every tool and its peer in turn.
measure() {
    local round
    mkdir -p /tmp/cgroup
    mountpoint -q /tmp/cgroup || mount -t cgroup2 none /tmp/cgroup
    echo +memory > /tmp/cgroup/cgroup.subtree_control
    # Not counted: the first run of a program reads it, and the first process of a group has the kernel patch itself.
    for ((round = 0; round <= $1; round++)); do
        {
            once 'lsblk ours' lsblk
            once 'lsblk theirs' /usr/libexec/classic/lsblk
            once 'lsblk -f ours' lsblk -f
            once 'lsblk -f theirs' /usr/libexec/classic/lsblk -f
            once 'blkid ours' blkid
            once 'blkid theirs' /usr/libexec/classic/blkid -c /dev/null
            once 'blkid, cache ours' blkid
            once 'blkid, cache theirs' /usr/libexec/classic/blkid
            once 'fdisk -l ours' fdisk -l
            once 'fdisk -l theirs' /usr/libexec/classic/fdisk -l
            once 'rescue status ours' rescue status
        } > /tmp/measured
        [ $round -eq 0 ] || cat /tmp/measured
    done
}
