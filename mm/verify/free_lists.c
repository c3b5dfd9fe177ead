// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of the buddy allocator's free lists.
 *
 * Two passes over each zone, both under zone->lock, which pins every field
 * that is compared: the lists, PageBuddy, the order in page_private, nr_free,
 * and the type of a block as far as its free pages are concerned.
 *
 *  walk: every entry of every free list against its own page and pageblock,
 *	and the sums against nr_free, NR_FREE_PAGES and NR_FREE_CMA_PAGES.
 *  scan: every page of the zone by pfn, for free pages that no list leads to.
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/page-isolation.h>

#include "../internal.h"
#include "free_lists.h"

/* A difference of counters has to stand for so many walks; see fl_counts(). */
#define FL_WALKS	3

static const char * const free_lists_findings[FL_NR_FINDINGS] = {
	[FL_TYPE]		= "type",
	[FL_STRADDLE]		= "straddle",
	[FL_ORDER]		= "order",
	[FL_ALIGN]		= "align",
	[FL_BUDDY]		= "buddy",
	[FL_ZONE]		= "zone",
	[FL_LINKS]		= "links",
	[FL_OVERLAP]		= "overlap",
	[FL_NR_FREE]		= "nr_free",
	[FL_NR_FREE_PAGES]	= "nr_free_pages",
	[FL_NR_FREE_CMA]	= "nr_free_cma",
	[FL_ISOLATED]		= "isolated",
};

enum free_lists_figure {
	FL_FREE_PAGES,		/* pages on all free lists */
	FL_ISOLATED_PAGES,	/* of these, on MIGRATE_ISOLATE lists */
	FL_MISPLACED_PAGES,	/* pages behind type and straddle */
	FL_DRIFT_PAGES,		/* sum over zones of |NR_FREE_PAGES - lists| */
	FL_UNCOUNTED,		/* zones too long for one hold: sums not compared */
	FL_NR_FIGURES,
};

static const char * const free_lists_figures[FL_NR_FIGURES] = {
	[FL_FREE_PAGES]		= "free_pages",
	[FL_ISOLATED_PAGES]	= "isolated_pages",
	[FL_MISPLACED_PAGES]	= "misplaced_pages",
	[FL_DRIFT_PAGES]	= "drift_pages",
	[FL_UNCOUNTED]		= "uncounted_zones",
};

/**
 * struct fl_tally - sums of one walk over one zone
 * @run: where findings go
 * @quiet: a walk repeated for its sums: pages were judged by the first
 * @zone: the zone
 * @pages: pages on the lists of each type
 * @free: what the counters say less what the lists hold
 * @cma: likewise for the CMA lists
 * @isolated: likewise for isolated pageblocks
 */
struct fl_tally {
	struct mm_verify_run *run;
	bool quiet;
	struct zone *zone;
	unsigned long pages[MIGRATE_TYPES];
	long free;
	long cma;
	long isolated;
};

static const char *fl_type_name(int type)
{
	return type >= 0 && type < MIGRATE_TYPES ? migratetype_names[type] :
						   "none";
}

/* A finding about one page. The page is described now, and printed later. */
static void fl_page_found(struct fl_tally *t, unsigned int finding,
			  struct page *page, unsigned int order, int list_type,
			  struct page *block)
{
	if (t->quiet)
		return;
	mm_verify_found(t->run, finding, page,
			"node %d zone %s: pfn %#lx on list order %u type %s, block pfn %#lx type %s\n"
			"page:%px flags:%pGp refcount:%d mapcount:%d private:%lx mapping:%px index:%lx\n"
			"list next:%px prev:%px",
			zone_to_nid(t->zone), t->zone->name, page_to_pfn(page),
			order, fl_type_name(list_type), page_to_pfn(block),
			fl_type_name(get_pageblock_migratetype(block)),
			page, &page->flags, page_ref_count(page),
			atomic_read(&page->_mapcount), page_private(page),
			page->mapping, page->index,
			page->buddy_list.next, page->buddy_list.prev);
}

static void fl_misplaced(struct fl_tally *t, unsigned long pages)
{
	if (!t->quiet)
		t->run->figures[FL_MISPLACED_PAGES] += pages;
}

/* One entry of a free list against its page and the blocks it covers. */
static void fl_check_entry(struct fl_tally *t, struct page *page,
			   unsigned int order, int type)
{
	unsigned long pfn = page_to_pfn(page), size = 1UL << order, part;
	bool straddle = false;

	if (!pfn_valid(pfn) || page_zonenum(page) != zone_idx(t->zone) ||
	    page_to_nid(page) != zone_to_nid(t->zone) ||
	    !zone_spans_pfn(t->zone, pfn)) {
		/* Its pageblock is not this zone's to judge. */
		fl_page_found(t, FL_ZONE, page, order, type, page);
		return;
	}

	if (!PageBuddy(page))
		fl_page_found(t, FL_BUDDY, page, order, type, page);
	else if (buddy_order(page) != order)
		fl_page_found(t, FL_ORDER, page, order, type, page);
	if (!IS_ALIGNED(pfn, size))
		fl_page_found(t, FL_ALIGN, page, order, type, page);

	if (get_pageblock_migratetype(page) != type) {
		fl_page_found(t, FL_TYPE, page, order, type, page);
		fl_misplaced(t, min(size, pageblock_nr_pages));
	}
	for (part = pageblock_nr_pages; part < size;
	     part += pageblock_nr_pages) {
		if (get_pageblock_migratetype(page + part) == type)
			continue;
		if (!straddle)
			fl_page_found(t, FL_STRADDLE, page, order, type,
				      page + part);
		straddle = true;
		fl_misplaced(t, pageblock_nr_pages);
	}
}

/* All lists of one order, at most max entries of each. */
static void fl_walk_order(struct fl_tally *t, unsigned int order,
			  unsigned long max)
{
	struct free_area *area = &t->zone->free_area[order];
	unsigned long entries = 0, n;
	bool whole = true;
	struct list_head *pos;
	int type;

	for (type = 0; type < MIGRATE_TYPES; type++) {
		n = 0;
		list_for_each(pos, &area->free_list[type]) {
			struct page *page = list_entry(pos, struct page,
						       buddy_list);

			if (n == max) {
				whole = false;
				break;
			}
			n++;
			fl_check_entry(t, page, order, type);
			if (!mm_verify_linked(pos)) {
				fl_page_found(t, FL_LINKS, page, order, type,
					      page);
				whole = false;
				break;
			}
		}
		entries += n;
		t->pages[type] += n << order;
		if (!t->quiet) {
			t->run->checked += n;
			t->run->figures[FL_FREE_PAGES] += n << order;
			if (is_migrate_isolate(type))
				t->run->figures[FL_ISOLATED_PAGES] += n << order;
		}
	}

	if (!t->quiet && whole && entries != area->nr_free)
		mm_verify_found(t->run, FL_NR_FREE, area,
				"node %d zone %s order %u: nr_free %lu, entries on the lists %lu",
				zone_to_nid(t->zone), t->zone->name, order,
				area->nr_free, entries);
}

/* A zone counter to the page: the part that CPUs keep to themselves included. */
static long fl_zone_counter(struct zone *zone, enum zone_stat_item item)
{
	long sum = atomic_long_read(&zone->vm_stat[item]);
#ifdef CONFIG_SMP
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu_ptr(zone->per_cpu_zonestats, cpu)->vm_stat_diff[item];
#endif
	return sum;
}

static long fl_isolated_blocks(struct zone *zone)
{
	unsigned long pfn, end = zone_end_pfn(zone);
	long blocks = 0;

	for (pfn = zone->zone_start_pfn; pfn < end;
	     pfn = pageblock_end_pfn(pfn)) {
		struct page *page = pfn_to_online_page(pfn);

		if (page && page_zone(page) == zone &&
		    is_migrate_isolate_page(page))
			blocks++;
	}
	return blocks;
}

static long fl_isolated_counter(struct zone *zone)
{
#ifdef CONFIG_MEMORY_ISOLATION
	return zone->nr_isolate_pageblock;
#else
	return 0;
#endif
}

static unsigned long fl_entries(struct zone *zone)
{
	unsigned long entries = 0;
	unsigned int order;

	for (order = 0; order < MAX_ORDER; order++)
		entries += zone->free_area[order].nr_free;
	return entries;
}

/*
 * Walk a whole zone in one hold, so that its sums mean something. Returns false
 * when it has too many entries for that.
 */
static bool fl_walk_whole(struct fl_tally *t)
{
	unsigned long max = READ_ONCE(mm_verify_max_hold);
	struct zone *zone = t->zone;
	struct fl_plant plant = {};
	unsigned int order;
	unsigned long flags;
	int type;

	spin_lock_irqsave(&zone->lock, flags);
	if (fl_entries(zone) > max ||
	    zone->spanned_pages >> pageblock_order > max) {
		spin_unlock_irqrestore(&zone->lock, flags);
		return false;
	}

	fl_plant_walk(t->run, zone, &plant);
	for (order = 0; order < MAX_ORDER; order++)
		fl_walk_order(t, order, ULONG_MAX);

	t->free = fl_zone_counter(zone, NR_FREE_PAGES);
	for (type = 0; type < MIGRATE_TYPES; type++)
		if (!is_migrate_isolate(type))
			t->free -= t->pages[type];
	t->cma = fl_zone_counter(zone, NR_FREE_CMA_PAGES);
#ifdef CONFIG_CMA
	t->cma -= t->pages[MIGRATE_CMA];
#endif
	t->isolated = fl_isolated_counter(zone) - fl_isolated_blocks(zone);

	fl_undo_walk(t->run, zone, &plant);
	spin_unlock_irqrestore(&zone->lock, flags);
	return true;
}

/* A zone that is too long for one hold: an order at a time, and no sums. */
static int fl_walk_parts(struct fl_tally *t)
{
	unsigned long max = READ_ONCE(mm_verify_max_hold), flags;
	unsigned int order;
	int ret;

	t->run->figures[FL_UNCOUNTED]++;
	for (order = 0; order < MAX_ORDER; order++) {
		spin_lock_irqsave(&t->zone->lock, flags);
		fl_walk_order(t, order, max);
		spin_unlock_irqrestore(&t->zone->lock, flags);
		ret = mm_verify_pause(t->run);
		if (ret)
			return ret;
	}
	return 0;
}

/* What is left of a difference when a later walk sees another: the smaller. */
static long fl_standing(long first, long later)
{
	if (!first || !later || (first ^ later) < 0)
		return 0;
	return abs(later) < abs(first) ? later : first;
}

/*
 * The lists are pinned by zone->lock, and so is every change of the counters,
 * but folding a CPU's part into the zone's is not: between its two steps the
 * sum is short by that part.  Only a difference that stands over FL_WALKS walks
 * is one.
 */
static int fl_walk_zone(struct mm_verify_run *run, struct zone *zone)
{
	struct fl_tally t, sums = {};
	int i, ret;

	for (i = 0; i < FL_WALKS; i++) {
		t = (struct fl_tally) {
			.run = run, .zone = zone, .quiet = i > 0,
		};
		if (!fl_walk_whole(&t)) {
			/* Outgrown in between: the pages have been judged. */
			if (i)
				sums = (struct fl_tally) {};
			else
				return fl_walk_parts(&t);
			run->figures[FL_UNCOUNTED]++;
			break;
		}
		sums.free = i ? fl_standing(sums.free, t.free) : t.free;
		sums.cma = i ? fl_standing(sums.cma, t.cma) : t.cma;
		sums.isolated = i ? fl_standing(sums.isolated, t.isolated) :
				    t.isolated;

		ret = mm_verify_pause(run);
		if (ret)
			return ret;
		if (!sums.free && !sums.cma && !sums.isolated)
			break;
		if (i + 1 < FL_WALKS)
			msleep(20);
	}

	run->figures[FL_DRIFT_PAGES] += abs(sums.free);
	if (sums.free)
		mm_verify_found(run, FL_NR_FREE_PAGES, zone,
				"node %d zone %s: NR_FREE_PAGES less the pages on the lists: %ld",
				zone_to_nid(zone), zone->name, sums.free);
	if (sums.cma)
		mm_verify_found(run, FL_NR_FREE_CMA, zone,
				"node %d zone %s: NR_FREE_CMA_PAGES less the pages on the CMA lists: %ld",
				zone_to_nid(zone), zone->name, sums.cma);
	if (sums.isolated)
		mm_verify_found(run, FL_ISOLATED, zone,
				"node %d zone %s: nr_isolate_pageblock less the isolated blocks: %ld",
				zone_to_nid(zone), zone->name, sums.isolated);
	return 0;
}

/* A free page that was come upon by its pfn. */
static void fl_scan_buddy(struct fl_tally *t, struct page *page,
			  unsigned int order)
{
	struct fl_plant plant = {};
	unsigned long i;

	fl_plant_scan(t->run, page, order, &plant);
	if (!mm_verify_linked(&page->buddy_list))
		fl_page_found(t, FL_LINKS, page, order, MIGRATE_TYPES, page);
	for (i = 1; i < 1UL << order; i++)
		if (PageBuddy(page + i))
			fl_page_found(t, FL_OVERLAP, page + i, order,
				      MIGRATE_TYPES, page);
	fl_undo_scan(t->run, &plant);
}

/*
 * A range that no buddy reaches into from before: its start is a multiple of
 * the largest buddy, or the start of the zone.
 */
static void fl_scan_range(struct fl_tally *t, unsigned long pfn,
			  unsigned long end)
{
	unsigned long block_end = pfn;
	struct page *page = NULL;
	unsigned int order;

	while (pfn < end) {
		if (pfn >= block_end) {
			block_end = pageblock_end_pfn(pfn);
			if (!pfn_to_online_page(pfn)) {
				pfn = block_end;
				continue;
			}
		}
		page = pfn_to_page(pfn);
		if (page_zone(page) != t->zone || !PageBuddy(page)) {
			pfn++;
			continue;
		}
		order = buddy_order(page);
		if (order >= MAX_ORDER) {
			fl_page_found(t, FL_ORDER, page, order, MIGRATE_TYPES,
				      page);
			pfn++;
			continue;
		}
		fl_scan_buddy(t, page, order);
		pfn += 1UL << order;
	}
}

static int fl_scan_zone(struct mm_verify_run *run, struct zone *zone)
{
	struct fl_tally t = { .run = run, .zone = zone };
	unsigned long pfn, next, end = zone_end_pfn(zone), flags;
	int ret;

	for (pfn = zone->zone_start_pfn; pfn < end; pfn = next) {
		next = min(ALIGN(pfn + 1, MAX_ORDER_NR_PAGES), end);
		spin_lock_irqsave(&zone->lock, flags);
		fl_scan_range(&t, pfn, next);
		spin_unlock_irqrestore(&zone->lock, flags);
		ret = mm_verify_pause(run);
		if (ret)
			return ret;
	}
	return 0;
}

static int free_lists_verify(struct mm_verify_run *run)
{
	struct zone *zone;
	int ret = 0;

	/* Hotplug changes spans and isolation counts outside zone->lock. */
	get_online_mems();
	for_each_populated_zone(zone) {
		ret = fl_walk_zone(run, zone);
		if (!ret)
			ret = fl_scan_zone(run, zone);
		if (ret)
			break;
	}
	put_online_mems();
	return ret;
}

static struct mm_verifier free_lists_verifier = {
	.name		= "free_lists",
	.findings	= free_lists_findings,
	.nr_findings	= FL_NR_FINDINGS,
	.figures	= free_lists_figures,
	.nr_figures	= FL_NR_FIGURES,
	.verify		= free_lists_verify,
};

static int __init free_lists_init(void)
{
	return mm_verify_register(&free_lists_verifier);
}
late_initcall(free_lists_init);
