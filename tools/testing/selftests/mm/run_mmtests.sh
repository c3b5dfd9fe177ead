#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run the mm selftests and print one KTAP report: a subtest for each program.
# POSIX sh only, so that an initramfs with busybox can run it.
#
# Exit status: 0 when every program passed or skipped, 1 when one failed, 2 on
# a usage error.

usage()
{
	cat <<USAGE
usage: $(basename "$0") [-l] [-s FACTOR] [-t TEST[,TEST...]]
  -l          list the tests and exit
  -s FACTOR   multiply every time limit (whole number; for slow machines and
              emulators)
  -t TESTS    run only these, by program name
USAGE
}

die()
{
	echo "$(basename "$0"): $1" >&2
	exit 2
}

cd "$(dirname "$0")" || exit 2
[ -r tests.list ] || die "no tests.list beside it: build and install the tests first"

all=$(cat tests.list)
chosen=$all
factor=1

while getopts hls:t: opt; do
	case $opt in
	h)
		usage
		exit 0
		;;
	l)
		echo "$all"
		exit 0
		;;
	s)
		case $OPTARG in
		''|*[!0-9]*|0*)
			die "-s $OPTARG: not a whole number above 0"
			;;
		esac
		factor=$OPTARG
		;;
	t)
		chosen=$(echo "$OPTARG" | tr ',' '\n')
		for test in $chosen; do
			echo "$all" | grep -qxF "$test" ||
				die "-t $test: no such test; -l lists them"
		done
		;;
	*)
		usage >&2
		exit 2
		;;
	esac
done
[ -n "$chosen" ] || die "no test to run"

limit=$(sed -n 's/^timeout=//p' settings)
limit=$((${limit:-45} * factor))
export MM_TEST_SCALE="$factor"

# Output is indented as it comes, so that a crash leaves what was printed. The
# program's own TAP header becomes the header of a KTAP subtest.
indent()
{
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		"TAP version 13"|"KTAP version 1")
			;;
		*)
			printf '    %s\n' "$line"
			;;
		esac
	done
}

echo "KTAP version 1"
echo "1..$(echo "$chosen" | wc -l)"

n=0
status=0
for test in $chosen; do
	n=$((n + 1))
	printf '    KTAP version 1\n    # Subtest: %s\n' "$test"
	start=$(date +%s)
	# The status has to pass the pipe: 3 carries it, 4 is the output.
	rc=$( { { timeout "$limit" "./$test" 2>&1 3>&- 4>&-; echo $? >&3; } |
		indent >&4; } 3>&1 4>&5 )
	echo "# $test: $(($(date +%s) - start)) s"
	case $rc in
	0)
		echo "ok $n $test"
		;;
	4)
		echo "ok $n $test # SKIP"
		;;
	124|143)
		echo "not ok $n $test # TIMEOUT after $limit s"
		status=1
		;;
	*)
		echo "not ok $n $test # exit=$rc"
		status=1
		;;
	esac
done 5>&1
exit $status
