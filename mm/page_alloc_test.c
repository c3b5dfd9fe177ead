// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of where free pages are, built into page_alloc.c.
 *
 * Each takes an aligned piece of 1 << (MAX_ORDER - 1) pages away from the
 * allocator, so that it may set the types of its blocks, brings it to the state
 * that the test is about, and looks which list each of its free pages is on.
 * Others may allocate what a test has freed: it tries again until it saw it.
 *
 * See Documentation/mm/free_list_types.rst.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/kthread.h>

#define PIECE_ORDER	(MAX_ORDER - 1)
#define PIECE_PAGES	MAX_ORDER_NR_PAGES
#define TRIES		20

/* The list a buddy is really on; -1 when it is on none. */
static int list_of(struct zone *zone, struct page *page, unsigned int order)
{
	struct list_head *pos;
	int type;

	lockdep_assert_held(&zone->lock);
	for (type = 0; type < MIGRATE_TYPES; type++)
		list_for_each(pos, &zone->free_area[order].free_list[type])
			if (pos == &page->buddy_list)
				return type;
	return -1;
}

static bool all_of_type(struct page *page, unsigned int order, int type)
{
	unsigned long at;

	for (at = 0; at < 1UL << order; at += pageblock_nr_pages)
		if (get_pageblock_migratetype(page + at) != type)
			return false;
	return true;
}

/**
 * struct seen - the free pages of a range, under one hold of zone->lock
 * @free: how many there are
 * @misplaced: of these, in blocks of another type than their list's
 * @longest: order of the longest buddy
 */
struct seen {
	unsigned long free;
	unsigned long misplaced;
	int longest;
};

static void look_locked(struct zone *zone, struct page *page,
			unsigned long nr_pages, struct seen *seen)
{
	unsigned long i = 0;

	*seen = (struct seen){ .longest = -1 };
	while (i < nr_pages) {
		unsigned int order;
		int type;

		if (!PageBuddy(page + i)) {
			i++;
			continue;
		}
		order = buddy_order(page + i);
		type = list_of(zone, page + i, order);
		seen->free += 1UL << order;
		seen->longest = max_t(int, seen->longest, order);
		if (!all_of_type(page + i, order, type))
			seen->misplaced += 1UL << order;
		i += 1UL << order;
	}
}

static void look(struct page *page, unsigned long nr_pages, struct seen *seen)
{
	struct zone *zone = page_zone(page);
	unsigned long flags;

	spin_lock_irqsave(&zone->lock, flags);
	look_locked(zone, page, nr_pages, seen);
	spin_unlock_irqrestore(&zone->lock, flags);
}

static void set_types(struct page *page, int migratetype)
{
	unsigned long i;

	for (i = 0; i < PIECE_PAGES; i += pageblock_nr_pages)
		set_pageblock_migratetype(page + i, migratetype);
}

/* A piece in order-0 pages, all blocks of one type */
static struct page *take_piece(struct kunit *test, int migratetype)
{
	struct page *page;

	page = alloc_pages(GFP_KERNEL | __GFP_NOWARN, PIECE_ORDER);
	KUNIT_ASSERT_NOT_NULL(test, page);
	split_page(page, PIECE_ORDER);
	set_types(page, migratetype);
	return page;
}

static void free_some(struct page *page, unsigned long nr_pages)
{
	struct zone *zone = page_zone(page);
	unsigned long i;

	for (i = 0; i < nr_pages; i++)
		__free_page(page + i);
	drain_all_pages(zone);
}

static void more_than_one_block(struct kunit *test)
{
	if (pageblock_order == PIECE_ORDER)
		kunit_skip(test, "a pageblock is the largest free page here");
}

/* What is freed is where it belongs. */
static void free_whole_piece(struct kunit *test)
{
	struct seen seen = {};
	int try;

	for (try = 0; try < TRIES && seen.free < PIECE_PAGES; try++) {
		struct page *page = take_piece(test, MIGRATE_MOVABLE);

		free_some(page, PIECE_PAGES);
		look(page, PIECE_PAGES, &seen);
	}
	KUNIT_EXPECT_EQ(test, seen.free, PIECE_PAGES);
	KUNIT_EXPECT_EQ(test, seen.longest, PIECE_ORDER);
	KUNIT_EXPECT_EQ(test, seen.misplaced, 0UL);
}

/* A block changes its type while pages of it are on a pcp list. */
static void free_after_retype(struct kunit *test)
{
	struct seen seen = {};
	int try;

	for (try = 0; try < TRIES && !seen.free; try++) {
		struct page *page = take_piece(test, MIGRATE_MOVABLE);
		struct zone *zone = page_zone(page);

		/* Not all, so that nothing of the block is on a free list. */
		__free_page(page);
		__free_page(page + 1);
		set_types(page, MIGRATE_UNMOVABLE);
		drain_all_pages(zone);
		look(page, 2, &seen);
		free_some(page + 2, PIECE_PAGES - 2);
	}
	KUNIT_EXPECT_GT(test, seen.free, 0UL);
	KUNIT_EXPECT_EQ(test, seen.misplaced, 0UL);
}

#ifdef CONFIG_CONTIG_ALLOC
#define CUT_ORDER	(pageblock_order - 1)
#define CUTS_KEPT	128

/* NR_FREE_PAGES less what is on the lists that it counts, in pages */
static long drift(struct zone *zone)
{
	struct list_head *pos;
	unsigned int order;
	unsigned long flags;
	long pages = 0;
	int type;

	spin_lock_irqsave(&zone->lock, flags);
	for_each_migratetype_order(order, type)
		if (!is_migrate_isolate(type))
			list_for_each(pos, &zone->free_area[order].free_list[type])
				pages += 1L << order;
	pages = (long)zone_page_state_snapshot(zone, NR_FREE_PAGES) - pages;
	spin_unlock_irqrestore(&zone->lock, flags);
	return pages;
}

/* What is allocated next is cut from the piece. True when it is wholly free. */
static bool put_first(struct page *page)
{
	struct zone *zone = page_zone(page);
	unsigned long flags;
	bool whole;

	spin_lock_irqsave(&zone->lock, flags);
	whole = PageBuddy(page) && buddy_order(page) == PIECE_ORDER &&
		list_of(zone, page, PIECE_ORDER) == MIGRATE_MOVABLE;
	if (whole)
		list_move(&page->buddy_list,
			  &zone->free_area[PIECE_ORDER].free_list[MIGRATE_MOVABLE]);
	spin_unlock_irqrestore(&zone->lock, flags);
	return whole;
}

struct cutter {
	struct page *page;
	unsigned long cuts;
};

/* Allocate parts of the piece; keep what else there is of that size. */
static int cutter(void *data)
{
	struct cutter *c = data;
	struct page *page, *next;
	LIST_HEAD(kept);
	int nr = 0;

	while (!kthread_should_stop()) {
		page = alloc_pages(GFP_HIGHUSER_MOVABLE | __GFP_NORETRY |
				   __GFP_NOWARN, CUT_ORDER);
		if (page && nr < CUTS_KEPT &&
		    (page < c->page || page >= c->page + PIECE_PAGES)) {
			list_add(&page->lru, &kept);
			nr++;
		} else if (page) {
			c->cuts++;
			__free_pages(page, CUT_ORDER);
		}
		cond_resched();
	}
	list_for_each_entry_safe(page, next, &kept, lru)
		__free_pages(page, CUT_ORDER);
	return 0;
}

/* The second block of a free page is isolated while it is cut elsewhere. */
static void isolate_while_allocating(struct kunit *test)
{
	unsigned long pfn, end_pfn, end;
	struct task_struct *task;
	struct cutter c = {};
	struct zone *zone;
	long before, after;
	int isolated = 0;

	more_than_one_block(test);
	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU to allocate on");
	c.page = take_piece(test, MIGRATE_MOVABLE);
	zone = page_zone(c.page);
	pfn = page_to_pfn(c.page) + pageblock_nr_pages;
	end_pfn = pfn + pageblock_nr_pages;
	free_some(c.page, PIECE_PAGES);
	before = drift(zone);
	task = kthread_run(cutter, &c, "page_alloc_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	for (end = jiffies + 2 * HZ; time_before(jiffies, end); cond_resched()) {
		if (!put_first(c.page) ||
		    start_isolate_page_range(pfn, end_pfn, MIGRATE_MOVABLE, 0,
					     GFP_KERNEL))
			continue;
		isolated++;
		undo_isolate_page_range(pfn, end_pfn);
	}
	kthread_stop(task);
	drain_all_pages(zone);
	after = drift(zone);
	kunit_info(test, "isolated %d times, cut %lu times, drift %ld pages\n",
		   isolated, c.cuts, after - before);
	KUNIT_EXPECT_GT(test, isolated, 0);
	KUNIT_EXPECT_GT(test, c.cuts, 0UL);
	KUNIT_EXPECT_EQ(test, after, before);
}
#endif

/* Two free blocks of different types that may merge */
static void merge_of_types(struct kunit *test)
{
	struct seen seen = {};
	int try;

	more_than_one_block(test);
	for (try = 0; try < TRIES && seen.free < PIECE_PAGES; try++) {
		struct page *page = take_piece(test, MIGRATE_MOVABLE);

		set_pageblock_migratetype(page, MIGRATE_UNMOVABLE);
		free_some(page, PIECE_PAGES);
		look(page, PIECE_PAGES, &seen);
	}
	KUNIT_EXPECT_EQ(test, seen.free, PIECE_PAGES);
	KUNIT_EXPECT_EQ(test, seen.longest, PIECE_ORDER);
	KUNIT_EXPECT_EQ(test, seen.misplaced, 0UL);
}

/* Give back what a test reserved, a block a call. */
static bool unreserve_one(struct page *page)
{
	const struct alloc_context ac = {
		.zonelist = node_zonelist(page_to_nid(page), GFP_KERNEL),
		.highest_zoneidx = gfp_zone(GFP_KERNEL),
		.migratetype = MIGRATE_MOVABLE,
	};

	return unreserve_highatomic_pageblock(&ac, true);
}

static void unreserve_to(struct page *page, unsigned long nr_pages)
{
	int try;

	for (try = 0; try < TRIES; try++)
		if (page_zone(page)->nr_reserved_highatomic <= nr_pages ||
		    !unreserve_one(page))
			break;
}

/* A page of several blocks is freed whose types may not merge. */
static void free_of_types(struct kunit *test)
{
	struct seen seen = {};
	int try;

	more_than_one_block(test);
	for (try = 0; try < TRIES && seen.free < PIECE_PAGES; try++) {
		struct page *page = alloc_pages(GFP_KERNEL | __GFP_NOWARN,
						PIECE_ORDER);
		unsigned long reserved;

		KUNIT_ASSERT_NOT_NULL(test, page);
		set_types(page, MIGRATE_MOVABLE);
		reserved = page_zone(page)->nr_reserved_highatomic;
		reserve_highatomic_pageblock(page, page_zone(page), PIECE_ORDER);
		KUNIT_EXPECT_EQ(test, (int)get_pageblock_migratetype(page),
				(int)MIGRATE_HIGHATOMIC);

		__free_pages(page, PIECE_ORDER);
		look(page, PIECE_PAGES, &seen);
		unreserve_to(page, reserved);
	}
	KUNIT_EXPECT_EQ(test, seen.free, PIECE_PAGES);
	KUNIT_EXPECT_EQ(test, seen.misplaced, 0UL);
}

/* One of two reserved blocks that are one free page goes back. */
static void unreserve_one_of_two(struct kunit *test)
{
	struct seen seen = {}, after = {};
	int try;

	more_than_one_block(test);
	for (try = 0; try < TRIES && seen.longest < PIECE_ORDER; try++) {
		struct page *page = take_piece(test, MIGRATE_MOVABLE);
		struct zone *zone = page_zone(page);
		unsigned long reserved = zone->nr_reserved_highatomic;
		unsigned long i;

		for (i = 0; i < PIECE_PAGES; i += pageblock_nr_pages)
			reserve_highatomic_pageblock(page + i, zone, 1);
		KUNIT_EXPECT_EQ(test, zone->nr_reserved_highatomic,
				reserved + PIECE_PAGES);
		free_some(page, PIECE_PAGES);
		look(page, PIECE_PAGES, &seen);
		KUNIT_EXPECT_EQ(test, seen.misplaced, 0UL);

		KUNIT_EXPECT_TRUE(test, unreserve_one(page));
		look(page, PIECE_PAGES, &after);
		KUNIT_EXPECT_EQ(test, zone->nr_reserved_highatomic,
				reserved + PIECE_PAGES - pageblock_nr_pages);
		unreserve_to(page, reserved);
	}
	KUNIT_EXPECT_EQ(test, seen.longest, PIECE_ORDER);
	KUNIT_EXPECT_GT(test, after.free, 0UL);
	KUNIT_EXPECT_EQ(test, after.misplaced, 0UL);
}

/* Where zones meet within a block, neither may change its type. */
static void block_of_two_zones(struct kunit *test)
{
	struct page *page = take_piece(test, MIGRATE_MOVABLE);
	unsigned long start, end, first = page_to_pfn(page);
	struct zone *zone = page_zone(page);
	struct zone *part = kunit_kzalloc(test, sizeof(*part), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, part);
	KUNIT_EXPECT_TRUE(test, block_range(zone, page + 1, &start, &end));
	KUNIT_EXPECT_EQ(test, start, first);
	KUNIT_EXPECT_EQ(test, end, first + pageblock_nr_pages);

	part->zone_start_pfn = first + 1;
	part->spanned_pages = PIECE_PAGES;
	KUNIT_EXPECT_FALSE(test, block_range(part, page + 1, &start, &end));
	part->zone_start_pfn = first;
	part->spanned_pages = 2;
	KUNIT_EXPECT_FALSE(test, block_range(part, page + 1, &start, &end));
	free_some(page, PIECE_PAGES);
}

/* Half of a block is taken off the lists, and the block becomes movable. */
static void isolate_half_a_block(struct kunit *test)
{
	const unsigned long half = pageblock_nr_pages / 2;
	const unsigned int order = pageblock_order - 1;
	unsigned long isolated = 0;
	struct seen seen = {};
	int try;

	for (try = 0; try < TRIES && !seen.free; try++) {
		struct page *page = take_piece(test, MIGRATE_UNMOVABLE);
		struct zone *zone = page_zone(page);
		unsigned long flags;

		free_some(page, half);
		free_some(page + half, half / 2);
		spin_lock_irqsave(&zone->lock, flags);
		if (PageBuddy(page) && buddy_order(page) == order)
			isolated = __isolate_free_page(page, order);
		if (isolated) {
			look_locked(zone, page + half, half, &seen);
			__putback_isolated_page(page, order);
			isolated = 0;
		}
		spin_unlock_irqrestore(&zone->lock, flags);
		free_some(page + half + half / 2, PIECE_PAGES - half - half / 2);
	}
	KUNIT_EXPECT_GT(test, seen.free, 0UL);
	KUNIT_EXPECT_EQ(test, seen.misplaced, 0UL);
}

#ifdef CONFIG_CONTIG_ALLOC
struct watch {
	struct page *page;
	unsigned long looks, misplaced, free_pages;
};

static int watcher(void *data)
{
	struct watch *w = data;
	struct seen seen;

	while (!kthread_should_stop()) {
		look(w->page, PIECE_PAGES, &seen);
		w->looks++;
		w->free_pages += seen.free;
		w->misplaced += seen.misplaced;
		cond_resched();
	}
	return 0;
}

/* The second block of a free page is isolated: at no moment is it misplaced. */
static void isolate_part_of_a_page(struct kunit *test)
{
	struct task_struct *task;
	struct watch w = {};
	unsigned long pfn, end;
	int i, isolated = 0;

	more_than_one_block(test);
	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU to watch from");
	w.page = take_piece(test, MIGRATE_MOVABLE);
	pfn = page_to_pfn(w.page) + pageblock_nr_pages;
	end = pfn + pageblock_nr_pages;
	free_some(w.page, PIECE_PAGES);
	task = kthread_run(watcher, &w, "page_alloc_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	for (i = 0; i < 400 || (w.looks < 100 && i < 100000); i++) {
		if (start_isolate_page_range(pfn, end, MIGRATE_MOVABLE, 0,
					     GFP_KERNEL))
			continue;
		isolated++;
		undo_isolate_page_range(pfn, end);
	}
	kthread_stop(task);
	KUNIT_EXPECT_GT(test, isolated, 0);
	KUNIT_EXPECT_GE(test, w.looks, 100UL);
	KUNIT_EXPECT_GT(test, w.free_pages, 0UL);
	KUNIT_EXPECT_EQ(test, w.misplaced, 0UL);
}

/* Who fails to isolate a block leaves it isolated for whom it is. */
static void isolate_what_is_isolated(struct kunit *test)
{
	struct page *page, *last;
	unsigned long pfn, end;

	more_than_one_block(test);
	page = take_piece(test, MIGRATE_MOVABLE);
	pfn = page_to_pfn(page);
	end = pfn + PIECE_PAGES;
	last = page + PIECE_PAGES - pageblock_nr_pages;
	free_some(page, PIECE_PAGES);
	KUNIT_ASSERT_EQ(test, 0,
			start_isolate_page_range(end - pageblock_nr_pages, end,
						 MIGRATE_MOVABLE, 0, GFP_KERNEL));
	KUNIT_EXPECT_NE(test, 0, alloc_contig_range(pfn, end, MIGRATE_MOVABLE,
						    GFP_KERNEL));
	KUNIT_EXPECT_TRUE(test, is_migrate_isolate_page(last));
	undo_isolate_page_range(end - pageblock_nr_pages, end);
	KUNIT_EXPECT_FALSE(test, is_migrate_isolate_page(last));
}

/* A block that was isolated comes back as the type it had. */
static void isolate_keeps_the_type(struct kunit *test)
{
	int try, ret = -EBUSY, type = -1;
	struct seen seen = {};

	for (try = 0; try < TRIES && ret; try++) {
		struct page *page = take_piece(test, MIGRATE_RECLAIMABLE);
		unsigned long pfn = page_to_pfn(page);

		free_some(page, PIECE_PAGES);
		ret = alloc_contig_range(pfn, pfn + pageblock_nr_pages,
					 MIGRATE_MOVABLE, GFP_KERNEL);
		if (ret)
			continue;
		type = get_pageblock_migratetype(page);
		free_contig_range(pfn, pageblock_nr_pages);
		drain_all_pages(page_zone(page));
		look(page, PIECE_PAGES, &seen);
	}
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_EQ(test, type, (int)MIGRATE_RECLAIMABLE);
	KUNIT_EXPECT_EQ(test, seen.misplaced, 0UL);
}

/* A reserved block that is isolated and comes back counts as before. */
static void isolate_what_is_reserved(struct kunit *test)
{
	unsigned long during = 0, after = 0, reserved = 0;
	int try, ret = -EBUSY, type = -1;

	for (try = 0; try < TRIES && ret; try++) {
		struct page *page = take_piece(test, MIGRATE_MOVABLE);
		struct zone *zone = page_zone(page);
		unsigned long pfn = page_to_pfn(page);

		reserved = zone->nr_reserved_highatomic;
		reserve_highatomic_pageblock(page, zone, 1);
		free_some(page, PIECE_PAGES);
		ret = start_isolate_page_range(pfn, pfn + pageblock_nr_pages,
					       MIGRATE_MOVABLE, 0, GFP_KERNEL);
		during = zone->nr_reserved_highatomic;
		if (!ret)
			undo_isolate_page_range(pfn, pfn + pageblock_nr_pages);
		type = get_pageblock_migratetype(page);
		after = zone->nr_reserved_highatomic;
		unreserve_to(page, reserved);
	}
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_EQ(test, during, reserved);
	KUNIT_EXPECT_EQ(test, after, reserved + pageblock_nr_pages);
	KUNIT_EXPECT_EQ(test, type, (int)MIGRATE_HIGHATOMIC);
}
#endif

/* What the DEBUG_VM checks of the free lists ask */
static void mismatch_is_seen(struct kunit *test)
{
	struct page *page = take_piece(test, MIGRATE_MOVABLE), *last;

	last = page + PIECE_PAGES - pageblock_nr_pages;
	KUNIT_EXPECT_NULL(test, block_of_other_type(page, PIECE_ORDER,
						    MIGRATE_MOVABLE));
	KUNIT_EXPECT_PTR_EQ(test, page, block_of_other_type(page, 0,
							    MIGRATE_UNMOVABLE));
	set_pageblock_migratetype(last, MIGRATE_UNMOVABLE);
	KUNIT_EXPECT_PTR_EQ(test, last, block_of_other_type(page, PIECE_ORDER,
							    last == page ?
							    MIGRATE_RECLAIMABLE :
							    MIGRATE_MOVABLE));
	free_some(page, PIECE_PAGES);
}

#if defined(CONFIG_MEMORY_FAILURE) && defined(CONFIG_MEMORY_HOTPLUG)
static int unpoisoner(void *pfn)
{
	return unpoison_memory((unsigned long)pfn);
}

/* A poisoned page is not freed while its memory is going offline. */
static void unpoison_offline(struct kunit *test)
{
	struct page *page = alloc_page(GFP_KERNEL);
	unsigned long pfn, start, end;
	struct task_struct *task;
	bool freed;

	KUNIT_ASSERT_NOT_NULL(test, page);
	pfn = page_to_pfn(page);
	start = SECTION_ALIGN_DOWN(pfn);
	end = start + PAGES_PER_SECTION;
	task = kthread_create(unpoisoner, (void *)pfn, "page_alloc_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	SetPageHWPoison(page);

	mem_hotplug_begin();
	wake_up_process(task);
	msleep(100);
	freed = !PageHWPoison(page);
	offline_mem_sections(start, end);
	mem_hotplug_done();
	/* -EIO means that it looked after that. */
	KUNIT_EXPECT_EQ(test, kthread_stop(task), -EIO);
	online_mem_sections(start, end);
	put_task_struct(task);

	KUNIT_EXPECT_FALSE(test, freed);
	if (TestClearPageHWPoison(page))
		__free_page(page);
}
#endif

static struct kunit_case page_alloc_test_cases[] = {
	KUNIT_CASE(free_whole_piece),
	KUNIT_CASE(free_after_retype),
#ifdef CONFIG_CONTIG_ALLOC
	KUNIT_CASE(isolate_while_allocating),
#endif
	KUNIT_CASE(merge_of_types),
	KUNIT_CASE(free_of_types),
	KUNIT_CASE(unreserve_one_of_two),
	KUNIT_CASE(block_of_two_zones),
	KUNIT_CASE(isolate_half_a_block),
#ifdef CONFIG_CONTIG_ALLOC
	KUNIT_CASE(isolate_part_of_a_page),
	KUNIT_CASE(isolate_what_is_isolated),
	KUNIT_CASE(isolate_keeps_the_type),
	KUNIT_CASE(isolate_what_is_reserved),
#endif
	KUNIT_CASE(mismatch_is_seen),
#if defined(CONFIG_MEMORY_FAILURE) && defined(CONFIG_MEMORY_HOTPLUG)
	KUNIT_CASE(unpoison_offline),
#endif
	{}
};

static struct kunit_suite page_alloc_test_suite = {
	.name = "page_alloc_test",
	.test_cases = page_alloc_test_cases,
};

kunit_test_suite(page_alloc_test_suite);
