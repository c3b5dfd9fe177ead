# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck source-path=SCRIPTDIR
# shellcheck disable=SC2154,SC2153,SC2086 # the second half of swapload.sh, which sets them
#
# Sets up, runs the load, reports, takes all of it back. Sourced by swapload.sh.

end=failed why='' loaded=0 load_begun=''
members=

# What this shell waits for must be interruptible: no long command in front.
wait_for()
{
	"$@" &
	wait $!
}

pause()
{
	sleep "$1" &
	wait $!
}

fail()
{
	why=$*
	say "$*"
	finish 1
}

# in_group GROUP COMMAND...: in place of this (sub)shell; GROUP - is none.
in_group()
{
	group=$1
	shift
	[ "$group" != - ] || exec "$@"
	# shellcheck disable=SC2016
	exec sh -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

set_up_swap()
{
	n=0
	if [ $swap_files -gt 0 ]; then
		for n in 0 1; do
			area=$W/swapload-swap$n
			wait_for dd if=/dev/zero of="$area" bs=1M count=$swap_files 2>/dev/null ||
				fail "cannot write $area"
			chmod 600 "$area"
			areas="$areas $area"
		done
	else
		areas=$(echo "$swap" | tr ',' ' ')
	fi
	for area in $areas; do
		mkswap "$area" >/dev/null || fail "mkswap $area"
		journal swap "$area"
		swapon "$area" || fail "swapon $area"
	done
	[ -z "$areas" ] || set_value /proc/sys/vm/swappiness 100
}

# The writers' group: none of the builds' memory is in it, and its OOM kills
# count apart.
set_up_writers()
{
	has "$wanted" writers || return 0
	SWAPLOAD_WRITERS=$top/swapload/w
	export SWAPLOAD_WRITERS
	journal group "$SWAPLOAD_WRITERS"
	mkdir -p "$SWAPLOAD_WRITERS" || fail "cannot make the group $SWAPLOAD_WRITERS"
	# Without swap: all that reclaim can find is what was written.
	if [ $groups = v2 ]; then
		set -- memory.max memory.swap.max
	else
		set -- memory.limit_in_bytes memory.swappiness
	fi
	echo 8M >"$SWAPLOAD_WRITERS/$1" || fail "cannot limit $SWAPLOAD_WRITERS"
	[ ! -w "$SWAPLOAD_WRITERS/$2" ] || echo 0 >"$SWAPLOAD_WRITERS/$2" ||
		fail "cannot keep $SWAPLOAD_WRITERS from swapping"
}

set_up_groups()
{
	A=- B=-
	[ $groups != none ] || return 0
	if [ $groups = v2 ] && ! grep -qw memory "$top/cgroup.subtree_control"; then
		journal controller "$top/cgroup.subtree_control"
		echo +memory >"$top/cgroup.subtree_control" ||
			fail "cannot switch the memory controller on"
	fi
	for group in swapload swapload/a swapload/b; do
		journal group "$top/$group"
		mkdir -p "$top/$group" || fail "cannot make the group $top/$group"
		[ $groups != v2 ] || [ $group != swapload ] ||
			echo +memory >"$top/swapload/cgroup.subtree_control" ||
			fail "the memory controller cannot be used under $top/swapload"
	done
	A=$top/swapload/a B=$top/swapload/b
	set_up_writers
	for group in "$A" "$B"; do
		if [ $groups = v1 ]; then
			echo 3 >"$group/memory.move_charge_at_immigrate" 2>/dev/null
			echo "${limit}M" >"$group/memory.limit_in_bytes" ||
				fail "cannot limit $group"
		else
			echo "$((limit * 8 / 10))M" >"$group/memory.high" ||
				fail "cannot limit $group"
			echo "${limit}M" >"$group/memory.max" || fail "cannot limit $group"
		fi
	done
}

set_up_places()
{
	journal rm "$W"
	mkdir -p "$W/tmpfs" "$W/backing" "$W/ext4" || fail "cannot make folders in $diskdir"
	journal mount "$W/tmpfs"
	size=size=$((tree * 3 + ballast + 96))M
	mount -t tmpfs -o "$size,huge=always" swapload "$W/tmpfs" 2>/dev/null ||
		mount -t tmpfs -o "$size" swapload "$W/tmpfs" ||
		fail "cannot mount tmpfs"
	image=$((tree * 3 + 48))
	journal mount "$W/backing"
	mount -t tmpfs -o "size=$((image + 8))M" swapload "$W/backing" || fail "cannot mount tmpfs"
	file=$W/backing/swapload.img
	if [ -n "$mkfs" ]; then
		dd if=/dev/zero of="$file" bs=1M count=0 seek=$image 2>/dev/null
		$mkfs "$file" >/dev/null || fail "$mkfs failed"
	else
		wait_for cp "$kit/ext4.img" "$file" || fail "cannot copy the kit's ext4.img"
	fi
	dev=$(losetup -f) || fail "no free loop device"
	journal loop "$dev"
	losetup "$dev" "$file" || fail "losetup $dev"
	journal mount "$W/ext4"
	mount -t ext4 -o discard "$dev" "$W/ext4" || fail "cannot mount ext4 on $dev"
	for place in tmpfs ext4; do
		mkdir "$W/$place/tree"
		wait_for cp -a "$kit/tree/." "$W/$place/tree/" ||
			fail "cannot copy the kit to $place"
	done
}

# builder PLACE OPTION...
builder()
{
	place=$1
	shift
	[ ! -x "$kit/run" ] || set -- -u "$kit/run" "$@"
	exec "$here/swapload_build" -p "$place" -C "$W/$place/tree" -l "$kit/build.list" \
		-j "$jobs" -t $((120 * factor)) "$@"
}

set_up_reference()
{
	if [ -d "$kit/ref" ]; then
		ref=$kit/ref
	else
		say "building the reference, once in each place"
		ref=$W/swapload-ref
		for place in tmpfs ext4; do
			(builder $place -R -r "$ref.$place") &
			wait $! ||
				fail "the reference build in $place failed, see $outdir/events.log"
		done
		wait_for "$here/swapload_cmp" "$ref.tmpfs" "$ref.ext4" >"$outdir/reference.txt" ||
			fail "two builds without load differ, a useless kit: $outdir/reference.txt"
		rm -rf "$ref.ext4"
		ref=$ref.tmpfs
	fi
	[ -f "$kit/sha256" ] || return 0
	(cd "$ref" && exec sha256sum -c "$kit/sha256") >"$outdir/reference.txt" 2>&1 &
	wait $! || fail "the reference is not what the kit's sha256 says: see $outdir/reference.txt"
}

# start NAME GROUP COMMAND...
start()
{
	name=$1
	shift
	(in_group "$@") 2>"$status/$name.err" &
	echo $! >"$status/$name.pid"
	# The sampler, first here, is to end last.
	members="$name $members"
}

fault()
{
	dir=/sys/kernel/debug/$1
	shift
	[ -d "$dir" ] || return 1
	for pair in "$@"; do
		set_value "$dir/${pair%=*}" "${pair#*=}"
	done
}

# Writes a line for what this machine lacks; the rest says so itself.
start_disturber()
{
	name=$1
	shift
	if [ -n "${missing:-}" ]; then
		echo "$missing" >"$status/$name.missing"
	else
		start "$name" - "$here/swapload_disturb" "$name" "$@"
	fi
}

start_disturbers()
{
	# thp and hotplug make the kernel compute it anew; so it is set back last.
	save_value /proc/sys/vm/min_free_kbytes
	# KSM first: while memory goes offline its run says so and not what was set.
	first=
	! has "$wanted" ksm || first=ksm
	for one in $first $wanted; do
		[ "$one" != ksm ] || [ -n "$first" ] || continue
		[ "$one" != ksm ] || first=
		missing=
		case $one in
		move_charge)
			[ $groups = v1 ] || missing="needs cgroup v1"
			start_disturber move_charge "$A" "$B"
			;;
		swapoff)
			# shellcheck disable=SC2086
			start_disturber swapoff $areas
			;;
		thp)
			for file in enabled defrag shmem_enabled khugepaged/defrag use_zero_page; do
				save_value "/sys/kernel/mm/transparent_hugepage/$file"
			done
			start_disturber thp
			;;
		cma)
			for dir in /sys/kernel/debug/cma/*; do
				[ ! -w "$dir/free" ] || journal cma "$dir"
			done
			start_disturber cma
			;;
		hugepages)
			save_value /proc/sys/vm/nr_hugepages
			start_disturber hugepages
			;;
		hugetlb_split)
			save_value /proc/sys/vm/nr_hugepages
			start_disturber hugetlb_split
			;;
		mapped)
			start mapped "$A" "$here/swapload_mapped" "$W/tmpfs/mapped" "$W/ext4/mapped"
			;;
		writers)
			if [ $groups = none ]; then
				start_disturber writers
			else
				start_disturber writers "$SWAPLOAD_WRITERS" "$W/swapload-writers"
			fi
			;;
		hotplug)
			for dir in /sys/devices/system/memory/memory*; do
				[ "$(cat "$dir/state" 2>/dev/null)" != online ] ||
					journal online "$dir/state"
			done
			start_disturber hotplug
			;;
		min_free)
				start_disturber min_free
			;;
		rmdir)
			if [ $groups = none ]; then
				start_disturber rmdir
			else
				start_disturber rmdir "$top/swapload" "$W/tmpfs"
			fi
			;;
		mglru)
			save_value /sys/kernel/mm/lru_gen/enabled
			start_disturber mglru
			;;
		mlock)
			start mlock "$A" "$here/swapload_disturb" mlock "$W/tmpfs/mlock"
			;;
		ksm)
			if set_value /sys/kernel/mm/ksm/run 1; then
				set_value /sys/kernel/mm/ksm/pages_to_scan $((200 / pace))
				set_value /sys/kernel/mm/ksm/sleep_millisecs 20
				start ksm "$A" "$here/swapload_ksm" 3 $((mem / 50 + 1))
			else
				echo "no KSM in this kernel" >"$status/ksm.missing"
			fi
			;;
		failslab|fail_page_alloc)
			fault $one task-filter=Y verbose=0 interval=1 times=-1 ignore-gfp-wait=N \
				probability=5 || missing="no $one in this kernel's debugfs"
			[ $one = failslab ] || fault $one min-order=0 ignore-gfp-highmem=N
			start_disturber $one "$W/tmpfs/$one"
			;;
		fail_make_request)
			switches=
			for area in $areas; do
				file=$(readlink -f "/sys/class/block/${area#/dev/}/make-it-fail")
				[ ! -b "$area" ] || [ ! -w "$file" ] || switches="$switches $file"
			done
			for file in $switches; do
				save_value "$file"
			done
			fault $one verbose=0 interval=20 times=-1 probability=1 ||
				missing="no $one in this kernel's debugfs"
			# shellcheck disable=SC2086
			start_disturber $one $switches
			;;
		*)
			start_disturber "$one"
			;;
		esac
	done
}

# get NAME KEY: a counter that a program left; 0 when it left none.
get()
{
	value=$(sed -n "s/^\(.* \)*$2=\([0-9]*\).*/\2/p" "$status/$1" 2>/dev/null)
	echo "${value:-0}"
}

verify_totals()
{
	sed -n 's/^\([a-z0-9_]*\) .* total=\([0-9]*\).*/\1 \2/p' \
		/sys/kernel/debug/mm_verify/report 2>/dev/null
}

begin()
{
	[ -z "$interval" ] || set_value /sys/kernel/debug/mm_verify/interval_ms "$interval" ||
		say "-i: no mm_verify/interval_ms in this kernel"
	[ ! -w /sys/kernel/debug/mm_verify/run ] || echo all >/sys/kernel/debug/mm_verify/run
	verify_totals >"$outdir/verify.before"
	swap_kb=$(meminfo SwapTotal)
	oom_before=$(awk '$1 == "oom_kill" { print $2 }' /proc/vmstat)
	SWAPLOAD_T0=$(cut -d' ' -f1 /proc/uptime)
	load_begun=${SWAPLOAD_T0%.*}
	if [ "$A" = - ]; then
		start sample - "$here/swapload_sample" "$outdir/samples.tsv"
	else
		start sample - "$here/swapload_sample" "$outdir/samples.tsv" "$A" "$B"
	fi
	start ballast.run "$B" "$here/swapload_ballast" "$W/tmpfs/ballast" "$ballast"
	run_with=
	[ ! -x "$kit/run" ] || run_with="-u $kit/run"
	[ "$iterations" = 0 ] || run_with="$run_with -n $iterations"
	for place in tmpfs ext4; do
		group=$A
		[ $place = tmpfs ] || group=$B
		# shellcheck disable=SC2086
		start build.$place.run "$group" "$here/swapload_build" -p $place \
			-C "$W/$place/tree" -l "$kit/build.list" -r "$ref" -j "$jobs" \
			-t $((120 * factor)) \
			-k "$kit/tree" -o "$outdir/corrupt" $run_with
	done
	start_disturbers
}

elapsed()
{
	now=$(cut -d. -f1 /proc/uptime)
	echo $((now - load_begun))
}

alive()
{
	kill -0 "$(cat "$status/$1.pid")" 2>/dev/null
}

progress()
{
	compared=$(($(get build.tmpfs compared) + $(get build.ext4 compared)))
	different=$(($(get build.tmpfs different) + $(get build.ext4 different)))
	say "$1/$seconds s, passes $(get build.tmpfs iterations)+$(get build.ext4 iterations)," \
		"compared $compared, different $different," \
		"swap in $(get sample swap_in) out $(get sample swap_out) pages," \
		"events $(wc -l <"$outdir/events.log")"
}

run_load()
{
	loaded=1
	said=0
	while :; do
		pause 1
		past=$(elapsed)
		if [ $((past - said)) -ge 10 ]; then
			progress "$past"
			said=$past
		fi
		if ! alive build.tmpfs.run && ! alive build.ext4.run; then
			[ "$iterations" != 0 ] || fail "both builds ended by themselves"
			break
		fi
		[ "$past" -ge "$seconds" ] || continue
		# One whole iteration of each, if that is near; at least something to
		# compare, however slow the machine is.
		in_tmpfs=$(get build.tmpfs iterations) in_ext4=$(get build.ext4 iterations)
		[ "$in_tmpfs" = 0 ] || [ "$in_ext4" = 0 ] || break
		[ "$past" -ge $((seconds + 30)) ] || continue
		in_tmpfs=$(get build.tmpfs steps) in_ext4=$(get build.ext4 steps)
		[ "$in_tmpfs" = 0 ] || [ "$in_ext4" = 0 ] || break
		[ "$past" -lt $((seconds + 30 * pace)) ] || break
	done
	end=complete
}

# stop_load: disturbers first, the sampler last.
stop_load()
{
	for name in $members; do
		[ "$name" = sample ] || kill -TERM "$(cat "$status/$name.pid")" 2>/dev/null
	done
	for name in $members; do
		pid=$(cat "$status/$name.pid")
		if [ "$name" = sample ]; then
			kill -TERM "$pid" 2>/dev/null
		fi
		n=0
		while kill -0 "$pid" 2>/dev/null && [ $n -lt $((60 * factor)) ]; do
			sleep 0.5
			n=$((n + 1))
		done
		kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
		echo $? >"$status/$name.rc"
	done
}

# shellcheck source=swapload_report.sh
. "$here/swapload_report.sh"

# finish STATUS: whatever happened, stop, look, take it all back, report.
finish()
{
	trap '' INT TERM HUP
	trap - EXIT
	rc=$1
	if [ $loaded = 1 ]; then
		past=$(elapsed)
		stop_load
		gather
	fi
	"$here/swapload_disturb" reap "$SWAPLOAD_ID" >/dev/null
	if undo_all; then cleanup=complete; else cleanup=${kept# }; fi
	if [ $loaded = 1 ]; then
		gather_verify
		gather_drift
		report
		[ $rc != 0 ] || [ "$result" = ok ] || rc=1
	else
		echo "KTAP version 1"
		echo "1..1"
		echo "not ok 1 set_up # ${why:-interrupted}"
		[ "$cleanup" = complete ] || say "not taken back: $cleanup"
	fi
	exit "$rc"
}

trap 'end=interrupted; say "interrupted: taking everything back"; finish 130' INT TERM HUP
trap 'finish 1' EXIT

echo "$SWAPLOAD_ID" >"$STATE/id"
drift_figures >"$outdir/drift.before"
set_up_places
set_up_swap
set_up_reference
set_up_groups
begin
say "the load begins"
run_load
finish 0
