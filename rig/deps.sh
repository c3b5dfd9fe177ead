#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Install the packages of rig/packages.txt that are missing; nothing is done, and in
# less than a second, when none is. SKIP_DEPS=1: use the programs that are there.
set -u -o pipefail
export LC_ALL=C

fail() {
	echo "mm-lockstep: $*" >&2
	exit 1
}

[ "${SKIP_DEPS:-}" = 1 ] && exit 0

list=${PACKAGES:-$(dirname "$0")/packages.txt}
mapfile -t wanted < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$list")
[ ${#wanted[@]} -gt 0 ] || fail "$list: no package in it"

own="install their programs yourself and set SKIP_DEPS=1"
for program in dpkg-query apt-get; do
	command -v "$program" > /dev/null || fail "no $program here, the rig needs ${wanted[*]}: $own"
done

# "ii name" for each that is installed
have=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${wanted[@]}" 2> /dev/null)
missing=()
for name in "${wanted[@]}"; do
	grep -qxE "[ih]i +$name" <<< "$have" || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo > /dev/null ||
		fail "missing packages: ${missing[*]}; neither root nor sudo: install them, or $own"
	root=(sudo)
	# without a terminal sudo must not wait for a password
	[ -t 0 ] || root=(sudo -n)
	"${root[@]}" true || fail "missing packages: ${missing[*]}; sudo refuses: install them, or $own"
fi

log=$(mktemp) || fail "no space for a log of apt-get"
trap 'rm -f "$log"' EXIT

apt() {
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=300 "$@" > "$log" 2>&1 < /dev/null
}

# the line that says what apt-get stumbled over
why() {
	grep -m1 '^E:' "$log" || tail -n1 "$log"
}

echo "    packages: installing ${missing[*]}"
apt update || fail "apt-get update: $(why)"
apt install --no-install-recommends "${missing[@]}" ||
	fail "apt-get install ${missing[*]}: $(why); or $own"
