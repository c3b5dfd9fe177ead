// SPDX-License-Identifier: GPL-2.0
/*
 * A group's counters go along with its pages from one node to another, and no
 * others do.
 */
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "memcg_group.h"
#include "memcg_swap.h"

#define PAGE		4096UL
#define NR		512UL
#define SWAP_SIZE	(32UL << 20)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

FIXTURE(nodes) {
	struct group root, group;
	struct device swap;
	const char *skip;
};

FIXTURE_SETUP(nodes)
{
	const char *root = memcg_root(false);

	self->swap.fd = -1;
	self->skip = NULL;
	if (!root)
		self->skip = NEEDS_GROUP;
	else if (!verify_present())
		self->skip = NEEDS_VERIFY;
	else if (access("/sys/devices/system/node/node1", F_OK))
		self->skip = "needs two nodes";
	if (self->skip)
		return;
	strcpy(self->root.dir, root);
	ASSERT_EQ(0, group_make(&self->group, root, "memcg_nodes"));
	ASSERT_EQ(0, swap_make(&self->swap, SWAP_SIZE));
}

FIXTURE_TEARDOWN(nodes)
{
	if (self->skip)
		return;
	swap_remove(&self->swap);
	group_take(&self->root, getpid());
	group_remove(&self->group);
}

/*
 * How many of the pages are on a node, or -errno; -ENOENT for those that are not
 * in memory. With a node to go to, they are moved there first.
 */
static long on_node(char *map, int node, bool move)
{
	static int to[NR], status[NR];
	static void *at[NR];
	unsigned long i;
	long nr = 0;

	for (i = 0; i < NR; i++) {
		at[i] = map + i * PAGE;
		to[i] = node;
		status[i] = -EIO;
	}
	if (move && syscall(__NR_move_pages, 0, NR, at, to, status,
			    MPOL_MF_MOVE) < 0)
		return -errno;
	if (syscall(__NR_move_pages, 0, NR, at, NULL, status, 0) < 0)
		return -errno;
	for (i = 0; i < NR; i++)
		nr += status[i] == node;
	return nr;
}

/* Pages in the swap cache, of anyone */
static long in_swap_cache(void)
{
	char text[8192], *at;

	if (read_file("/proc/meminfo", text, sizeof(text)) <= 0)
		return -1;
	at = strstr(text, "SwapCached:");
	return at ? strtol(at + strlen("SwapCached:"), NULL, 10) / 4 : -1;
}

/* Anonymous pages that are mapped and in the swap cache too; page cache of nobody's */
TEST_F_TIMEOUT(nodes, swap_cache, 120)
{
	struct memcg_verdict verdict;
	int tries = 100 * test_scale(), from, to, round;
	long cached, sum = 0;
	unsigned long i;
	char *map;

	if (self->skip)
		SKIP(return, self->skip);
	ASSERT_EQ(0, group_take(&self->group, getpid()));
	cached = in_swap_cache();
	map = mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, madvise(map, NR * PAGE, MADV_NOHUGEPAGE));
	memset(map, 1, NR * PAGE);
	do {
		ASSERT_EQ(0, madvise(map, NR * PAGE, MADV_PAGEOUT));
		usleep(10000);
	} while (on_node(map, -ENOENT, false) < (long)NR && --tries);
	ASSERT_EQ(NR, on_node(map, -ENOENT, false));

	/* Not written, they stay in the swap cache. */
	for (i = 0; i < NR; i++)
		sum += map[i * PAGE];
	EXPECT_EQ((long)NR, sum);
	for (round = 0; round < 2; round++) {
		EXPECT_LE(cached + (long)NR / 2, in_swap_cache());
		from = on_node(map, 1, false) > (long)NR / 2;
		to = !from;
		EXPECT_LE((long)NR / 2, on_node(map, to, true));
		ASSERT_EQ(0, verify_memcg_settled(&verdict));
		EXPECT_EQ(0, verdict.violations) TH_LOG("%s", verdict.line);
	}
	munmap(map, NR * PAGE);
}

TEST_HARNESS_MAIN
