// SPDX-License-Identifier: GPL-2.0
/* What is measured: the functions first, the table of rows last. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22	/* 5.14 */
#endif

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21		/* 5.4 */
#endif

#define PAGES	4096L	/* pages a sample of the page rows */
#define VMAS	256L	/* VMAs a sample of the VMA rows */
#define FORKS	8L

static char *area;
static int file = -1;
static int channel[2];

static char *map(size_t len, int prot, int flags, int fd)
{
	char *p = mmap(NULL, len, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return p;
}

static void unmap(void *p, size_t len)
{
	must(munmap(p, len), "munmap");
}

static void unmap_area(void)
{
	unmap(area, PAGES * PAGE);
}

static void map_anon(void)
{
	area = map(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void map_file(void)
{
	area = map(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file);
}

static void populate(void)
{
	must(madvise(area, PAGES * PAGE, MADV_POPULATE_READ), "MADV_POPULATE_READ");
}

static void touch(void)
{
	for (long i = 0; i < PAGES; i++)
		((volatile char *)area)[i * PAGE] = 1;
}

static void zap(void)
{
	must(madvise(area, PAGES * PAGE, MADV_DONTNEED), "MADV_DONTNEED");
}

static void lock_unlock(void)
{
	must(mlock(area, PAGES * PAGE), "mlock");
	must(munlock(area, PAGES * PAGE), "munlock");
}

/* There is no swap: every page comes back. */
static void page_out(void)
{
	must(madvise(area, PAGES * PAGE, MADV_PAGEOUT), "MADV_PAGEOUT");
}

static void map_populate_file(void)
{
	map_file();
	populate();
}

static void map_touch_file(void)
{
	map_file();
	touch();
}

static void map_touch_anon(void)
{
	map_anon();
	touch();
}

static void fork_exit(void)
{
	pid_t pid = must(fork(), "fork");
	int status;

	if (!pid)
		_exit(0);
	must(waitpid(pid, &status, 0), "waitpid");
	if (status)
		die("the forked child ended with status %d", status);
}

static void forks(void)
{
	for (long i = 0; i < FORKS; i++)
		fork_exit();
}

/* One mapping of 2 * VMAS + 1 pages; the odd pages become VMAs of their own. */
#define STRIPES	((2 * VMAS + 1) * PAGE)

static void map_stripes(void)
{
	area = map(STRIPES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void unmap_stripes(void)
{
	unmap(area, STRIPES);
}

static void protect_stripes(int prot)
{
	for (long i = 0; i < VMAS; i++)
		must(mprotect(area + (2 * i + 1) * PAGE, PAGE, prot), "mprotect");
}

static void split_stripes(void)
{
	protect_stripes(PROT_READ);
}

static void merge_stripes(void)
{
	protect_stripes(PROT_READ | PROT_WRITE);
}

static void map_split_stripes(void)
{
	map_stripes();
	split_stripes();
}

/* The even pages of a range that holds nothing else: no VMA has a neighbour. */
static void find_gap(void)
{
	map_stripes();
	unmap_stripes();
}

static void map_vmas(void)
{
	for (long i = 0; i < VMAS; i++)
		if (mmap(area + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			die("mmap: %s", strerror(errno));
}

static void find_gap_map_vmas(void)
{
	find_gap();
	map_vmas();
}

/*
 * A pipe in packet mode takes one order-0 page a write, however short, and
 * frees it when it is read: no LRU, no page table, no zeroing. A pipe keeps
 * one freed page for its next write, so one write after one read in turn
 * allocates nothing: the same system calls without the allocator, which is
 * what is subtracted. One packet stays in the pipe so that no side ever sees
 * it empty (the wake-up path). DEEP pages in flight are more than the
 * per-CPU list holds, so they come from and go to the buddy lists in batches.
 */
#define SHALLOW	33L		/* 32 real pages in flight */
#define DEEP	8193L

static void write_packets(long n)
{
	char byte = 0;

	while (n--)
		if (write(channel[1], &byte, 1) != 1)
			die("write to pipe: %s", strerror(errno));
}

static void read_packets(long n)
{
	char byte;

	while (n--)
		if (read(channel[0], &byte, 1) != 1)
			die("read from pipe: %s", strerror(errno));
}

static void open_pipe(void)
{
	must(pipe2(channel, O_DIRECT), "pipe2(O_DIRECT)");
	must(fcntl(channel[1], F_SETPIPE_SZ, 16384 * PAGE), "F_SETPIPE_SZ");
	/* the one that stays, and one more read leaves the pipe its spare page */
	write_packets(2);
	read_packets(1);
}

static void in_turn(long n)
{
	while (n--) {
		write_packets(1);
		read_packets(1);
	}
}

static void pcp_pages(void)
{
	for (int i = 0; i < 64; i++) {
		write_packets(SHALLOW);
		read_packets(SHALLOW);
	}
}

static void pcp_calls(void)
{
	for (int i = 0; i < 64; i++)
		in_turn(SHALLOW);
}

static void buddy_pages(void)
{
	write_packets(DEEP);
	read_packets(DEEP);
}

static void buddy_calls(void)
{
	in_turn(DEEP);
}

/*
 * What it costs that pages come from and go to the buddy lists: DEEP pages at
 * once, less the same pages and the same calls in bursts that the per-CPU list
 * serves. Each burst has a page less than calls, so calls in turn, which take
 * no page, make their numbers equal. How full the list is at the start depends
 * on its length, and that on memory: here it is as short as can be, four times
 * a batch, everywhere.
 */
#define BURSTS	((DEEP - 1) / (SHALLOW - 1))

static void set_list_fraction(const char *fraction)
{
	static const char path[] = "/proc/sys/vm/percpu_pagelist_high_fraction";
	int fd = must(open(path, O_WRONLY | O_CLOEXEC), path);

	must(write(fd, fraction, strlen(fraction)), path);
	close(fd);
}

static void shorten_list(void)
{
	leave_group();
	set_list_fraction("1000000");
}

static void lengthen_list(void)
{
	set_list_fraction("0");
	enter_group();
}

static void refill_pages(void)
{
	buddy_pages();
	in_turn(BURSTS - 1);
}

static void refill_calls(void)
{
	for (long i = 0; i < BURSTS; i++) {
		write_packets(SHALLOW);
		read_packets(SHALLOW);
	}
}

/*
 * The pool of huge pages up and down: of order 9, not cleared before they are
 * used. The per-CPU list takes this order too, but holds only a few of them.
 */
#define HUGE_ORDER	9
#define HUGE_PAGES	128L

static int pool = -1;

static void set_pool(long pages)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%ld", pages);

	if (pwrite(pool, text, len, 0) != len)
		die("write %s to nr_hugepages: %s", text, strerror(errno));
}

static void huge_pages(void)
{
	set_pool(HUGE_PAGES);
	set_pool(0);
}

/* Why so many pages at once would not reach the buddy lists, or NULL. */
static const char *list_deeper_than(long pages)
{
	static char text[16384], why[128];
	int fd = must(open("/proc/zoneinfo", O_RDONLY | O_CLOEXEC), "/proc/zoneinfo");
	ssize_t n = 0, more;
	long most = -1;

	while ((more = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += more;
	must(more, "/proc/zoneinfo");
	close(fd);
	text[n] = 0;
	for (char *p = text; (p = strstr(p, "high: ")); p++)
		if (strtol(p + 6, NULL, 10) > most)
			most = strtol(p + 6, NULL, 10);
	if (most >= 0 && pages > 4 * most)
		return NULL;
	snprintf(why, sizeof(why), "the per-CPU list holds up to %ld of its %ld pages",
		 most, pages);
	return why;
}

static const char *buddy_reached(void)
{
	return list_deeper_than(DEEP);
}

/* Why page_order9 would not, or what else is missing, or NULL. */
static const char *pool_filled(void)
{
	static char path[] = "/proc/sys/vm/nr_hugepages";
	char text[32] = "";

	if (pool < 0)
		pool = open(path, O_RDWR | O_CLOEXEC);
	if (pool < 0)
		return "no /proc/sys/vm/nr_hugepages";
	set_pool(HUGE_PAGES);
	must(pread(pool, text, sizeof(text) - 1, 0), path);
	set_pool(0);
	if (strtol(text, NULL, 10) != HUGE_PAGES)
		return "no room for its huge pages";
	return list_deeper_than(HUGE_PAGES << HUGE_ORDER);
}

void set_up_rows(void)
{
	/* tmpfs: no write-back, no disk whose answer comes at a time of its own */
	file = must(memfd_create("bench", MFD_CLOEXEC), "memfd_create");
	must(ftruncate(file, PAGES * PAGE), "ftruncate");
	for (long i = 0; i < PAGES; i++)
		must(pwrite(file, "", 1, i * PAGE), "pwrite");
	open_pipe();
}

const struct row rows[] = {
	{
		.name = "file_fault", .unit = "page", .ops = PAGES,
		.source = "filemap_map_pages() of tmpfs, 16 pages a fault",
		.prepare = map_file, .op = populate, .undo = unmap_area,
		.fault = 1.0 / 16,
	},
	{
		.name = "clean_zap", .unit = "page", .ops = PAGES,
		.source = "zap_pte_range(), shared file, clean",
		.prepare = map_populate_file, .op = zap, .undo = unmap_area,
	},
	{
		.name = "dirty_munmap", .unit = "page", .ops = PAGES,
		.source = "unmap_vmas(), shared file, every page written",
		.prepare = map_touch_file, .op = unmap_area,
	},
	{
		.name = "anon_fault", .unit = "page", .ops = PAGES,
		.source = "do_anonymous_page() on a write, with clearing the page",
		.prepare = map_anon, .op = touch, .undo = unmap_area,
		.fault = 1, .alloc = 1,
	},
	{
		.name = "anon_zap", .unit = "page", .ops = PAGES,
		.source = "zap_pte_range(), anonymous, with freeing the page",
		.prepare = map_touch_anon, .op = zap, .undo = unmap_area,
		.free = 1,
	},
	{
		.name = "fork_exit", .unit = "page", .ops = PAGES,
		.source = "copy_page_range(), exit_mmap(): anonymous pages of one process",
		.prepare = map_touch_anon, .op = fork_exit, .undo = unmap_area,
	},
	{
		.name = "fork_call", .unit = "call", .ops = FORKS,
		.source = "fork(), _exit(), waitpid() of a process with few pages",
		.op = forks,
		.fault = ANY, .alloc = ANY, .free = ANY,
	},
	{
		.name = "lru_mlock", .unit = "page", .ops = PAGES,
		.source = "mlock() and munlock(): two times off a list and onto another",
		.prepare = map_touch_anon, .op = lock_unlock, .undo = unmap_area,
	},
	{
		.name = "lru_isolate", .unit = "page", .ops = PAGES,
		.source = "MADV_PAGEOUT without swap: isolate_lru_page(), shrink_folio_list(), putback",
		.prepare = map_touch_anon, .op = page_out, .undo = unmap_area,
	},
	{
		.name = "vma_split", .unit = "call", .ops = VMAS,
		.source = "mprotect() of a page amid a VMA: two __split_vma()",
		.prepare = map_stripes, .op = split_stripes, .undo = unmap_stripes,
		.alloc = ANY, .free = ANY,
	},
	{
		.name = "vma_merge", .unit = "call", .ops = VMAS,
		.source = "mprotect() back: three VMAs become one",
		.prepare = map_split_stripes, .op = merge_stripes, .undo = unmap_stripes,
		.alloc = ANY, .free = ANY,
	},
	{
		.name = "mmap", .unit = "call", .ops = VMAS,
		.source = "mmap() of an anonymous page without a neighbour",
		.prepare = find_gap, .op = map_vmas, .undo = unmap_stripes,
		.alloc = ANY, .free = ANY,
	},
	{
		.name = "munmap", .unit = "VMA", .ops = VMAS,
		.source = "one munmap() of 256 VMAs with no page in them",
		.prepare = find_gap_map_vmas, .op = unmap_stripes,
		.alloc = ANY, .free = ANY,
	},
	{
		.name = "page_pcp", .unit = "page", .ops = 64 * (SHALLOW - 1),
		.source = "order-0 alloc and free, served by the per-CPU list",
		.prepare = leave_group, .op = pcp_pages, .undo = enter_group, .fixed = pcp_calls,
		.alloc = 1, .free = 1,
	},
	{
		.name = "page_buddy", .unit = "page", .ops = DEEP - 1,
		.source = "order-0 alloc and free, in batches from the buddy lists",
		.prepare = leave_group, .op = buddy_pages, .undo = enter_group, .fixed = buddy_calls,
		.refuse = buddy_reached,
		.alloc = 1, .free = 1,
	},
	{
		.name = "page_refill", .unit = "page", .ops = DEEP - 1,
		.source = "page_buddy less page_pcp: refilling and draining the per-CPU list",
		.prepare = shorten_list, .op = refill_pages, .undo = lengthen_list,
		.fixed = refill_calls,
		.refuse = buddy_reached,
	},
	{
		.name = "page_order9", .unit = "page", .ops = HUGE_PAGES,
		.source = "nr_hugepages up and down: order-9 alloc and free, from the buddy lists",
		.op = huge_pages,
		.refuse = pool_filled,
		.alloc = 1 << HUGE_ORDER, .free = 1 << HUGE_ORDER,
	},
	{
		.name = "page_charged", .unit = "page", .ops = 64 * (SHALLOW - 1),
		.source = "page_pcp with charging and uncharging a memcg",
		.op = pcp_pages, .fixed = pcp_calls,
		.alloc = 1, .free = 1,
	},
};
const long nr_rows = sizeof(rows) / sizeof(rows[0]);
