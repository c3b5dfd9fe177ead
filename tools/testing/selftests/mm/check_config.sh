#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Every symbol that the file "config" asks for is in the running kernel. A
# missing one would otherwise show up as a skipped test somewhere else.

dir=$(dirname "$0")
running=${KCONFIG:-/proc/config.gz}

if [ ! -r "$running" ]; then
	echo "TAP version 13"
	echo "1..0 # SKIP $running is not readable (CONFIG_IKCONFIG_PROC)"
	exit 4
fi

wanted=$(grep -E '^CONFIG_[A-Za-z0-9_]+=' "$dir/config")
echo "TAP version 13"
echo "1..$(echo "$wanted" | wc -l)"

n=0
failed=0
for want in $wanted; do
	n=$((n + 1))
	if zcat "$running" | grep -qxF "$want"; then
		echo "ok $n $want"
	else
		echo "# the kernel has: $(zcat "$running" | grep -wF "${want%%=*}")"
		echo "not ok $n $want"
		failed=1
	fi
done
exit $failed
