/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the free lists do: memory laid out block by block, pages of
 * a chosen migratetype, and requests that reserve.
 */
#ifndef _SELFTESTS_MM_FREE_LIST_LOAD_H
#define _SELFTESTS_MM_FREE_LIST_LOAD_H

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include "free_list_verdict.h"

#define CMA_DIR		"/sys/kernel/debug/cma/"
#define BLOCK_SIZE	(2UL << 20)
#define BLOCK_PAGES	(BLOCK_SIZE / 4096)

static inline void stay_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Name of the first CMA area of at least so many pages; NULL when none. */
static inline const char *cma_area(long long pages)
{
	static const char * const names[] = { "reserved", "linux,cma" };
	static char path[128];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), CMA_DIR "%s/count", names[i]);
		if (get(path) >= pages)
			return names[i];
	}
	return NULL;
}

static inline int cma_alloc(const char *area, int pages)
{
	char path[128];

	snprintf(path, sizeof(path), CMA_DIR "%s/alloc", area);
	return put(path, "%d", pages);
}

static inline int cma_free(const char *area, int pages)
{
	char path[128];

	snprintf(path, sizeof(path), CMA_DIR "%s/free", area);
	return put(path, "%d", pages);
}

/*
 * What the CPUs keep to themselves goes back to the free lists: contiguous
 * allocation drains them first.
 */
static inline int drain_cpus(void)
{
	const char *area = cma_area(1);
	int ret;

	if (!area)
		return -ENOENT;
	ret = cma_alloc(area, 1);
	return ret ? ret : cma_free(area, 1);
}

/* Physical page behind an address of ours, 0 when there is none. */
static inline unsigned long long pfn_of(const void *address)
{
	static int fd = -1;
	unsigned long long entry = 0;

	if (fd < 0)
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pread(fd, &entry, sizeof(entry), (uintptr_t)address / 4096 * 8) !=
	    sizeof(entry) || !(entry >> 63))
		return 0;
	return entry & ((1ULL << 55) - 1);
}

/**
 * struct blocks - anonymous memory, each 2 MiB of it one pageblock
 * @map: start, of a multiple of BLOCK_SIZE
 * @nr: how many
 */
struct blocks {
	char *map;
	unsigned int nr;
};

static inline char *block(struct blocks *b, unsigned int i)
{
	return b->map + i * BLOCK_SIZE;
}

/* Those that did not become one huge page are given back. */
static inline int get_blocks(struct blocks *b, unsigned int nr)
{
	size_t size = (nr + 1) * BLOCK_SIZE;
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	unsigned int i, good = 0;

	if (map == MAP_FAILED)
		return -errno;
	b->map = (char *)(((uintptr_t)map + BLOCK_SIZE - 1) & -BLOCK_SIZE);
	b->nr = nr;
	if (madvise(b->map, nr * BLOCK_SIZE, MADV_HUGEPAGE))
		return -errno;
	for (i = 0; i < nr; i++) {
		unsigned long long first;

		*block(b, i) = 1;
		first = pfn_of(block(b, i));
		if (first && first % BLOCK_PAGES == 0 &&
		    pfn_of(block(b, i) + BLOCK_SIZE - 4096) ==
		    first + BLOCK_PAGES - 1)
			good++;
		else
			madvise(block(b, i), BLOCK_SIZE, MADV_DONTNEED);
	}
	return good;
}

static inline void put_blocks(struct blocks *b)
{
	if (b->map)
		munmap(b->map, b->nr * BLOCK_SIZE);
	b->map = NULL;
}

static inline int drop(char *from, size_t size)
{
	return madvise(from, size, MADV_DONTNEED) ? -errno : 0;
}

/* Make base pages of the huge pages, so that parts of them can be freed. */
static inline int split_blocks(struct blocks *b)
{
	/* Or khugepaged makes them huge again. */
	if (madvise(b->map, b->nr * BLOCK_SIZE, MADV_NOHUGEPAGE))
		return -errno;
	return put("/sys/kernel/debug/split_huge_pages", "%d,0x%lx,0x%lx",
		   getpid(), (unsigned long)b->map,
		   (unsigned long)b->map + b->nr * BLOCK_SIZE);
}

/*
 * The pages that wait longest on this CPU's list of movable pages go back to
 * the free lists, for the list is full. Contiguous allocation empties it too,
 * but with blocks isolated, which is another way through the code.
 */
static inline void push_out(struct blocks *b, unsigned int from)
{
	for (; from < b->nr; from++)
		drop(block(b, from), BLOCK_SIZE);
}

/*
 * Unmovable pages: what is in a pipe. A pipe of 1 MiB holds 256 of them.
 */
#define MAX_PIPES	1024

struct pipes {
	int fd[MAX_PIPES][2];
	int nr;
	long long pages;
};

/* Returns how many pages it got. */
static inline long long fill_pipes(struct pipes *p, long long pages)
{
	static char page[4096];
	long long got = 0;

	while (got < pages && p->nr < MAX_PIPES) {
		int *fd = p->fd[p->nr];

		if (pipe2(fd, O_NONBLOCK | O_CLOEXEC))
			break;
		p->nr++;
		fcntl(fd[1], F_SETPIPE_SZ, 1 << 20);
		while (got < pages && write(fd[1], page, sizeof(page)) > 0)
			got++;
	}
	p->pages += got;
	return got;
}

static inline void close_pipes(struct pipes *p)
{
	while (p->nr) {
		p->nr--;
		close(p->fd[p->nr][0]);
		close(p->fd[p->nr][1]);
	}
	p->pages = 0;
}

/*
 * Take all free memory but about keep_kb, in huge pages, which costs no
 * clearing. What is left is in smaller pieces, or in the CMA area.
 */
static inline long long take_hugepages(long long keep_kb)
{
	long long want = (meminfo_kb("MemFree") - keep_kb) / 2048;

	if (want > 0)
		put(NR_HUGEPAGES, "%lld", get(NR_HUGEPAGES) + want);
	return get(NR_HUGEPAGES);
}

/*
 * High-order atomic requests: a pty whose other side does not read keeps what
 * was written in buffers from kmalloc(GFP_ATOMIC), whose slabs are of order 3.
 */
#define MAX_PTYS	512

struct ptys {
	int master[MAX_PTYS], slave[MAX_PTYS];
	int nr;
};

static inline int fill_ptys(struct ptys *p, int nr)
{
	static char text[1792];
	int i;

	for (i = 0; i < nr && p->nr < MAX_PTYS; i++) {
		int unlock = 0, master, slave;
		struct termios raw;

		master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		if (master < 0)
			break;
		ioctl(master, TIOCSPTLCK, &unlock);
		slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK);
		if (slave < 0) {
			close(master);
			break;
		}
		tcgetattr(slave, &raw);
		cfmakeraw(&raw);
		tcsetattr(slave, TCSANOW, &raw);
		p->master[p->nr] = master;
		p->slave[p->nr++] = slave;
		while (write(master, text, sizeof(text)) > 0)
			;
		while (write(slave, text, sizeof(text)) > 0)
			;
	}
	return i;
}

static inline void close_ptys(struct ptys *p)
{
	while (p->nr) {
		p->nr--;
		close(p->slave[p->nr]);
		close(p->master[p->nr]);
	}
}

/* What the tests cannot do without, NULL when nothing is missing. */
static inline const char *missing(void)
{
	if (!verify_present())
		return NEEDS_VERIFY;
	if (!cma_area(1))
		return "needs a CMA area and CONFIG_CMA_DEBUGFS";
	if (access("/sys/kernel/debug/split_huge_pages", W_OK) ||
	    access(NR_HUGEPAGES, W_OK))
		return "needs transparent huge pages and hugetlbfs";
	return NULL;
}

/*
 * A kernel that leaves every reserve alone, so that a test meets the pages that
 * it has laid out. Pages that an earlier test left on wrong lists go through
 * an allocation, which mends most of them.
 */
static inline void quiet(void)
{
	restore();
	put(VM "watermark_boost_factor", "0");
	put(THP "khugepaged/pages_to_scan", "1");
	put(VM "min_free_kbytes", "4096");
	take_hugepages(8 << 10);
	put(NR_HUGEPAGES, "0");
	drain_cpus();
}

/*
 * What may be filled with unmovable pages and still leaves the kernel, above
 * the watermark, what its own requests need.
 */
static inline long long fillable(void)
{
	long long pages = (free_kb() - get(VM "min_free_kbytes")) / 4 - 1024;

	return pages > 0 ? pages : 0;
}

/*
 * Fill all of that. The pipes' own memory counts, and what CPUs take to their
 * lists, so it is asked again and again, or the last pages are one too many.
 */
static inline void fill_memory(struct pipes *p)
{
	while (fillable() >= BLOCK_PAGES && fill_pipes(p, BLOCK_PAGES) > 0)
		;
	fill_pipes(p, fillable());
}

/*
 * Have a block become unmovable, then free, beside one that is free and
 * movable: of each pair of neighbours the first is claimed for the pages of
 * pipes. Returns how many pairs there were, or -errno; @first are their pfns.
 */
static inline int claim_beside_free(struct blocks *b, struct pipes *p,
				    unsigned long long *first)
{
	unsigned int i, j;
	int pairs = 0;

	for (i = 0; i < b->nr; i++) {
		unsigned long long pfn = pfn_of(block(b, i));

		if (!pfn || pfn & BLOCK_PAGES)
			continue;
		for (j = 0; j < b->nr; j++)
			if (pfn_of(block(b, j)) == pfn + BLOCK_PAGES)
				break;
		if (j == b->nr)
			continue;
		if (drop(block(b, i), BLOCK_SIZE))
			return -errno;
		first[pairs++] = pfn;
	}
	drain_cpus();
	fill_memory(p);
	put_blocks(b);
	close_pipes(p);
	drain_cpus();
	return pairs;
}

/*
 * Free memory is between the lowest watermark and the next, so that each
 * request takes the slow path, where atomic ones reserve, and none fails.
 */
static inline void below_low_watermark(void)
{
	put(VM "lowmem_reserve_ratio", "1");
	put(VM "watermark_scale_factor", "3000");
}

static inline void above_low_watermark(void)
{
	put(VM "watermark_scale_factor", "10");
}

#endif /* _SELFTESTS_MM_FREE_LIST_LOAD_H */
