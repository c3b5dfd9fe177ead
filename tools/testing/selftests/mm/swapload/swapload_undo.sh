# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck disable=SC2154 # here: where swapload.sh is
#
# What swapload.sh changes on the machine is written to a journal before it is
# done, and undone from there in reverse order: at the end, after Ctrl-C, or by
# the next run when this one was killed.

STATE=${SWAPLOAD_STATE:-/run/swapload}
[ -d "${STATE%/*}" ] || STATE=/tmp/swapload.state

say()
{
	echo "swapload: $*" >&2
}

# journal VERB WORD...: none of the words has blanks.
journal()
{
	echo "$*" >>"$STATE/undo"
}

# chosen FILE: its value; the word in brackets where it lists all.
chosen()
{
	value=$(cat "$1" 2>/dev/null) || return 1
	case $value in
	*\[*\]*)
		value=${value#*\[}
		value=${value%%\]*}
		;;
	0x*)
		# lru_gen/enabled
		value=$(printf '%d' "$value")
		;;
	esac
	echo "$value"
}

# save_value FILE: its value comes back at the end.
save_value()
{
	[ -w "$1" ] || return 1
	old=$(chosen "$1") && [ -n "$old" ] || return 1
	journal set "$1" "$old"
}

# set_value FILE VALUE: until the end.
set_value()
{
	save_value "$1" && echo "$2" >"$1"
}

# try SECONDS COMMAND...: again and again, while something lets go slowly.
try()
{
	tries=$(($1 * 5))
	shift
	while ! "$@" 2>/dev/null; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.2
	done
}

active_swap()
{
	grep -q "^$1[[:space:]]" /proc/swaps
}

mounted()
{
	grep -q "^[^ ]* $1 " /proc/mounts
}

undo_one()
{
	verb=$1 what=$2 value=${3:-}
	case $verb in
	mount)
		mounted "$what" || return 0
		try 20 umount "$what"
		;;
	loop)
		losetup "$what" >/dev/null 2>&1 || return 0
		grep -q swapload "/sys/block/${what#/dev/}/loop/backing_file" 2>/dev/null ||
			return 0
		try 20 losetup -d "$what"
		;;
	swap)
		active_swap "$what" || return 0
		try 10 swapoff "$what"
		;;
	group)
		[ -d "$what" ] || return 0
		for group in "$what"/swapload-r*; do
			[ ! -d "$group" ] || try 10 rmdir "$group"
		done
		try 20 rmdir "$what"
		;;
	controller)
		echo -memory >"$what" 2>/dev/null
		;;
	set)
		[ "$(chosen "$what")" = "$value" ] && return 0
		echo "$value" >"$what" 2>/dev/null
		[ "$(chosen "$what")" = "$value" ]
		;;
	online)
		[ "$(cat "$what")" = offline ] || return 0
		echo online >"$what" 2>/dev/null
		;;
	cma)
		# Frees what is held, however much that is.
		echo 100000000 >"$what/free" 2>/dev/null
		;;
	rm)
		case ${what##*/} in
		swapload*)
			rm -rf "$what"
			;;
		*)
			false
			;;
		esac
		;;
	*)
		false
		;;
	esac
}

# undo_all: returns 1 and names in $kept what could not be undone.
undo_all()
{
	kept=
	[ -f "$STATE/undo" ] || return 0
	sed '1!G;h;$!d' "$STATE/undo" >"$STATE/undo.now"
	while read -r verb what value; do
		undo_one "$verb" "$what" "$value" </dev/null && continue
		say "could not undo: $verb $what $value"
		kept="$kept $verb:$what"
	done <"$STATE/undo.now"
	rm -f "$STATE/undo.now"
	if [ -n "$kept" ]; then
		# For the next run to try again.
		mv "$STATE/undo" "$STATE/undo.kept"
		return 1
	fi
	rm -rf "$STATE"
}

# leftovers: clean up after a run that was killed; die when one is alive.
leftovers()
{
	[ -d "$STATE" ] || return 0
	pid=$(cat "$STATE/pid" 2>/dev/null)
	if [ -n "$pid" ] && grep -q swapload "/proc/$pid/cmdline" 2>/dev/null; then
		say "another run is alive, process $pid"
		exit 1
	fi
	[ ! -f "$STATE/undo.kept" ] || mv "$STATE/undo.kept" "$STATE/undo"
	say "cleaning up after a run that was killed"
	[ ! -f "$STATE/id" ] || "$here/swapload_disturb" reap "$(cat "$STATE/id")" >/dev/null
	undo_all || say "not all of it could be undone:$kept"
	rm -rf "$STATE"
}
