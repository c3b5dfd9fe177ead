// SPDX-License-Identifier: GPL-2.0
/*
 * Free pages and the free lists of their pageblocks' types while blocks are
 * reserved for high-order atomic requests and given up again, and while the
 * watermarks are written that drive it.
 */
#include "free_list_load.h"

#define NR_BLOCKS	60
#define NR_WAITING	3
#define NR_WRITES	10

static struct verdict before, after;
static struct pipes pipes;
static struct ptys ptys;

FIXTURE(reserve) {
	struct blocks blocks;
};

FIXTURE_SETUP(reserve)
{
	if (missing())
		return;
	stay_on_cpu(0);
	quiet();
}

FIXTURE_TEARDOWN(reserve)
{
	above_low_watermark();
	close_pipes(&pipes);
	close_ptys(&ptys);
	put_blocks(&self->blocks);
	restore();
}

static char *waiting(struct blocks *b, unsigned int i, unsigned int j)
{
	return block(b, i) + j * 8192;
}

/*
 * Free memory is blocks of which a few pages are in use and movable, NR_WAITING
 * of them to be freed to this CPU's list. Returns how many such blocks.
 */
static unsigned int lay_out(struct __test_metadata *_metadata, struct blocks *b)
{
	unsigned int i, j, nr;

	ASSERT_LT(NR_BLOCKS / 2, get_blocks(b, NR_BLOCKS));
	nr = b->nr - 6;
	take_hugepages(16 << 10);
	/* What a first pty needs besides. */
	fill_ptys(&ptys, 1);
	fill_memory(&pipes);
	ASSERT_EQ(0, split_blocks(b));
	for (i = 0; i < nr; i++) {
		for (j = 0; j < NR_WAITING; j++)
			drop(waiting(b, i, j) + 4096, 4096);
		drop(waiting(b, i, j), BLOCK_SIZE - NR_WAITING * 8192);
	}
	drain_cpus();
	judge(_metadata, &before, "before");
	for (i = 0; i < nr; i++)
		for (j = 0; j < NR_WAITING; j++)
			drop(waiting(b, i, j), 4096);
	return nr;
}

/*
 * What made the checks of 2014 fire: min_free_kbytes is written while pages
 * wait on CPUs' lists. Then the write itself retyped blocks; now it moves the
 * watermarks, below which blocks are reserved.
 */
TEST_F_TIMEOUT(reserve, min_free_kbytes, 300)
{
	unsigned int nr, n;

	if (missing())
		SKIP(return, "%s", missing());
	nr = lay_out(_metadata, &self->blocks);
	put(VM "lowmem_reserve_ratio", "1");
	for (n = 0; n < NR_WRITES; n++) {
		/* The next watermark is a quarter above the lowest. */
		ASSERT_EQ(0, put(VM "min_free_kbytes", "%lld",
				 free_kb() * 88 / 100));
		fill_ptys(&ptys, 4);
		ASSERT_EQ(0, put(VM "min_free_kbytes", "4096"));
	}
	TH_LOG("%u writes, %lld blocks reserved", 2 * n,
	       blocks_of("HighAtomic"));
	ASSERT_LT(0, blocks_of("HighAtomic"));
	push_out(&self->blocks, nr);
	judge(_metadata, &after, "after");
	EXPECT_GE(before.type, after.type);
}

/*
 * What is accounted as reserved is the blocks of that type, also when a block
 * is given up because a huge page found none.
 */
TEST_F_TIMEOUT(reserve, accounting, 300)
{
	struct blocks *b = &self->blocks;
	long long reserved, left;
	unsigned int tries;

	if (missing())
		SKIP(return, "%s", missing());
	if (reserved_kb() < 0)
		SKIP(return, "needs sysrq");
	ASSERT_LT(0, get_blocks(b, NR_BLOCKS));
	take_hugepages(150 << 10);
	judge(_metadata, &before, "before");
	below_low_watermark();
	fill_ptys(&ptys, 300);
	reserved = blocks_of("HighAtomic");
	ASSERT_LT(0, reserved);
	EXPECT_EQ(reserved * 2048, reserved_kb());

	close_ptys(&ptys);
	above_low_watermark();
	left = reserved;
	for (tries = 0; tries < 20 && left >= reserved; tries++) {
		/* Reclaim makes progress without swap, and finds no block. */
		memset(b->map, 1, 8 * BLOCK_SIZE);
		madvise(b->map, b->nr * BLOCK_SIZE, MADV_FREE);
		take_hugepages(0);
		left = blocks_of("HighAtomic");
	}
	TH_LOG("%lld blocks reserved, %lld left", reserved, left);
	EXPECT_EQ(left * 2048, reserved_kb());
	EXPECT_LT(left, reserved);
	put(NR_HUGEPAGES, "0");
	judge(_metadata, &after, "after");
}

TEST_HARNESS_MAIN
