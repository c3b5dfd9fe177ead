// SPDX-License-Identifier: GPL-2.0
/*
 * Free pages and the free lists of their pageblocks' types, in layouts that are
 * made block by block: what is stolen, what is merged, and what waited on a
 * CPU's list while its block changed.
 *
 * No more than before: on a kernel that leaves pages on wrong lists, the test
 * before may have, and the layout itself does.
 */
#include "free_list_load.h"

#define NR_BLOCKS	60

static struct verdict before, after;
static struct pipes pipes;

FIXTURE(layout) {
	struct blocks blocks;
};

FIXTURE_SETUP(layout)
{
	if (missing())
		return;
	stay_on_cpu(0);
	quiet();
	ASSERT_LT(NR_BLOCKS / 2, get_blocks(&self->blocks, NR_BLOCKS));
	take_hugepages(16 << 10);
}

FIXTURE_TEARDOWN(layout)
{
	close_pipes(&pipes);
	put_blocks(&self->blocks);
	restore();
}

/*
 * Less than half of each block is free: unmovable requests take these pages,
 * and the block stays movable.
 */
TEST_F_TIMEOUT(layout, partial_steal, 300)
{
	struct blocks *b = &self->blocks;
	long long worst = 0;
	unsigned int i, parts = 0;

	if (missing())
		SKIP(return, "%s", missing());
	ASSERT_EQ(0, split_blocks(b));
	for (i = 0; i < b->nr; i++)
		ASSERT_EQ(0, drop(block(b, i) + BLOCK_SIZE / 2, 192 * 4096));
	drain_cpus();
	judge(_metadata, &before, "before");

	/* No multiple of what a block has, so that some is left of the last. */
	while (fillable() > 501) {
		if (fill_pipes(&pipes, 501) < 501)
			break;
		ASSERT_EQ(0, verify_free_lists(&after));
		if (after.type > before.type)
			parts++;
		if (after.misplaced > worst)
			worst = after.misplaced;
	}
	TH_LOG("%lld unmovable pages, at most %lld misplaced", pipes.pages,
	       worst);
	ASSERT_LT(NR_BLOCKS * 192 / 2, pipes.pages);
	EXPECT_EQ(0, parts);
	judge(_metadata, &after, "after");
}

/*
 * One page of each block waits on a CPU's list while an unmovable request takes
 * the block as a whole.
 */
TEST_F_TIMEOUT(layout, cpu_list, 300)
{
	struct blocks *b = &self->blocks;
	unsigned int i, nr = b->nr - 6;
	long long claimed;

	if (missing())
		SKIP(return, "%s", missing());
	ASSERT_EQ(0, split_blocks(b));
	for (i = 0; i < nr; i++)
		ASSERT_EQ(0, drop(block(b, i) + 4096, BLOCK_SIZE - 4096));
	drain_cpus();
	judge(_metadata, &before, "before");

	claimed = blocks_of("Unmovable");
	for (i = 0; i < nr; i++)
		ASSERT_EQ(0, drop(block(b, i), 4096));
	fill_memory(&pipes);
	claimed = blocks_of("Unmovable") - claimed;
	TH_LOG("%lld unmovable pages, %lld blocks claimed", pipes.pages,
	       claimed);
	ASSERT_LT(NR_BLOCKS / 4, claimed);
	push_out(b, nr);
	judge(_metadata, &after, "after");
	EXPECT_GE(before.type, after.type);
}

/*
 * A block that was claimed for unmovable pages becomes wholly free beside one
 * that is free and movable.
 */
TEST_F_TIMEOUT(layout, straddling_merge, 300)
{
	static unsigned long long first[NR_BLOCKS];
	int pairs;

	if (missing())
		SKIP(return, "%s", missing());
	judge(_metadata, &before, "before");
	pairs = claim_beside_free(&self->blocks, &pipes, first);
	TH_LOG("%d pairs of blocks", pairs);
	ASSERT_LT(NR_BLOCKS / 6, pairs);
	judge(_metadata, &after, "after");
	EXPECT_GE(before.straddle, after.straddle);
}

/* A free page is poisoned, and comes back, of which the same holds. */
TEST_F_TIMEOUT(layout, hwpoison, 300)
{
	static unsigned long long first[NR_BLOCKS];
	int pairs, i, taken = 0, back = 0;

	if (missing())
		SKIP(return, "%s", missing());
	if (access(HWPOISON "corrupt-pfn", W_OK))
		SKIP(return, "needs CONFIG_MEMORY_FAILURE and CONFIG_HWPOISON_INJECT");
	judge(_metadata, &before, "before");
	pairs = claim_beside_free(&self->blocks, &pipes, first);
	ASSERT_LT(NR_BLOCKS / 6, pairs);
	judge(_metadata, &after, "laid out");
	/* A page of the second block. */
	for (i = 0; i < pairs; i++)
		if (!put(HWPOISON "corrupt-pfn", "0x%llx",
			 first[i] + BLOCK_PAGES + 100))
			taken++;
	judge(_metadata, &after, "poisoned");
	EXPECT_GE(before.type, after.type);
	for (i = 0; i < pairs; i++)
		if (!put(HWPOISON "unpoison-pfn", "0x%llx",
			 first[i] + BLOCK_PAGES + 100))
			back++;
	TH_LOG("%d pages poisoned, %d unpoisoned", taken, back);
	EXPECT_LT(0, taken);
	EXPECT_EQ(taken, back);
	judge(_metadata, &after, "unpoisoned");
	EXPECT_GE(before.type, after.type);
}

/*
 * Half of an unmovable block is taken to be reported to the host, while there
 * are free pages in its other half.
 */
TEST_F_TIMEOUT(layout, reporting, 300)
{
	struct blocks *b = &self->blocks;
	long long seen = reports(), now;
	unsigned int i, j;

	if (missing())
		SKIP(return, "%s", missing());
	if (seen < 0)
		SKIP(return, "needs a virtio balloon with free page reporting");
	ASSERT_EQ(0, split_blocks(b));
	for (i = 0; i < b->nr; i++) {
		for (j = 0; j < BLOCK_PAGES / 2; j += 16)
			drop(block(b, i) + (j + 1) * 4096, 15 * 4096);
		drop(block(b, i) + BLOCK_SIZE / 2, BLOCK_SIZE / 2);
	}
	drain_cpus();
	fill_memory(&pipes);
	close_pipes(&pipes);
	drain_cpus();
	judge(_metadata, &before, "before");

	/* Reports start when a page of that order is freed, 2 s later. */
	put(REPORTING_ORDER, "8");
	put(NR_HUGEPAGES, "0");
	push_out(b, b->nr - 1);
	for (i = 0; i < 30; i++) {
		usleep(200000);
		now = reports();
		ASSERT_EQ(0, verify_free_lists(&after));
		if (now > seen && after.type > before.type)
			break;
	}
	judge(_metadata, &after, "after");
	TH_LOG("%lld interrupts of the balloon", now - seen);
	ASSERT_LT(seen, now);
	EXPECT_GE(before.type, after.type);
}

TEST_HARNESS_MAIN
