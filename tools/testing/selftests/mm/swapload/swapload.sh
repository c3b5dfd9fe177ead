#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The swapping load: two builds at once, one in tmpfs with huge pages and one in
# ext4 on a loop device on a tmpfs file, with less memory than they need, while
# disturbers work on the same memory. Every object is compared with a reference
# bit for bit. See Documentation/mm/swapload.rst.
#
# POSIX sh only, so that an initramfs with busybox can run it.
#
# shellcheck source-path=SCRIPTDIR

usage()
{
	cat <<USAGE
usage: swapload.sh -k KIT -d DISKDIR -o OUTDIR -m MINUTES -s SHAPE [option...]
       swapload.sh -l [-s SHAPE]
  -k KIT        folder with tree/ and build.list (swapload_kit.sh makes one)
  -d DISKDIR    folder on a disk, for swap files, references and mount points
  -o OUTDIR     folder for report.txt, samples.tsv, events.log
  -m MINUTES    length of the load (0.5 is possible)
  -s SHAPE      700M,nomemcg 700M,memcg-v1 1G,memcg-v1 1G,memcg-v2 or scaled
  -x LIST       disturbers: default, none, all, names; +NAME and -NAME change
                the shape's default
  -w SWAP       block devices to swap on, separated by commas, or a size like
                1500M (two files in DISKDIR); without it the machine's own swap
  -j N          steps at a time in each build
  -b MB         size of the file of known content in tmpfs
  -i MS         run the verifiers (mm_verify) at this interval
  -S FACTOR     multiply the time limits, for slow machines and emulators
  -n N          stop after N iterations of both builds
  -O            allow OOM kills
  -l            list the disturbers (* = in the shape's default) and exit
Needs root. Exit: 0 all is well, 1 something is not, 2 usage, 4 cannot run here,
130 interrupted.
USAGE
}

here=$(cd "$(dirname "$0")" && pwd) || exit 2
# shellcheck source=swapload_undo.sh
. "$here/swapload_undo.sh"

ALL="compact move_charge migrate swapoff thp cma hugepages hotplug min_free rmdir mglru"
ALL="$ALL drop_caches mlock ksm mapped hugetlb_split writers"
ALL="$ALL failslab fail_page_alloc fail_make_request"

skip()
{
	echo "KTAP version 1"
	echo "1..0 # SKIP $*"
	say "cannot run here: $*"
	exit 4
}

wrong()
{
	say "$*"
	exit 2
}

default_set()
{
	base="compact migrate swapoff thp cma hugepages hotplug min_free mglru"
	base="$base drop_caches mlock ksm mapped hugetlb_split"
	case $1 in
	*memcg-v1) echo "$base move_charge rmdir writers" ;;
	*memcg-v2) echo "$base rmdir writers" ;;
	scaled)
		echo "compact move_charge migrate swapoff thp rmdir drop_caches mlock ksm" \
			"mapped hugetlb_split"
		;;
	*) echo "$base" ;;
	esac
}

has()
{
	case " $1 " in
	*" $2 "*) return 0 ;;
	esac
	return 1
}

# choose SHAPE LIST: the names that LIST means.
choose()
{
	set_of=
	case $2 in
	[+-]*) set_of=$(default_set "$1") ;;
	esac
	for item in $(echo "$2" | tr ',' ' '); do
		name=${item#[+-]}
		case $item in
		default) set_of="$set_of $(default_set "$1")"; continue ;;
		all) set_of=$ALL; continue ;;
		none) set_of=; continue ;;
		esac
		has "$ALL" "$name" || return 1
		case $item in
		-*)
			rest=
			for one in $set_of; do
				[ "$one" = "$name" ] || rest="$rest $one"
			done
			set_of=$rest
			;;
		*)
			has "$set_of" "$name" || set_of="$set_of $name"
			;;
		esac
	done
	# shellcheck disable=SC2086 # one blank between them
	echo $set_of
}

number()
{
	case $2 in
	''|*[!0-9]*|0*) wrong "-$1 $2: not a whole number above 0" ;;
	esac
}

kit='' diskdir='' outdir='' minutes='' shape='' disturbers=default factor=1 swap='' jobs=''
ballast='' interval='' iterations=0 oom_allowed=0 list=0
[ $# -gt 0 ] || skip "needs a kit and a disk, see -h; swapload_selftest.sh runs by itself"
while getopts hlk:d:o:m:s:x:S:w:j:b:i:n:O opt; do
	case $opt in
	h) usage; exit 0 ;;
	l) list=1 ;;
	k) kit=$OPTARG ;;
	d) diskdir=$OPTARG ;;
	o) outdir=$OPTARG ;;
	m) minutes=$OPTARG ;;
	s) shape=$OPTARG ;;
	x) disturbers=$OPTARG ;;
	S) number S "$OPTARG"; factor=$OPTARG ;;
	w) swap=$OPTARG ;;
	j) number j "$OPTARG"; jobs=$OPTARG ;;
	b) number b "$OPTARG"; ballast=$OPTARG ;;
	i) number i "$OPTARG"; interval=$OPTARG ;;
	n) number n "$OPTARG"; iterations=$OPTARG ;;
	O) oom_allowed=1 ;;
	*) usage >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || wrong "$1: what is this for? -h tells the usage"

if [ $list = 1 ]; then
	for name in $ALL; do
		if has "$(default_set "$shape")" "$name"; then echo "$name *"; else echo "$name"; fi
	done
	exit 0
fi

case $shape in
700M,nomemcg|700M,memcg-v1|1G,memcg-v1|1G,memcg-v2|scaled) ;;
*) wrong "-s '$shape': not one of 700M,nomemcg 700M,memcg-v1 1G,memcg-v1 1G,memcg-v2 scaled" ;;
esac
seconds=$(echo "$minutes" | awk '/^[0-9]+(\.[0-9]+)?$/ && $1 > 0 { printf "%d", $1 * 60 + 0.999 }')
[ -n "$seconds" ] || wrong "-m '$minutes': not a number of minutes"
wanted=$(choose "$shape" "$disturbers") || wrong "-x $disturbers: -l lists the names"
if [ ! -d "$kit/tree" ] || [ ! -f "$kit/build.list" ]; then
	wrong "-k '$kit': no tree/ and build.list in it"
fi
if [ -z "$diskdir" ] || [ ! -d "$diskdir" ]; then
	wrong "-d '$diskdir': no such folder"
fi
if [ -z "$outdir" ] || ! mkdir -p "$outdir"; then
	wrong "-o '$outdir': cannot make it"
fi
kit=$(cd "$kit" && pwd) diskdir=$(cd "$diskdir" && pwd) outdir=$(cd "$outdir" && pwd)
case $kit$diskdir$outdir in
*[[:space:]]*) wrong "the folders' names may not have blanks" ;;
esac

[ "$(id -u)" = 0 ] || skip "needs root"
[ ! -d "$kit/bin" ] || PATH=$kit/bin:$PATH
for tool in awk cp df du grep losetup mkswap mount rm sed sort swapoff swapon umount; do
	command -v $tool >/dev/null || skip "no $tool on this machine"
done
for tool in build cmp sample disturb ksm ballast mapped; do
	[ -x "$here/swapload_$tool" ] ||
		skip "no swapload_$tool beside swapload.sh: build and install it"
done
for fs in tmpfs ext4; do
	grep -qw $fs /proc/filesystems || skip "no $fs in this kernel"
done
mkfs=
for tool in mkfs.ext4 mke2fs; do
	# busybox has a mke2fs too, that knows nothing of ext4.
	if [ -z "$mkfs" ] && $tool -V 2>&1 | grep -q '^mke2fs 1\.'; then
		mkfs="$tool -q -F -t ext4 -b 4096 -I 256"
	fi
done
if [ -z "$mkfs" ] && [ ! -f "$kit/ext4.img" ]; then
	mke2fs --help 2>&1 | grep -qi busybox || skip "no mkfs.ext4 and no ext4.img in the kit"
	say "only busybox' mke2fs is here: ext4 without a journal and extents"
	mkfs="mke2fs -F -b 4096 -I 256"
fi
leftovers

meminfo()
{
	awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo
}

mem_kb=$(meminfo MemTotal)
mem=$((mem_kb / 1024))
tree=$(du -sk "$kit/tree" | awk '{ print int($1 / 1024) + 1 }')
ref_mb=$tree
# A slow machine has to get some building done beside the disturbers.
pace=$((factor / 2))
[ $pace -ge 1 ] || pace=1
[ $pace -le 5 ] || pace=5
SWAPLOAD_PACE=$pace
export SWAPLOAD_PACE
[ -n "$jobs" ] || jobs=$(($(grep -c ^processor /proc/cpuinfo) + 1))

# Groups
groups=none
case $shape in
*memcg-v1) groups=v1 ;;
*memcg-v2) groups=v2 ;;
scaled)
	groups=v1
	! grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null || groups=v2
	;;
esac
top=
case $groups in
v1) top=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2; exit }' /proc/mounts) ;;
v2)
	top=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	grep -qw memory "$top/cgroup.controllers" 2>/dev/null || top=
	;;
esac
[ $groups = none ] || [ -n "$top" ] ||
	skip "$shape: no cgroup $groups with the memory controller is mounted"
case $shape in
700M*) limit=$((mem * 30 / 100)) ;;
1G*) limit=$((mem * 35 / 100)) ;;
esac

# What is built takes two trees and the compilers; the file makes up the rest,
# in the group of the ext4 build where there are groups.
if [ -z "$ballast" ]; then
	case $shape in
	*nomemcg)
		ballast=$((mem * 7 / 10 - 2 * tree - jobs * 40))
		[ $pace = 1 ] || ballast=$((mem / 3))
		;;
	scaled) ballast=256 ;;
	*)
		ballast=$limit
		[ $pace = 1 ] || ballast=$((limit * 8 / 10))
		;;
	esac
	[ "$ballast" -ge 16 ] || ballast=16
fi
case $shape in
scaled) limit=$(((tree + ballast + jobs * 60) * 6 / 10)) ;;
esac
case $shape in
700M,memcg-v1) oom_group=1 ;;
*) oom_group=$oom_allowed ;;
esac

# Swap and space
W=$diskdir/swapload
need=$((ref_mb + 64)) swap_files=0 areas=
# What the writers write, see swapload_groups.h
! has "$wanted" writers || need=$((need + 100))
case $swap in
'') ;;
/*)
	for area in $(echo "$swap" | tr ',' ' '); do
		[ -b "$area" ] || wrong "-w $area: no block device"
		active_swap "$area" && wrong "-w $area: is in use as swap"
		mark=$(dd if="$area" bs=1 skip=4086 count=10 2>/dev/null | tr -d '\000')
		data=$(dd if="$area" bs=64k count=1 2>/dev/null | tr -d '\000' | wc -c)
		if [ "$mark" != SWAPSPACE2 ] && [ "$data" -gt 0 ]; then
			wrong "-w $area: holds something that is no swap; wipe it first"
		fi
	done
	;;
[1-9]*M)
	number w "${swap%M}"
	swap_files=$((${swap%M} / 2))
	need=$((need + swap_files * 2))
	;;
*) wrong "-w $swap: neither block devices nor a size like 1500M" ;;
esac
free=$(df -Pk "$diskdir" | awk 'NR == 2 { print int($4 / 1024) }')
[ "$free" -ge "$need" ] || skip "$diskdir has $free MB free, $need MB are needed"
if [ -z "${SWAPLOAD_TEST:-}" ]; then
	case $(stat -f -c %T "$diskdir") in
	tmpfs|ramfs) skip "$diskdir is in memory, not on a disk" ;;
	esac
	[ "$mem" -ge 400 ] || skip "$mem MB of memory are too few, 400 are needed"
	have=$(($(meminfo SwapTotal) / 1024))
	[ -n "$swap" ] || [ $have -ge 256 ] ||
		skip "$have MB of swap are too few, 256 are needed: see -w"
fi

say "shape $shape: $mem MB of memory"
[ $groups = none ] || say "two groups ($groups) of $limit MB each under $top/swapload"
say "two builds of $(grep -vc '^#' "$kit/build.list") steps, $jobs at a time each:"
say "in $W/tmpfs (huge=always) and $W/ext4 (loop on tmpfs)"
say "$ballast MB of known content in tmpfs"
say "swap: ${swap:-what the machine has}; disturbers: ${wanted:-none}"
say "writes to $W and $outdir; all of it is taken back at the end and after Ctrl-C"

# From here on everything is undone.
rm -f "$outdir/report.txt" "$outdir/samples.tsv" "$outdir/events.log"
mkdir -p "$STATE/status" || exit 1
echo $$ >"$STATE/pid"
: >"$STATE/undo"
: >"$outdir/events.log"
SWAPLOAD_ID=$(cat /proc/sys/kernel/random/uuid)
SWAPLOAD_T0=$(cut -d' ' -f1 /proc/uptime)
SWAPLOAD_EVENTS=$outdir/events.log
SWAPLOAD_STATUS=$STATE/status
export SWAPLOAD_ID SWAPLOAD_T0 SWAPLOAD_EVENTS SWAPLOAD_STATUS
status=$STATE/status

# shellcheck source=swapload_run.sh
. "$here/swapload_run.sh"
