#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Make a kit for swapload.sh from a kernel that was built in its own tree: the
# commands and the headers are those of its .cmd files.

usage()
{
	cat <<USAGE
usage: swapload_kit.sh -t TREE -o KIT [-s "FOLDER..."]
  -t TREE     kernel tree, built in place (make without O=)
  -o KIT      folder to make; it may not exist
  -s FOLDERS  which objects, by folder (default: "mm lib")
The kit's objects are compiled twice, once into KIT/ref and once to see that the
compiler gives the same again. Exit: 0, 1 on failure, 2 on usage.
USAGE
}

die()
{
	echo "swapload_kit.sh: $1" >&2
	exit "${2:-1}"
}

here=$(cd "$(dirname "$0")" && pwd) || exit 1
tree='' kit='' folders='mm lib'
while getopts ht:o:s: opt; do
	case $opt in
	h) usage; exit 0 ;;
	t) tree=$OPTARG ;;
	o) kit=$OPTARG ;;
	s) folders=$OPTARG ;;
	*) usage >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
if [ $# -gt 0 ] || [ -z "$tree" ] || [ -z "$kit" ]; then
	usage >&2
	exit 2
fi
if [ ! -f "$tree/Kbuild" ] || [ ! -f "$tree/.config" ]; then
	die "$tree: no configured kernel tree" 2
fi
[ ! -e "$kit" ] || die "$kit: is there already" 2
[ -x "$here/swapload_build" ] || die "no swapload_build beside this script: build it first"
tree=$(cd "$tree" && pwd)
case $kit in
/*) ;;
*) kit=$(pwd)/$kit ;;
esac

new=$kit.new.$$
mkdir -p "$new/tree" || exit 1
trap 'rm -rf "$new"' EXIT
trap 'exit 1' INT TERM HUP
cd "$tree" || exit 1

# cmd_OBJECT := COMMAND ; more. Only the compiler is wanted: the object's own
# dependency file goes, as do objtool and what else is done to the object.
for folder in $folders; do
	[ -d "$folder" ] || die "$tree/$folder: no such folder" 2
	for cmd in "$folder"/.*.o.cmd; do
		[ -f "$cmd" ] || continue
		grep -q '^source_.* := .*\.c$' "$cmd" || continue
		object=$(sed -n 's/^cmd_\([^ ]*\) := .*/\1/p' "$cmd")
		line=$(sed -n 's/^cmd_[^ ]* := //p' "$cmd" |
			sed -e 's/ ; .*//' -e 's/ *-Wp,-MM*D,[^ ]*//g' -e "s|$tree/|./|g")
		case $line in
		*" -c -o $object "*) ;;
		*) continue ;;
		esac
		printf '%s\t%s\n' "$object" "$line" >>"$new/build.list"
		sed -n 's/^source_[^ ]* := //p' "$cmd" >>"$new/files"
		# Without the lines of $(wildcard ...), and what lies outside.
		sed -n '/^deps_/,/^$/p' "$cmd" | sed 's/[^a-zA-Z0-9_]$//' | tr ' ' '\n' |
			sed -e '/^$/d' -e '/[:=()]/d' -e "s|^$tree/||" -e '/^\//d' >>"$new/files"
	done
done
[ -s "$new/build.list" ] || die "no compiled object in $folders of $tree (built with O=?)"

sort -u "$new/files" | while read -r file; do
	[ -f "$file" ] || continue
	mkdir -p "$new/tree/$(dirname "$file")"
	cp -p "$file" "$new/tree/$file" || exit 1
done || die "cannot copy the sources"
# Included from the command line.
for file in include/linux/compiler-version.h include/linux/kconfig.h \
	include/linux/compiler_types.h include/generated/autoconf.h include/config/auto.conf; do
	if [ -f "$file" ]; then
		mkdir -p "$new/tree/$(dirname "$file")"
		cp -p "$file" "$new/tree/$file"
	fi
done
rm -f "$new/files"

jobs=$(grep -c ^processor /proc/cpuinfo)
SWAPLOAD_EVENTS=$new/events
SWAPLOAD_STATUS=$new/status
export SWAPLOAD_EVENTS SWAPLOAD_STATUS
mkdir "$new/status"
for ref in ref again; do
	rm -rf "$new/work"
	cp -a "$new/tree" "$new/work"
	"$here/swapload_build" -p kit -C "$new/work" -l "$new/build.list" -r "$new/$ref" \
		-R -j "$jobs" ||
		die "the objects cannot be built from what was copied: $(head -n 1 "$new/events")"
done
"$here/swapload_cmp" "$new/ref" "$new/again" || die "the compiler gives another object each time"
rm -rf "$new/work" "$new/again" "$new/status" "$new/events"
(cd "$new/ref" && find . -type f | sed 's|^\./||' | sort | xargs sha256sum) >"$new/sha256"
mv "$new" "$kit" || die "cannot rename to $kit"
echo "$kit: $(wc -l <"$kit/build.list") steps, $(du -sm "$kit/tree" | cut -f1) MB of source"
