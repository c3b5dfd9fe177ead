#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The fixed reclaim jobs of make events, and what the kernel counts while each runs. The
# guest's busybox runs it; output: see README.md, "Events".
set -u

GROUP_MIB=32
FILE_MIB=64
EVENTS='vmscan/mm_vmscan_throttled writeback/folio_wait_writeback'
COUNTERS='pgscan_file pgsteal_file pgscan_anon pgsteal_anon nr_vmscan_write nr_throttled_written'
T=/sys/kernel/tracing
GEN=/sys/kernel/mm/lru_gen/enabled

fail() {
	echo "error $*"
	exit 1
}

if [ -d /sys/fs/cgroup/memory ]; then
	version=v1 root=/sys/fs/cgroup/memory limit=memory.limit_in_bytes
else
	version=v2 root=/sys/fs/cgroup limit=memory.max
	echo +memory >"$root/cgroup.subtree_control" || fail "no memory controller"
fi

mount -t tracefs tracefs "$T" 2>/dev/null
[ -w "$T/tracing_on" ] || fail "no tracefs"
[ -w /proc/lock_stat ] || fail "no CONFIG_LOCK_STAT"
echo 0 >"$T/tracing_on"
echo 16384 >"$T/buffer_size_kb"
for event in $EVENTS; do
	echo 1 >"$T/events/$event/enable" || fail "no event $event"
done

# What the loop device's file takes is not the group's: it is all there before.
dd if=/dev/zero of=/tmp/disk bs=1M count=192 2>/dev/null || fail "no room in /tmp"
losetup /dev/loop0 /tmp/disk || fail "no loop device"
mke2fs -F /dev/loop0 >/dev/null 2>&1 || fail "mke2fs"
mkdir /mnt
mount -t ext4 /dev/loop0 /mnt || fail "no ext4"
dd if=/dev/zero of=/mnt/there bs=1M count=$FILE_MIB 2>/dev/null || fail "no room on the disk"

counter() {
	awk -v name="$1" '$1 == name { print $2 }' /proc/vmstat
}

acquisitions() { # of a lock class, on all CPUs
	awk -v name="$1:" '$1 == name { sum += $9 } END { print sum + 0 }' /proc/lock_stat
}

events() {
	grep -c " ${1#*/}: " "$T/trace"
}

write_job() {
	dd if=/dev/zero of=/mnt/new bs=1M count=$FILE_MIB 2>/dev/null
}

read_job() {
	cat /mnt/there >/dev/null
}

# job NAME: in a group of its own, from a clean cache.
job() {
	rm -f /mnt/new
	sync
	echo 3 >/proc/sys/vm/drop_caches
	mkdir "$root/job" || fail "no group"
	echo $((GROUP_MIB << 20)) >"$root/job/$limit"
	sleep 1
	for name in $COUNTERS; do
		eval "before_$name=\$(counter $name)"
	done
	echo >"$T/trace"
	echo 0 >/proc/lock_stat
	echo 1 >"$T/tracing_on"
	start=$(cut -d' ' -f1 /proc/uptime)
	(
		read -r pid _ </proc/self/stat
		echo "$pid" >"$root/job/cgroup.procs" || exit 1
		"${1%%.*}_job"
	)
	rc=$?
	end=$(cut -d' ' -f1 /proc/uptime)
	echo 0 >"$T/tracing_on"
	line="lru_lock=$(acquisitions '&lruvec->lru_lock')"
	for name in $COUNTERS; do
		eval "line=\"$line $name=\$((\$(counter $name) - before_$name))\""
	done
	for event in $EVENTS; do
		line="$line ${event#*/}=$(events "$event")"
	done
	took=$(awk -v a="$start" -v b="$end" 'BEGIN { printf "%d", (b - a) * 1000 }')
	echo "job $1 rc=$rc ms=$took $line"
	rmdir "$root/job" || fail "the group is not empty"
}

echo "mm-lockstep-events 1 $version"
for gen in 0 7; do
	echo $gen >"$GEN" || fail "no CONFIG_LRU_GEN"
	kind=classic
	[ $gen = 0 ] || kind=gens
	job "write.$kind"
	job "read.$kind"
done
echo end
