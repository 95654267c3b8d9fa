# measure.sh ROUNDS MIB SESSIONS: in the rescue. Lines `ROW<tab>ours|theirs<tab>SECONDS<tab>CPU`.
set -e
rounds=$1 mib=$2 sessions=$3
mkdir -p /run/sshd
cd /tmp
p=/run/peer/usr
libraries=$p/lib/x86_64-linux-gnu
mkdir -p bench
chmod 755 /run/sshd
grep -q ^sshd: /etc/passwd || echo 'sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin' >> /etc/passwd
ssh-keygen -q -t ed25519 -N '' -f bench/key
ssh-keygen -q -t ed25519 -N '' -f bench/host
cat bench/key.pub >> /root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys
cat > bench/config <<END
Port 2222
HostKey /tmp/bench/host
AuthorizedKeysFile /tmp/bench/key.pub
StrictModes no
UsePAM no
PidFile /tmp/bench/pid
MaxStartups 1000
PerSourcePenalties no
PermitRootLogin yes
Subsystem sftp $p/lib/openssh/sftp-server
SshdSessionPath $p/lib/openssh/sshd-session
SshdAuthPath $p/lib/openssh/sshd-auth
END
LD_LIBRARY_PATH=$libraries $p/sbin/sshd -f /tmp/bench/config
head -c ${mib}M /dev/urandom > bench/file

# The listener of ours is the child of init that has no sshd above it.
listener_ours() { for pid in $(pidof sshd); do tr '\0' ' ' < /proc/$pid/cmdline | grep -q ' listen' && echo $pid && return; done; }
until [ -s bench/pid ]; do sleep 0.1; done
declare -A pid=([ours]=$(listener_ours) [theirs]=$(cat bench/pid)) port=([ours]=22 [theirs]=2222)
[ -n "${pid[ours]}" ]
# User and system of what has ended below it, in hundredths of a second.
cpu() { set -- $(sed 's/.*) //' /proc/$1/stat); echo $((${12} + ${13} + ${14} + ${15})); }
now() { local up; read -r up _ < /proc/uptime; echo $up; }
options="-F none -q -i /tmp/bench/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o BatchMode=yes"
# row NAME COMMAND: by turns, with $O for the options of this peer's port.
row() {
    local round peer begun ended used name=$1
    for round in $(seq $rounds); do
        for peer in ours theirs; do
            O="$options -o Port=${port[$peer]}"
            used=$(cpu ${pid[$peer]})
            begun=$(now)
            eval "$2" > /dev/null
            ended=$(now)
            sleep 0.5
            used=$(($(cpu ${pid[$peer]}) - used))
            echo "$name $peer $begun $ended $used" | awk -v name="$name" -v peer=$peer -v b=$begun -v e=$ended -v u=$used \
                'BEGIN { printf "%s\t%s\t%.2f\t%.2f\n", name, peer, e - b, u / 100 }' < /dev/null
        done
    done
}
for peer in ours theirs; do ssh $options -o Port=${port[$peer]} root@127.0.0.1 true; done
row '`ssh host true`, five times' 'for i in 1 2 3 4 5; do ssh $O root@127.0.0.1 true; done'
for cipher in chacha20-poly1305@openssh.com aes128-gcm@openssh.com aes256-gcm@openssh.com; do
    name=${cipher%@*}
    row "$name, \`cat\` down" "ssh \$O -c $cipher root@127.0.0.1 cat /tmp/bench/file"
    row "$name, \`cat\` up" "ssh \$O -c $cipher root@127.0.0.1 'cat > /dev/null' < /tmp/bench/file"
    row "$name, sftp get" "scp \$O -c $cipher root@127.0.0.1:/tmp/bench/file /tmp/bench/down"
    row "$name, sftp put" "scp \$O -c $cipher /tmp/bench/file root@127.0.0.1:/tmp/bench/up"
    row "$name, scp -O get" "scp -O \$O -c $cipher root@127.0.0.1:/tmp/bench/file /tmp/bench/down"
    row "$name, scp -O put" "scp -O \$O -c $cipher /tmp/bench/file root@127.0.0.1:/tmp/bench/up"
    row "$name, rsync get" "rsync --whole-file --ignore-times --inplace -e \"ssh \$O -c $cipher\" root@127.0.0.1:/tmp/bench/file /tmp/bench/down"
    row "$name, rsync put" "rsync --whole-file --ignore-times --inplace -e \"ssh \$O -c $cipher\" /tmp/bench/file root@127.0.0.1:/tmp/bench/up"
done

# Kibibytes that are its own share, over all its processes but the programs of sessions.
memory() {
    local all=$1 below=$1 pid sum=0 kib
    while [ -n "$below" ]; do
        below=$(for pid in $below; do cat /proc/$pid/task/$pid/children 2> /dev/null; done)
        all="$all $below"
    done
    for pid in $all; do
        case $(cat /proc/$pid/comm 2> /dev/null) in
        sshd*) kib=$(awk '/^Pss:/ { print $2 }' /proc/$pid/smaps_rollup 2> /dev/null); sum=$((sum + ${kib:-0}));;
        esac
    done
    echo $sum
}
for peer in ours theirs; do
    idle=$(memory ${pid[$peer]})
    printf 'memory at idle\t%s\t%s\t0\n' $peer $idle
    begun=$(now)
    clients=
    for i in $(seq $sessions); do
        ssh $options -o Port=${port[$peer]} root@127.0.0.1 "touch /tmp/bench/up.$peer.$i; exec sleep 1000" < /dev/null > /dev/null 2>&1 &
        clients="$clients $!"
        # As many at a time as wait for a login at most.
        [ $((i % 20)) != 0 ] || until [ $(ls /tmp/bench | grep -c "^up.$peer") -ge $((i - 5)) ]; do sleep 0.2; done
    done
    until [ $(ls /tmp/bench | grep -c "^up.$peer") = $sessions ]; do sleep 0.2; done
    awk -v peer=$peer -v n=$sessions -v b=$begun -v e=$(now) 'BEGIN { printf "%d sessions up\t%s\t%.2f\t0\n", n, peer, e - b }'
    printf 'memory of each of %s sessions\t%s\t%s\t0\n' $sessions $peer $((($(memory ${pid[$peer]}) - idle) / sessions))
    kill $clients
    wait 2> /dev/null || true
    sleep 2
done
