#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Tests of the swapping load itself, with a kit that needs no compiler: that a
# sane run is called sane, that what is broken on purpose is found and called by
# its name, and that nothing is left behind however a run ends.
#
# Runs anywhere as root; a few minutes. POSIX sh only.
#
# shellcheck disable=SC2317,SC2086 # functions by name; lists of words

cd "$(dirname "$0")" || exit 1
total=14
nr=0
bad=0

echo "TAP version 13"

skip_all()
{
	echo "1..0 # SKIP $*"
	exit 4
}

[ "$(id -u)" = 0 ] || skip_all "needs root"
for fs in tmpfs ext4; do
	grep -qw $fs /proc/filesystems || skip_all "no $fs in this kernel"
done
losetup -f >/dev/null 2>&1 || skip_all "no loop device"

SWAPLOAD_TEST=1
export SWAPLOAD_TEST
state=/run/swapload
[ -d /run ] || state=/tmp/swapload.state
[ ! -d $state ] || skip_all "a run of swapload.sh is alive or left something: $state"

T=$(mktemp -d /tmp/swapload-test.XXXXXX) || exit 1
W=$T/disk/swapload
swaps=

tidy()
{
	for dev in $swaps; do
		swapoff "$dev" 2>/dev/null
		losetup -d "$dev" 2>/dev/null
	done
	umount "$T" 2>/dev/null
	rm -rf "$T"
}
trap tidy EXIT
trap 'exit 1' INT TERM HUP

mount -t tmpfs -o size=400M swapload-test "$T" || exit 1
mkdir -p "$T/disk" "$T/kit/tree/src" "$T/kit/tree/obj"

# Two small areas. They are in memory, which is no matter: little is swapped.
for n in 0 1; do
	dd if=/dev/zero of="$T/swap$n" bs=1M count=48 2>/dev/null
	dev=$(losetup -f)
	losetup "$dev" "$T/swap$n" || skip_all "no loop device for swap"
	swaps="$swaps $dev"
done
areas=$(echo $swaps | tr ' ' ',')

# Six steps that copy and one that lasts; the source can be found in the image.
for n in 1 2 3 4 5 6; do
	awk -v n=$n 'BEGIN {
		for (i = 0; i < 3000; i++)
			printf "SWAPLOAD-SOURCE-%d line %d\n", n, i
	}' \
		>"$T/kit/tree/src/$n"
	printf 'obj/%d\tcat src/%d src/%d >obj/%d\n' $n $n $n $n
done >"$T/kit/build.list"
printf 'obj/last\tsleep 3.21 && cat src/1 >obj/last\n' >>"$T/kit/build.list"

shape=scaled
if ! grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null &&
   ! grep -q '^[^ ]* [^ ]* cgroup [^ ]*memory' /proc/mounts; then
	shape=700M,nomemcg
fi

# load MINUTES OPTION...: its exit status; output in $T/ktap and $T/words.
load()
{
	minutes=$1
	shift
	./swapload.sh -k "$T/kit" -d "$T/disk" -o "$T/out" -m "$minutes" -s $shape -w "$areas" \
		-b 24 -j 4 -S "${MM_TEST_SCALE:-1}" "$@" >"$T/ktap" 2>"$T/words"
}

# All that a run may change; one name a line.
machine()
{
	cat /proc/swaps
	grep swapload /proc/mounts | grep -v "$T "
	for file in /sys/block/loop*/loop/backing_file; do
		[ ! -r "$file" ] || echo "$file $(cat "$file")"
	done
	thp=/sys/kernel/mm/transparent_hugepage
	for file in /proc/sys/vm/swappiness /proc/sys/vm/nr_hugepages /proc/sys/vm/min_free_kbytes \
		$thp/enabled $thp/defrag $thp/shmem_enabled /sys/kernel/mm/lru_gen/enabled \
		/sys/kernel/mm/ksm/run /sys/kernel/mm/ksm/pages_to_scan \
		/sys/devices/system/memory/memory*/state /sys/kernel/debug/failslab/probability \
		/sys/kernel/debug/failslab/task-filter /sys/kernel/debug/mm_verify/interval_ms; do
		[ ! -r "$file" ] || echo "$file $(cat "$file")"
	done
	find /sys/fs/cgroup -name 'swapload*' 2>/dev/null
	for file in /proc/[0-9]*/environ; do
		grep -q 'SWAPLOAD_ID=' "$file" 2>/dev/null && echo "$file"
	done
	ls -d "$W" $state 2>/dev/null
}

machine >"$T/before"

clean()
{
	machine >"$T/after"
	cmp -s "$T/before" "$T/after" && return 0
	diff "$T/before" "$T/after" | sed 's/^/# left: /'
	return 1
}

# verdict NAME: of the tests since the last; $problem says what went wrong.
verdict()
{
	nr=$((nr + 1))
	if [ -z "$problem" ]; then
		echo "ok $nr $1"
	else
		bad=1
		sed 's/^/# /' "$T/words" "$T/ktap" "$T/out/events.log" 2>/dev/null | tail -n 40
		echo "not ok $nr $1 # $problem"
	fi
	problem=
}

# wrong WORDS: only the first is told.
wrong()
{
	problem=${problem:-$*}
}

value()
{
	sed -n "s/^$1=//p" "$T/out/report.txt" 2>/dev/null
}

logged()
{
	grep -q "$1" "$T/out/events.log"
}

line_of()
{
	grep -q "^$1 [0-9]* $2" "$T/ktap" || wrong "the KTAP lacks '$1 $2'"
}

# wait_until SECONDS COMMAND...
wait_until()
{
	left=$(($1 * ${MM_TEST_SCALE:-1} * 5))
	shift
	while ! "$@" 2>/dev/null; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		sleep 0.2
	done
}

passed_one()
{
	grep -q 'iterations=[1-9]' $state/status/build.tmpfs &&
		grep -q 'iterations=[1-9]' $state/status/build.ext4
}

# meanwhile FUNCTION: in the background, once both builds have passed one
# iteration; the load stays in front because it shall get SIGINT's default.
meanwhile()
{
	(wait_until 120 passed_one && "$@" >"$T/meanwhile" 2>&1) &
	helper=$!
}

echo "1..$total"
problem=

# Comparison
mkdir "$T/a" "$T/b"
dd if=/dev/zero of="$T/a/x" bs=1k count=100 2>/dev/null
cp "$T/a/x" "$T/b/x"
./swapload_cmp "$T/a" "$T/b" >"$T/words" || wrong "equal trees differ"
printf 'y' | dd of="$T/b/x" bs=1 seek=70001 conv=notrunc 2>/dev/null
./swapload_cmp "$T/a" "$T/b" >"$T/words" && wrong "a different byte is not found"
grep -q '^x: first difference at byte 70001 (page 17), 79 instead of 00; 1 bytes in 1' "$T/words" ||
	wrong "the difference is not described"
cp "$T/a/x" "$T/b/x"
echo >>"$T/b/x"
./swapload_cmp "$T/a" "$T/b" >"$T/words" && wrong "a longer object is not found"
rm "$T/b/x"
./swapload_cmp "$T/a" "$T/b" >"$T/words" && wrong "a missing object is not found"
./swapload_cmp "$T/b" "$T/a" >"$T/words" 2>&1 && wrong "nothing compared passes for equal"
verdict compare

# Usage
refused()
{
	./swapload.sh "$@" >"$T/ktap" 2>"$T/words"
	[ $? = 2 ] || wrong "not refused: $*"
}
all="-d $T/disk -o $T/out"
refused -k "$T/kit" $all -m 1 -s 2G
refused -k "$T/kit" $all -m x -s scaled
refused -k "$T/kit" $all -m 0 -s scaled
refused -k "$T/nothing" $all -m 1 -s scaled
refused -k "$T/kit" -d "$T/nothing" -o "$T/out" -m 1 -s scaled
refused -k "$T/kit" $all -m 1 -s scaled -x nonsense
refused -k "$T/kit" $all -m 1 -s scaled -w /dev/null
refused -k "$T/kit" $all -m 1 -s scaled -j 0
refused -k "$T/kit" $all -m 1 -s scaled -Z
echo 'this is data' | dd of="${areas%,*}" conv=notrunc 2>/dev/null
refused -k "$T/kit" $all -m 1 -s scaled -w "$areas"
dd if=/dev/zero of="${areas%,*}" bs=64k count=1 conv=notrunc 2>/dev/null
./swapload.sh >"$T/ktap" 2>"$T/words"
[ $? = 4 ] || wrong "no arguments: not skipped"
grep -q '^1..0 # SKIP ' "$T/ktap" || wrong "no arguments: no reason in the KTAP"
# What protects a real machine is off under SWAPLOAD_TEST.
(unset SWAPLOAD_TEST && ./swapload.sh -k "$T/kit" $all -m 1 -s scaled >"$T/ktap" 2>"$T/words")
[ $? = 4 ] || wrong "a disk that is in memory is accepted"
grep -q '^1..0 # SKIP .* is in memory, not on a disk' "$T/ktap" ||
	wrong "in memory: no reason in the KTAP"
clean || wrong "a refused run leaves something"
verdict usage

# A sane run, with disturbers that every machine has
load 0.3 -x compact,drop_caches,mlock,thp,swapoff,hugetlb_split || wrong "exit $?"
line_of ok builds_ran
line_of ok objects_identical
line_of ok cleanup_complete
[ "$(value result)" = ok ] || wrong "result=$(value result)"
at_least()
{
	[ "$(value "$1")" -ge "$2" ] 2>/dev/null || wrong "$1=$(value "$1")"
}
at_least objects_compared 14
at_least ballast_checked_kb 1
[ "$(wc -l <"$T/out/samples.tsv")" -ge 5 ] || wrong "fewer than 5 samples"
awk -F'\t' 'NR == 1 { n = NF } NF != n || n < 20 { exit 1 }' "$T/out/samples.tsv" ||
	wrong "samples of unequal width"
clean || wrong "it leaves something"
verdict sane_run

# A byte of an object in tmpfs
break_object()
{
	for n in 1 2 3 4 5 6 7 8; do
		wait_until 20 test -s "$W/tmpfs/tree/obj/3"
		printf 'X' | dd of="$W/tmpfs/tree/obj/3" bs=1 seek=9000 conv=notrunc
		sleep 1
	done
}
meanwhile break_object
load 0.3 -x none && wrong "exit 0"
wait $helper
line_of 'not ok' objects_identical
logged "corrupt.*tmpfs obj/3: first difference at byte 9000 (page 2), 58 instead of" ||
	wrong "the object and its byte are not named"
[ "$(value steps_failed)" = 0 ] || wrong "steps_failed=$(value steps_failed)"
value first_finding | grep -q '^corrupt: ' || wrong "first_finding=$(value first_finding)"
[ -n "$(ls "$T/out/corrupt" 2>/dev/null)" ] || wrong "the object is not kept"
clean || wrong "it leaves something"
verdict corrupt_tmpfs
rm -rf "$T/out"

# A page of the loop file
break_image()
{
	sync
	at=$(strings -t d "$W/backing/swapload.img" |
		awk '/SWAPLOAD-SOURCE-5 line 1000/ { print $1; exit }')
	[ -n "$at" ] || { echo "the source is not in the image"; return; }
	dd if=/dev/zero of="$W/backing/swapload.img" bs=1 seek="$at" count=64 conv=notrunc
	echo 3 >/proc/sys/vm/drop_caches
}
meanwhile break_image
load 0.3 -x none && wrong "exit 0"
wait $helper
line_of 'not ok' objects_identical
logged "corrupt.*ext4 obj/5: .*00 instead of" || wrong "the object is not named"
! logged "corrupt.*tmpfs" || wrong "tmpfs is blamed for the loop file"
clean || wrong "it leaves something"
verdict corrupt_loop_file
rm -rf "$T/out"

# A page of the file of known content
break_ballast()
{
	for n in 100 1500 3000 4000; do
		dd if=/dev/zero of="$W/tmpfs/ballast" bs=4096 seek=$n count=60 conv=notrunc
	done
}
meanwhile break_ballast
load 0.3 -x none && wrong "exit 0"
wait $helper
line_of 'not ok' known_content
logged "ballast.*words wrong" || wrong "the page is not named"
line_of ok objects_identical
clean || wrong "it leaves something"
verdict corrupt_known_content
rm -rf "$T/out"

# Pages of the file that is written through a mapping. What the kernel loses of
# it by itself is another event: it never begins at page 7.
break_mapped()
{
	left=300
	while [ $left -gt 0 ] && [ -d $state ] && ! logged 'first page 7:'; do
		[ ! -f "$W/tmpfs/mapped" ] ||
			dd if=/dev/zero of="$W/tmpfs/mapped" bs=4096 seek=7 count=3 conv=notrunc
		left=$((left - 1))
		sleep 0.2
	done
}
meanwhile break_mapped
load 0.7 -x mapped && wrong "exit 0"
wait $helper
line_of 'not ok' mapped_content
logged "mapped.*tmpfs mapping.*: [0-9]* of 512 pages wrong when mapped again, first page 7: 0000" ||
	wrong "the page is not named"
[ "$(value mapped_different)" -ge 3 ] 2>/dev/null ||
	wrong "mapped_different=$(value mapped_different)"
value first_finding | grep -q '^mapped: ' || wrong "first_finding=$(value first_finding)"
line_of ok objects_identical
line_of ok known_content
clean || wrong "it leaves something"
verdict corrupt_mapped
rm -rf "$T/out"

# OOM kills in the writers' group are theirs alone
kill_in_group()
{
	group=$(sed -n 's/^group \(.*\/swapload\/w\)$/\1/p' $state/undo)
	sh -c "echo 0 >'$group/cgroup.procs' && exec dd if=/dev/zero of=/dev/null bs=256M count=1"
}
if [ $shape = scaled ]; then
	meanwhile kill_in_group
	load 0.3 -x writers && wrong "exit 0"
	wait $helper
	line_of 'not ok' writers_survive
	line_of ok no_unexpected_oom
	line_of ok steps_succeeded
	at_least writers_killed 1
	[ "$(value oom_kills)" = 0 ] || wrong "oom_kills=$(value oom_kills)"
	clean || wrong "it leaves something"
	verdict killed_writer
else
	nr=$((nr + 1))
	echo "ok $nr killed_writer # SKIP no memory controller"
fi
rm -rf "$T/out"

# A step that is killed
kill_step()
{
	for pid in /proc/[0-9]*; do
		words=$(tr '\000' ' ' 2>/dev/null <"$pid/cmdline")
		case $words in
		*"sh -c sleep 3.21"*) kill -9 "${pid#/proc/}" && return ;;
		esac
	done
	false
}
kill_one()
{
	wait_until 20 kill_step
}
meanwhile kill_one
load 0.3 -x none && wrong "exit 0"
wait $helper
line_of 'not ok' steps_succeeded
line_of ok objects_identical
line_of ok no_unexpected_oom
logged "step_killed.*obj/last: killed by signal 9 and nothing was OOM-killed" ||
	wrong "it is not called killed"
[ "$(value steps_killed)" = 1 ] || wrong "steps_killed=$(value steps_killed)"
clean || wrong "it leaves something"
verdict killed_step
rm -rf "$T/out"

# A step that fails because its source is gone, as data loss often shows
lose_source()
{
	rm "$W/tmpfs/tree/src/2"
}
meanwhile lose_source
load 0.3 -x none && wrong "exit 0"
wait $helper
line_of 'not ok' steps_succeeded
logged "step_failed.*tmpfs obj/2: exit 1: .*src/2" || wrong "its words are not kept"
clean || wrong "it leaves something"
verdict failed_step
rm -rf "$T/out"

# Ctrl-C
interrupt()
{
	kill -INT "$(cat $state/pid)"
}
meanwhile interrupt
load 5 -x compact,thp,mlock,swapoff,ksm,min_free,hugepages,rmdir,cma,mglru
rc=$?
wait $helper
[ $rc = 130 ] || wrong "exit $rc"
[ "$(value end)" = interrupted ] || wrong "end=$(value end)"
[ "$(value cleanup)" = complete ] || wrong "cleanup=$(value cleanup)"
clean || wrong "it leaves something"
verdict interrupted
rm -rf "$T/out"

# kill -9 of the load, then a second run
murder()
{
	kill -9 "$(cat $state/pid)"
}
meanwhile murder
load 5 -x thp,mlock,ksm,compact
wait $helper
[ -d $state ] || wrong "a killed run leaves nothing to clean up"
grep -q "$W/tmpfs" /proc/mounts || wrong "a killed run leaves no mount to clean up"
load 0.1 -x none || wrong "the second run: exit $?"
grep -q 'cleaning up after a run that was killed' "$T/words" ||
	wrong "the second run does not say so"
at_least objects_compared 1
clean || wrong "it leaves something"
verdict second_run
rm -rf "$T/out"

# Two at once
second()
{
	./swapload.sh -k "$T/kit" -d "$T/disk" -o "$T/out2" -m 1 -s $shape -w "$areas" \
		>/dev/null 2>"$T/second"
	echo "exit $?"
}
meanwhile second
load 0.1 -x none || wrong "exit $?"
wait $helper
# Its areas are in use, which is said before.
grep -q 'exit [12]' "$T/meanwhile" || wrong "a second one at the same time is not refused"
clean || wrong "it leaves something"
verdict one_at_a_time
rm -rf "$T/out"

# A kit that gives something else each time
cp "$T/kit/build.list" "$T/kit/good"
printf 'obj/random\tcat /proc/sys/kernel/random/uuid >obj/random\n' >>"$T/kit/build.list"
load 0.1 -x none && wrong "exit 0"
grep -q 'two builds without load differ' "$T/words" || wrong "the reason is not told"
cp "$T/kit/good" "$T/kit/build.list"
clean || wrong "it leaves something"
verdict useless_kit

exit $bad
