// SPDX-License-Identifier: GPL-2.0
/*
 * Injections of the free_lists verifier.
 *
 * Each spoils one thing under zone->lock, before a pass, and puts it back in
 * the same hold.  What is read without the lock is left alone: above all the
 * type of a block with pages in use, which a page being freed would take for
 * its own.  A block that is part of a free buddy has no such page.
 */
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/page-isolation.h>
#include <linux/vmstat.h>

#include "../internal.h"
#include "free_lists.h"

static int fl_other_type(int type)
{
	return type == MIGRATE_MOVABLE ? MIGRATE_UNMOVABLE : MIGRATE_MOVABLE;
}

/*
 * A sane entry of an ordinary type, of an order from min on. Ordinary, so that
 * no counter but the one that is meant comes to differ.
 */
static struct page *fl_pick(struct zone *zone, unsigned int min,
			    unsigned int max, bool odd)
{
	unsigned int order;
	struct page *page;
	int type;

	for (order = min; order <= max && order < MAX_ORDER; order++)
		for (type = 0; type < MIGRATE_PCPTYPES; type++)
			list_for_each_entry(page,
					    &zone->free_area[order].free_list[type],
					    buddy_list)
				if (get_pageblock_migratetype(page) == type &&
				    (!odd || page_to_pfn(page) & 1))
					return page;
	return NULL;
}

static void fl_move(struct page *page, struct fl_plant *plant,
		    struct list_head *to)
{
	plant->list = page->buddy_list.prev;
	list_move(&page->buddy_list, to);
}

/* From one order's lists to another's, with the counts that belong to it. */
static void fl_change_order(struct zone *zone, struct page *page,
			    unsigned int from, unsigned int to)
{
	zone->free_area[from].nr_free--;
	zone->free_area[to].nr_free++;
	set_page_private(page, to);
	__mod_zone_page_state(zone, NR_FREE_PAGES, (1L << to) - (1L << from));
}

static void fl_plant_page(struct mm_verify_run *run, struct zone *zone,
			  struct fl_plant *plant)
{
	bool straddle = run->inject == FL_STRADDLE, odd = run->inject == FL_ALIGN;
	struct page *page;
	int type;

	if (straddle)
		page = fl_pick(zone, pageblock_order + 1, MAX_ORDER - 1, false);
	else
		page = fl_pick(zone, 0, odd ? 0 : pageblock_order, odd);
	if (!page)
		return;

	plant->page = page;
	type = get_pageblock_migratetype(page);
	switch (run->inject) {
	case FL_TYPE:
		fl_move(page, plant,
			&zone->free_area[buddy_order(page)].free_list[fl_other_type(type)]);
		break;
	case FL_STRADDLE:
		plant->block = page + pageblock_nr_pages;
		plant->value = get_pageblock_migratetype(plant->block);
		set_pfnblock_flags_mask(plant->block, fl_other_type(type),
					page_to_pfn(plant->block),
					MIGRATETYPE_MASK);
		break;
	case FL_ORDER:
		plant->value = buddy_order(page);
		set_page_private(page, plant->value + 1);
		break;
	case FL_ALIGN:
		fl_move(page, plant, &zone->free_area[1].free_list[type]);
		fl_change_order(zone, page, 0, 1);
		break;
	case FL_BUDDY:
		__ClearPageBuddy(page);
		break;
	case FL_ZONE:
		set_page_zone(page, zone_idx(zone) ? 0 : ZONE_MOVABLE);
		break;
	}
	run->planted = page;
}

static void fl_undo_page(struct mm_verify_run *run, struct zone *zone,
			 struct fl_plant *plant)
{
	struct page *page = plant->page;

	switch (run->inject) {
	case FL_TYPE:
		list_move(&page->buddy_list, plant->list);
		break;
	case FL_STRADDLE:
		set_pfnblock_flags_mask(plant->block, plant->value,
					page_to_pfn(plant->block),
					MIGRATETYPE_MASK);
		break;
	case FL_ORDER:
		set_page_private(page, plant->value);
		break;
	case FL_ALIGN:
		fl_change_order(zone, page, 1, 0);
		list_move(&page->buddy_list, plant->list);
		break;
	case FL_BUDDY:
		__SetPageBuddy(page);
		break;
	case FL_ZONE:
		set_page_zone(page, zone_idx(zone));
		break;
	}
}

/* Add to the counter that is to differ; false when there is none. */
static bool fl_plant_counter(struct mm_verify_run *run, struct zone *zone,
			     long delta)
{
	switch (run->inject) {
	case FL_NR_FREE:
		zone->free_area[0].nr_free += delta;
		return true;
	case FL_NR_FREE_PAGES:
		__mod_zone_page_state(zone, NR_FREE_PAGES, delta);
		return true;
	case FL_NR_FREE_CMA:
		__mod_zone_page_state(zone, NR_FREE_CMA_PAGES, delta);
		return true;
	case FL_ISOLATED:
#ifdef CONFIG_MEMORY_ISOLATION
		zone->nr_isolate_pageblock += delta;
		return true;
#endif
	default:
		return false;
	}
}

/**
 * fl_plant_walk - spoil what the walk over the lists has to find
 * @run: the run; planted is set when something was
 * @zone: the zone, locked
 * @plant: what fl_undo_walk() needs
 *
 * Called before each walk of each zone.  A counter of the zone that was chosen
 * first is spoilt again in the walks that repeat it.
 */
void fl_plant_walk(struct mm_verify_run *run, struct zone *zone,
		   struct fl_plant *plant)
{
	switch (run->inject) {
	case FL_TYPE:
	case FL_STRADDLE:
	case FL_ORDER:
	case FL_ALIGN:
	case FL_BUDDY:
	case FL_ZONE:
		if (!run->planted)
			fl_plant_page(run, zone, plant);
		break;
	case FL_NR_FREE:
		if (run->planted)
			break;
		fl_plant_counter(run, zone, 1);
		run->planted = &zone->free_area[0];
		plant->value = 1;
		break;
	case FL_NR_FREE_PAGES:
	case FL_NR_FREE_CMA:
	case FL_ISOLATED:
		if (run->planted && run->planted != zone)
			break;
		if (!fl_plant_counter(run, zone, 1))
			break;
		run->planted = zone;
		plant->value = 1;
		break;
	}
}

/**
 * fl_undo_walk - undo fl_plant_walk()
 * @run: the run
 * @zone: the zone, locked since
 * @plant: what was planted
 */
void fl_undo_walk(struct mm_verify_run *run, struct zone *zone,
		  struct fl_plant *plant)
{
	if (plant->page)
		fl_undo_page(run, zone, plant);
	else if (plant->value)
		fl_plant_counter(run, zone, -1);
}

/**
 * fl_plant_scan - spoil what the scan by pfn has to find
 * @run: the run; planted is set when something was
 * @page: a free page, its zone locked
 * @order: its order
 * @plant: what fl_undo_scan() needs
 */
void fl_plant_scan(struct mm_verify_run *run, struct page *page,
		   unsigned int order, struct fl_plant *plant)
{
	if (run->planted)
		return;

	switch (run->inject) {
	case FL_LINKS:
		plant->list = page->buddy_list.prev;
		plant->page = page;
		list_del_init(&page->buddy_list);
		break;
	case FL_OVERLAP:
		if (!order)
			return;
		plant->page = page + 1;
		plant->value = page_private(plant->page);
		set_page_private(plant->page, 0);
		__SetPageBuddy(plant->page);
		break;
	default:
		return;
	}
	run->planted = plant->page;
}

/**
 * fl_undo_scan - undo fl_plant_scan()
 * @run: the run
 * @plant: what was planted
 */
void fl_undo_scan(struct mm_verify_run *run, struct fl_plant *plant)
{
	if (!plant->page)
		return;

	if (run->inject == FL_LINKS) {
		list_add(&plant->page->buddy_list, plant->list);
	} else {
		__ClearPageBuddy(plant->page);
		set_page_private(plant->page, plant->value);
	}
}
