/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An address range to change, and what the kernel says of it. The tests of how
 * VMAs are split, merged, moved and unmapped share this.
 */
#ifndef _SELFTESTS_MM_VMA_OPS_H
#define _SELFTESTS_MM_VMA_OPS_H

#include <stdbool.h>
#include <sys/mman.h>

#include "mm_verify.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define PG			4096UL
#define RW			(PROT_READ | PROT_WRITE)

/* Far from what the kernel chooses, and room around it. */
#define AREA			((char *)0x200000000000UL)
#define AREA_PAGES		4096UL

struct vma_line {
	unsigned long start;
	unsigned long end;
	char perms[5];
	unsigned long pgoff;
};

/* The lines of /proc/self/maps that reach into a range. Returns their number. */
static inline int vmas_in(const void *start, const void *end,
			  struct vma_line *lines, int max)
{
	static char text[1 << 20];
	char *at, *save;
	int nr = 0;

	if (read_file("/proc/self/maps", text, sizeof(text)) < 0)
		return -1;
	for (at = strtok_r(text, "\n", &save); at;
	     at = strtok_r(NULL, "\n", &save)) {
		struct vma_line l;

		if (sscanf(at, "%lx-%lx %4s %lx", &l.start, &l.end, l.perms,
			   &l.pgoff) != 4)
			return -1;
		if (l.end <= (unsigned long)start ||
		    l.start >= (unsigned long)end)
			continue;
		if (nr < max)
			lines[nr] = l;
		nr++;
	}
	return nr;
}

/*
 * The area's VMAs as text, in pages from its start: "0-2 rw, 2-3 r-". Holes are
 * what is missing.
 */
static inline const char *shape(void)
{
	static struct vma_line lines[64];
	static char text[2048];
	int nr = vmas_in(AREA, AREA + AREA_PAGES * PG, lines, 64), i;
	size_t len = 0;

	text[0] = '\0';
	for (i = 0; i < nr && i < 64; i++)
		len += snprintf(text + len, sizeof(text) - len, "%s%lu-%lu %.2s",
				i ? ", " : "",
				(lines[i].start - (unsigned long)AREA) / PG,
				(lines[i].end - (unsigned long)AREA) / PG,
				lines[i].perms);
	return text;
}

static inline long long committed_as(void)
{
	return field("/proc/meminfo", "Committed_AS:");
}

/* Anonymous private memory at a page of the area. */
static inline bool map_at(unsigned long page, unsigned long pages, int prot)
{
	return mmap(AREA + page * PG, pages * PG, prot,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
	       AREA + page * PG;
}

static inline void touch(unsigned long page, unsigned long pages)
{
	unsigned long i;

	for (i = page; i < page + pages; i++)
		AREA[i * PG] = i + 1;
}

static inline int protect(unsigned long page, unsigned long pages, int prot)
{
	return mprotect(AREA + page * PG, pages * PG, prot);
}

#endif /* _SELFTESTS_MM_VMA_OPS_H */
