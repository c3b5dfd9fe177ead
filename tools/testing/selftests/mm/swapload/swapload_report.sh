# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck disable=SC2154 # a part of swapload.sh, which sets them
#
# The report and the KTAP of the swapping load. Sourced by swapload_run.sh.

# group_ooms GROUP: OOM kills in it since it was made.
group_ooms()
{
	file=$1/memory.events
	[ -r "$file" ] || file=$1/memory.oom_control
	kills=$(awk '$1 == "oom_kill" { print $2 }' "$file" 2>/dev/null)
	echo "${kills:-0}"
}

# What should be again what it was once the load has gone.
drift_figures()
{
	names="Committed_AS Mlocked Unevictable Shmem HugePages_Total HugePages_Rsvd"
	names="$names HugePages_Surp SwapTotal SwapFree MemTotal PageTables SUnreclaim Percpu"
	names="$names nr_mlock nr_isolated_anon nr_isolated_file nr_writeback nr_free_cma"
	names="$names nr_unevictable nr_anon_transparent_hugepages nr_shmem_hugepages"
	names="$names nr_shmem_pmdmapped nr_file_pmdmapped nr_zone_write_pending workingset_nodes"
	awk -F'[: ]+' -v names=" $names " 'index(names, " " $1 " ") { print $1, $2 }' \
		/proc/meminfo /proc/vmstat
	awk '$1 == "memory" { print "memory_groups", $3 }' /proc/cgroups 2>/dev/null
}

# drift.NAME=before after
gather_drift()
{
	drift_figures >"$outdir/drift.after"
	drift=$(awk 'NR == FNR { before[$1] = $2; next }
		$1 in before { print "drift." $1 "=" before[$1] " " $2 }' \
		"$outdir/drift.before" "$outdir/drift.after")
}

# Everything that needs the status files, before they go.
gather()
{
	writers_ran=$(($(get writers "done") + $(get writers failed)))
	writers_killed=$(group_ooms "${SWAPLOAD_WRITERS:-}")
	oom=$(($(awk '$1 == "oom_kill" { print $2 }' /proc/vmstat) - oom_before - writers_killed))
	global=$(get kernel global_ooms)
	it_tmpfs=$(get build.tmpfs iterations) it_ext4=$(get build.ext4 iterations)
	in_tmpfs=$(get build.tmpfs compared) in_ext4=$(get build.ext4 compared)
	iter=$it_tmpfs
	[ "$it_ext4" -ge "$iter" ] || iter=$it_ext4
	for key in steps failed killed oom expected compared different; do
		eval "n_$key=$(($(get build.tmpfs $key) + $(get build.ext4 $key)))"
	done
	checked=$(get ballast checked_kb)
	lost=$(($(get ballast different) + $(get ballast unreadable)))
	ksm_lost=$(get ksm different)
	mapped=$(get mapped checked_kb) mapped_lost=$(get mapped different)
	splats=$(get kernel splats)

	tell=
	for one in $ALL; do
		if ! has "$wanted" "$one"; then
			tell="$tell$one|off
"
		elif [ -f "$status/$one.missing" ]; then
			tell="$tell$one|not available: $(cat "$status/$one.missing")
"
		elif [ "$(cat "$status/$one.rc")" = 3 ]; then
			tell="$tell$one|not available: $(head -n 1 "$status/$one.err")
"
		else
			counts=$(cat "$status/$one" 2>/dev/null)
			code=$(cat "$status/$one.rc")
			[ "$code" = 0 ] ||
				counts="$counts exit=$code $(head -n 1 "$status/$one.err")"
			tell="$tell$one|$counts
"
		fi
	done
	figures="seconds=$past
load_started_uptime=$SWAPLOAD_T0
memtotal_kb=$mem_kb
swaptotal_kb=$swap_kb
end=$end"
	more="iterations=$iter
iterations.tmpfs=$it_tmpfs
iterations.ext4=$it_ext4
steps=$n_steps
steps_failed=$n_failed
steps_killed=$n_killed
steps_killed_oom=$n_oom
steps_failed_expected=$n_expected
objects_compared=$n_compared
objects_different=$n_different
ballast_checked_kb=$checked
ballast_different=$lost
ksm_different=$ksm_lost
mapped_checked_kb=$mapped
mapped_different=$mapped_lost
swap_in_pages=$(get sample swap_in)
swap_out_pages=$(get sample swap_out)
swap_read_errors=$(get kernel swap_read_errors)
swap_write_errors=$(get kernel swap_write_errors)
oom_kills=$oom
oom_kills_global=$global
oom_kills_allowed=$oom_group
writers_killed=$writers_killed
fs_errors=$(get kernel fs_errors)
splats=$splats
ksm_pages_sharing_max=$(get sample ksm_max)"
	# Allowed OOM kills, notes and expected failures are no findings.
	kinds='corrupt|ballast|mapped|writer|splat|verify|step_failed|step_killed'
	[ "$oom_group" = 1 ] || kinds="$kinds|oom"
	finding=$(awk -F'\t' -v kinds="^($kinds)\$" '$2 ~ kinds { print; exit }' \
		"$outdir/events.log")
}

# What the verifiers found, after the last of the load has gone.
gather_verify()
{
	[ ! -w /sys/kernel/debug/mm_verify/run ] || echo all >/sys/kernel/debug/mm_verify/run
	verify_totals >"$outdir/verify.after"
	grown=0
	verify=
	if [ -s "$outdir/verify.after" ]; then
		verify=$(awk 'NR == FNR { before[$1] = $2; next }
			{ print "verify." $1 "=" $2 - before[$1] }' \
			"$outdir/verify.before" "$outdir/verify.after")
		grown=$(echo "$verify" | awk -F= '{ n += $2 } END { print n }')
	fi
}

# test_line NAME OK [WHY]
tests=''
nr=0
result=ok
test_line()
{
	nr=$((nr + 1))
	if [ "$2" = 1 ]; then
		tests="${tests}ok $nr $1${3:+ # $3}
"
	else
		result='not ok'
		tests="${tests}not ok $nr $1${3:+ # $3}
"
	fi
}

# check NAME WHY CONDITION...
check()
{
	name=$1 words=$2
	shift 2
	if [ "$@" ]; then
		test_line "$name" 1
	else
		test_line "$name" 0 "$words"
	fi
}

judge()
{
	check builds_ran "compared: $in_tmpfs in tmpfs, $in_ext4 in ext4, end=$end" \
		"$in_tmpfs" -gt 0 -a "$in_ext4" -gt 0 -a "$end" = complete
	check steps_succeeded "$n_failed failed, $n_killed killed, see events.log" \
		$((n_failed + n_killed)) -eq 0
	check objects_identical "$n_different of $n_compared different, see events.log" \
		"$n_compared" -gt 0 -a $((n_different + ksm_lost)) -eq 0
	check known_content "$lost of $((checked / 4)) pages wrong, see events.log" \
		"$checked" -gt 0 -a "$lost" -eq 0
	if has "$wanted" mapped; then
		check mapped_content "$mapped_lost of $((mapped / 4)) pages wrong, see events.log" \
			"$mapped" -gt 0 -a "$mapped_lost" -eq 0
	fi
	if has "$wanted" writers; then
		if [ "$writers_ran" = 0 ]; then
			test_line writers_survive 1 "SKIP nothing was written"
		else
			check writers_survive "$writers_killed OOM kills, see events.log" \
				"$writers_killed" -eq 0
		fi
	fi
	if [ "$oom_allowed" = 1 ]; then
		test_line no_unexpected_oom 1
	elif [ "$oom_group" = 1 ]; then
		check no_unexpected_oom "$global kills outside the groups" "$global" -eq 0
	else
		check no_unexpected_oom "$oom kills" "$oom" -eq 0
	fi
	if [ -n "$verify" ]; then
		check no_violation_growth "$(echo "$verify" | tr '\n' ' ')" "$grown" -eq 0
	else
		test_line no_violation_growth 1 "SKIP no mm_verify in this kernel"
	fi
	check no_splat "$splats in the kernel log" "$splats" -eq 0
	check cleanup_complete "left: $cleanup" "$cleanup" = complete
	while IFS='|' read -r one counts; do
		case $counts in
		off) ;;
		'') [ -z "$one" ] || test_line "disturb_$one" 0 "left no counts" ;;
		'not available:'*) test_line "disturb_$one" 1 "SKIP $counts" ;;
		*' exit='*) test_line "disturb_$one" 0 "$counts" ;;
		'done=0 failed=0 '*) test_line "disturb_$one" 0 "did nothing: $counts" ;;
		'done=0 '*) test_line "disturb_$one" 1 "SKIP never succeeded: $counts" ;;
		*' unexpected=0') test_line "disturb_$one" 1 ;;
		*' unexpected='*) test_line "disturb_$one" 0 "$counts" ;;
		*) test_line "disturb_$one" 1 ;;
		esac
	done <<TELL
$tell
TELL
}

report()
{
	judge
	{
		echo "version=1"
		echo "shape=$shape"
		echo "minutes=$minutes"
		echo "$figures"
		echo "result=$result"
		[ -z "$why" ] || echo "why=$why"
		echo "$more"
		if [ -n "$finding" ]; then
			echo "$finding" | awk -F'\t' '{
				print "first_finding_seconds=" $1
				print "first_finding=" $2 ": " $3
			}'
		fi
		echo "${verify:-verify=unavailable}"
		echo "$tell" | sed -n 's/^\([a-z_]*\)|/disturb.\1=/p'
		[ -z "$drift" ] || echo "$drift"
		echo "cleanup=$cleanup"
	} >"$outdir/report.txt"
	echo "KTAP version 1"
	echo "1..$nr"
	printf '%s' "$tests"
	say "$result: $iter iterations, $n_compared objects compared, $n_different different"
	say "the report: $outdir/report.txt"
}
